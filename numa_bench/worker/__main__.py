"""The process that measures: one spec in, one result out. Knows nothing of who started it.

    python -m numa_bench.worker --spec spec.json --result result.json

Exit code 0: measured (status passed, invalid or waived); 1: failed, with the reason in the result
and the traceback on stderr; 2: the spec cannot be read. The result is written by atomic rename.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from numa_bench.errors import describe_exception
from numa_bench.jsonio import write_json
from numa_bench.records import JsonDict, ProfileSpec, RunResult, RunSpec, Status
from numa_bench.terminal.lines import print_error
from numa_bench.versions import package_versions
from numa_bench.worker.lifeline import die_with_starter, write_started

if TYPE_CHECKING:
    from numa_bench.worker.part import Part

PACKAGES = ("torch", "vit-pytorch", "einops", "numpy")


@dataclass(frozen=True)
class Files:
    """Where a worker writes, and the lock it waits for.

    `rendezvous` is the descriptor of a socket over which the worker starts with the others of its
    set.
    """

    result: Path
    spare_result: Path | None = None
    wait_for: Path | None = None
    trace: Path | None = None
    rendezvous: int | None = None

    def write_result(self, result: RunResult) -> None:
        """Write the result by atomic rename. Fall back to `spare_result` if `result` is not
        writable."""
        try:
            write_json(self.result, result.to_dict(), indent=None)
        except OSError:
            if self.spare_result is None:
                raise
            write_json(self.spare_result, result.to_dict(), indent=None)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the worker's command line; return its exit code."""
    args = _parse_arguments(argv)
    # The runner passes --started only under nsys.
    die_with_starter(under_profiler=args.started is not None)
    try:
        # Not with read_json, which refuses pipes: its starter made this file.
        spec = RunSpec.from_dict(json.loads(args.spec.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, KeyError) as error:
        print_error(f"{args.spec} is not a run spec: {error!r}")
        return 2
    files = Files(args.result, args.spare_result, args.wait_for, args.trace, args.rendezvous)
    if args.started is not None:
        with contextlib.suppress(OSError):  # a full disk; the result has a spare path
            write_started(args.started)
    result = run_spec(spec, files, args.only)
    files.write_result(result)
    return 1 if result.status == Status.FAILED.value else 0


def run_spec(spec: RunSpec, files: Files, only: str | None = None) -> RunResult:
    """Measure, and turn whatever happens into a result. Checkpoints are written on the way.

    `only` is "measurement" (no profiled window) or "recording" (nothing else); None: both.
    """
    parts: list[Part] = []
    try:
        # torch is imported here, so that a run that cannot import it has a result too.
        from numa_bench.worker.devices import Waived
        from numa_bench.worker.measurement import record_run
        from numa_bench.worker.workloads import load_workload

        if only == "measurement":
            spec = replace(spec, profile=ProfileSpec())
        run: Callable[..., Iterator[Part]] = load_workload(spec.workload)
        if only == "recording":
            run = record_run
        if files.rendezvous is not None:
            from numa_bench.worker.sets.rendezvous import Rendezvous

            run = partial(run, rendezvous=Rendezvous(files.rendezvous))
        try:
            for part in run(spec, wait_for=files.wait_for, trace=files.trace):
                parts.append(part)
                if part.checkpoint:
                    # What follows may end the process; the measurement is then on disk.
                    files.write_result(build_result(spec, parts))
        except Waived as reason:
            return build_result(spec, parts, Status.WAIVED, str(reason))
    except Exception as error:  # noqa: BLE001 - every failure becomes a record
        traceback.print_exc()
        return build_result(spec, parts, Status.FAILED, _describe_failure(error))
    return build_result(spec, parts)


def _describe_failure(error: Exception) -> str:
    """One line of what went wrong, and what to do where that is known."""
    # By name: torch need not have been imported. Its message goes on with all that is allocated.
    if type(error).__name__ == "OutOfMemoryError":
        short = ". ".join(str(error).split(". ")[:2])
        return f"device memory is full ({short}); lower experiment.test.batch_size"
    return describe_exception(error)


def build_result(
    spec: RunSpec, parts: Sequence[Part], status: Status | None = None, error: str | None = None
) -> RunResult:
    """One result from what is known so far. Without a status: invalid if a check failed, else
    passed."""
    problems = [part.problem for part in parts if part.problem]
    if status is None:
        status, error = (Status.INVALID, problems[-1]) if problems else (Status.PASSED, None)
    samples = next((part.samples for part in parts if part.samples), {})
    warmup_samples = next((part.warmup_samples for part in parts if part.warmup_samples), {})
    return RunResult(
        run_id=spec.run_id,
        spec_hash=spec.cell_hash(),
        status=status.value,
        error=error,
        metrics={name: value for part in parts for name, value in part.metrics.items()},
        samples=samples,
        warmup_samples=warmup_samples,
        warmup=next((part.warmup for part in parts if part.warmup), {}),
        observed=_merge_observed(parts),
        versions=_versions(),
        warnings=[warning for part in parts for warning in part.warnings],
        series=[point for part in parts for point in part.series],
    )


def _merge_observed(parts: Sequence[Part]) -> JsonDict:
    """All observations; of several output errors the largest counts."""
    observed = {key: value for part in parts for key, value in part.observed.items()}
    errors = [part.observed["output_error"] for part in parts if "output_error" in part.observed]
    return {**observed, "output_error": max(errors)} if errors else observed


def _parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure one run.")
    parser.add_argument("--spec", type=Path, required=True)
    parser.add_argument("--result", type=Path, required=True)
    parser.add_argument("--spare-result", type=Path, help="used when --result cannot be written")
    parser.add_argument(
        "--started", type=Path, help="write the process number here (nsys hides it otherwise)"
    )
    parser.add_argument("--wait-for", type=Path, help="wait until this file is not locked")
    parser.add_argument(
        "--rendezvous", type=int, help="descriptor of the socket to the runner of a set"
    )
    parser.add_argument("--trace", type=Path, help="where torch.profiler's trace goes")
    parser.add_argument(
        "--only",
        choices=("measurement", "recording"),
        help="leave out the profiled window, or everything else",
    )
    return parser.parse_args(argv)


def _versions() -> dict[str, str]:
    # Not imported here: that import may be what failed.
    torch = sys.modules.get("torch")
    cuda = {"cuda": torch.version.cuda} if torch is not None and torch.version.cuda else {}
    return {"python": platform.python_version(), **package_versions(PACKAGES), **cuda}


if __name__ == "__main__":
    sys.exit(main())
