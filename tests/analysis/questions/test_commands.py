"""Questions about commands: variants, metrics beside the headline, where the memory was."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from numa_bench.analysis.questions.commands.memory import tabulate_memory
from numa_bench.analysis.questions.commands.metrics import tabulate_metrics
from numa_bench.analysis.questions.commands.variants import (
    summarize_variants,
    tabulate_variants,
)
from numa_bench.analysis.read.runs import load_studies
from numa_bench.analysis.report.page import list_command_metrics
from numa_bench.jsonio import write_json
from numa_bench.records import (
    COMMAND,
    CommandSpec,
    Execution,
    NamedMetric,
    Placement,
    RunResult,
    RunSpec,
    Status,
    VitSpec,
    make_record,
)
from tests.specs import TEST, UNBOUND, make_spec

LOCAL = Placement(0, (0,), "bind", "local", (0,))
RATE = NamedMetric("rate", "higher", "tok/s", "x")
P99 = NamedMetric("p99", "lower", "ms", "x")


def record(placement: Placement, variant: int, repeat: int, **observed: Any) -> Any:
    """One run: the second variant is 10 % faster unbound, and the same where it is local."""
    fast = 1.1 if variant and placement is UNBOUND else 1.0
    noise = 1 + 0.002 * ((repeat * 3 + variant) % 5 - 2)
    spec = RunSpec(
        study="commands",
        run_id=f"{placement.label}{variant}_r{repeat}",
        repeat=repeat,
        vit=VitSpec(("plain", "bound")[variant], 0, 0, 0, 0, 0, 0),
        test=TEST,
        device=make_spec().device,
        placement=placement,
        workload=COMMAND,
        command=CommandSpec(("serve", str(variant)), metrics=(RATE, P99), variant=variant),
    )
    values: dict[str, float | None] = {
        "wall_s": 10.0,
        "metric_rate": 100 * fast * noise,
        "metric_p99": 5.0 if placement is LOCAL else 6.0,
        "placement_fraction": 0.9 + repeat / 100 if placement is LOCAL else None,
    }
    result = RunResult(spec.run_id, spec.cell_hash(), "passed", metrics=values, observed=observed)
    start = f"2026-01-31T10:{repeat:02d}:00.000+00:00"
    return copy.deepcopy(
        make_record(spec, result, Execution(Status.PASSED, 0, None, start, 10, 1, "o", "e"), "host")
    )


def seen(own: dict[str, int], escaped: int = 0) -> dict[str, Any]:
    peak = {"anonymous": own, "shared": {"1": 50_000_000}, "file": {"3": 10**9}}
    return {"memory_at_peak": peak, "processes": 4, "escaped_threads": escaped}


@pytest.fixture
def frame(tmp_path: Path) -> pd.DataFrame:
    records = [
        record(place, variant, repeat, **seen({"0": 950_000_000}, escaped=repeat))
        for repeat in range(6)
        for place in (LOCAL, UNBOUND)
        for variant in (0, 1)
    ]
    write_json(tmp_path / "results.json", records)
    return load_studies([tmp_path]).frame


def test_variants_are_compared_in_the_same_placement(frame: pd.DataFrame) -> None:
    table = tabulate_variants(frame)

    assert list(table["vit_name"]) == ["bound", "bound"]
    assert list(table["base_name"]) == ["plain", "plain"]
    rows = {row["placement"]: row for row in table.to_dict("records")}
    assert rows["unbound"]["ratio"] == pytest.approx(1.1, rel=0.01)
    assert rows["unbound"]["claimed"]
    assert "faster" in rows["unbound"]["text"]
    assert not rows["local"]["claimed"]
    assert rows["local"]["text"] == "equal within 2 %"


def test_a_variant_whose_base_was_disturbed_is_not_said_to_help(frame: pd.DataFrame) -> None:
    first = frame["command_variant"] == 0
    marked = [["foreign_cpu: x"] if plain else [] for plain in first]
    disturbed = frame.assign(
        monitor_cpu_foreign_median=0.2 * first, warnings=pd.Series(marked, frame.index)
    )

    table = tabulate_variants(disturbed)

    assert not table["claimed"].any()
    (text,) = table.loc[table["placement"] == "unbound", "text"]
    assert text.startswith("plain ran beside 20 % foreign CPU, bound beside 0 %: the difference of")
    assert "cannot be attributed to the variant" in text


def test_variants_are_summarized_in_a_sentence(frame: pd.DataFrame) -> None:
    text = summarize_variants(tabulate_variants(frame))

    assert text.startswith("bound against plain: ")
    assert "local equal within 2 %" in text
    assert "unbound 10.0 % faster (95 % CI" in text or "unbound 10 % faster (95 % CI" in text


def test_a_command_alone_has_no_variants(frame: pd.DataFrame) -> None:
    alone = frame[frame["command_variant"] == 0]

    assert tabulate_variants(alone).empty


def test_other_metrics_are_shown_with_their_direction(frame: pd.DataFrame) -> None:
    table = tabulate_metrics(frame)

    assert set(table["metric"]) == {"p99", "wall time"}  # the rate is what is compared
    p99 = table[(table["metric"] == "p99") & (table["placement"] == "unbound")].iloc[0]
    assert (p99["unit"], p99["better"], p99["median"]) == ("ms", "lower", 6.0)
    assert p99["change"] == pytest.approx(0.2)
    assert p99["outcome"] == "worse"
    wall = table[(table["metric"] == "wall time") & (table["placement"] == "unbound")].iloc[0]
    assert wall["outcome"] == ""  # the same


def test_the_page_says_what_is_compared(frame: pd.DataFrame) -> None:
    assert list(list_command_metrics(frame)) == ["rate in tok/s, higher is better"]
    models = frame.assign(workload="pipeline")
    assert list(list_command_metrics(models)) == []


def test_memory_is_that_of_the_program_by_node(frame: pd.DataFrame) -> None:
    row = tabulate_memory(frame).iloc[0]

    assert row["own_memory_mb"] == 1000  # the page cache's is not its own
    assert row["shares_text"] == "node 0: 95 %, node 1: 5 %"
    assert row["escaped_threads"] == 5  # the most of any run
    assert (row["processes"], row["n"]) == (4, 6)
    table = tabulate_memory(frame)
    local = table[table["placement"] == "local"]
    assert local["placement_fraction"].min() == pytest.approx(0.9)  # the worst run


def test_damaged_records_of_commands_end_no_analysis(tmp_path: Path) -> None:
    found = [record(place, 0, r) for r in range(3) for place in (LOCAL, UNBOUND)]
    found[0]["workload_config"]["metrics"] = [3, {"name": "rate"}]
    found[1]["workload_config"]["metrics"] = "rate"
    found[2]["observed"] = {"memory_at_peak": [1], "processes": "many"}
    found[3]["observed"] = {"memory_at_peak": {"shared": {"x": 1, "0": "1"}}}
    write_json(tmp_path / "results.json", found)

    frame = load_studies([tmp_path]).frame

    assert len(frame) == 6
    assert tabulate_variants(frame).empty
    assert tabulate_memory(frame).empty
    assert set(tabulate_metrics(frame)["metric"]) == {"p99", "wall time"}


def test_a_study_of_models_asks_none_of_this() -> None:
    empty = pd.DataFrame()

    assert all(t(empty).empty for t in (tabulate_variants, tabulate_metrics, tabulate_memory))
