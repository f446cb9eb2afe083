"""Weights & Biases: one group per study or sweep, one run per measured run."""

from __future__ import annotations

import hashlib
import netrc
import os
from pathlib import Path
from typing import Any

from numa_bench.tracking.base import RunView, StudyView, TrackingError


class WandbTracker:
    """See `Tracker`. Without an account it logs offline, below the study."""

    name = "wandb"

    def __init__(self, project: str, entity: str | None, mode: str | None) -> None:
        self._project = project
        self._entity = entity
        self._mode = mode or os.environ.get("WANDB_MODE") or ("online" if _account() else "offline")
        self.target = f"{entity or ''}/{project} {self._mode}"

    def open(self, study: StudyView) -> None:  # noqa: ARG002 - groups need no creation
        """See `Tracker.open`. Raises TrackingError when wandb is not installed."""
        try:
            import wandb  # noqa: F401
        except ImportError as error:
            raise TrackingError(
                "wandb is not installed; pip install wandb -c constraints.txt"
            ) from error

    def log_run(self, study: StudyView, run: RunView) -> None:
        """See `Tracker.log_run`. The id is derived from the run, so it is resumed, not doubled."""
        with self._run(study, run.run_id, dict(run.params), list(_labels(run))) as active:
            # W&B ignores a step below the last one, so all series are logged step by step.
            steps: dict[int, dict[str, float]] = {}
            for name, points in run.series.items():
                for step, value in points:
                    steps.setdefault(step, {})[name] = value
            for step in sorted(steps):
                active.log(steps[step], step=step)
            active.summary.update({**run.metrics, **run.tags})
            for path in run.files:
                active.save(str(path), base_path=str(path.parent), policy="now")
            active.finish(exit_code=0 if run.status in ("passed", "waived") else 1)

    def log_study(self, study: StudyView) -> None:
        """See `Tracker.log_study`: a run called summary in the same group."""
        with self._run(study, "summary", study.params, ["summary"]) as active:
            active.summary.update({**study.metrics, **study.tags, "text": study.summary})
            for path in study.files:
                active.save(str(path), base_path=str(path.parent), policy="now")

    def log_files(self, study: StudyView, files: tuple[Path, ...], below: str) -> None:  # noqa: ARG002
        """See `Tracker.log_files`."""
        with self._run(study, "summary", {}, ["summary"]) as active:
            for path in files:
                active.save(str(path), base_path=str(path.parent), policy="now")

    def hint(self, directory: Path) -> str:
        """See `Tracker.hint`."""
        if self._mode == "offline":
            return f"wandb sync --sync-all {directory / 'wandb'}"
        return f"W&B: group in project {self._project}"

    def close(self) -> None:
        """See `Tracker.close`."""

    def _run(self, study: StudyView, name: str, config: dict[str, Any], tags: list[str]) -> Any:
        import wandb

        study.directory.mkdir(parents=True, exist_ok=True)
        return wandb.init(
            project=self._project,
            entity=self._entity,
            mode=self._mode,  # type: ignore[arg-type]  # wandb refuses an unknown one by itself
            dir=str(study.directory),
            group=study.title,
            name=name,
            id=hashlib.sha256(f"{study.key}/{study.directory.name}/{name}".encode()).hexdigest()[
                :16
            ],
            resume="allow",
            config=config,
            tags=tags,
            settings=wandb.Settings(
                silent=True,
                console="off",
                disable_git=True,
                disable_code=True,
                x_disable_stats=True,
            ),
        )


def _labels(run: RunView) -> list[str]:
    return [run.tags[name] for name in ("status", "placement", "device") if name in run.tags]


def _account() -> bool:
    """Whether wandb would find a key to log in with."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc.netrc().authenticators("api.wandb.ai") is not None
    except (OSError, netrc.NetrcParseError):
        return False
