"""Images before the host stage, and what it does to them: uint8 or JPEG to normalised batches.

Pixels become `(pixel / 255 - mean) / std` per channel, in fp32, then the run's precision: ToTensor
and Normalize of torchvision. JPEG images are decoded at the size of the model's input; resizing and
cropping are left out.
"""

from __future__ import annotations

import importlib
import io
import math
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from numa_bench.records import RunSpec
from numa_bench.records.workload import input_shape
from numa_bench.worker.buffers import BatchRing, HostBuffer
from numa_bench.worker.devices import Waived
from numa_bench.worker.host_stage.lanes import HostThreads

#: Mean and standard deviation of ImageNet's channels, in units of 255 (torchvision documentation,
#: "Models and pre-trained weights"). Other numbers of channels get the mean of the three.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
#: Distinct pixels of a JPEG set; its images are then repeated until the set has its size. Encoding
#: so many takes under a second.
_DISTINCT_BYTES = 16_000_000
_LEAST_IMAGES = 8
#: Pillow's recommendation for an upper limit is 95; ImageNet's files are mostly between 90 and 96.
_QUALITY = 90
#: Side in pixels of the blocks of equal detail, and the standard deviation of the noise on them
#: (of 1): together about 3.3 bits for a pixel, so an image of 224 pixels has some 20 kB.
_BLOCK = 16
_GRAIN = 0.04
#: Bytes of fp32 that a thread works on at a time, four images of 224 pixels. They stay in the
#: caches of its CPU, and Python's global lock, which is held between the operations on a block,
#: is taken a quarter as often: at 16 us an image all threads together would be bound to 60,000
#: images/s.
_BLOCK_BYTES = 2_500_000

Pixels = npt.NDArray[np.uint8]


class HostWork(Protocol):
    """What is done for each batch. `buffers` is the host memory that it reads."""

    buffers: list[HostBuffer]

    def write_batch(self, index: int, target: torch.Tensor) -> None:
        """Write batch `index`, counted from 0 without end, into `target`."""
        ...

    def compute_reference(self, index: int) -> torch.Tensor:
        """The same batch by another path: on one thread, in fp64, rounded once."""
        ...


class _Normalizer:
    """Images of one shape (channels, side, side) to a precision, with scratch for each thread.

    Images are written in blocks of `block` at most.
    """

    def __init__(self, shape: Sequence[int], threads: int) -> None:
        mean, std = channel_constants(shape[0])
        self._scale = torch.tensor([1 / (255 * s) for s in std]).view(-1, 1, 1)
        self._shift = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)]).view(-1, 1, 1)
        self.block = max(1, _BLOCK_BYTES // (4 * math.prod(shape)))
        self._scratch = [torch.empty(self.block, *shape) for _ in range(threads)]

    def write_images(self, thread: int, pixels: torch.Tensor, target: torch.Tensor) -> None:
        """Images of uint8, (n, channels, side, side) with n <= `block`, into `target`."""
        scratch = self._scratch[thread][: len(pixels)]
        scratch.copy_(pixels)
        scratch.mul_(self._scale).add_(self._shift)
        target.copy_(scratch)


class NormalizeWork:
    """uint8 images from a seeded pool of at least `nbytes`, larger than the last-level cache."""

    def __init__(
        self, shape: Sequence[int], *, nbytes: int, seed: int, threads: HostThreads
    ) -> None:
        self._pool = BatchRing(shape, torch.uint8, nbytes=nbytes)
        self.buffers = [self._pool.buffer]
        self._threads = threads
        self._normalizer = _Normalizer(shape[1:], threads.count)
        self._rows = self._pool.buffer.tensor
        generator = torch.Generator().manual_seed(seed)
        flat = self._rows.view(-1)
        # Not a multiple of a batch, so that neighbouring batches differ.
        block = torch.randint(
            0, 256, (min(flat.numel(), _DISTINCT_BYTES + 1),), dtype=torch.uint8,
            generator=generator,
        )  # fmt: skip
        for begin in range(0, flat.numel(), block.numel()):
            part = flat[begin : begin + block.numel()]
            part.copy_(block[: part.numel()])

    def write_batch(self, index: int, target: torch.Tensor) -> None:
        """See `HostWork.write_batch`."""
        images = self._rows[index % self._pool.batches]

        def work(thread: int, part: range) -> None:
            with torch.inference_mode():
                for i in range(part.start, part.stop, self._normalizer.block):
                    some = slice(i, min(i + self._normalizer.block, part.stop))
                    self._normalizer.write_images(thread, images[some], target[some])

        self._threads.split_work(work, len(images))

    def compute_reference(self, index: int) -> torch.Tensor:
        """See `HostWork.compute_reference`."""
        return normalize_exactly(self._rows[index % self._pool.batches].numpy())


class DecodeWork:
    """JPEG images, made from `seed`, in one buffer of at least `nbytes`.

    `shape` is that of a batch with 1 or 3 channels. Raises Waived without Pillow.
    """

    def __init__(
        self, shape: Sequence[int], *, nbytes: int, seed: int, threads: HostThreads
    ) -> None:
        self._images = _import_decoder()
        encoded = _encode_images(shape[1:], seed)
        set_bytes = sum(map(len, encoded))
        # Round-robin over whole sets, in memory that no cache holds.
        images = encoded * -(-nbytes // set_bytes)
        # At least a batch of them is at different places.
        images *= -(-shape[0] // len(images))
        buffer = HostBuffer((sum(map(len, images)),), torch.uint8)
        self._bytes: Pixels = buffer.tensor.numpy()
        self._places: list[slice] = []
        end = 0
        for image in images:
            self._places.append(slice(end, end := end + len(image)))
            self._bytes[self._places[-1]] = np.frombuffer(image, np.uint8)
        self.buffers = [buffer]
        self._batch, self._channels = shape[0], shape[1]
        self._threads = threads
        self._normalizer = _Normalizer(shape[1:], threads.count)

    def write_batch(self, index: int, target: torch.Tensor) -> None:
        """See `HostWork.write_batch`. Pillow decodes without Python's global lock."""

        def work(thread: int, part: range) -> None:
            with torch.inference_mode():
                for i in part:
                    # Pillow's channels come last.
                    pixels = torch.from_numpy(self._decode(index, i)).permute(2, 0, 1)
                    self._normalizer.write_images(thread, pixels[None], target[i : i + 1])

        self._threads.split_work(work, self._batch)

    def compute_reference(self, index: int) -> torch.Tensor:
        """See `HostWork.compute_reference`. The decoder is the same: JPEG leaves rounding open."""
        images = [self._decode(index, i) for i in range(self._batch)]
        return normalize_exactly(np.stack(images).transpose(0, 3, 1, 2))

    def _decode(self, index: int, image: int) -> Pixels:
        """Pixels of an image of a batch, of shape (side, side, channels)."""
        place = self._places[(index * self._batch + image) % len(self._places)]
        stored = io.BytesIO(self._bytes[place].tobytes())
        # A copy: torch warns of memory that it cannot write to.
        pixels: Pixels = np.array(self._images.open(stored))
        return pixels.reshape(*pixels.shape[:2], self._channels)


def make_work(spec: RunSpec, threads: HostThreads) -> HostWork:
    """The host work of a spec. Raises Waived where this installation cannot do it."""
    kinds: dict[str, Callable[..., HostWork]] = {"normalize": NormalizeWork, "decode": DecodeWork}
    nbytes = spec.test.memory_size_mb * 1_000_000
    return kinds[spec.test.host_work](
        input_shape(spec), nbytes=nbytes, seed=spec.test.seed, threads=threads
    )


def channel_constants(channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel."""
    if channels == len(MEAN):
        return MEAN, STD
    return (sum(MEAN) / len(MEAN),) * channels, (sum(STD) / len(STD),) * channels


def normalize_exactly(
    pixels: Pixels,
) -> torch.Tensor:
    """uint8 images of shape (batch, channels, side, side), normalised in fp64."""
    mean, std = (np.array(c).reshape(-1, 1, 1) for c in channel_constants(pixels.shape[1]))
    return torch.from_numpy((pixels.astype(np.float64) / 255 - mean) / std)


def _import_decoder() -> ModuleType:
    """Pillow's module of images. Raises Waived."""
    try:
        return importlib.import_module("PIL.Image")
    except ImportError as error:
        raise Waived(f"host_work=decode needs Pillow ({error}); pip install pillow") from error


def _encode_images(shape: Sequence[int], seed: int) -> list[bytes]:
    """Distinct JPEG images of shape (channels, side, side): smooth colours under noise."""
    image_module = _import_decoder()
    channels, side, _ = shape
    count = max(_LEAST_IMAGES, min(256, _DISTINCT_BYTES // (channels * side * side)))
    generator = torch.Generator().manual_seed(seed)
    coarse = (1, channels, -(-side // _BLOCK) + 1, -(-side // _BLOCK) + 1)
    encoded = []
    for _ in range(count):
        smooth = torch.nn.functional.interpolate(
            torch.rand(coarse, generator=generator), size=(side, side), mode="bilinear"
        )[0]
        noise = _GRAIN * torch.randn((channels, side, side), generator=generator)
        pixels = (255 * (smooth + noise)).clamp(0, 255).byte().permute(1, 2, 0).contiguous().numpy()
        stored = io.BytesIO()
        image_module.fromarray(pixels if channels > 1 else pixels[:, :, 0]).save(
            stored, "JPEG", quality=_QUALITY
        )
        encoded.append(stored.getvalue())
    return encoded
