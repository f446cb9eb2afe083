"""A PyTorch DataLoader whose worker processes feed a small model.

    python examples/own_workloads/dataloader.py [--workers 2] [--batches 60]

Each sample is made on the CPU, as decoded and normalised images are. With a GPU batches are pinned
and copied to it; without one the model runs on the CPU.
"""

from __future__ import annotations

import argparse
import time

import torch
from torch.utils.data import DataLoader, Dataset


class Images(Dataset[torch.Tensor]):
    """Images that cost some host work: random bytes to normalised floats."""

    def __init__(self, number: int, side: int) -> None:
        self.number, self.side = number, side

    def __len__(self) -> int:
        return self.number

    def __getitem__(self, index: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(index)
        raw = torch.randint(256, (3, self.side, self.side), generator=generator)
        return (raw.float() / 255 - 0.45) / 0.225


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--batches", type=int, default=60)
    parser.add_argument("--batch-size", type=int, default=16)
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = torch.nn.Conv2d(3, 16, 16, stride=16).to(device)
    images = Images(args.batches * args.batch_size, 128)
    loader = DataLoader(
        images, args.batch_size, num_workers=args.workers, pin_memory=device == "cuda"
    )
    seen, begin = 0, 0.0
    with torch.no_grad():
        for number, batch in enumerate(loader):
            model(batch.to(device, non_blocking=True))
            if number == 0:  # the workers have started
                begin = time.perf_counter()
            else:
                seen += len(batch)
    if device == "cuda":
        torch.cuda.synchronize()
    print(f"{seen / (time.perf_counter() - begin):.2f} samples/s")


if __name__ == "__main__":
    main()
