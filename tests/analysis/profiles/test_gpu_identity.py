"""Which GPU a report is of: CUDA's device numbers count what a process can see."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from numa_bench.analysis.profiles.flat_table import profile_table
from numa_bench.analysis.profiles.inspection import inspect_report
from numa_bench.analysis.profiles.view import print_inspection
from tests.nsys_files import (
    H2D,
    MS,
    VERSIONS,
    Copy,
    CudaDevice,
    Gpu,
    Kernel,
    Timeline,
    write_report,
)

EIGHT = tuple(Gpu(i, f"NVIDIA H100 number {i}", f"0000:{0x10 + i:02x}:00.0") for i in range(8))


def uuid(number: int) -> str:
    """A GPU's UUID as NVML and the records write it."""
    return f"GPU-{EIGHT[number].uuid}"


@pytest.mark.parametrize("version", VERSIONS)
def test_the_only_visible_device_is_the_gpu_that_it_maps_to(version: str, tmp_path: Path) -> None:
    timeline = Timeline(
        kernels=[Kernel(0, MS)],
        copies=[Copy(0, MS, H2D, 1000)],
        gpus=EIGHT,
        cuda_devices=[CudaDevice(gpu=5)],
    )
    inspection = inspect_report(write_report(tmp_path / "r.sqlite", timeline, version))

    (device,) = inspection.metrics.devices
    assert (device.device, device.name) == (5, "NVIDIA H100 number 5")
    assert (device.uuid, device.pci_address) == (uuid(5), "0000:15:00.0")
    assert device.copies["H2D"].bytes == 1000
    (row,) = inspection.to_rows()
    assert (row["gpu_uuid"], row["gpu_pci_address"]) == (uuid(5), "0000:15:00.0")
    assert inspection.to_dict()["devices"][0]["uuid"] == uuid(5)


def test_device_0_of_two_processes_is_two_gpus(tmp_path: Path) -> None:
    timeline = Timeline(
        kernels=[Kernel(0, MS, "a", pid=10), Kernel(0, 3 * MS, "b", pid=11)],
        gpus=EIGHT,
        cuda_devices=[CudaDevice(2, pid=10), CudaDevice(7, pid=11)],
    )
    path = write_report(tmp_path / "r.sqlite", timeline)

    devices = inspect_report(path).metrics.devices

    assert [(d.device, d.uuid, d.kernel_sum_ns) for d in devices] == [
        (2, uuid(2), MS),
        (7, uuid(7), 3 * MS),
    ]


def test_two_processes_may_share_a_gpu(tmp_path: Path) -> None:
    timeline = Timeline(
        kernels=[Kernel(0, MS, pid=10), Kernel(MS, 3 * MS, pid=11, device=1)],
        gpus=EIGHT,
        cuda_devices=[CudaDevice(3, pid=10), CudaDevice(0, pid=11), CudaDevice(3, 1, pid=11)],
    )
    (device,) = inspect_report(write_report(tmp_path / "r.sqlite", timeline)).metrics.devices

    assert (device.device, device.kernel_sum_ns) == (3, 3 * MS)
    assert [stream.process for stream in device.streams] == [10, 11]


def test_a_process_that_is_not_listed_is_no_guess(tmp_path: Path) -> None:
    def devices(listed: list[CudaDevice]) -> list[tuple[int, str | None]]:
        timeline = Timeline(kernels=[Kernel(0, MS, pid=9)], gpus=EIGHT, cuda_devices=listed)
        found = inspect_report(write_report(tmp_path / f"{len(listed)}.sqlite", timeline))
        return [(d.device, d.uuid) for d in found.metrics.devices]

    assert devices([CudaDevice(4, pid=10)]) == [(4, uuid(4))]
    assert devices([CudaDevice(4, pid=10), CudaDevice(6, pid=11)]) == [(8, None)]


def test_the_view_names_the_gpu_that_worked_and_counts_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    timeline = Timeline(kernels=[Kernel(0, MS)], gpus=EIGHT, cuda_devices=[CudaDevice(gpu=5)])
    inspection = inspect_report(write_report(tmp_path / "r.sqlite", timeline))

    print_inspection(Console(width=200, color_system=None), inspection)

    text = capsys.readouterr().out
    assert f"GPU 5: NVIDIA H100 number 5, 40.0 GB, 108 SMs, PCI 0000:15:00.0, {uuid(5)}" in text
    assert "7 other GPUs of the host have no activity in this report" in text
    assert "number 0" not in text
    assert "may be another one" not in text


def test_an_export_without_the_table_says_that_the_gpu_is_not_certain(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    console = Console(width=200, color_system=None)
    several = write_report(tmp_path / "a.sqlite", Timeline(kernels=[Kernel(0, MS)], gpus=EIGHT))
    print_inspection(console, inspect_report(several))
    assert "does not map them to GPUs" in capsys.readouterr().out

    only = write_report(tmp_path / "b.sqlite", Timeline(kernels=[Kernel(0, MS)]))
    print_inspection(console, inspect_report(only))
    assert "does not map them to GPUs" not in capsys.readouterr().out


def test_a_uuid_of_zeros_is_none(tmp_path: Path) -> None:
    class Zeros(Gpu):
        @property
        def uuid(self) -> str:
            return "00000000-0000-0000-0000-000000000000"

    path = write_report(tmp_path / "r.sqlite", Timeline(kernels=[Kernel(0, MS)], gpus=[Zeros()]))

    (gpu,) = inspect_report(path).activity.gpus
    assert gpu.uuid is None
    assert asdict(gpu)["device"] == 0


def test_a_runs_report_is_that_of_its_gpu(tmp_path: Path) -> None:
    """Of a report with two GPUs the run's own one counts; one of other GPUs is a problem."""
    timeline = Timeline(
        kernels=[Kernel(0, MS), *(Kernel(i * MS, (i + 1) * MS, device=1) for i in range(3))],
        gpus=EIGHT,
        cuda_devices=[CudaDevice(2, 0), CudaDevice(6, 1)],
    )
    write_report(tmp_path / "r.sqlite", timeline)
    run = {"in_statistics": True, "study_dir": str(tmp_path), "nsys_sqlite": "r.sqlite"}
    frame = pd.DataFrame([{**run, "gpu_uuid": uuid(6)}, {**run, "gpu_uuid": uuid(0)}])

    mine, other = profile_table(frame, most=9).to_dict("records")

    assert mine["kernels"] == 3
    assert pd.isna(mine["problem"])
    assert other["problem"] == f"the report is of {uuid(2)}, {uuid(6)}, the run used {uuid(0)}"
    assert pd.isna(other["kernels"])
