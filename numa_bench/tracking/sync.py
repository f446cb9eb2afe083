"""Logs what a tracker does not have yet of a study. Repeating it changes nothing."""

from __future__ import annotations

import contextlib
import hashlib
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from filelock import FileLock

from numa_bench.jsonio import read_object, write_json
from numa_bench.records import JsonDict
from numa_bench.study_files import TRACKING, TRACKING_LOCK
from numa_bench.tracking.base import StudyView, Tracker, TrackingError
from numa_bench.tracking.view import read_study

#: Longest wait for another job of the sweep to create or update the parent run.
LOCK_WAIT_S = 60.0


class Syncer:
    """One study and its trackers."""

    def __init__(
        self, directory: Path, trackers: Sequence[Tracker], points: int, max_file_mb: float
    ) -> None:
        self.directory = directory
        self.trackers = list(trackers)
        self._points = points
        self._max_file_mb = max_file_mb
        self._open: set[str] = set()

    def connect_tracker(self, tracker: Tracker) -> None:
        """Open one tracker. Raises what the tracker raises."""
        study = self._study()
        state = _state(self.directory)
        if state.get("key") != study.key or tracker.name not in state.get("places", {}):
            # Before opening, so that a study that is killed now finds its parent again.
            state["key"] = study.key
            state.setdefault("places", {})[tracker.name] = tracker.target
            write_json(self.directory / TRACKING, state)
        with _alone(study.root):
            tracker.open(study)
        self._open.add(tracker.name)

    def sync_tracker(self, tracker: Tracker, *, finished: bool, until: float = math.inf) -> int:
        """Log the runs that a tracker does not have; returns their number.

        `finished`: update the parent too. Nothing is started after `until` (time.monotonic()).
        Raises what the tracker raises.
        """
        seen = self._seen(tracker)
        study = self._study()
        if tracker.name not in self._open:
            self.connect_tracker(tracker)
        logged = 0
        for run in study.runs:
            if seen["runs"].get(run.run_id) == run.fingerprint or time.monotonic() > until:
                continue
            tracker.log_run(study, run)
            # After each run, so that a sync that is killed continues where it ended.
            self._remember(study, tracker, run.run_id, run.fingerprint)
            logged += 1
        mark = _mark(study)
        if finished and seen.get("study") != mark:
            with _alone(study.root):
                tracker.log_study(study)
            self._remember(study, tracker, None, mark)
        return logged

    def count_missing(self, tracker: Tracker) -> int:
        """Number of runs that a tracker does not have."""
        runs = self._seen(tracker)["runs"]
        return sum(runs.get(run.run_id) != run.fingerprint for run in self._study().runs)

    def attach_files(self, tracker: Tracker, files: tuple[Path, ...], below: str) -> None:
        """Keep files with the parent. Raises what the tracker raises."""
        study = self._study()
        if tracker.name not in self._open:
            self.connect_tracker(tracker)
        tracker.log_files(study, files, below)

    def close_trackers(self) -> None:
        """Close every tracker; errors are ignored, as everything is logged or reported by now."""
        for tracker in self.trackers:
            with contextlib.suppress(Exception):
                tracker.close()

    def _study(self) -> StudyView:
        return read_study(self.directory, points=self._points, max_file_mb=self._max_file_mb)

    def _seen(self, tracker: Tracker) -> JsonDict:
        found = _state(self.directory).get("trackers", {}).get(_slot(tracker), {})
        return {"runs": {}, **found}

    def _remember(self, study: StudyView, tracker: Tracker, run_id: str | None, mark: str) -> None:
        state = _state(self.directory)
        state["key"] = study.key
        slot = state.setdefault("trackers", {}).setdefault(_slot(tracker), {"runs": {}})
        if run_id is None:
            slot["study"] = mark
        else:
            slot["runs"][run_id] = mark
        write_json(self.directory / TRACKING, state)


def known_place(directory: Path, name: str) -> str | None:
    """The target of the tracker of that name when the study was first logged to it."""
    found = _state(directory).get("places", {}).get(name)
    return str(found) if found else None


def _slot(tracker: Tracker) -> str:
    # A study may be logged to several servers; each has its own state.
    place = hashlib.sha256(tracker.target.encode()).hexdigest()[:8]
    return f"{tracker.name}-{place}"


def _mark(study: StudyView) -> str:
    text = repr((sorted(study.metrics.items()), study.summary, len(study.runs)))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _state(directory: Path) -> JsonDict:
    """What is stored, without damaged parts: trackers find what they have by tags."""
    raw = read_object(directory / TRACKING)
    state = {name: raw[name] for name in ("places", "trackers") if isinstance(raw.get(name), dict)}
    for name, slot in state.get("trackers", {}).copy().items():
        if not (isinstance(slot, dict) and isinstance(slot.get("runs"), dict)):
            del state["trackers"][name]
    return {**state, **({"key": raw["key"]} if isinstance(raw.get("key"), str) else {})}


@contextlib.contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Hold the lock of a sweep: its jobs share a parent, which must be created once."""
    try:
        with FileLock(root / TRACKING_LOCK, timeout=LOCK_WAIT_S):
            yield
    except TimeoutError as error:
        raise TrackingError(
            f"{root / TRACKING_LOCK} is held by another process; wait for it to end"
        ) from error
