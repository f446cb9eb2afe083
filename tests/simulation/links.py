"""What copies, launches and arithmetic cost: of a whole machine, and of one process on it."""

from __future__ import annotations

from dataclasses import dataclass

#: FLOP of the largest forward pass that is really computed, a tenth of a second on one core.
EVALUATE_FLOP = 2e10


@dataclass(frozen=True)
class LinkModel:
    """What copies, launches and arithmetic cost. Factors apply to what crosses the sockets.

    `remote_link`: bandwidth of a copy whose memory is on the other socket, of that on its own;
    `remote_host`: host cost of a submission from a CPU of the other socket, of that from its own.
    `duplex_gb_per_s` bounds both directions of one GPU together, `socket_gb_per_s` all that one
    process moves between the sockets, or all workers of a set together. `memory_gb_per_s` bounds
    what the workers of a set move to and from the memory of one node, `stream_gb_per_s` what one
    thread of a memory stream does. `remote_d2h` is `remote_link` for copies to the host only
    (None: the same); `remote_latency` a factor of `latency_us`. `pageable_gb_per_s` is the rate at
    which the CPU stages pageable memory, slower by `remote_link` where CPU and memory are on
    different sockets. `host_work_us` is host work on a batch by a CPU whose memory is on its own
    socket; `remote_work` what it costs with memory on the other one, of that. `noise` is the
    standard deviation of an operation's time, `run_noise` that of a whole process, both relative.
    """

    h2d_gb_per_s: float = 50.0
    d2h_gb_per_s: float = 48.0
    latency_us: float = 3.0
    duplex_gb_per_s: float = 90.0
    socket_gb_per_s: float = 60.0
    pageable_gb_per_s: float = 10.0
    memory_gb_per_s: float = 1e6
    stream_gb_per_s: float = 10.0
    remote_link: float = 1.0
    remote_d2h: float | None = None
    remote_latency: float = 1.0
    remote_host: float = 1.0
    same_socket_link: float = 1.0
    tflop_per_s: float = 40.0
    kernel_us: float = 2.0
    launch_us: float = 4.0
    submit_us: float = 2.0
    host_work_us: float = 100.0
    remote_work: float = 1.0
    event_us: float = 0.3
    noise: float = 0.01
    run_noise: float = 0.002


@dataclass(frozen=True)
class Links:
    """What one process sees of its GPU: rates in bytes and FLOP per second, costs in seconds.

    `both_bytes_per_s` bounds copies in both directions together, `pageable_bytes_per_s` copies of
    memory that is not registered. `launch_s` is the host's cost of one kernel, `submit_s` of one
    copy or graph launch, `event_s` of recording or waiting for one event, `host_work_s` of host
    work on one batch. A kernel takes `kernel_s` at least. `noise` and `run_noise` are relative
    standard deviations, of one operation and of all operations of a process.
    """

    h2d_bytes_per_s: float = 50e9
    d2h_bytes_per_s: float = 50e9
    both_bytes_per_s: float = float("inf")
    pageable_bytes_per_s: float = 10e9
    latency_s: float = 0.0
    flop_per_s: float = 40e12
    kernel_s: float = 0.0
    launch_s: float = 0.0
    submit_s: float = 0.0
    event_s: float = 0.0
    host_work_s: float = 0.0
    noise: float = 0.0
    run_noise: float = 0.0
