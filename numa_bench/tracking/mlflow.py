"""MLflow: one parent run per study or sweep, a nested run for every measured run.

Runs are found by tags, so nothing appears twice even when tracking.json is lost. Values have the
timestamp of the run, so that logging them again changes nothing.
"""

from __future__ import annotations

import logging
import os
import shlex
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from numa_bench.redaction import redact_credentials
from numa_bench.tracking.base import RunView, StudyView, TrackingError
from numa_bench.tracking.database_file import check_database, create_database
from numa_bench.tracking.mlflow_view import LOCAL, VIEW_TAG, make_view, runs_address, view_key

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

T = TypeVar("T")
#: Tags by which runs are found.
STUDY_TAG, RUN_TAG, FINGERPRINT = "numa_bench.study", "numa_bench.run", "numa_bench.fingerprint"
#: Limits of MLflow's log-batch API and of a parameter's length (MLflow REST API, "Log Batch").
_METRICS, _PARAMS, _TAGS, _VALUE, _TAG_VALUE = 1000, 100, 100, 6000, 5000
_STATUS = {"passed": "FINISHED", "waived": "FINISHED", "interrupted": "KILLED"}


class MlflowTracker:
    """See `Tracker`. `uri` may hold credentials; `target` never does."""

    name = "mlflow"

    def __init__(self, uri: str, experiment: str | None, artifacts: Path, timeout_s: float) -> None:
        self._uri = uri
        self._experiment = experiment
        self._artifacts = artifacts
        self._timeout_s = timeout_s
        self._client: MlflowClient | None = None
        self._experiment_id = self._parent = ""
        self._views: set[str] = set()
        self._has_view = False
        self.target = redact_credentials(uri)

    def open(self, study: StudyView) -> None:
        """See `Tracker.open`. Raises TrackingError without mlflow, or a database file to write."""
        if self._client is None:
            check_database(self._uri)
            self._client = self._connect()
        name = self._experiment or study.experiment
        self._experiment_id = self._find_experiment(name)
        found = self._find(STUDY_TAG, study.key)
        if found is None:
            tags = {**study.tags, STUDY_TAG: study.key, "mlflow.note.content": study.summary}
            made = self._api.create_run(
                self._experiment_id,
                start_time=_ms(study.started_s),
                tags=_limited(tags),
                run_name=study.title,
            )
            found = made
            self._log(made.info.run_id, study.params, {}, {}, study.started_s)
        self._parent = found.info.run_id
        self._has_view = VIEW_TAG + view_key(self._parent) in self._views

    def log_run(self, study: StudyView, run: RunView) -> None:
        """See `Tracker.log_run`."""
        key = f"{study.key}/{study.directory.name}/{run.run_id}"
        found = self._find(RUN_TAG, key)
        if found is not None and found.data.tags.get(FINGERPRINT) == run.fingerprint:
            return
        if found is not None and _measured_before(found, run):
            # Its metrics would be mixed with those of this attempt.
            self._api.delete_run(found.info.run_id)
            found = None
        if found is None:
            tags = {"mlflow.parentRunId": self._parent, RUN_TAG: key}
            found = self._api.create_run(
                self._experiment_id, _ms(run.start_s), tags=tags, run_name=run.run_id
            )
        id_ = found.info.run_id
        self._log(id_, run.params, run.metrics, run.series, run.start_s)
        for path in run.files:
            self._api.log_artifact(id_, str(path))
        self._api.set_terminated(id_, _STATUS.get(run.status, "FAILED"), _ms(run.end_s))
        # Last: the fingerprint marks the run as complete.
        self._tag(id_, {**run.tags, FINGERPRINT: run.fingerprint})

    def log_study(self, study: StudyView) -> None:
        """See `Tracker.log_study`."""
        self._log(self._parent, {}, study.metrics, {}, study.started_s)
        self._tag(self._parent, {**study.tags, "mlflow.note.content": study.summary})
        self._api.set_experiment_tag(self._experiment_id, *make_view(self._parent, study.runs))
        self._has_view = True
        below = None if study.root == study.directory else study.directory.name
        for path in study.files:
            self._api.log_artifact(self._parent, str(path), below)
        self._api.set_terminated(self._parent)

    def log_files(self, study: StudyView, files: tuple[Path, ...], below: str) -> None:  # noqa: ARG002
        """See `Tracker.log_files`."""
        for path in files:
            self._api.log_artifact(self._parent, str(path), below)

    def hint(self, directory: Path) -> str:  # noqa: ARG002
        """See `Tracker.hint`. A server has its own page."""
        served = self._uri.startswith("http")
        key = view_key(self._parent) if self._has_view else None
        base = self.target if served else LOCAL
        page = runs_address(base, self._experiment_id, key) if self._experiment_id else base
        if served:
            return f"MLflow: {page}"
        # Quoted: the path may hold anything, and & has a meaning for the shell.
        command = f"mlflow ui --backend-store-uri {shlex.quote(self.target)} --host 127.0.0.1"
        return f"{command}\n{page}"

    def close(self) -> None:
        """See `Tracker.close`."""
        self._client = None

    @property
    def _api(self) -> MlflowClient:
        assert self._client is not None, "open() comes first"
        return self._client

    def _connect(self) -> MlflowClient:
        # The user's settings have priority. By default MLflow waits minutes for a dead server.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(max(1, round(self._timeout_s))))
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        # MLflow and alembic log every step of creating a database, urllib3 every attempt, MLflow
        # a traceback for each error that it raises; callers say what went wrong, once.
        level = os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "CRITICAL")
        logging.getLogger("alembic").setLevel(logging.WARNING)
        logging.getLogger("urllib3").setLevel(logging.ERROR)
        try:
            from mlflow.tracking import MlflowClient
        except ImportError as error:
            raise TrackingError(
                "mlflow is not installed; pip install mlflow -c constraints.txt, or tracking=none"
            ) from error
        logging.getLogger("mlflow").setLevel(level.upper())  # where it was imported before
        create_database(self._uri, lambda uri: MlflowClient(tracking_uri=uri).search_experiments())
        return MlflowClient(tracking_uri=self._uri)

    def _find_experiment(self, name: str) -> str:
        found = self._api.get_experiment_by_name(name)
        if found is not None:
            self._views = {name for name in found.tags if name.startswith(VIEW_TAG)}
            if found.lifecycle_stage == "deleted":
                self._api.restore_experiment(found.experiment_id)
            return str(found.experiment_id)
        # A server has its own place for artifacts; with a database file MLflow would put them
        # below the working directory.
        place = (self._artifacts / name).absolute().as_uri()
        location = place if self._uri.startswith("sqlite:") else None
        # Otherwise the UI takes it for an experiment with prompts.
        kind = {"mlflow.experimentKind": "custom_model_development"}
        return str(self._api.create_experiment(name, artifact_location=location, tags=kind))

    def _find(self, tag: str, value: str) -> Run | None:
        quoted = value.replace("'", "\\'")
        found = self._api.search_runs(
            [self._experiment_id], f"tags.`{tag}` = '{quoted}'", max_results=1
        )
        return found[0] if found else None

    def _log(
        self,
        id_: str,
        params: dict[str, Any],
        metrics: dict[str, float],
        series: dict[str, list[tuple[int, float]]],
        moment_s: float,
    ) -> None:
        from mlflow.entities import Metric, Param

        at = _ms(moment_s)
        values = [Metric(name, value, at, 0) for name, value in metrics.items()]
        for name, points in series.items():
            values += [Metric(name, value, at, step) for step, value in points]
        texts = [Param(name, _cut(value, _VALUE)) for name, value in params.items()]
        for metric_part in _parts(values, _METRICS):
            self._api.log_batch(id_, metrics=metric_part)
        for param_part in _parts(texts, _PARAMS):
            self._api.log_batch(id_, params=param_part)

    def _tag(self, id_: str, tags: dict[str, str]) -> None:
        from mlflow.entities import RunTag

        found = [RunTag(name, value) for name, value in _limited(tags).items()]
        for part in _parts(found, _TAGS):
            self._api.log_batch(id_, tags=part)


def _measured_before(found: Run, run: RunView) -> bool:
    """Whether an earlier attempt logged metrics; one that failed early did not."""
    tags = found.data.tags
    other = tags.get("attempt", "1") != run.tags.get("attempt", "1")
    return other and "throughput_samples_per_s" in found.data.metrics


def _parts(items: list[T], size: int) -> list[list[T]]:
    rest = iter(items)
    return list(iter(lambda: list(islice(rest, size)), []))


def _limited(tags: dict[str, str]) -> dict[str, str]:
    return {name: _cut(value, _TAG_VALUE) for name, value in tags.items()}


def _cut(value: object, most: int) -> str:
    """A value as a text short enough for MLflow; the full value is in the run's spec.json."""
    text = str(value)
    return text if len(text) <= most else text[: most - 1] + "…"


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
