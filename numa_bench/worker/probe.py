"""One real CUDA operation in a process of its own: does this build of torch work on this GPU?

    python -m numa_bench.worker.probe [--capture]

NVML works under drivers that are too old for the installed torch, so GPUs that NVML lists may all
fail. Prints one JSON object: `uuid`, `name`, `torch`, `cuda` and `error` (null if all went well).
"""

from __future__ import annotations

import json
import sys
from typing import Any


def probe_gpu(*, capture: bool = False) -> dict[str, Any]:
    """Add two tensors on the first GPU that this process sees.

    `capture`: in the capture range of a profiler.
    """
    answer: dict[str, Any] = dict.fromkeys(("uuid", "name", "torch", "cuda", "error"))
    try:
        import torch

        answer |= {"torch": torch.__version__, "cuda": torch.version.cuda}
        from numa_bench.machine.backend import current_backend
        from numa_bench.worker.cuda_runtime import CudaRuntime
        from numa_bench.worker.torch_cuda import TorchCuda

        runtime: CudaRuntime = (current_backend().cuda_runtime or TorchCuda)()
        found = runtime.properties()
        answer |= {"uuid": found.uuid, "name": found.name}
        ones = runtime.to_device(torch.ones(4))
        if capture:
            runtime.start_capture()
        twos = runtime.call_model(lambda tensor: tensor + tensor, ones)
        total = float(runtime.to_host(twos).sum())
        runtime.synchronize()
        if capture:
            runtime.stop_capture()
        if total != 8.0:
            answer["error"] = f"1 + 1 on the GPU gave {total / 4}"
    except Exception as error:  # noqa: BLE001 - whatever CUDA raises is the answer
        answer["error"] = " ".join(f"{type(error).__name__}: {error}".split())
    return answer


if __name__ == "__main__":
    print(json.dumps(probe_gpu(capture="--capture" in sys.argv[1:])))
    # 0 even if CUDA failed: the failure is in the answer. Any other code means there is none.
    sys.exit(0)
