"""Before anything runs, a machine that cannot bind processes is refused, with the fix."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from numa_bench.errors import MachineError
from numa_bench.records import Placement
from numa_bench.runner.numactl import INSTALL, UNBOUND, check_binding

ON_0 = Placement(0, (0,), "bind", "local", cpus=(0, 1))
ON_1 = Placement(1, (1,), "bind", "remote", cpus=(2, 3))
ANYWHERE = Placement(None, (), "none", "unbound")


@pytest.fixture
def calls(tmp_path: Path) -> Callable[[], list[str]]:
    """The arguments of every call of the fake numactl."""
    log = tmp_path / "calls"
    return lambda: log.read_text().splitlines() if log.exists() else []


@pytest.fixture
def numactl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts a fake numactl, alone, on PATH; it notes its arguments and then runs the script."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def make(script: str) -> None:
        program = folder / "numactl"
        program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n{script}\n')
        program.chmod(0o755)

    return make


def refusal(*placements: Placement) -> str:
    with pytest.raises(MachineError) as caught:
        check_binding(placements)
    assert caught.value.exit_code == 2
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(UNBOUND)
    return message


def test_every_distinct_binding_is_tried_once(
    numactl: Callable[[str], None], calls: Callable[[], list[str]]
) -> None:
    numactl("exit 0")
    check_binding([ON_0, ON_1, ON_0, ANYWHERE, replace(ON_0, label="other")])
    assert calls() == ["--cpunodebind=0 --membind=0 true", "--cpunodebind=1 --membind=1 true"]


def test_without_binding_numactl_is_not_needed(
    numactl: Callable[[str], None], calls: Callable[[], list[str]]
) -> None:
    check_binding([ANYWHERE])  # there is none
    numactl("exit 1")
    check_binding([ANYWHERE, ANYWHERE])
    check_binding([])
    assert calls() == []


def test_a_missing_numactl_is_told_with_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    message = refusal(ANYWHERE, ON_0)
    assert message.startswith("numactl is not installed; ")
    assert INSTALL in message
    assert "apt-get install numactl" in message


def test_a_container_that_forbids_binding_is_told_the_capability(
    numactl: Callable[[str], None],
) -> None:
    numactl("echo 'set_mempolicy: Operation not permitted' >&2; exit 1")
    message = refusal(ON_0)
    assert "`numactl --cpunodebind=0 --membind=0` is not permitted here" in message
    assert "--cap-add SYS_NICE" in message


def test_a_refused_node_is_told_in_numactls_words(
    numactl: Callable[[str], None], calls: Callable[[], list[str]]
) -> None:
    """What numactl 2.0.14 prints for a node that is not there."""
    numactl(
        "case $1 in --cpunodebind=0) exit 0;; esac\n"
        "echo 'libnuma: Warning: node argument 1 is out of range' >&2\n"
        "echo '<1> is invalid' >&2\necho 'usage: numactl [--all | -a]' >&2\nexit 1"
    )
    message = refusal(ON_0, ON_1)
    assert "`numactl --cpunodebind=1 --membind=1` failed" in message
    assert "node argument 1 is out of range" in message
    assert "numactl --hardware" in message
    assert len(calls()) == 2


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("exit 3", "it gave no reason"),
        ("echo; echo '  sorry  '; exit 1", "failed: sorry;"),
        (r"printf 'caf\351 closed\n' >&2; exit 1", "closed"),
        ("kill -9 $$", "it gave no reason"),
    ],
    ids=["silent", "on stdout", "not UTF-8", "killed"],
)
def test_whatever_it_says_there_is_one_line(
    numactl: Callable[[str], None], script: str, expected: str
) -> None:
    numactl(script)
    assert expected in refusal(ON_0)


@pytest.mark.skipif(shutil.which("numactl") is None, reason="no numactl here")
def test_the_real_numactl_refuses_a_node_that_is_not_there() -> None:
    nowhere = replace(ON_0, numa_node=1000, memory_nodes=(1000,))
    assert "`numactl --cpunodebind=1000 --membind=1000`" in refusal(ANYWHERE, nowhere)
