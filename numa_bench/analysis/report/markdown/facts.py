"""Pure: what a reviewer asks of a group of runs: hardware, workload, method, what was left out."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

import pandas as pd

from numa_bench import __version__
from numa_bench.analysis.read.groups import count_excluded, count_warnings
from numa_bench.analysis.read.runs import Loaded, Study
from numa_bench.analysis.report.machine import describe_links
from numa_bench.analysis.report.markdown.text import escape_text, format_command, join_names
from numa_bench.machine.model import Topology
from numa_bench.marks import KINDS
from numa_bench.records import PIPELINE, JsonDict

_SHUFFLED = "shuffled"
#: Settings of the pipeline in the workload's line, with how a value is written.
_SETTINGS = (
    ("test_image_size", "{} px"), ("test_batch_size", "batch size {}"),
    ("test_precision", "{}"), ("test_pipeline_depth", "{} batches in flight"),
)  # fmt: skip


def list_facts(runs: pd.DataFrame, loaded: Loaded) -> list[str]:
    """The facts on one group of runs, one line each, as Markdown.

    The host's name is not among them: a pull request is public.
    """
    studies = _studies_of(runs, loaded)
    environment = _find_environment(runs, studies)
    hardware = [*_list_hardware(runs, environment, studies), *_list_software(runs, environment)]
    facts = {
        "Hardware": "; ".join(hardware),
        "Workload": ", ".join(_list_workload(runs)),
        "Method": "; ".join(_list_method(runs, studies)),
        "Disturbances": _describe_marks(runs),
        "Excluded": _describe_excluded(runs, studies, loaded),
    }
    return [f"- **{name}:** {text}." for name, text in facts.items() if text]


def list_commands(loaded: Loaded) -> list[str]:
    """The commands that started the studies, each once."""
    commands = [
        format_command(shlex.join(map(str, environment["command"])))
        for study in loaded.studies
        for environment in study.environments.values()
        if isinstance(environment.get("command"), list) and environment["command"]
    ]
    return list(dict.fromkeys(commands))


def _studies_of(runs: pd.DataFrame, loaded: Loaded) -> list[Study]:
    mine = set(runs["study_dir"])
    return [study for study in loaded.studies if study.directory in mine]


def _find_environment(runs: pd.DataFrame, studies: Sequence[Study]) -> JsonDict:
    """The environment of a group, {} where the summary with it is lost."""
    wanted = str(runs["environment"].iloc[0])
    return next((s.environments[wanted] for s in studies if wanted in s.environments), {})


def _list_hardware(
    runs: pd.DataFrame, environment: JsonDict, studies: Sequence[Study]
) -> Iterator[str]:
    first = runs.iloc[0]
    if first["device"] == "cuda":
        yield _count_gpus(runs, environment)
    else:
        yield "no GPU, measured on the CPU"
    cpu = escape_text(first["env_cpu_model"]) if pd.notna(first["env_cpu_model"]) else "CPU unknown"
    count = environment.get("cpus")
    yield f"{cpu}, {count} CPUs" if count else cpu
    nodes = _describe_nodes(studies)
    mode = first["env_numa_mode"]
    if nodes or pd.notna(mode):
        yield ", ".join([*nodes, *([escape_text(mode)] if pd.notna(mode) else [])])
    links = [text.rstrip(".") for text in describe_links(runs)]
    if links:
        yield "; ".join(escape_text(text, 120) for text in links[:3])
    if len(links) > 3:
        yield f"links of {len(links) - 3} more GPUs are on the page"


def _count_gpus(runs: pd.DataFrame, environment: JsonDict) -> str:
    """ "2 of 8 GPUs, NVIDIA H100"; workers of sets count too."""
    measured = {gpu for ids in runs["gpu_ids"] for gpu in ids}
    measured |= {
        int(worker["gpu_id"])
        for some in runs["workers"]
        for worker in some or ()
        if worker["gpu_id"] is not None
    }
    name = runs["gpu_name"].iloc[0]
    model = escape_text(name) if pd.notna(name) else "GPU of unknown model"
    present = len(environment.get("gpus") or ())
    more = f" (of {present} GPUs in the machine)" if present > len(measured) else ""
    return f"{len(measured)} x {model}{more}"


def _describe_nodes(studies: Sequence[Study]) -> list[str]:
    """Numbers of sockets and NUMA nodes; [] where no study has its topology."""
    known = [study.topology for study in studies if study.topology]
    if not known:
        return []
    topology = Topology.from_dict(known[-1])
    nodes = len(topology.nodes)
    texts = [f"{nodes} NUMA node{'' if nodes == 1 else 's'}"]
    packages = [node.packages for node in topology.nodes if not node.cpuless]
    if packages and all(packages):
        sockets = len({package for of_node in packages for package in of_node})
        texts.insert(0, f"{sockets} socket{'' if sockets == 1 else 's'}")
    return texts


def _list_software(runs: pd.DataFrame, environment: JsonDict) -> Iterator[str]:
    first = runs.iloc[0]
    versions = {
        "NVIDIA driver": first["env_nvidia_driver"],
        "CUDA": environment.get("cuda_driver"),
        "torch": first["env_torch"],
        "Python": first["env_python"],
        "kernel": first["env_kernel"],
    }
    known = [f"{name} {escape_text(v)}" for name, v in versions.items() if pd.notna(v)]
    if known:
        yield ", ".join(known)


def _list_workload(runs: pd.DataFrame) -> Iterator[str]:
    pipelines = runs[runs["workload"] == PIPELINE]
    others = list(dict.fromkeys(runs.loc[runs["workload"] != PIPELINE, "workload"]))
    if others:
        yield join_names(others)
    if pipelines.empty:
        return
    models = list(dict.fromkeys(pipelines["model_text"]))
    yield f"{len(models)} model{'' if len(models) == 1 else 's'} ({join_names(models)})"
    for column, text in _SETTINGS:
        values = list(dict.fromkeys(pipelines[column].dropna())) if column in pipelines else []
        if values:
            yield text.format(join_names(values))


def _list_method(runs: pd.DataFrame, studies: Sequence[Study]) -> Iterator[str]:
    days = sorted({str(time)[:10] for time in runs["start_time"]})
    when = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    bound = runs["numa_node"].notna() | ~runs["memory_policy"].isin(["none", None])
    pinned = ", bound with numactl before Python starts" if bound.any() else ", not bound"
    yield f"{len(runs)} runs on {when}, each a fresh process{pinned}"
    yield _describe_order(runs, studies)
    medians = runs[["warmup_s", "measured_s"]].median()
    times = [
        f"{name} {medians[key]:.1f} s"
        for key, name in (("warmup_s", "warm-up"), ("measured_s", "timed"))
        if pd.notna(medians[key])
    ]
    if times:
        yield f"{', '.join(times)} (medians)"
    yield "95 % confidence intervals, p-values corrected after Holm"
    commits = list(dict.fromkeys(runs["env_git_commit"].dropna()))
    measured_by = f", measured with commit {join_names(commits)}" if commits else ""
    yield f"numa_bench {__version__}{measured_by}"


def _describe_order(runs: pd.DataFrame, studies: Sequence[Study]) -> str:
    """How often each cell was measured, and in which order."""
    counts = runs.groupby("cell").size()
    least, most = counts.min(), counts.max()
    repeats = f"{most}" if least == most else f"{least} to {most}"
    orders = {study.order for study in studies}
    if orders == {_SHUFFLED}:
        how = ", interleaved in random blocks"
    else:
        how = f", order: {', '.join(sorted(str(o or 'not recorded') for o in orders))}"
    return f"{repeats} run{'' if repeats == '1' else 's'} of each cell{how}"


def _describe_marks(runs: pd.DataFrame) -> str:
    counts = count_warnings(runs)
    if not counts:
        return f"none of {len(runs)} runs has a mark"
    texts = [f"{code.replace('_', ' ')} ({KINDS[code].mark}) {n}" for code, n in counts.items()]
    marked = int((runs["marks"] != "").sum())
    return f"marks on {marked} of {len(runs)} runs: {', '.join(texts)}"


def _describe_excluded(runs: pd.DataFrame, studies: Sequence[Study], loaded: Loaded) -> str:
    counts = count_excluded(runs)
    parts = [", ".join(f"{n} {escape_text(status)}" for status, n in counts.items()) or "none"]
    parts[0] += f" of {len(runs)} runs"
    running = [study for study in studies if study.running]
    if running:
        done, planned = (sum(getattr(s, k) or 0 for s in running) for k in ("recorded", "planned"))
        parts.append(f"unfinished: {done} of {planned} runs so far")
    if loaded.problems:
        parts.append(f"files with problems: {len(loaded.problems)}, see the page")
    return "; ".join(parts)
