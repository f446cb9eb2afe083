"""Fixtures: commands of `numa-bench` inside this process, on a machine of the test's choice."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra

from numa_bench.machine.model import Topology
from tests.conftest import Outcome, restore_hydra_and_logging
from tests.machines import laptop


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., Outcome]]:
    """Run `numa-bench NAME ARGUMENTS...` in an empty directory; numactl and GPUs always work."""
    monkeypatch.setattr("numa_bench.commands.run.check_binding", lambda _: None)
    monkeypatch.setattr("numa_bench.commands.run.check_gpus", lambda _: None)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.chdir(tmp_path)

    def run(name: str, *arguments: str, machine: Topology | None = None) -> Outcome:
        found = machine or laptop()
        monkeypatch.setattr("numa_bench.config.loading.discover_topology", lambda: found)
        monkeypatch.setattr(sys, "argv", ["numa-bench", *arguments])
        capsys.readouterr()
        try:
            code = importlib.import_module(f"numa_bench.commands.{name}").main()
        finally:
            GlobalHydra.instance().clear()
        printed = capsys.readouterr()
        return Outcome(code, printed.out, printed.err, [])

    with restore_hydra_and_logging():
        yield run
