"""The memory kernels, compiled here and not for this checkout; a CUDA device, real or simulated."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

from numa_bench.worker.memory_kernels import build
from numa_bench.worker.memory_kernels.kernels import LibraryKernels, load_library
from tests.simulation.machine import SimulatedMachine, dual_socket_4_gpus

REAL = pytest.param(
    "real",
    marks=[
        pytest.mark.gpu,
        pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA GPU"),
    ],
)


@pytest.fixture(params=[REAL, "simulated"])
def cuda_device(
    request: pytest.FixtureRequest,
    simulate: Callable[[SimulatedMachine], None],
    monkeypatch: pytest.MonkeyPatch,
) -> str:
    """The GPU of this machine, or that of a simulated one."""
    if request.param == "simulated":
        simulate(dual_socket_4_gpus())
        # Graphs are really captured from the model; code for a GPU that is not there is not made.
        monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    return str(request.param)


@pytest.fixture(scope="session")
def _built_kernels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the compiled kernels.c."""
    if not any(map(shutil.which, build.COMPILERS)):
        pytest.skip("no C compiler")
    directory = tmp_path_factory.mktemp("kernels")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "_directories", lambda: (directory,))
        build.build_library()
    return directory


@pytest.fixture
def library(_built_kernels: Path, monkeypatch: pytest.MonkeyPatch) -> LibraryKernels:
    """The kernels of kernels.c, which are also those that the product finds."""
    monkeypatch.setattr(build, "_directories", lambda: (_built_kernels,))
    return load_library()


@pytest.fixture
def directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A package folder with a copy of kernels.c, and a cache directory."""
    package, cache = tmp_path / "package", tmp_path / "cache"
    package.mkdir()
    source = shutil.copy(build.SOURCE, package)
    monkeypatch.setattr(build, "SOURCE", Path(source))
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    return package, cache / "numa_bench"
