"""What ended an analysis, a resume or an inspection once, by name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from numa_bench.analysis.settings import _texts, check_root
from numa_bench.commands import inspect
from numa_bench.config.schema import HardwareConfig
from numa_bench.errors import ConfigError, MachineError
from numa_bench.jsonio import read_json
from numa_bench.machine.model import Topology
from numa_bench.plan.placements import resolve_placements
from numa_bench.records import RunResult
from numa_bench.records.upgrade import complete_environment, upgrade_record
from numa_bench.redaction import clean_text
from tests.fuzz.values import nest
from tests.machines import make_node
from tests.specs import record_of


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("status", ["passed"]),
        ("throughput_samples_per_s", 10**400),
        ("gpu_id", 10**400),
        ("test_config", {"batch_size": [1]}),
        ("workload_config", {"a": nest(300)}),
        ("run_id", "../../etc"),
        ("workers", [1]),
    ],
)
def test_a_record_with_a_wrong_value_is_refused_with_its_key(key: str, value: Any) -> None:
    record: dict[str, Any] = {**record_of("r0"), key: value}

    with pytest.raises(ValueError, match=key):
        upgrade_record(record)


def test_a_result_that_is_nested_too_deeply_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text("[" * 200_000)

    with pytest.raises(ValueError, match="nested too deeply"):
        read_json(path)
    with pytest.raises(TypeError, match="observed"):
        RunResult.from_dict(
            {"run_id": "a", "spec_hash": "b", "status": "passed", "observed": {"a": nest(300)}}
        )


def test_a_fifo_is_not_waited_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a.sqlite", "a.json"):
        os.mkfifo(tmp_path / name)
        assert inspect.main([str(tmp_path / name)]) == 2
        assert "Not a regular file" in capsys.readouterr().err


def test_numbers_as_paths_and_an_empty_root() -> None:
    assert _texts("results", [0, 1]) == ("0", "1")
    with pytest.raises(ConfigError, match="must not be empty"):
        check_root("")


def test_control_sequences_are_removed() -> None:
    assert clean_text("a\x1b]0;title\x07b\x1b[2Jc\x00d\ne") == "abc\ufffdd\ne"


def test_a_machine_without_known_memory_is_refused() -> None:
    topology = Topology((make_node(0, (0, 1), {0: 10}, memory_gib=0),), ())

    with pytest.raises(MachineError, match="memory of every node is unknown"):
        resolve_placements(HardwareConfig(), topology, None)
    assert resolve_placements(HardwareConfig(memory_policy="none"), topology, None)


def test_an_environment_of_other_types_is_not_read() -> None:
    raw = {
        "cuda_driver": [1, "a", None],
        "cpus": "many",
        "gpus": 5,
        "gpu_links": {"0": None, "1": "4x16"},
        "other": [1],
    }

    assert complete_environment(raw) == {"gpu_links": {"0": None, "1": "4x16"}, "other": [1]}
