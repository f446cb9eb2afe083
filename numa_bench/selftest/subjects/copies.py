"""Bare copies of registered memory, against the PCIe link and against `pin_memory()`."""

from __future__ import annotations

import functools

from numa_bench.selftest.checks import Check, Figure, Limit, Waived
from numa_bench.selftest.context import NO_OP, Context
from numa_bench.selftest.paired import compare_pairs, take_pairs
from numa_bench.selftest.raw_copies import D2H, H2D, RawCopies, make_pinned, make_registered

#: Least share of the link's rate for copies in one direction. A packet of 128 bytes, the payload
#: that most hosts negotiate, carries 24 to 28 bytes of header, sequence number, checksum and
#: framing (PCI Express Base Specification, "Transaction Layer" and "Data Link Layer"), which leaves
#: 82 to 84 %; the rest is a chosen allowance for acknowledgements and flow control.
ONE_WAY = 0.75
#: The same for each of two directions at once, whose requests, completions and acknowledgements
#: share the link with the other direction's data. A chosen convention.
TWO_WAY = 0.6
#: Least rate of registered memory relative to `pin_memory()`: the same pages to the hardware, so
#: what is less than the spread of raw copies is a fault of the buffers.
PINNED = 0.95


def check_one_way_in(context: Context) -> Figure | Waived:
    """Rate from host to device, as a share of the link."""
    return _compare_with_link(context, H2D)


def check_one_way_out(context: Context) -> Figure | Waived:
    """Rate from device to host, as a share of the link."""
    return _compare_with_link(context, D2H)


def check_two_way(context: Context) -> Figure | Waived:
    """Rate in each direction while both copy, as a share of the link."""
    return _compare_with_link(context, H2D, D2H)


def compare_pinned(context: Context) -> Figure | Waived:
    """Rates of registered memory relative to `pin_memory()`, in alternated pairs."""
    cuda = context.require_cuda()
    if cuda.tools is None:
        return Waived("a simulated device has no pin_memory()")
    pool_bytes = _pool_bytes(context)
    registered = make_registered(cuda.runtime, context.copy_bytes, pool_bytes)
    pinned = make_pinned(cuda.runtime, cuda.tools.pin_memory, context.copy_bytes, pool_bytes)
    ratios = {}
    for name, directions in {"H2D": [H2D], "D2H": [D2H], "both": [H2D, D2H]}.items():
        ours = functools.partial(registered.measure_rate, *directions)
        theirs = functools.partial(pinned.measure_rate, *directions)
        ratios[name] = compare_pairs(take_pairs(ours, theirs, context.pairs))
    note = ", ".join(f"{name} {ratio}" for name, ratio in ratios.items())
    details = {name: ratio.to_dict() for name, ratio in ratios.items()}
    return Figure(min(ratio.median for ratio in ratios.values()), note, details)


def make_copies(context: Context) -> RawCopies:
    """Raw copies of registered memory on the device under test."""
    runtime = context.require_cuda().runtime
    return make_registered(runtime, context.copy_bytes, _pool_bytes(context))


def _pool_bytes(context: Context) -> int:
    return context.make_spec(NO_OP).test.memory_size_mb * 1_000_000


def _compare_with_link(context: Context, *directions: str) -> Figure | Waived:
    link = context.require_cuda().link
    rate = make_copies(context).measure_rate(*directions)
    each = " in each direction" if len(directions) > 1 else ""
    copies = f"{rate:.1f} GB/s{each}, copies of {context.copy_bytes / 1e6:.0f} MB"
    if link is None:
        return Waived(f"NVML does not name the PCIe link; {copies}")
    note = f"{copies}, {link} carries {link.gb_per_s:.1f} GB/s"
    details = {"gb_per_s": rate, "link": str(link), "link_gb_per_s": link.gb_per_s}
    return Figure(rate / link.gb_per_s, note, details)


CHECKS = (
    Check(
        "raw copies H2D",
        "do bare copies of 64 MB to the GPU use its PCIe link?",
        "of link",
        Limit(ONE_WAY, 1),
        check_one_way_in,
        needs_gpu=True,
    ),
    Check(
        "raw copies D2H",
        "do bare copies of 64 MB from the GPU use its PCIe link?",
        "of link",
        Limit(ONE_WAY, 1),
        check_one_way_out,
        needs_gpu=True,
    ),
    Check(
        "raw copies both ways",
        "do bare copies of 64 MB use both directions of the link at once?",
        "of link",
        Limit(TWO_WAY, 1),
        check_two_way,
        needs_gpu=True,
    ),
    Check(
        "registered against pin_memory",
        "is registered memory as fast as memory that torch pinned?",
        "of its rate",
        Limit(least=PINNED),
        compare_pinned,
        needs_gpu=True,
    ),
)
