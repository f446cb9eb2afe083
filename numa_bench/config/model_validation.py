"""Checks of models that are no ViTs: an importable function or class, or a name for timm.

Nothing of the user's is imported here. That happens in the worker only.
"""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from collections.abc import Sequence
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from numa_bench.config.schemas.workload import TestConfig, ViTConfig
from numa_bench.errors import ConfigError

#: Sizes of a ViT, which mean nothing to another model.
_SIZES = ("patch_size", "depth", "dim", "heads", "dim_head", "mlp_dim")
_TARGET = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")
#: No prefix such as hf-hub:, with which timm downloads.
_TIMM_NAME = re.compile(r"[A-Za-z0-9_.-]+")


def is_custom(vit: ViTConfig) -> bool:
    """Whether this is another model than a ViT of vit-pytorch."""
    return vit._target_ is not None or vit.timm is not None


def check_custom_model(key: str, vit: ViTConfig, test: TestConfig) -> None:
    """Raise ConfigError unless an entry is a ViT, or has what another model needs and no more.

    `test` are the measurement settings of this entry.
    """
    if not is_custom(vit):
        for name in ("args", "input_shape"):
            if getattr(vit, name) is not None:
                raise ConfigError(
                    f"{key}.{name}", getattr(vit, name), "is for _target_ or timm; set one of them"
                )
        return
    if vit._target_ is not None and vit.timm is not None:
        raise ConfigError(f"{key}.timm", vit.timm, "_target_ is set too; remove one of the two")
    if vit._target_ is not None and not _TARGET.fullmatch(vit._target_):
        raise ConfigError(f"{key}._target_", vit._target_, "write module.function, with dots")
    if vit.timm is not None and not _TIMM_NAME.fullmatch(vit.timm):
        raise ConfigError(f"{key}.timm", vit.timm, "use a plain model name: nothing is downloaded")
    _refuse_vit_settings(key, vit, test)
    _check_args(f"{key}.args", vit)
    _check_input_shape(key, vit)


def check_importable(models: Sequence[ViTConfig]) -> None:
    """Raise ConfigError for a model whose package this machine does not have.

    Packages are searched as Python does and in the current directory, which workers start in.
    """
    for index, vit in enumerate(models):
        key = f"experiment.vit_configs[{index}]"
        if vit.timm is not None and not _is_installed("timm"):
            raise ConfigError(f"{key}.timm", vit.timm, "timm is not installed; pip install timm")
        if vit._target_ is not None:
            package = vit._target_.partition(".")[0]
            if not _is_installed(package):
                raise ConfigError(
                    f"{key}._target_",
                    vit._target_,
                    f"there is no module {package}; install it, run in its directory, or put that "
                    "on PYTHONPATH",
                )


def _refuse_vit_settings(key: str, vit: ViTConfig, test: TestConfig) -> None:
    source = "_target_" if vit._target_ is not None else "timm"
    defaults = ViTConfig()
    for name in _SIZES:
        value = getattr(vit, name)
        if value != getattr(defaults, name):
            raise ConfigError(
                f"{key}.{name}",
                value,
                f"is a size of a ViT, and {source} is set; remove one of the two (a whole list "
                f"replaces the file's: experiment.vit_configs=[{{{source}: ...}}])",
            )
    if test.attention != "explicit":
        raise ConfigError(
            f"{key}.attention", test.attention, f"is for ViTs, and {source} is set; use explicit"
        )


def _check_args(key: str, vit: ViTConfig) -> None:
    args: Any = vit.args
    if args is None:
        return
    if not isinstance(args, dict) or not all(isinstance(name, str) for name in args):
        raise ConfigError(key, args, "expected a mapping from names, such as {num_classes: 10}")
    for name in ("pretrained", "model_name"):
        if vit.timm is not None and name in args:
            raise ConfigError(f"{key}.{name}", args[name], "cannot be set: weights are random")
    try:
        json.dumps(args, allow_nan=False)
    except (TypeError, ValueError):
        raise ConfigError(
            key, args, "only texts, finite numbers, true, false, null, lists and mappings"
        ) from None


def _check_input_shape(key: str, vit: ViTConfig) -> None:
    shape: Any = vit.input_shape
    if shape is None:
        return
    whole = isinstance(shape, (list, tuple)) and all(type(size) is int for size in shape)
    if not whole or len(shape) != 3 or min(shape) < 1:
        raise ConfigError(
            f"{key}.input_shape", shape, "expected three sizes [C,H,W], such as [3,32,32]"
        )
    own: Any = vit  # fields of `test` exist at run time only
    for name in ("image_size", "channels"):
        if getattr(own, name) is not None:
            raise ConfigError(
                f"{key}.{name}", getattr(own, name), "input_shape is set too; remove one of the two"
            )


def _is_installed(package: str) -> bool:
    """Whether a top-level module can be found, without importing anything."""
    if package in sys.modules:
        return True
    here = PathFinder.find_spec(package, [str(Path.cwd())])
    return here is not None or importlib.util.find_spec(package) is not None
