"""The page: which section shows which figures and tables, and the text around them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import jinja2
import pandas as pd

from numa_bench.analysis.plots import style
from numa_bench.analysis.questions.registry import load_questions
from numa_bench.analysis.read.commands import select_commands
from numa_bench.analysis.read.groups import count_warnings, describe_simulations
from numa_bench.analysis.read.sweeps import select_confounded
from numa_bench.analysis.report import columns as cols
from numa_bench.analysis.report import tables
from numa_bench.analysis.report.advice import build_advice
from numa_bench.analysis.report.blocks import Block, Headline, Pick, Picture, Section
from numa_bench.analysis.report.columns import Record
from numa_bench.analysis.report.hosts import build_hosts
from numa_bench.analysis.report.links import Links
from numa_bench.analysis.report.machine import list_machine_facts
from numa_bench.analysis.report.placement import KIND_SIGNS, build_placement, build_plain
from numa_bench.analysis.report.runs import runs_table
from numa_bench.labels import list_first, quantity_label
from numa_bench.marks import KINDS
from numa_bench.records import PIPELINE

if TYPE_CHECKING:
    from numa_bench.analysis.read.runs import Study
    from numa_bench.analysis.study_analysis import Analysis

_TEMPLATES = Path(__file__).parent / "templates"


def render_page(analysis: Analysis, pictures: Sequence[Picture], directory: Path) -> str:
    """The page as HTML; links are relative to `directory`."""
    links = Links(directory)
    loader = jinja2.FileSystemLoader(_TEMPLATES)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    frame = analysis.loaded.frame
    return environment.get_template("report.html.j2").render(
        analysis=analysis,
        headlines=build_headlines(analysis),
        key_figures=_key_figures(analysis),
        sections=[s for s in _sections(analysis, pictures) if s.blocks],
        runs=None if frame.empty else runs_table(frame, links),
        studies=[_study(study, links) for study in analysis.loaded.studies],
        versions=_versions(analysis),
        percent=style.format_percent,
        commands=_count_commands(frame),
    )


def _count_commands(frame: pd.DataFrame) -> str:
    """How many of the runs are of commands: "none", "some" or "only"; for the section on method."""
    count = len(select_commands(frame))
    return "none" if not count else "only" if count == len(frame) else "some"


def build_headlines(analysis: Analysis) -> list[Headline]:
    """The top of the page: what weakens all of it, the comparison, each group's verdict."""
    headlines = [
        Headline("simulated", *KIND_SIGNS["simulated"], text, ())
        for text in describe_simulations(analysis.loaded.frame)
    ]
    headlines += [
        Headline("confounded", *KIND_SIGNS["confounded"], sweep.warning, ())
        for sweep in analysis.sequential
    ]
    if analysis.comparison is not None:
        kind = "regression" if analysis.comparison.regressed else "compared"
        text, details = analysis.comparison.text, analysis.comparison.details
        headlines.append(Headline(kind, *KIND_SIGNS[kind], text, details))
    places = {row["group"]: _group_name(row) for row in analysis.groups.to_dict("records")}
    several = len(analysis.study_verdicts) > 1
    for verdict in analysis.study_verdicts:
        sign, label = KIND_SIGNS.get(verdict.kind, KIND_SIGNS["no_verdict"])
        where = places.get(verdict.group, "") if several else ""
        if analysis.comparison is not None:
            where = where or "the study after, by itself"
        headlines.append(Headline(verdict.kind, sign, label, verdict.text, verdict.details, where))
    if not analysis.study_verdicts and analysis.comparison is None:
        text = "No verdict: there are no runs."
        headlines.append(Headline("no_verdict", *KIND_SIGNS["no_verdict"], text, ()))
    return headlines


def _group_name(row: Record) -> str:
    keys = ("host", "gpu_name", "env_nvidia_driver", "env_torch", "profiler")
    parts = [str(row[k]) for k in keys if cols.has_value(row.get(k)) and row[k] != "none"]
    return ", ".join([*parts, *(["shared host"] if row.get("shared_host") else [])])


def _key_figures(analysis: Analysis) -> list[tuple[str, str]]:
    """Label and value of the figures below the verdict."""
    frame, studies = analysis.loaded.frame, analysis.loaded.studies
    if frame.empty:
        return [("runs", "none")]
    models = frame.loc[frame["workload"] == PIPELINE, "vit_name"].nunique()
    used = int(frame["in_statistics"].astype(bool).sum())
    days = sorted({str(t)[:10] for t in (frame["start_time"].min(), frame["start_time"].max())})
    return [
        ("runs in the statistics", f"{used} of {len(frame)}"),
        ("studies", str(len(studies))),
        ("hosts", _listed(frame["host"])),
        ("GPUs", _listed(frame["gpu_name"].dropna()) or "none (measured on the CPU)"),
        *([("models", str(models))] if models else []),
        *([("compared", _listed(metrics))] if len(metrics := list_command_metrics(frame)) else []),
        ("measured", " to ".join(days)),
        ("effect of interest", style.format_percent(analysis.target, sign=False)),
    ]


def list_command_metrics(frame: pd.DataFrame) -> pd.Series[str]:
    """What commands are compared by, each once: "rate in tok/s, higher is better"."""
    own = select_commands(frame)
    own = own.drop_duplicates(["headline", "headline_unit", "lower_is_better"])
    texts = [
        f"{quantity_label(name)} in {unit}, {'lower' if lower else 'higher'} is better"
        for name, unit, lower in zip(
            own["headline"], own["headline_unit"], own["lower_is_better"], strict=True
        )
    ]
    return pd.Series(texts, dtype=str)


def _listed(values: pd.Series[str]) -> str:
    return list_first([style.shorten_middle(v, 40) for v in dict.fromkeys(values)], 3)


def _sections(analysis: Analysis, pictures: Sequence[Picture]) -> Iterator[Section]:
    def of(*stems: str) -> list[Picture]:
        return [p for stem in stems for p in pictures if p.is_of(stem)]

    machines = [Block(pictures=[p]) for p in of("machine")]
    facts = list_machine_facts(analysis.loaded.frame)
    machines += [Block(lines=facts)] if facts else []
    yield Section("advice", "What to do", list(build_advice(analysis.advice)))
    yield Section("placement", "Does placement matter?", list(build_placement(analysis, of)))
    yield Section("hosts", "Hosts side by side", list(build_hosts(analysis)))
    yield Section("machine", "The machine", machines)
    yield Section("measured", "Measurements", list(_measured(analysis, of)))
    yield Section("questions", "Other questions", list(_questions(analysis, of)))
    yield Section("steady", "Was the machine stable?", list(_steady(analysis, of)))
    yield Section("left-out", "What is excluded?", list(_left_out(analysis)))


def _measured(analysis: Analysis, of: Pick) -> Iterator[Block]:
    for stem in ("throughput", "stages", "latency"):
        yield from (Block(pictures=[p]) for p in of(stem))
    yield from _untimed_latency(analysis.loaded.frame)
    if not analysis.cells.empty:
        shown = tables.cells_table(analysis.cells, analysis.latency, "tables/cells.csv")
        yield Block(table=shown, folded=f"Cells: {len(analysis.cells)}")


def _untimed_latency(frame: pd.DataFrame) -> Iterator[Block]:
    """Say so where runs have no latency: their place in figure and table is empty on purpose."""
    if frame.empty:
        return
    counted = frame[frame["in_statistics"].astype(bool) & (frame["workload"] == PIPELINE)]
    count = int(counted["latency_p95_ms"].isna().sum())
    if count:
        which = "any run" if count == len(counted) else f"{count} of {len(counted)} runs"
        note = (
            f"The latency of {which} was not timed: a CUDA graph (cuda_graph=true) replays many "
            "batches at once."
        )
        yield Block(note=note)


def _questions(analysis: Analysis, of: Pick) -> Iterator[Block]:
    for key, question in load_questions().items():
        table = analysis.questions.get(key)
        if table is not None and not table.empty:
            shown = tables.question_table(question, table, f"tables/{key}.csv")
            sweeps = select_confounded(analysis.sequential, table, analysis.loaded.frame)
            note = " ".join(sweep.remark for sweep in sweeps)
            yield Block(question.title, note, of(key), shown, "Table")
    if not analysis.nvbandwidth.empty:
        shown = cols.build_table(tables.NVBANDWIDTH, analysis.nvbandwidth, "tables/nvbandwidth.csv")
        note = (
            "Local copies of this study beside those of nvbandwidth, which binds itself to the "
            "CPUs next to each GPU. GPUs are matched by number."
        )
        yield Block("What does nvbandwidth measure?", note, table=shown)
    if not analysis.profiles.empty:
        every = cols.build_table(tables.PROFILES, analysis.profiles, "tables/profiles.csv")
        shown = cols.without_empty(every)
        pictures = of("profiler")
        yield Block("What did the profilers record?", "", pictures, shown, "Table")


def _steady(analysis: Analysis, of: Pick) -> Iterator[Block]:
    yield from (Block(pictures=[p]) for p in of("drift", "sensors"))
    frame = analysis.loaded.frame
    if frame.empty:
        return
    rows = [
        {
            "mark": KINDS[code].mark,
            "seen": code.replace("_", " "),
            "meaning": KINDS[code].meaning,
            "runs": count,
        }
        for code, count in count_warnings(frame).items()
    ]
    if rows:
        columns = (
            cols.text_column("mark", "mark"),
            cols.text_column("seen", "observed"),
            cols.text_column("meaning", "meaning and advice"),
            cols.number_column("runs", "runs", cols.format_count),
        )
        yield Block("Marks", table=cols.build_table(columns, pd.DataFrame(rows), ""))
    else:
        yield Block(note="No run carries a mark: no disturbance was observed.")
    conditions = sorted({c for study in analysis.loaded.studies for c in study.conditions})
    if conditions:
        yield Block("Conditions before the first run", lines=conditions)


def _left_out(analysis: Analysis) -> Iterator[Block]:
    if not analysis.excluded.empty:
        counts = analysis.excluded["status"].value_counts()
        text = ", ".join(f"{count} {status}" for status, count in counts.items())
        shown = cols.build_table(tables.EXCLUDED, analysis.excluded, "tables/excluded.csv")
        yield Block("Runs that are not in the statistics", f"{text}.", table=shown)
    running = [_progress(s) for s in analysis.loaded.studies if s.running]
    if running:
        yield Block("Unfinished studies", lines=running)
    if len(analysis.groups) > 1:
        shown = cols.build_table(tables.GROUPS, analysis.groups, "tables/groups.csv")
        note = "Runs of different groups are never pooled."
        yield Block("Groups", note, table=shown)
        yield from build_plain("Differences between groups", analysis.differences)
    if analysis.loaded.problems:
        problems = pd.DataFrame([p.to_dict() for p in analysis.loaded.problems])
        yield from build_plain("Skipped files", problems, "tables/skipped_files.csv")


def _progress(study: Study) -> str:
    return f"{study.name} in {study.directory}: {study.recorded} of {study.planned} runs so far"


def _study(study: Study, links: Links) -> dict[str, str | None]:
    results = Path(study.directory) / "results.json"
    counts = ", ".join(f"{n} {status}" for status, n in sorted(study.counts.items()) if n)
    runs = f"{study.recorded} of {study.planned}" if study.planned else str(study.recorded)
    if len(study.repeats_history) > 1:
        runs += f" ({', then '.join(map(str, study.repeats_history))} repeats)"
    return {
        "name": study.name,
        "directory": study.directory,
        "url": links.relative_url(results) if results.is_file() else None,
        "runs": runs,
        "counts": counts,
        "order": study.order,
        "started": (study.started or "")[:19].replace("T", " "),
    }


def _versions(analysis: Analysis) -> list[tuple[str, str]]:
    """Versions of the measured systems, each value once, then those of the analysis."""
    versions = []
    columns = {
        "env_nvidia_driver": "NVIDIA driver", "env_torch": "torch", "env_python": "Python",
        "env_kernel": "kernel", "env_cpu_model": "CPU", "env_git_commit": "commit of this project",
    }  # fmt: skip
    frame = analysis.loaded.frame
    for key, label in columns.items():
        values = sorted(set(frame[key].dropna().astype(str))) if key in frame else []
        if values:
            versions.append((label, ", ".join(values)))
    mine = ", ".join(f"{name} {version}" for name, version in analysis.versions.items())
    return [*versions, ("this analysis", mine)] if mine else versions
