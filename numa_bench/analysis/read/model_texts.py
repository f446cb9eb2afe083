"""What tables call the model of a run: its name, and the settings in which runs differ. Pure."""

from __future__ import annotations

from functools import partial

import pandas as pd

from numa_bench.labels import EAGER, compile_label, setting_label
from numa_bench.records import TestSpec, VitSpec

#: Settings of how long is measured, not of what: runs that differ in them only are comparable.
EFFORT = (
    "num_samples", "min_timed_s", "time_budget_s", "memory_size_mb", "warmup_samples",
    "min_warmup_s", "warmup_budget_s", "timeout_s",
)  # fmt: skip
#: Settings that may differ between models but are not varied by a study.
_QUIET = ("compile_mode", "timeout_s", "num_samples", "time_budget_s", "memory_size_mb")
#: Settings that are other programs: named wherever runs differ, also between studies.
_PROGRAM = ("attention", "cuda_graph", "host_work", "host_memory")


def model_texts(frame: pd.DataFrame) -> pd.Series[str]:
    """A name for each run's model: its own, and the settings in which runs of this table differ."""
    if frame.empty:
        return pd.Series(dtype=str)
    parts = frame["vit_name"].astype(str)
    sizes = [f"vit_{f}" for f in VitSpec.__dataclass_fields__ if f != "name"]
    # One name for several architectures: sizes, or arguments, have to distinguish them.
    twice = frame.groupby("vit_name")[sizes].transform("nunique", dropna=False).max(axis=1) > 1
    columns = ["vit_patch_size", "vit_depth", "vit_dim", "vit_args", "vit_input_shape"]
    rows = frame[columns].astype(object).itertuples(index=False)
    shape = pd.Series([_shape_text(*row) for row in rows], frame.index)
    parts = parts.where(~twice, parts + " (" + shape + ")")
    for name in TestSpec.__dataclass_fields__:
        column = f"test_{name}"
        if name not in (*_QUIET, "compile_model") and column in frame:
            varies = _varies(frame, column, everywhere=name in _PROGRAM)
            parts = parts.where(~varies, parts + " " + _setting_texts(frame, name))
    compiled = frame["compile_model"].fillna(False).astype(bool)
    mode = " " + frame["compile_mode"].astype(str).map(compile_label)
    # "eager" is worth a word only in a study that also compiles.
    both = compiled.groupby(frame["study"]).transform("nunique") > 1
    eager = both.map({True: f" {EAGER}", False: ""})
    return parts + mode.where(compiled, eager)


def _shape_text(patch: object, depth: object, dim: object, args: object, inputs: object) -> str:
    """The sizes of a ViT; of another model its arguments and the shape of its input, as JSON."""
    if pd.notna(depth):  # type: ignore[call-overload]
        return f"{patch}x{depth}x{dim}"
    return " ".join(text for text in (args, inputs) if isinstance(text, str))


def describe_variants(frame: pd.DataFrame, free: tuple[str, ...]) -> pd.Series[str]:
    """The settings in which the cells of a table of runs differ, by cell; "" without any.

    Columns of the table in `free` are not counted, nor settings of how long was measured.
    """
    cells = frame.drop_duplicates("cell").set_index("cell")
    parts = pd.Series("", cells.index, dtype=object)
    for name in TestSpec.__dataclass_fields__:
        column = f"test_{name}"
        # How a model is compiled is one text, added below.
        if column in free or column not in cells or name.startswith("compile_") or name in EFFORT:
            continue
        if cells[column].nunique(dropna=False) > 1:
            parts += " " + _setting_texts(cells, name)
    if "test_compile_model" not in free and cells["compile_mode"].nunique(dropna=False) > 1:
        modes = cells["compile_mode"].astype(object)
        parts += " " + modes.where(modes.notna(), None).map(compile_label)
    return parts.str.strip()


def _varies(frame: pd.DataFrame, column: str, *, everywhere: bool) -> pd.Series[bool]:
    """Whether runs of the same study, or of the whole table, differ in this setting."""
    if everywhere:
        return pd.Series(frame[column].nunique(dropna=False) > 1, frame.index)
    return frame.groupby("study")[column].transform("nunique", dropna=False) > 1


def _setting_texts(frame: pd.DataFrame, name: str) -> pd.Series[str]:
    return frame[f"test_{name}"].astype(str).map(partial(setting_label, name))
