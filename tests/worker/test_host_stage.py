"""Host work gives the right batches, on as many threads as it is asked to use."""

from __future__ import annotations

import io
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from numa_bench.worker import __main__ as worker
from numa_bench.worker.buffers import BatchRing, MemoryKind
from numa_bench.worker.devices import Waived
from numa_bench.worker.host_stage import images
from numa_bench.worker.host_stage.feeds import HostFeed
from numa_bench.worker.host_stage.images import (
    MEAN,
    STD,
    DecodeWork,
    HostWork,
    NormalizeWork,
    channel_constants,
    make_work,
)
from numa_bench.worker.host_stage.lanes import HostThreads
from numa_bench.worker.pipelines.factory import count_host_threads
from numa_bench.worker.pipelines.pipeline import CpuPipeline, Limits
from numa_bench.worker.recorder import NoMarks
from tests.specs import make_spec

SHAPE = (5, 3, 32, 32)
WORKS: dict[str, type[Any]] = {"normalize": NormalizeWork, "decode": DecodeWork}


def make(kind: str, threads: int = 1, seed: int = 0, shape: tuple[int, ...] = SHAPE) -> HostWork:
    work: HostWork = WORKS[kind](shape, nbytes=200_000, seed=seed, threads=HostThreads(threads))
    return work


def write(work: HostWork, index: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    target = torch.full(SHAPE, float("nan"), dtype=dtype)
    work.write_batch(index, target)
    return target


def read_images(work: HostWork, index: int) -> np.ndarray[Any, Any]:
    """Pixels of a batch, of shape (batch, channels, side, side)."""
    from PIL import Image

    if isinstance(work, NormalizeWork):
        rows: np.ndarray[Any, Any] = work.buffers[0].tensor.numpy()
        return rows[index % len(rows)]
    assert isinstance(work, DecodeWork)
    stored = work.buffers[0].tensor.numpy().tobytes()
    starts = [i for i in range(len(stored)) if stored.startswith(b"\xff\xd8\xff", i)]
    files = [stored[i:j] for i, j in zip(starts, [*starts[1:], len(stored)], strict=True)]
    chosen = [files[(index * SHAPE[0] + i) % len(files)] for i in range(SHAPE[0])]
    pixels = [np.asarray(Image.open(io.BytesIO(file))) for file in chosen]
    return np.stack(pixels).transpose(0, 3, 1, 2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", WORKS)
def test_pixels_are_scaled_by_channel(kind: str, dtype: torch.dtype) -> None:
    work = make(kind)
    for index in (0, 1, 200):
        pixels = read_images(work, index).astype(np.float64)
        expected = np.empty(SHAPE)
        for channel in range(3):
            expected[:, channel] = (pixels[:, channel] / 255 - MEAN[channel]) / STD[channel]

        # At most half a unit in the last place of numbers up to 2.7, and fp32's own error.
        error = np.abs(write(work, index, dtype).double().numpy() - expected).max()
        assert error <= torch.finfo(dtype).eps + 1e-6
        assert np.allclose(work.compute_reference(index).numpy(), expected)


@pytest.mark.parametrize("kind", WORKS)
def test_threads_share_a_batch_without_changing_it(kind: str) -> None:
    alone, shared, more = (make(kind, threads) for threads in (1, 2, 7))

    assert torch.equal(write(alone, 3), write(shared, 3))
    assert torch.equal(write(alone, 3), write(more, 3))


@pytest.mark.parametrize("kind", WORKS)
def test_images_are_those_of_the_seed(kind: str) -> None:
    one, same, other = make(kind, seed=1), make(kind, seed=1), make(kind, seed=2)

    assert torch.equal(write(one, 0), write(same, 0))
    assert not torch.equal(write(one, 0), write(other, 0))
    assert not torch.equal(write(one, 0), write(one, 1))
    assert sum(buffer.nbytes for buffer in one.buffers) >= 200_000


def test_grey_images_are_decoded_too() -> None:
    shape = (2, 1, 32, 32)
    work = make("decode", shape=shape)
    target = torch.empty(shape)
    work.write_batch(0, target)

    assert torch.allclose(target.double(), work.compute_reference(0), atol=1e-6)
    (mean,), (std,) = channel_constants(1)
    assert (mean, std) == pytest.approx((0.449, 0.226))


def test_a_jpeg_set_holds_a_whole_batch() -> None:
    shape = (40, 3, 32, 32)
    work = DecodeWork(shape, nbytes=1, seed=0, threads=HostThreads(1))
    target = torch.empty(shape)
    work.write_batch(0, target)

    assert not torch.isnan(target).any()


def test_without_pillow_decoding_is_waived(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(Waived, match="pip install pillow"):
        make_work(make_spec(host_work="decode"), HostThreads(1))


def test_every_thread_gets_a_part_and_none_of_torchs_threads() -> None:
    before = torch.get_num_threads()
    threads, seen = HostThreads(3), {}
    together = threading.Barrier(3)

    def work(number: int, part: range) -> None:
        together.wait(timeout=20)  # all at the same time
        seen[number] = (list(part), torch.get_num_threads(), threading.get_ident())

    threads.split_work(work, 8)

    assert [seen[number][0] for number in range(3)] == [[0, 1], [2, 3, 4], [5, 6, 7]]
    assert {one_thread for _, one_thread, _ in seen.values()} == {1}
    assert len({thread for _, _, thread in seen.values()}) == 3
    assert torch.get_num_threads() == before


def test_what_a_thread_raises_reaches_the_caller() -> None:
    def work(number: int, part: range) -> None:
        raise ValueError(f"part {number} of {len(part)}")

    with pytest.raises(ValueError, match="part 0 of 2"):
        HostThreads(2).split_work(work, 4)


def test_on_the_cpu_host_work_comes_before_each_batch() -> None:
    marked = []

    class Tape(NoMarks):
        def push(self, name: str) -> None:
            marked.append(name)

    work = make("normalize")
    feed = HostFeed(SHAPE, torch.float32, work, depth=2, memory=MemoryKind())
    pipeline = CpuPipeline(lambda x: x, feed, BatchRing(SHAPE, torch.float32, nbytes=1), 2)
    windows = [pipeline.run(Limits(batches), Tape()) for batches in (2, 7)]

    assert marked == ["host", "H2D", "compute", "D2H"] * 9
    assert [len(window.host) for window in windows] == [2, 7]
    # The ninth batch: its output, and the check's own way to it.
    assert torch.equal(pipeline.last_output(), write(work, 8))
    assert torch.allclose(feed.reference_batch(), write(work, 8), atol=1e-6)
    assert {buffer.address for buffer in work.buffers} < {
        buffer.address for buffer in pipeline.host_buffers
    }


def test_threads_default_to_all_cpus_but_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for cpus, wanted in (({0}, 1), ({0, 1}, 1), (set(range(8)), 7)):
        monkeypatch.setattr("os.sched_getaffinity", lambda _, cpus=cpus: cpus)
        assert count_host_threads(make_spec(host_work="decode")) == wanted
        assert count_host_threads(make_spec(host_work="decode", host_threads=3)) == 3
        assert count_host_threads(make_spec()) == 0


@pytest.mark.parametrize("work", ["none", "normalize", "decode"])
def test_a_run_on_the_cpu_has_a_host_stage_where_it_was_asked_for(work: str) -> None:
    result = worker.run_spec(
        make_spec(host_work=work, host_threads=2, image_size=32), worker.Files(Path("unused"))
    )

    assert (result.status, result.error) == ("passed", None)
    if work == "none":
        assert "host_ms" not in result.samples
        assert "host_ms" not in result.metrics
        assert "host_threads" not in result.observed
        return
    assert len(result.samples["host_ms"]) == len(result.samples["h2d_ms"]) == 4
    assert len(result.warmup_samples["host_ms"]) == len(result.warmup_samples["h2d_ms"])
    assert result.metrics["host_ms"] is not None
    assert 0 < (result.metrics["host_wait_fraction"] or 0) < 1
    assert "host_pipelined_ms" not in result.metrics
    assert result.observed["host_threads"] == 2
    assert result.observed["output_error"] < 1e-5


def test_memory_of_the_driver_needs_a_gpu() -> None:
    result = worker.run_spec(make_spec(host_memory="pinned"), worker.Files(Path("unused")))

    assert (result.status, result.error) == (
        "waived",
        "host_memory=pinned needs a GPU; use host_memory=registered on the CPU",
    )


def test_a_thread_works_on_blocks_of_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python's global lock is taken for each block, so many threads do not wait for it."""
    image_bytes = 4 * SHAPE[1] * SHAPE[2] * SHAPE[3]
    monkeypatch.setattr(images, "_BLOCK_BYTES", 2 * image_bytes)
    work = make("normalize")
    whole = write(work, 1)
    blocks: list[int] = []
    normalizer: Any = work._normalizer  # type: ignore[attr-defined]
    write_images = normalizer.write_images

    def count_images(thread: int, some: torch.Tensor, target: torch.Tensor) -> None:
        blocks.append(len(some))
        write_images(thread, some, target)

    monkeypatch.setattr(normalizer, "write_images", count_images)

    assert torch.equal(write(work, 1), whole)
    assert blocks == [2, 2, 1]
    assert torch.allclose(whole.double(), work.compute_reference(1), atol=1e-6)
