"""The block for a pull request: short for any study, complete, safe with hostile names."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from numa_bench.analysis.read.runs import Problem
from numa_bench.analysis.report.markdown.block import MOST_LINES, render_block
from numa_bench.analysis.report.markdown.tables import MOST_ROWS, describe_result
from numa_bench.analysis.report.markdown.text import escape_text, format_command, shorten_paths
from numa_bench.analysis.study_analysis import Analysis
from tests.analyses import SIMULATED, analysed, reported
from tests.fake_scenarios import HOSTILE

#: Kinds whose blocks differ in what they have.
SHOWN = (
    *("server8", "one_gpu", "cpu_nodes", "laptop", "one_repeat", "nothing_passed", "settings"),
    *("hostile", "before_after", "custom"),
)
ZERO_WIDTH = "\u200b"


def parse(block: str) -> list[Token]:
    """The tokens of a block, those inside lines too; HTML would be a token of its own."""
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(block)
    return [t for token in tokens for t in (token, *(token.children or ()))]


def shown_text(block: str) -> str:
    return "".join(t.content for t in parse(block) if t.type in ("text", "text_special"))


def count_cells(block: str) -> list[int]:
    """The number of cells of each row of all tables."""
    counts: list[int] = []
    for token in parse(block):
        if token.type == "tr_open":
            counts.append(0)
        elif token.type in ("td_open", "th_open"):
            counts[-1] += 1
    return counts


@pytest.mark.slow
@pytest.mark.parametrize("kind", SHOWN)
def test_every_kind_of_study_has_a_short_block(kind: str) -> None:
    analysis = analysed(kind)

    block = render_block(analysis)

    assert len(block.splitlines()) <= MOST_LINES
    assert block.endswith("```\n")
    assert reported(kind).block.read_text() == block
    assert reported(kind).block.parent == reported(kind).page.parent
    main = analysis.comparison.text if analysis.comparison else analysis.study_verdicts[0].text
    assert escape_text(main, 900) in block
    for fact in ("Hardware", "Workload", "Method", "Disturbances", "Excluded"):
        assert f"- **{fact}:** " in block
    assert "gpu-server-1" not in block
    assert not {"nan", "None"} & set(block.replace("|", " ").split())
    assert len(set(count_cells(block))) <= 1


@pytest.mark.slow
def test_a_reviewer_finds_hardware_method_and_what_was_left_out() -> None:
    block = render_block(analysed("server8"))

    facts = {line.split(":**")[0]: line for line in block.splitlines() if line.startswith("- **")}
    for text in (
        "8 x NVIDIA H100", "AMD EPYC 9654", "4 NUMA nodes", "PCIe 5.0 x16", "driver 550.54.15",
        "torch 2.4.0", "kernel 6.8.0",
    ):  # fmt: skip
        assert text in facts["- **Hardware"]
    for text in (
        "192 runs on 2026-01-31", "fresh process", "numactl", "3 runs of each cell",
        "interleaved in random blocks", "warm-up 0.5 s", "95 %", "Holm", "commit 0123456789ab",
    ):  # fmt: skip
        assert text in facts["- **Method"]
    assert "batch size 8, fp32" in facts["- **Workload"]
    assert "marks on 2 of 192 runs: throttled (T) 1, spread (S) 1." in facts["- **Disturbances"]
    assert "1 invalid, 1 failed, 1 timeout of 192 runs" in facts["- **Excluded"]
    commands = block.partition("```bash\n")[2].splitlines()
    assert commands[:2] == [
        "python hydra_experiment_runner.py experiment=numa_study",
        "python analyze.py experiment_name=server8",
    ]


@pytest.mark.slow
def test_pooled_effects_are_the_table() -> None:
    analysis = analysed("server8")

    (row,) = [
        line
        for line in render_block(analysis).splitlines()
        if line.startswith("| vit32x0 |") and "other socket (distance 32)" in line
    ]

    pooled = analysis.pooled
    one = pooled[
        (pooled["model_text"] == "vit32x0")
        & (pooled["placement"] == "remote")
        & (pooled["level"] == "bound")
    ].iloc[0]
    assert f"{100 * (one['ratio'] - 1):+.1f} %" in row
    assert f"{100 * (one['low'] - 1):+.1f} to {100 * (one['high'] - 1):+.1f}" in row
    assert row.endswith("| slower |")


@pytest.mark.slow
def test_a_simulated_machine_is_said_before_the_verdict() -> None:
    analysis = analysed("simulated")

    lines = render_block(analysis).splitlines()

    assert lines[2].startswith("**Not a measurement: 24 of 24 runs")
    assert SIMULATED in lines[2]
    assert analysis.study_verdicts[0].text in lines[4]


@pytest.mark.slow
def test_problems_with_files_and_unfinished_studies_are_in_the_block() -> None:
    analysis = analysed("one_gpu")
    running = replace(analysis.loaded.studies[0], running=True, planned=90)
    loaded = replace(analysis.loaded, problems=[Problem("a", "b")], studies=[running])

    (line,) = [
        line
        for line in render_block(replace(analysis, loaded=loaded)).splitlines()
        if line.startswith("- **Excluded")
    ]

    assert "unfinished: 24 of 90 runs so far" in line
    assert "files with problems: 1, see the page" in line


def many_rows(analysis: Analysis, models: int) -> pd.DataFrame:
    """Pooled rows of so many models, nearest placement first, after one row for all of them."""
    first = analysis.pooled.iloc[0].to_dict()
    rows = [
        {**first, "level": level, "models": (f"{name} {place}",), "distance_text": distance}
        for place, distance in (("near", "same socket (distance 12)"), ("far", "x (distance 32)"))
        for level, name in (("bound", "all"), *(("model", f"m{i}") for i in range(models)))
    ]
    return pd.DataFrame(rows)


@pytest.mark.slow
def test_of_many_rows_those_far_away_come_first_and_the_rest_is_counted() -> None:
    analysis = analysed("one_gpu")
    details = tuple(f"detail {i}" for i in range(20))
    verdict = replace(analysis.study_verdicts[0], details=details, text="x" * 5000)
    block = render_block(
        replace(analysis, pooled=many_rows(analysis, 30), study_verdicts=[verdict])
    )

    lines = block.splitlines()
    rows = [line for line in lines if " near |" in line or " far |" in line]

    assert len(lines) <= MOST_LINES
    assert len(rows) == MOST_ROWS
    names = [row.split(" |")[0] for row in rows]
    assert names[:4] == ["| all far", "| all near", "| m0 far", "| m1 far"]
    assert f"- {62 - MOST_ROWS} more rows of the table are on the page." in lines
    assert max(map(len, lines)) < 1000
    assert [line for line in lines if line.startswith("- detail")] == [
        "- detail 0", "- detail 1", "- detail 2"
    ]  # fmt: skip


@pytest.mark.slow
def test_groups_share_the_lines_and_those_without_room_are_counted() -> None:
    analysis = analysed("one_gpu")
    verdict, frame = analysis.study_verdicts[0], analysis.loaded.frame
    names = [f"group {i}" for i in range(9)]
    copies = {name: frame.assign(group=name, gpu_name=f"GPU {name}") for name in names}
    pooled = pd.concat([many_rows(analysis, 10).assign(group=name) for name in names])
    crowded = replace(
        analysis,
        loaded=replace(analysis.loaded, frame=pd.concat(copies.values(), ignore_index=True)),
        pooled=pooled,
        study_verdicts=[replace(verdict, group=g, text=f"Verdict on {g}.") for g in names],
    )

    lines = render_block(crowded).splitlines()

    assert len(lines) <= MOST_LINES
    shown = [
        name
        for name in names
        if f"**GPU {name}, driver 550.54.15, torch 2.4.0+cu124, "
        f"kernel 6.8.0-49-generic: Verdict on {name}.**" in lines
    ]
    assert shown == names[:2]
    assert "7 of 9 groups of runs are only on the page." in lines
    assert sum(" far |" in line for line in lines) >= 4


def test_hostile_names_break_neither_table_nor_page() -> None:
    block = render_block(analysed("hostile"))

    kinds = {token.type for token in parse(block)}
    cells = count_cells(block)

    assert not kinds & {"html_inline", "html_block", "link_open", "image", "code_inline"}
    assert cells == [9, 9]
    assert len([t for t in parse(block) if t.type == "fence"]) == 1
    assert "<b>x</b>\"'>&" in shown_text(block)
    assert " ".join(HOSTILE.split()) in shown_text(block)  # the GPU's name, which is not shortened


@pytest.mark.parametrize(
    "name",
    [
        "a|b", "a\\|b", "a\\\\|b", "|", "\\", "`x`", "``", "**b**", "_x_", "same_socket", "~~s~~",
        "[a](b)", "![a](b)", "<!-- a", "<script>", "&lt;", "a & b", "$x$", "1. x", "12) x", "- x",
        "+ x", "# x", "===", "---", "> x", "@user", "#12", "a#12", "0.5", "<0.001", "```", "é…",
    ],
)  # fmt: skip
def test_any_name_is_shown_as_it_is(name: str) -> None:
    shown = escape_text(name)
    table = f"| a | b |\n| --- | --- |\n| {shown} | 1 |\n"

    for block in (table, f"- {shown}\n", f"**{shown}x**\n", shown):
        kinds = {t.type for t in parse(block)}
        text = shown_text(block).replace(ZERO_WIDTH, "")
        assert name in text, block
        assert not kinds & {"html_inline", "html_block", "link_open", "em_open", "s_open", "hr"}
        assert not kinds & {"heading_open", "ordered_list_open", "code_inline", "fence", "image"}
    assert count_cells(table) == [2, 2]


def test_names_neither_mention_users_nor_refer_to_issues() -> None:
    shown = escape_text("@user #12 org/repo#3")

    assert "@user" not in shown
    assert "#1" not in shown
    assert "#3" not in shown


def test_lines_and_control_characters_are_one_line() -> None:
    assert escape_text("a\n\n| b\x1b[31m\t c") == "a \\| b?\\[31m c"
    assert len(escape_text("x" * 5000)) == 60


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("numa-bench run", "numa-bench run"),
        ("run.py a=1", "python run.py a=1"),
        ("python x uri=https://me:pass@host/a", "python x uri=https://host/a"),
        ("python x key.api_key=abc", "python x key.api_key=***"),
        (
            "python x 'command=python t.py --token=abc'",
            "python x 'command=python t.py --token=***'",
        ),
        ("python x\ny", "python x y"),
    ],
)
def test_commands_show_no_secret(command: str, shown: str) -> None:
    assert format_command(command) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a=outputs/s/2026-01-31/14-30-15", "a=outputs/s/2026-01-31/14-30-15"),
        ("a=/home/me/p/outputs/s/2026-01-31/14-30-15", "a=…/s/2026-01-31/14-30-15"),
        ("a=[/home/me/x,/home/me/y]", "a=[…/x,…/y]"),
        ("'/home/me/x/results.json'", "'…/x/results.json'"),
        ("/tmp/x", "/tmp/x"),
        ("https://host/a/b/c", "https://host/a/b/c"),
    ],
)
def test_absolute_paths_keep_their_last_parts(text: str, shown: str) -> None:
    assert shorten_paths(text) == shown


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"claimed": True, "ratio": 0.9}, "slower"),
        ({"claimed": True, "ratio": 1.1}, "faster"),
        ({"claimed": True, "ratio": 0.99, "equal": True}, "slower, by less than 2 %"),
        ({"equal": True}, "equal within 2 %"),
        ({"held_back": "local ran beside others"}, "no verdict: local ran beside others"),
        ({}, "not shown; 3 % or more would have been detected"),
        ({"detectable": float("nan")}, "not shown; too few runs"),
        ({"p_holm": float("nan")}, "too few runs"),
    ],
)
def test_a_result_is_a_few_words(change: dict[str, Any], words: str) -> None:
    row = {"claimed": False, "equal": False, "ratio": 0.995, "p_holm": 0.5, "detectable": 0.03}

    assert describe_result({**row, "held_back": "", **change}, 0.02) == words


@pytest.mark.slow
def test_a_comparison_shows_changed_cells_and_what_else_differs() -> None:
    analysis = analysed("before_after")
    assert analysis.comparison is not None

    block = render_block(analysis)

    table = analysis.comparison.table
    changed = table["claimed"] | table["regression"]
    assert len(count_cells(block)) == 1 + int(changed.sum())
    assert "nvidia driver 550.54.15 before, 555.42.02 after" in block
    assert " yes |" in block


@pytest.mark.slow
def test_a_comparison_without_changes_says_so_and_hides_hosts() -> None:
    analysis = analysed("before_after")
    comparison = analysis.comparison
    assert comparison is not None
    rows = [{"key": "host", "before": "secret-1", "after": "secret-2"}]
    rows += [{"key": f"k{i}", "before": "a|b", "after": ""} for i in range(12)]
    same = replace(
        comparison,
        table=comparison.table.assign(claimed=False, regression=False),
        differences=pd.DataFrame(rows),
    )

    block = render_block(replace(analysis, comparison=same))

    assert "- **Changed cells:** none of 4." in block
    assert not count_cells(block)
    assert "secret" not in block
    assert "host; k0 a\\|b before, unknown after; k1 " in block
    assert "; 5 more on the page." in block


@pytest.mark.slow
def test_only_an_id_that_differs_is_said_in_words() -> None:
    analysis = analysed("before_after")
    comparison = analysis.comparison
    assert comparison is not None
    ids = pd.DataFrame([{"key": "environment", "before": "1", "after": "2"}])
    for differences, words in ((ids, "other settings or packages"), (ids[:0], "nothing on record")):
        changed = replace(comparison, differences=differences)
        assert words in render_block(replace(analysis, comparison=changed))
