"""Before anything runs: can torch really use the planned GPUs, and if not, what to do.

Each GPU is tried in a process of its own, with the environment that its worker will have.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from numa_bench.errors import MachineError
from numa_bench.machine.nvml import read_driver_versions
from numa_bench.records import DeviceSpec
from numa_bench.runner.command import gpu_environment

#: Starting CUDA on a server with many GPUs takes some seconds; a driver that hangs never ends.
TIMEOUT_S = 120.0
#: Lowest driver for each CUDA major version (CUDA Toolkit Release Notes, "CUDA Driver").
LEAST_DRIVER = {"12": 525, "13": 580}
#: torch's build for drivers that run CUDA 12 but not 13; tools/torch_choice.sh has the same.
CUDA12_INDEX = "https://download.pytorch.org/whl/cu126"


@dataclass(frozen=True)
class Probe:
    """What a probe process said of one GPU."""

    device: DeviceSpec
    uuid: str | None
    torch: str | None
    cuda: str | None
    error: str | None


def check_gpus(
    devices: Iterable[DeviceSpec],
    environ: Mapping[str, str] | None = None,
    driver: Callable[[], str | None] | None = None,
) -> None:
    """Try one CUDA operation on every distinct GPU. Raises MachineError for the first that fails.

    `driver` returns the NVIDIA driver's version, for the error.
    """
    gpus = [device for device in dict.fromkeys(devices) if device.kind == "cuda"]
    if not gpus:
        return
    variables = os.environ if environ is None else environ
    # All at once: a probe spends seconds in starting Python, torch and CUDA.
    with ThreadPoolExecutor(max_workers=min(8, len(gpus))) as pool:
        probes = list(pool.map(lambda device: run_probe(device, variables), gpus))
    for probe in probes:
        name = f"GPU {probe.device.gpu_id} ({probe.device.gpu_name})"
        if probe.error is not None:
            version = driver() if driver is not None else read_driver_versions()[0]
            raise MachineError(f"{name}: {explain_failure(probe, version)}")
        if probe.device.gpu_uuid not in (None, probe.uuid):
            raise MachineError(
                f"{name}: NVML calls it {probe.device.gpu_uuid}, torch sees {probe.uuid}; check "
                "CUDA_VISIBLE_DEVICES and CUDA_DEVICE_ORDER"
            )


def run_probe(device: DeviceSpec, environ: Mapping[str, str]) -> Probe:
    """Run the probe with the one GPU visible."""
    argv = [sys.executable, "-m", "numa_bench.worker.probe"]
    answer: dict[str, Any] = {}
    try:
        done = subprocess.run(
            argv,
            env=gpu_environment(device, environ),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT_S,
            check=False,
        )
        # Libraries may have printed something before the answer.
        answer = json.loads(done.stdout.strip().splitlines()[-1])
    except subprocess.TimeoutExpired:
        answer["error"] = f"no answer within {TIMEOUT_S:.0f} s; the driver may hang"
    except (IndexError, ValueError):
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        answer["error"] = f"the probe ended with {done.returncode}: {last}"
    keys = ("uuid", "torch", "cuda", "error")
    uuid, torch, cuda, error = (answer.get(key) for key in keys)
    return Probe(device, uuid, torch, cuda, error)


def explain_failure(probe: Probe, driver: str | None) -> str:
    """One line: driver, torch build, and the installation that fits."""
    build = f"torch {probe.torch}" if probe.torch else "torch"
    if probe.torch and probe.cuda is None:
        return (
            f"{build} is a CPU build; install a CUDA build (./setup.sh chooses one for the "
            "driver), or measure the CPU: experiment.hardware.device=cpu"
        )
    least = LEAST_DRIVER.get((probe.cuda or "").partition(".")[0])
    have = int(driver.partition(".")[0]) if driver and driver[:1].isdigit() else None
    if least is not None and have is not None and have < least:
        return (
            f"{build} is built for CUDA {probe.cuda}, which needs driver {least} or later, this is "
            f"{driver}; {_suggest_install(probe, have)}"
        )
    # CUDA needs the module nvidia-uvm; NVML, and so nvidia-smi, works without it.
    hint = ""
    if "unknown error" in (probe.error or "") or "initialization error" in (probe.error or ""):
        hint = "; is the kernel module nvidia-uvm loaded (sudo nvidia-modprobe -u -c=0)?"
    return (
        f"{build} (CUDA {probe.cuda}, driver {driver or 'unknown'}) cannot use it: "
        f"{probe.error}{hint}"
    )


def _suggest_install(probe: Probe, driver: int) -> str:
    """What to install where the driver, of this major version, is too old for the build."""
    if driver < LEAST_DRIVER["12"]:
        return f"install driver {LEAST_DRIVER['13']} or later, or at least {LEAST_DRIVER['12']}"
    version = (probe.torch or "").partition("+")[0]
    return (
        "update the driver, or install the torch build that fits it: ./setup.sh, or "
        f"pip install torch=={version} --index-url {CUDA12_INDEX}"
    )
