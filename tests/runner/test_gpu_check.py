"""GPUs that NVML lists and torch cannot use are refused before anything runs, with the fix."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from numa_bench.errors import MachineError
from numa_bench.records import DeviceSpec
from numa_bench.runner.gpu_check import (
    CUDA12_INDEX,
    LEAST_DRIVER,
    Probe,
    check_gpus,
    explain_failure,
    run_probe,
)
from tests.conftest import PROJECT

GPU = DeviceSpec("cuda", 1, "NVIDIA H100", "GPU-1", 0)


def fake_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Put a shell script in place of the interpreter that the probe is started with."""
    path = tmp_path / "python"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(path))


def answer(**values: object) -> str:
    full = {"uuid": "GPU-1", "name": "g", "torch": "2.13.0", "cuda": "13.0", "error": None}
    return f"echo '{json.dumps({**full, **values})}'"


def test_no_gpu_starts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_python(tmp_path, monkeypatch, f"touch {tmp_path}/ran")
    check_gpus([DeviceSpec("cpu")])
    assert not (tmp_path / "ran").exists()


def test_every_distinct_gpu_is_tried_once_and_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = f'echo "$CUDA_VISIBLE_DEVICES $CUDA_DEVICE_ORDER" >> {tmp_path}/seen\n'
    script += 'printf \'{"uuid": "%s", "error": null}\' "$CUDA_VISIBLE_DEVICES"'
    fake_python(tmp_path, monkeypatch, script)
    other = DeviceSpec("cuda", 2, "NVIDIA H100", "GPU-2", 1)

    check_gpus([GPU, other, GPU])

    assert sorted((tmp_path / "seen").read_text().splitlines()) == [
        "GPU-1 PCI_BUS_ID",
        "GPU-2 PCI_BUS_ID",
    ]


def test_a_driver_too_old_for_the_build_is_named_with_the_fix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = "RuntimeError: The NVIDIA driver on your system is too old"
    fake_python(tmp_path, monkeypatch, answer(error=error))

    with pytest.raises(MachineError) as refused:
        check_gpus([GPU], driver=lambda: "550.54.15")

    text = str(refused.value)
    assert text.startswith("GPU 1 (NVIDIA H100): torch 2.13.0 is built for CUDA 13.0")
    assert "needs driver 580 or later, this is 550.54.15" in text
    assert "./setup.sh" in text
    assert "pip install torch==2.13.0 --index-url https://download.pytorch.org/whl/cu126" in text
    assert "\n" not in text


def test_a_driver_too_old_for_every_build_must_be_updated() -> None:
    probe = Probe(GPU, None, "2.13.0+cu130", "13.0", "RuntimeError: too old")
    text = explain_failure(probe, "470.82.01")
    assert text.endswith("this is 470.82.01; install driver 580 or later, or at least 525")


def test_the_suggested_build_is_the_one_that_setup_installs() -> None:
    choice = (PROJECT / "tools/torch_choice.sh").read_text()
    assert f"cuda12_build={CUDA12_INDEX.rpartition('/')[2]}" in choice
    assert f"cuda13_driver={LEAST_DRIVER['13']}" in choice
    assert f"cuda12_driver={LEAST_DRIVER['12']}" in choice


def test_a_cpu_build_is_named() -> None:
    probe = Probe(GPU, None, "2.13.0+cpu", None, "RuntimeError: cannot use CUDA")
    assert "is a CPU build" in explain_failure(probe, "580.1")
    assert "device=cpu" in explain_failure(probe, "580.1")


def test_an_unloaded_module_is_hinted_at() -> None:
    probe = Probe(GPU, None, "2.13.0", "13.0", "RuntimeError: CUDA unknown error")
    text = explain_failure(probe, "580.1")
    assert "CUDA unknown error" in text
    assert "nvidia-uvm" in text


def test_another_gpu_than_nvml_named_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_python(tmp_path, monkeypatch, answer(uuid="GPU-9"))
    with pytest.raises(MachineError, match="NVML calls it GPU-1, torch sees GPU-9"):
        check_gpus([GPU])


def test_a_probe_that_dies_says_what_it_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_python(tmp_path, monkeypatch, "echo 'libcuda is broken' >&2; exit 7")
    assert run_probe(GPU, os.environ).error == "the probe ended with 7: libcuda is broken"


@pytest.mark.slow
def test_the_real_probe_says_why_this_machine_cannot() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    probe = run_probe(GPU, os.environ)
    assert probe.torch == torch.__version__
    assert probe.error is not None
    assert "cannot use CUDA" in probe.error
