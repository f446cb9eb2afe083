"""Data-parallel training on the CPU with gloo, to be started by torchrun.

torchrun --standalone --nproc-per-node=2 examples/own_workloads/ddp.py [--steps 60]
"""

from __future__ import annotations

import argparse
import time

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--threads", type=int, default=1, help="threads of each process")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    dist.init_process_group("gloo")
    model = DistributedDataParallel(
        torch.nn.Sequential(torch.nn.Linear(512, 1024), torch.nn.ReLU(), torch.nn.Linear(1024, 512))
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    batch = torch.randn(64, 512)
    begin = 0.0
    for step in range(args.steps + 3):
        if step == 3:  # after three steps of warm-up
            begin = time.perf_counter()
        optimizer.zero_grad()
        model(batch).square().mean().backward()
        optimizer.step()
    rate = args.steps * len(batch) * dist.get_world_size() / (time.perf_counter() - begin)
    if dist.get_rank() == 0:
        print(f"{rate:.2f} samples/s")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
