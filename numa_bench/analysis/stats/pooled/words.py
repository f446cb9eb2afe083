"""Words for placements, groups of models and pooled effects. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from numa_bench.analysis.stats.sentences import Row, format_percent
from numa_bench.labels import describe_placement, list_first, split_hops

#: What binds to a placement, as the subject of a sentence; "{}" is a distance in brackets or "".
_SUBJECTS = {
    "remote": "Crossing the socket{}",
    "local/remote": "Memory on the other socket{}, with local CPUs,",
    "remote/local": "CPUs on the other socket{}, with local memory,",
    "same_socket": "Using another node of the socket{}",
    "unbound": "Not binding",
    "interleave": "Interleaving memory over the nodes",
}
#: The same without GPUs, where local is memory on the node of the threads.
_CPU_SUBJECTS = {
    "remote": "Memory on another node{}",
    "same_socket": "Memory on another node of the socket{}",
}
#: The same after another placement on the other socket was named.
ASIDES = {
    "local/remote": "with only the memory there",
    "remote/local": "with only the CPUs there",
    "unbound": "without binding",
}
_BOUNDS = {
    "transfer": "transfer-bound",
    "compute": "compute-bound",
    "host": "host-bound",
    "host work": "host-work-bound",
}
_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def name_subject(placement: str, distance_text: str, cpu: bool) -> str:
    """A placement as the subject of "costs": "Crossing the socket (distance 32)".

    Without GPUs (`cpu`) distances are those of memory from the CPUs.
    """
    plain, hops = split_hops(placement)
    distance = distance_text.partition(" (distance ")[2].rstrip(")")
    inside = [f"{hops} hops"] if hops > 1 else []
    inside += [f"distance {distance}"] if distance.isdigit() else []
    brackets = f" ({', '.join(inside)})" if inside else ""
    if cpu and plain in _CPU_SUBJECTS:
        return _CPU_SUBJECTS[plain].format(brackets)
    if plain in _SUBJECTS:
        return _SUBJECTS[plain].format(brackets)
    words = describe_placement(placement)
    return f"Placement {placement}{f' ({words})' if words else brackets}"


def name_models(bound: str, models: Sequence[str]) -> str:
    """Models as an object: "the transfer-bound models", "vit32x0", "the models"."""
    if len(models) == 1:
        return models[0]
    return f"the {_BOUNDS[bound]} models" if bound in _BOUNDS else "the models"


def count_models(bound: str, models: Sequence[str]) -> str:
    """Models by number, at the start of a sentence: "The compute-bound three"."""
    if len(models) == 1:
        return models[0]
    kind = f"{_BOUNDS[bound]} " if bound in _BOUNDS else ""
    return f"The {kind}{count_word(len(models))}"


def count_word(number: int) -> str:
    """A small number as a word."""
    return _NUMBERS[number] if number < len(_NUMBERS) else str(number)


def count_things(number: int, name: str) -> str:
    """ "one other GPU", "six other GPUs"."""
    return f"{count_word(number)} {name}{'' if number == 1 else 's'}"


def describe_size(row: Row, sample: str = "") -> str:
    """ "7.0 % (95 % CI 6.6 to 7.4, 8 GPUs x 5 repeats)"; without a sample "7.0 % (6.6 to 7.4)"."""
    up = row["ratio"] > 1
    low, high = (row["low"] - 1, row["high"] - 1) if up else (1 - row["high"], 1 - row["low"])
    inside = f"{format_percent(low)} to {format_percent(high)}"
    if sample:
        inside = f"95 % CI {inside}, {sample}"
    return f"{format_percent(abs(row['ratio'] - 1))} % ({inside})"


def describe_range(rows: Sequence[Row]) -> str:
    """The sizes of several effects: "19.8 to 20.3 %"."""
    sizes = [abs(row["ratio"] - 1) for row in rows]
    low, high = format_percent(min(sizes)), format_percent(max(sizes))
    return f"{low} %" if low == high else f"{low} to {high} %"


def describe_change(row: Row) -> str:
    """ "7.0 % slower on GPU 0", "1.2 % faster on GPU 3"."""
    way = "slower" if row["ratio"] < 1 else "faster"
    return f"{describe_range([row])} {way} on {row['unit_text']}"


def describe_sample(row: Row) -> str:
    """ "8 GPUs x 5 repeats"; without GPUs the nodes that were averaged."""
    if row["gpus"]:
        units = "1 GPU" if row["gpus"] == 1 else f"{row['gpus']:.0f} GPUs"
    else:
        units = "1 node" if row["units"] == 1 else f"{row['units']:.0f} nodes"
    return f"{units} x {row['repeats']:.0f} repeats"


def describe_silence(rows: Sequence[Row], target: float) -> str:
    """What comparisons without a finding say: equal, no difference, or too few runs."""
    if all(row["equal"] for row in rows):
        return f"equal within {format_percent(target)} %"
    least = np.max([row["detectable"] for row in rows])  # NaN where one is not known
    if least <= target:
        return f"no difference, {format_percent(least)} % or more would have shown"
    return f"no difference found, but one of {format_percent(target)} % could have been missed"


def list_names(names: Sequence[str], most: int = 6) -> str:
    """ "a, b, c"; of too many the first and how many more."""
    return list_first(names, most if len(names) <= most else most - 1)
