"""What a command study adds to a command, against hyperfine, and what watching a tree costs.

    python benchmarks/command_overhead.py [--repeats 40] [--out FILE]

For `true` and `sleep 0.2`: the time from the start of one run to the start of the next, less the
command's own time as hyperfine (--shell=none) measures it; and the wall time of the records less
the same. Sessions of both alternate. Then a tree of 50 Python processes is watched for 20 s.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

from numa_bench.machine.environment import describe_environment  # noqa: E402
from numa_bench.machine.topology import discover_topology  # noqa: E402
from numa_bench.records import COMMAND, CommandSpec, JsonDict  # noqa: E402
from numa_bench.runner.process import StopRequest  # noqa: E402
from numa_bench.runner.programs.watch import Watch  # noqa: E402
from tests.specs import make_spec  # noqa: E402

COMMANDS = (("true",), ("sleep", "0.2"))
SESSIONS = 3
TREE, TREE_S = 50, 20.0
MEMBER = "import time; held = bytearray(4_000_000); time.sleep(600)"


@dataclass(frozen=True)
class Overhead:
    """Seconds, medians over sessions; `added` per run with its extremes over sessions."""

    command: str
    runs: int
    hyperfine_s: float
    wall_s: float
    run_s: float
    added_s: float
    added_range_s: tuple[float, float]


def time_with_hyperfine(command: tuple[str, ...], runs: int) -> float:
    """Median seconds of a command, as hyperfine measures it without a shell."""
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        options = ["--shell=none", "--warmup=3", f"--runs={runs}", f"--export-json={file.name}"]
        subprocess.run(["hyperfine", *options, " ".join(command)], check=True, capture_output=True)
        result: JsonDict = json.loads(Path(file.name).read_text())["results"][0]
    return float(result["median"])


def time_with_study(command: tuple[str, ...], runs: int) -> tuple[float, float]:
    """Median seconds of a run from its start to the next one's, and of its wall time."""
    with tempfile.TemporaryDirectory() as root:
        subprocess.run(
            [
                *(sys.executable, str(PROJECT / "hydra_experiment_runner.py")),
                *("experiment=command_study", f"command='{' '.join(command)}'"),
                *("experiment.hardware.device=cpu", "experiment.hardware.numa_nodes=unbound"),
                *(f"experiment.repeats={runs}", "tracking=none", f"output.root={root}"),
            ],
            check=True,
            capture_output=True,
        )
        (results,) = Path(root).rglob("results.json")
        records = json.loads(results.read_text())
    starts = [datetime.fromisoformat(record["start_time"]).timestamp() for record in records]
    waited = [record["lock_wait_s"] for record in records[1:]]
    apart = [b - a - w for a, b, w in zip(starts, starts[1:], waited, strict=False)]
    return statistics.median(apart), statistics.median(r["wall_s"] for r in records)


def measure_overhead(command: tuple[str, ...], repeats: int) -> Overhead:
    sessions = []
    for _ in range(SESSIONS):
        bare = time_with_hyperfine(command, repeats)
        sessions.append((bare, *time_with_study(command, repeats)))
    bare_s, run_s, wall_s = (statistics.median(column) for column in zip(*sessions, strict=True))
    added = [run - bare for bare, run, _ in sessions]
    return Overhead(
        " ".join(command), SESSIONS * repeats, bare_s, wall_s, run_s,
        statistics.median(added), (min(added), max(added)),
    )  # fmt: skip


def watch_tree() -> JsonDict:
    """CPU time of looking at a tree, and of reading its CPU time, as a share of a core."""
    spec = replace(make_spec(), workload=COMMAND, command=CommandSpec(("x",)))
    script = f"import subprocess, sys\nfor _ in range({TREE - 1}):\n    " + (
        f"subprocess.Popen([sys.executable, '-c', {MEMBER!r}])\n{MEMBER}"
    )
    root = subprocess.Popen([sys.executable, "-c", script], start_new_session=True)
    try:
        time.sleep(10)  # all of them have started
        begin, begin_cpu = time.monotonic(), time.process_time()
        with StopRequest() as stop, Watch(spec, ()) as watch:
            watch.start(root.pid, stop)
            while time.monotonic() < begin + TREE_S:
                watch.read_cpu_s()  # as the monitor does, five times a second
                time.sleep(0.2)
        cpu_s = time.process_time() - begin_cpu  # of both threads
        seen = watch.describe(None)
    finally:
        # Not kill(1): with some versions of procps a negative number means every process.
        os.killpg(root.pid, signal.SIGKILL)
        root.wait()
    return {
        "processes": seen["processes"],
        "looks": seen["looks"],
        "seconds": TREE_S,
        "fraction_of_a_core": cpu_s / TREE_S,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=40, help="runs in each session")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    load = [os.getloadavg()[0]]
    overheads = [measure_overhead(command, args.repeats) for command in COMMANDS]
    tree = watch_tree()
    load.append(os.getloadavg()[0])
    if args.out:
        found = {
            "environment": describe_environment(PROJECT, discover_topology()),
            "load_1m_before_and_after": load,
            "overheads": [asdict(overhead) for overhead in overheads],
            "tree": tree,
        }
        args.out.write_text(json.dumps(found, indent=1) + "\n")
    for one in overheads:
        low, high = (1e3 * end for end in one.added_range_s)
        print(
            f"{one.command}: {1e3 * one.added_s:.1f} ms added ({low:.1f} to {high:.1f}); wall time "
            f"{1e3 * one.wall_s:.1f} ms, hyperfine {1e3 * one.hyperfine_s:.1f} ms"
        )
    print(
        f"a tree of {tree['processes']} processes: {tree['fraction_of_a_core']:.2%} of a core, "
        f"{tree['looks']} looks in {TREE_S:.0f} s"
    )
    print(f"load {load[0]:.1f} before, {load[1]:.1f} after")


if __name__ == "__main__":
    main()
