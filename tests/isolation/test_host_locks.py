"""Who waits for whom: measurements of several modes, and heavy work beside them.

Two `HostLocks` in one process are to each other what two processes are.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from numa_bench.config.schemas.isolation import IsolationConfig
from numa_bench.errors import MachineError
from numa_bench.isolation.host_locks import HostLocks, hold_host, hold_start_up
from numa_bench.records import DeviceSpec, RunSpec
from numa_bench.selftest import command as selftest
from numa_bench.tracking import command as tracking
from tests.fake_worker import TOPOLOGY
from tests.isolation.test_resources import spec_on


def gpu(number: int) -> RunSpec:
    return spec_on(0, 0, device=DeviceSpec("cuda", number, "H100", f"GPU-{number}", 0))


def study(path: Path, exclusive: str = "host", limit_s: float | None = 0.0) -> HostLocks:
    """The locks of a study that does not wait."""
    return HostLocks(
        IsolationConfig(exclusive=exclusive, directory=str(path), wait_limit_s=limit_s), TOPOLOGY
    )


def may_measure(locks: HostLocks, run: RunSpec) -> bool:
    with locks.hold(run) as turn:
        return turn.problem is None


NODE0, NODE1 = spec_on(0, 0), spec_on(1, 1)


@pytest.mark.parametrize(
    ("mode", "run", "other_mode", "other", "together"),
    [
        ("host", NODE0, "host", NODE1, False),
        ("host", gpu(0), "gpu", gpu(1), False),
        ("gpu", gpu(0), "host", gpu(1), False),
        ("gpu", gpu(0), "gpu", gpu(1), True),
        ("gpu", gpu(0), "gpu", gpu(0), False),
        ("gpu", gpu(0), "gpu", NODE0, True),
        ("gpu", NODE0, "gpu", NODE0, False),
        ("node", NODE0, "node", NODE1, True),
        ("node", NODE0, "gpu", spec_on(1, 0), False),
        ("node", gpu(0), "node", gpu(1), False),  # both GPUs are at node 0
    ],
)
def test_what_may_be_measured_together(
    tmp_path: Path, mode: str, run: RunSpec, other_mode: str, other: RunSpec, together: bool
) -> None:
    with study(tmp_path, mode).hold(run) as turn:
        assert turn.problem is None
        assert may_measure(study(tmp_path, other_mode), other) is together
    assert may_measure(study(tmp_path, other_mode), other)


def test_four_gpus_at_once(tmp_path: Path) -> None:
    studies = [study(tmp_path, "gpu") for _ in range(4)]
    holds = [locks.hold(gpu(number)) for number, locks in enumerate(studies)]

    assert [hold.__enter__().problem for hold in holds] == [None] * 4
    assert not may_measure(study(tmp_path, "gpu"), gpu(2))
    for hold in holds:
        hold.__exit__(None, None, None)


def test_limit_of_waiting_says_who_holds_what(tmp_path: Path) -> None:
    shown: list[str] = []
    settings = IsolationConfig(directory=str(tmp_path), wait_limit_s=0.0)
    waiting = HostLocks(settings, TOPOLOGY, show=shown.append)

    with study(tmp_path).hold(NODE0), waiting.hold(NODE1) as turn:
        assert turn.descriptors == ()
        assert not turn.interrupted
        assert turn.problem is not None
        assert turn.problem.startswith("it waited isolation.wait_limit_s=0 for the host, which pro")
        assert f"process {os.getpid()} of " in turn.problem
    assert len(shown) == 2
    assert shown[0].startswith("waits for the host, which process ")
    assert shown[1] == ""


def test_directory_that_has_gone_is_a_problem_of_the_run(tmp_path: Path) -> None:
    locks = study(tmp_path / "locks")
    (tmp_path / "locks" / "gate").unlink()
    (tmp_path / "locks").rmdir()

    with locks.hold(NODE0) as turn:
        assert turn.problem is not None
        assert "its locks in " in turn.problem


def test_a_copy_of_a_descriptor_keeps_the_locks(tmp_path: Path) -> None:
    """As a worker has one that outlives its runner."""
    with study(tmp_path).hold(NODE0) as turn:
        copies = [os.dup(descriptor) for descriptor in turn.descriptors]

    assert len(copies) == 2  # host and node
    assert not may_measure(study(tmp_path), NODE1)
    for copy in copies:
        os.close(copy)
    assert may_measure(study(tmp_path), NODE1)


def test_heavy_work_waits_for_a_measurement(tmp_path: Path) -> None:
    with (
        study(tmp_path).hold(NODE0),
        pytest.raises(TimeoutError, match="wait_limit_s=0 for the host"),
    ):
        study(tmp_path).begin_heavy_work()


def test_a_measurement_waits_for_heavy_work(tmp_path: Path) -> None:
    ends = [study(tmp_path).begin_heavy_work() for _ in range(2)]

    assert not may_measure(study(tmp_path), NODE0)
    ends[0]()
    ends[0]()  # counts once
    assert not may_measure(study(tmp_path), NODE0)
    ends[1]()
    assert may_measure(study(tmp_path), NODE0)


def test_own_heavy_work_goes_on_while_the_next_worker_starts(tmp_path: Path) -> None:
    """The worker waits for it before it measures; nobody else gets in between."""
    own, other = study(tmp_path), study(tmp_path)
    end = own.begin_heavy_work()

    with own.hold(NODE0) as turn:
        assert turn.problem is None
        assert not may_measure(other, NODE1)
        end()
        assert not may_measure(other, NODE1)
    assert may_measure(other, NODE1)


def test_heavy_work_that_outlasts_the_run_keeps_others_out(tmp_path: Path) -> None:
    own, other = study(tmp_path), study(tmp_path)
    end = own.begin_heavy_work()

    for _ in range(2):
        assert may_measure(own, NODE0)
        assert not may_measure(other, NODE1)
    join = own.begin_heavy_work()  # without a wait
    end()
    assert not may_measure(other, NODE1)
    join()
    assert may_measure(other, NODE1)


def test_heavy_work_is_still_covered_after_a_wait_in_vain(tmp_path: Path) -> None:
    own, other = study(tmp_path), study(tmp_path)
    end, others_end = own.begin_heavy_work(), other.begin_heavy_work()

    assert not may_measure(own, NODE0)
    others_end()
    assert not may_measure(other, NODE1)
    end()
    assert may_measure(other, NODE1)


def test_start_up_waits_for_a_measurement(tmp_path: Path) -> None:
    settings = IsolationConfig(directory=str(tmp_path), wait_limit_s=0.0)
    with (
        study(tmp_path).hold(NODE0),
        pytest.raises(MachineError, match="cannot start: it waited"),
        hold_start_up(settings, lambda _: None),
    ):
        pass

    with hold_start_up(settings, lambda _: None):
        assert not may_measure(study(tmp_path), NODE0)
    assert may_measure(study(tmp_path), NODE0)


def test_the_selftest_has_the_host_for_itself(tmp_path: Path) -> None:
    settings = IsolationConfig(directory=str(tmp_path), wait_limit_s=0.0)
    end = study(tmp_path).begin_heavy_work()
    with (
        pytest.raises(MachineError, match="wait_limit_s=0 for the host"),
        hold_host(settings, lambda _: None),
    ):
        pass
    end()

    with hold_host(settings, lambda _: None):
        assert not may_measure(study(tmp_path, "gpu"), gpu(0))
        with pytest.raises(TimeoutError):
            study(tmp_path).begin_heavy_work()
    assert may_measure(study(tmp_path, "gpu"), gpu(0))


def refuse_measurement() -> None:
    """Raise MachineError if somebody may measure now."""
    settings = IsolationConfig(wait_limit_s=0.0)
    with HostLocks(settings, TOPOLOGY).hold(NODE0) as turn:
        if turn.problem is None:
            raise MachineError("a measurement may start")


def test_feeding_trackers_with_what_is_stored_is_heavy_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Path] = []

    def log(directory: Path, _: object) -> int:
        refuse_measurement()
        seen.append(directory)
        return 0

    monkeypatch.setattr(tracking, "find_studies", lambda path, **_: [path])
    monkeypatch.setattr(tracking, "_one", log)

    assert tracking.main(["sync", str(tmp_path)]) == 0
    assert seen == [tmp_path]


def test_no_measurement_starts_beside_the_selftest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def supervise(*_: object) -> list[object]:
        refuse_measurement()
        raise MachineError("the end of this test")

    monkeypatch.setattr(selftest, "supervise_checks", supervise)
    arguments = ["--only", "torch", "--json", str(tmp_path / "out.json")]

    assert selftest.main(arguments) == 2
    assert "the end of this test" in capsys.readouterr().err
