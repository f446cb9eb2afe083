"""Sweeps whose jobs were measured one after another, so that what they vary varies with time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd

from numa_bench.analysis.read.studies import Study

#: Share of the variance of the order of runs that lies between jobs, above which these count as
#: measured one after another: 1 if each ends before the next one starts, about 0 if they alternate.
#: Chosen.
_SEQUENTIAL = 0.5


@dataclass(frozen=True)
class SequentialSweep:
    """A sweep with jobs of one host that were measured one after another.

    `axes` are the settings in which these jobs differ, `studies` their directories.
    """

    directory: str
    axes: tuple[str, ...]
    studies: tuple[str, ...]

    @property
    def warning(self) -> str:
        """What cannot be concluded, and what to do about it, in a sentence or two."""
        return (
            f"Confounded with time: the {len(self.studies)} jobs of {self.directory} were measured "
            f"one after another, so differences between values of {self._axes_text} may be drift. "
            "To measure them in one random order, repeat the sweep with interleave=true."
        )

    @property
    def remark(self) -> str:
        """The same where values are compared."""
        return (
            f"{self._axes_text} and time are confounded here: the jobs of {self.directory} were "
            "measured one after another (interleave=true measures them in one random order)."
        )

    @property
    def _axes_text(self) -> str:
        return ", ".join(self.axes) or "its settings"


def find_sequential_sweeps(
    frame: pd.DataFrame, studies: Sequence[Study]
) -> tuple[SequentialSweep, ...]:
    """The sweeps among these studies that were measured job after job, in order of their names."""
    jobs = {study.directory: study for study in studies if study.sweep is not None}
    if len(jobs) < 2 or frame.empty:
        return ()
    runs = frame[frame["in_statistics"].astype(bool) & frame["study_dir"].isin(list(jobs))]
    sweep = runs["study_dir"].map({name: study.sweep for name, study in jobs.items()})
    found: dict[str, set[str]] = {}
    for (name, _), own in runs.groupby([sweep, runs["host"]]):
        if own["study_dir"].nunique() > 1 and _share_between_jobs(own) > _SEQUENTIAL:
            found.setdefault(str(name), set()).update(own["study_dir"])
    return tuple(
        SequentialSweep(name, _list_axes([jobs[d] for d in members]), tuple(sorted(members)))
        for name, members in sorted(found.items())
    )


def select_confounded(
    sweeps: Iterable[SequentialSweep], table: pd.DataFrame, frame: pd.DataFrame
) -> list[SequentialSweep]:
    """Those of the sweeps of which a table has cells of several jobs; `frame` has their runs.

    A table without the column `cell` has those of its groups.
    """
    key = "cell" if "cell" in table else "group"
    runs = frame[frame[key].isin(table[key])]
    used = set(runs.loc[runs["in_statistics"].astype(bool), "study_dir"])
    return [sweep for sweep in sweeps if len(used.intersection(sweep.studies)) > 1]


def _share_between_jobs(runs: pd.DataFrame) -> float:
    """How much of the variance of the runs' order in time is that of the means of their jobs."""
    ranks = runs["start_time"].rank()
    means = ranks.groupby(runs["study_dir"]).transform("mean")
    total = float(((ranks - ranks.mean()) ** 2).sum())
    return float(((means - ranks.mean()) ** 2).sum()) / total if total else 0.0


def _list_axes(jobs: Sequence[Study]) -> tuple[str, ...]:
    """The keys of the overrides that not all of these jobs have."""
    counts = Counter(word for job in jobs for word in set(job.overrides))
    words = sorted(word for word, count in counts.items() if count < len(jobs))
    return tuple(dict.fromkeys(word.partition("=")[0].lstrip("+~") for word in words))
