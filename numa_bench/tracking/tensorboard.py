"""TensorBoard: event files below the study, one directory per run."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from numa_bench.study_files import TENSORBOARD
from numa_bench.tracking.base import RunView, StudyView, TrackingError

FOLDER = TENSORBOARD


class TensorboardTracker:
    """See `Tracker`. Scalars, the HParams table, and a summary of the study as text."""

    name = "tensorboard"
    target = FOLDER

    def open(self, study: StudyView) -> None:  # noqa: ARG002 - event files need no connection
        """See `Tracker.open`. Raises TrackingError when tensorboard is not installed."""
        try:
            import torch.utils.tensorboard  # noqa: F401
        except ImportError as error:
            raise TrackingError(
                "tensorboard is not installed; pip install tensorboard -c constraints.txt"
            ) from error

    def log_run(self, study: StudyView, run: RunView) -> None:
        """See `Tracker.log_run`. Replaces earlier events of the run."""
        with self._writer(study.directory / FOLDER / run.run_id) as writer:
            for name, points in run.series.items():
                for step, value in points:
                    writer.add_scalar(name, value, step, walltime=run.start_s)
            for name, value in run.metrics.items():
                writer.add_scalar(name, value, 0, walltime=run.start_s)
            writer.add_text("status", "\n\n".join(f"{k}: {v}" for k, v in run.tags.items()))
            # "." keeps them in the run's folder; by default they get one named after the time.
            writer.add_hparams(_hparams(run), dict(run.metrics), run_name=".")

    def log_study(self, study: StudyView) -> None:
        """See `Tracker.log_study`."""
        with self._writer(study.directory / FOLDER / "summary") as writer:
            writer.add_text("study", study.summary)
            for name, value in study.metrics.items():
                writer.add_scalar(name, value, 0)

    def log_files(self, study: StudyView, files: tuple[Path, ...], below: str) -> None:
        """See `Tracker.log_files`. TensorBoard keeps no files, so only pictures are logged."""
        from matplotlib.image import imread

        with self._writer(study.directory / FOLDER / below) as writer:
            for path in files:
                if path.suffix == ".png":
                    writer.add_image(path.stem, imread(path), dataformats="HWC")

    def hint(self, directory: Path) -> str:
        """See `Tracker.hint`."""
        return f"tensorboard --logdir {directory / FOLDER} --host 127.0.0.1"

    def close(self) -> None:
        """See `Tracker.close`."""

    @staticmethod
    def _writer(folder: Path) -> Any:
        from torch.utils.tensorboard import SummaryWriter

        # Event files are only added to: the earlier events would be shown as well.
        shutil.rmtree(folder, ignore_errors=True)
        return SummaryWriter(str(folder))


def _hparams(run: RunView) -> dict[str, bool | int | float | str]:
    """Settings in the types of the HParams plugin, with the placement, which is compared."""
    found: dict[str, bool | int | float | str] = {
        name: value if isinstance(value, (bool, int, float)) else str(value)
        for name, value in run.params.items()
    }
    return {**found, "placement": run.tags.get("placement", "")}
