"""The table of a dry run that says what is predicted to bound each model."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from numa_bench.plan.predictions.device_limits import DeviceLimits
from numa_bench.plan.predictions.prediction import ModelPrediction
from numa_bench.runner.display.cell_rows import model_text, varied_settings

_COLUMNS = (
    *("batch", "precision", "MB in", "MB out", "GFLOP", "operations"),
    *("link ms", "host ms", "compute ms"),
)


def make_prediction_tables(predictions: Sequence[ModelPrediction]) -> list[Table]:
    """One table for each kind of device, with a row for each model and its settings.

    All figures are of one batch.
    """
    devices: dict[tuple[str, bool], list[ModelPrediction]] = {}
    for model in predictions:
        devices.setdefault((model.limits.device, model.limits.overlaps), []).append(model)
    return [_make_table(models) for models in devices.values()]


def _make_table(models: Sequence[ModelPrediction]) -> Table:
    limits = list(dict.fromkeys(model.limits for model in models))
    table = Table(
        title=f"predicted for one batch on {limits[0].device}",
        title_justify="left",
        caption=_list_sources(limits),
        caption_justify="left",
    )
    table.add_column("model", overflow="fold")
    for name in _COLUMNS:
        table.add_column(name, justify="right")
    table.add_column("bound by")
    shown = ("batch_size", "precision")
    varied = [n for n in varied_settings([m.run for m in models]) if n not in shown]
    for model in models:
        run, found = model.run, model.prediction
        table.add_row(
            model_text(run, varied),
            str(run.test.batch_size),
            run.test.precision,
            f"{found.h2d_bytes / 1e6:.1f}",
            f"{found.d2h_bytes / 1e6:.1f}",
            f"{found.flop / 1e9:,.1f}",
            str(found.operations),
            f"{found.copies_s * 1e3:.2f}",
            f"{found.host_s * 1e3:.2f}",
            f"{found.compute_s * 1e3:,.2f}",
            found.bound,
        )
    return table


def _list_sources(limits: Sequence[DeviceLimits]) -> str:
    """Where the figures come from, each source once."""
    sources = dict.fromkeys(source for limit in limits for source in limit.sources)
    return "; ".join(sources) + ". Right to about a factor of two."
