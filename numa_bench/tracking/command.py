"""The trackers' command line.

python -m numa_bench.tracking sync PATH...        log what trackers do not have yet
python -m numa_bench.tracking attach STUDY FILE...   keep files, such as a report, with a study
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from numa_bench.config.schema import RunnerConfig
from numa_bench.config.schemas.isolation import IsolationConfig
from numa_bench.errors import NumaBenchError, StoreError
from numa_bench.isolation.host_locks import hold_start_up, print_wait
from numa_bench.redaction import redact_credentials
from numa_bench.study_files import RESOLVED_CONFIG
from numa_bench.study_search import find_studies, read_resolved_config
from numa_bench.terminal.lines import print_error, print_line
from numa_bench.tracking.factory import make_trackers
from numa_bench.tracking.sync import Syncer, known_place

KINDS = ("mlflow", "wandb", "tensorboard")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. 0: all runs are logged; 1: a tracker failed; 2: there is no study."""
    parser = argparse.ArgumentParser(description="Log stored studies to trackers.")
    commands = parser.add_subparsers(dest="command", required=True)
    sync = commands.add_parser("sync", help="log what is missing; safe to repeat")
    sync.add_argument("paths", nargs="+", type=Path, help="studies, sweeps, or an output root")
    attach = commands.add_parser("attach", help="keep files with a study's parent run")
    attach.add_argument("study", type=Path)
    attach.add_argument("files", nargs="+", type=Path)
    for one in (sync, attach):
        one.add_argument(
            "--tracking", help=f"{', '.join(KINDS)}: instead of the study's own trackers"
        )
        one.add_argument("--uri", help="MLflow's tracking URI, instead of the study's own")
    args = parser.parse_args(argv)
    paths = args.paths if args.command == "sync" else [args.study]
    try:
        directories = [found for path in paths for found in find_studies(path, with_runs=True)]
        if not directories:
            raise StoreError(f"no study at or below {', '.join(map(str, paths))}")
        with hold_start_up(IsolationConfig(), print_wait):  # not beside a measurement
            return max(_one(directory, args) for directory in directories)
    except NumaBenchError as error:
        print_error(redact_credentials(error))
        return error.exit_code


def _one(directory: Path, args: argparse.Namespace) -> int:
    syncer = make_syncer(directory, args.tracking, args.uri)
    worst = 0
    for tracker in syncer.trackers:
        try:
            if args.command == "sync":
                logged = syncer.sync_tracker(tracker, finished=True)
                hint = tracker.hint(directory).replace("\n", "; ")
                print_line(f"{directory}: {logged} runs logged to {tracker.name}; {hint}")
            else:
                syncer.attach_files(tracker, tuple(args.files), "analysis")
                print_line(f"{directory}: {len(args.files)} files kept in {tracker.name}")
        except NumaBenchError:
            raise
        except Exception as error:  # noqa: BLE001 - trackers raise anything
            worst = 1
            reason = redact_credentials(error).strip() or type(error).__name__
            print_error(f"{tracker.name} at {tracker.target}: {reason}")
    syncer.close_trackers()
    return worst


def make_syncer(directory: Path, kinds: str | None = None, uri: str | None = None) -> Syncer:
    """The syncer of a stored study, with its own settings unless others are given."""
    config = RunnerConfig()
    if saved := read_resolved_config(directory):
        try:
            merged = OmegaConf.merge(OmegaConf.structured(RunnerConfig), saved)
            found = OmegaConf.to_object(merged)
        except OmegaConfBaseException as error:
            reason = " ".join(str(error).split())
            path = directory / RESOLVED_CONFIG
            raise StoreError(f"{path} cannot be used: {reason}; restore or remove it") from error
        assert isinstance(found, RunnerConfig)
        config = found
    tracking = config.tracking
    wanted = kinds.split(",") if kinds else [k for k in KINDS if getattr(tracking, k).enabled]
    for kind in wanted:
        if kind not in KINDS:
            raise StoreError(f"--tracking {kind}: unknown; use {', '.join(KINDS)}")
    for kind in KINDS:
        getattr(tracking, kind).enabled = kind in (wanted or ["mlflow"])
    known = known_place(directory, "mlflow")
    if uri:
        tracking.mlflow.uri = uri
    elif known and known.startswith("sqlite:") and not os.environ.get("MLFLOW_TRACKING_URI"):
        tracking.mlflow.uri = known  # the default depends on the working directory
    trackers = make_trackers(tracking, Path(config.output.root))
    return Syncer(directory, trackers, tracking.series_points, tracking.max_file_mb)
