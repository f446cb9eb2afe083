"""Reads the metrics of a command from its output, and from JSON files that it wrote."""

from __future__ import annotations

import json
import math
import re
import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numa_bench.metric_registry import NAMED
from numa_bench.records import NamedMetric
from numa_bench.records.command_spec import ALL, BOTH

#: Larger JSON files are not read; results are far smaller.
_MOST_JSON_BYTES = 64_000_000
#: Characters of a text that was found in place of a number, in an error.
_SHOWN = 40


@dataclass
class Readings:
    """The values of a command's metrics by their keys in records, series, and what is wrong."""

    values: dict[str, float | None] = field(default_factory=dict)
    series: dict[str, list[float]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


class _NoValueError(Exception):
    """A metric has no usable value; the message says why."""


def read_metrics(
    metrics: tuple[NamedMetric, ...], stdout: Path, stderr: Path, files: dict[str, Path]
) -> Readings:
    """Read every metric; `files` are the JSON files by the text that names them in the settings.

    The first metric is the one that placements are compared by, in ratios, so it must be above 0.
    """
    readings = Readings()
    texts = _read_outputs(stdout, stderr) if any(m.regex for m in metrics) else {}
    for index, metric in enumerate(metrics):
        key = NAMED + metric.name
        try:
            found = _find_values(metric, texts, files)
            value = statistics.median(found) if metric.take == ALL else found[-1]
            if index == 0 and value <= 0:
                raise _NoValueError(f"is {value:g}; placements are compared by ratios, above 0")
        except _NoValueError as error:
            readings.values[key] = None
            readings.problems.append(f"metric {metric.name} {error}")
            continue
        readings.values[key] = value
        if metric.take == ALL:
            readings.series[key] = found
    return readings


def _read_outputs(stdout: Path, stderr: Path) -> dict[str, str]:
    texts = {}
    for name, path in (("stdout", stdout), ("stderr", stderr)):
        try:
            text = path.read_bytes().decode("utf-8", errors="replace")
        except OSError:
            text = ""
        # A progress bar returns to the start of its line: each state is a line here.
        texts[name] = text.replace("\r\n", "\n").replace("\r", "\n")
    return {**texts, "both": f"{texts['stdout']}\n{texts['stderr']}"}


def _find_values(metric: NamedMetric, texts: dict[str, str], files: dict[str, Path]) -> list[float]:
    if metric.regex is None:
        assert metric.json is not None
        assert metric.key is not None
        return _read_key(files[metric.json], metric.key, series=metric.take == ALL)
    where = "stdout or stderr" if metric.stream == BOTH else metric.stream
    pattern = re.compile(metric.regex, re.MULTILINE)
    # The last group is the only one, or else the whole match.
    found = [match[pattern.groups] for match in pattern.finditer(texts[metric.stream])]
    if not found:
        raise _NoValueError(
            f"was not found: {metric.regex!r} matches nothing in {where}; see the output"
        )
    chosen = found if metric.take == ALL else found[-1:]
    return [_to_number(text) for text in chosen]


def _to_number(text: str | None) -> float:
    """A number as programs print it: 1,234.5 too. NaN and infinities are no measurements."""
    try:
        value = float((text or "").strip().replace(",", "").replace("_", ""))
    except ValueError:
        raise _NoValueError(f"is {(text or '')[:_SHOWN]!r}, which is no number") from None
    if not math.isfinite(value):
        raise _NoValueError(f"is {value}, which cannot be compared; find out why it is")
    return value


def _read_key(path: Path, key: str, *, series: bool) -> list[float]:
    """The number at a key of a JSON file; with `series` it may be a list of numbers."""
    try:
        if path.stat().st_size > _MOST_JSON_BYTES:
            raise _NoValueError(f"was not read: {path.name} is larger than 64 MB")
        found: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise _NoValueError(f"was not found: the command wrote no {path}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise _NoValueError(f"was not found: {path} is no JSON ({error})") from None
    walked = []
    for part in key.split("."):
        walked.append(part)
        try:
            found = found[int(part)] if isinstance(found, list) else found[part]
        except (KeyError, IndexError, ValueError, TypeError):
            where = ".".join(walked)
            raise _NoValueError(f"was not found: {path.name} has no {where}") from None
    numbers = found if series and isinstance(found, list) and found else [found]
    for number in numbers:
        if isinstance(number, bool) or not isinstance(number, (int, float, str)):
            raise _NoValueError(f"is {str(number)[:_SHOWN]!r} in {path.name}, which is no number")
    return [_to_number(str(number)) for number in numbers]
