"""The files of an analysis: one page, plots, tables, and a verdict for programs."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from numa_bench.analysis.plots import style
from numa_bench.analysis.read.groups import describe_simulations
from numa_bench.analysis.report import page as report_page
from numa_bench.analysis.report.advice import write_advice
from numa_bench.analysis.report.blocks import Picture
from numa_bench.analysis.report.figures import draw_figures
from numa_bench.analysis.report.markdown.block import render_block
from numa_bench.analysis.report.runs import build_runs_csv
from numa_bench.errors import StoreError
from numa_bench.jsonio import write_json
from numa_bench.records import JsonDict

if TYPE_CHECKING:
    from numa_bench.analysis.study_analysis import Analysis

#: Version of the format of verdict.json.
SCHEMA_VERSION = 1
#: A plot whose SVG has more bytes is embedded as PNG, whose size does not grow with its dots.
_MOST_SVG = 350_000
#: CSS pixels per inch (CSS Values and Units, "Absolute Lengths").
_CSS_PIXELS = 96


@dataclass(frozen=True)
class Report:
    """The files that were written."""

    page: Path
    block: Path
    verdict: Path
    bindings: tuple[Path, ...]
    plots: tuple[Path, ...]
    tables: tuple[Path, ...]


def write_report(analysis: Analysis, directory: Path) -> Report:
    """Write report.html, report.md, verdict.json, bindings.*, plots/*.{png,svg}, tables/*.csv.

    Raises StoreError when the directory cannot be written.
    """
    try:
        pictures, plots = _write_plots(analysis, directory / "plots")
        tables = _write_tables(analysis, directory / "tables")
        verdict = directory / "verdict.json"
        write_json(verdict, build_verdict(analysis))
        bindings = write_advice(analysis, directory)
        block = directory / "report.md"
        block.write_text(render_block(analysis), encoding="utf-8")
        page = directory / "report.html"
        page.write_text(report_page.render_page(analysis, pictures, directory), encoding="utf-8")
    except OSError as error:
        raise StoreError(f"{directory}: cannot be written: {error.strerror or error}") from error
    return Report(page, block, verdict, bindings, tuple(plots), tuple(tables))


def _write_plots(analysis: Analysis, directory: Path) -> tuple[list[Picture], list[Path]]:
    directory.mkdir(parents=True, exist_ok=True)
    pictures, paths = [], []
    for stem, caption, figure in draw_figures(analysis):
        style.fix_layout(figure)
        contents = {kind: style.to_bytes(figure, kind) for kind in ("png", "svg")}
        for kind, content in contents.items():
            path = directory / f"{stem}.{kind}"
            path.write_bytes(content)
            paths.append(path)
        kind = "svg" if len(contents["svg"]) <= _MOST_SVG else "png"
        mime = {"svg": "image/svg+xml", "png": "image/png"}[kind]
        encoded = base64.b64encode(contents[kind]).decode("ascii")
        width, height = figure.get_size_inches()
        pictures.append(
            Picture(
                stem=stem,
                caption=caption,
                url=f"data:{mime};base64,{encoded}",
                width=round(width * _CSS_PIXELS),
                height=round(height * _CSS_PIXELS),
            )
        )
    return pictures, paths


def list_tables(analysis: Analysis) -> Iterator[tuple[str, pd.DataFrame]]:
    """Every table with the name of its CSV; those without rows are not written."""
    yield "runs", build_runs_csv(analysis.loaded.frame)
    yield "cells", analysis.cells
    yield "cells_latency_p95", analysis.latency
    yield "pooled", analysis.pooled.drop(columns="models", errors="ignore")
    yield "effects", analysis.effects
    yield "effects_latency_p95", analysis.latency_effects
    yield "groups", analysis.groups
    yield "differences", analysis.differences
    yield "hosts", analysis.hosts.table
    yield "excluded", analysis.excluded
    yield "profiles", analysis.profiles
    yield "nvbandwidth", analysis.nvbandwidth
    yield from analysis.questions.items()
    yield "skipped_files", pd.DataFrame([p.to_dict() for p in analysis.loaded.problems])
    if analysis.comparison is not None:
        yield "comparison", analysis.comparison.table
        yield "comparison_unmatched", analysis.comparison.unmatched
        yield "comparison_differences", analysis.comparison.differences


def _write_tables(analysis: Analysis, directory: Path) -> list[Path]:
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, table in list_tables(analysis):
        if not table.empty:
            paths.append(directory / f"{name}.csv")
            table.to_csv(paths[-1], index=False)
    return paths


def build_verdict(analysis: Analysis) -> JsonDict:
    """verdict.json: verdicts and the tables that support them; NaN is null."""
    verdict: JsonDict = {
        "schema_version": SCHEMA_VERSION,
        "name": analysis.name,
        "created": analysis.created,
        "command": analysis.command,
        "simulated": describe_simulations(analysis.loaded.frame),
        "target": analysis.target,
        "study_verdicts": [v.to_dict() for v in analysis.study_verdicts],
        "verdicts": [v.to_dict() for v in analysis.verdicts],
        # Of each study: after which repeats results may have been looked at.
        "repeats_history": {s.directory: s.repeats_history for s in analysis.loaded.studies},
        "groups": _records(analysis.groups),
        "hosts": {"texts": list(analysis.hosts.texts), "table": _records(analysis.hosts.table)},
        "problems": [p.to_dict() for p in analysis.loaded.problems],
        "versions": analysis.versions,
    }
    if analysis.comparison is not None:
        verdict["comparison"] = {
            "text": analysis.comparison.text,
            "details": list(analysis.comparison.details),
            "common_shift": analysis.comparison.shift.to_dict(),
            "regressed": analysis.comparison.regressed,
            "table": _records(analysis.comparison.table),
            "unmatched": _records(analysis.comparison.unmatched),
            "differences": _records(analysis.comparison.differences),
        }
    return verdict


def _records(table: pd.DataFrame) -> list[JsonDict]:
    records: list[JsonDict] = json.loads(table.to_json(orient="records", double_precision=15))
    return records
