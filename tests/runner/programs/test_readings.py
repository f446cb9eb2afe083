"""Metrics of a command's output and files: which match counts, and what is no measurement."""

from __future__ import annotations

from pathlib import Path

import pytest

from numa_bench.records import NamedMetric
from numa_bench.runner.programs.readings import Readings, read_metrics


def read(
    tmp_path: Path, metric: NamedMetric, stdout: str = "", stderr: str = "", file: str | None = None
) -> Readings:
    out, err, data = tmp_path / "out", tmp_path / "err", tmp_path / "m.json"
    out.write_bytes(stdout.encode())
    err.write_bytes(stderr.encode())
    if file is not None:
        data.write_text(file)
    return read_metrics((metric,), out, err, {"m.json": data})


def regex(text: str, **more: str) -> NamedMetric:
    return NamedMetric("rate", "higher", "MB/s", text, **more)


@pytest.mark.parametrize(
    ("metric", "stdout", "stderr", "value"),
    [
        (regex(r"rate ([\d.]+)"), "rate 1\nrate 2.5\n", "", 2.5),
        (regex(r"rate ([\d.]+)"), "rate 1", "rate 7", 7),
        (regex(r"rate ([\d.]+)", stream="stdout"), "rate 1", "rate 7", 1),
        (regex(r"rate ([\d.,e-]+)"), "rate 1,234.5", "", 1234.5),
        (regex(r"^\d+$"), "a\n42\n", "", 42),
        # A progress bar, of which each state ends with a carriage return.
        (regex(r"^(\d+) it/s$"), "1 it/s\r2 it/s\r3 it/s\n", "", 3),
        (regex(r"(\d+) ms", take="all"), "1 ms 9 ms 2 ms", "", 2),
    ],
)
def test_the_last_match_counts_or_the_median_of_all(
    tmp_path: Path, metric: NamedMetric, stdout: str, stderr: str, value: float
) -> None:
    readings = read(tmp_path, metric, stdout, stderr)

    assert readings.problems == []
    assert readings.values == {"metric_rate": value}


def test_a_series_is_kept(tmp_path: Path) -> None:
    readings = read(tmp_path, regex(r"(\d+) ms", take="all"), "1 ms\n9 ms\n2 ms\n")

    assert readings.series == {"metric_rate": [1, 9, 2]}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nothing", "matches nothing in stdout or stderr"),
        ("rate nan", "is nan, which cannot be compared"),
        ("rate inf", "is inf"),
        ("rate fast", "'fast', which is no number"),
        ("rate 0", "is 0; placements are compared by ratios"),
        ("rate -3", "is -3"),
    ],
)
def test_what_is_no_measurement_is_a_problem(tmp_path: Path, text: str, words: str) -> None:
    readings = read(tmp_path, regex(r"rate (\S+)"), text)

    assert readings.values == {"metric_rate": None}
    assert words in readings.problems[0]


def of_json(key: str, take: str = "last") -> NamedMetric:
    return NamedMetric("rate", "higher", "MB/s", json="m.json", key=key, take=take)


@pytest.mark.parametrize(
    ("key", "take", "value"),
    [("a.b", "last", 3.5), ("list.1", "last", 8), ("text", "last", 12), ("list", "all", 6)],
)
def test_a_key_of_a_file_is_a_path(tmp_path: Path, key: str, take: str, value: float) -> None:
    file = '{"a": {"b": 3.5}, "list": [4, 8], "text": "12"}'

    assert read(tmp_path, of_json(key, take), file=file).values == {"metric_rate": value}


@pytest.mark.parametrize(
    ("key", "file", "words"),
    [
        ("a", None, "the command wrote no"),
        ("a", "{", "is no JSON"),
        ("a.c", '{"a": {"b": 1}}', "has no a.c"),
        ("a.5", '{"a": [1]}', "has no a.5"),
        ("a", '{"a": null}', "no number"),
        ("a", '{"a": true}', "no number"),
        ("a", '{"a": NaN}', "is nan"),
    ],
)
def test_a_file_without_the_number_is_a_problem(
    tmp_path: Path, key: str, file: str | None, words: str
) -> None:
    assert words in read(tmp_path, of_json(key), file=file).problems[0]
