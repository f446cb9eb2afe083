"""What torch's CUDA bindings answer when they fail; no GPU is needed for that."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from numa_bench.errors import MachineError
from numa_bench.worker import torch_cuda


def test_memory_that_cannot_be_locked_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    library = SimpleNamespace(cudaHostRegister=lambda *_: 2)
    monkeypatch.setattr(torch_cuda, "_cudart", lambda: library)
    runtime = torch_cuda.TorchCuda.__new__(torch_cuda.TorchCuda)  # its device needs a GPU
    with pytest.raises(MachineError) as caught:
        runtime.register_host(4096, 8_000_000)
    assert str(caught.value) == (
        "cudaHostRegister of 8 MB failed with CUDA error 2; lower "
        "experiment.test.memory_size_mb, or raise `ulimit -l`"
    )
