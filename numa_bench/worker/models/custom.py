"""Models of the user: whatever an importable function returns, or a model of timm.

This is the only place that runs code of the user, and only a worker comes here.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from numa_bench.errors import ModelError, describe_exception
from numa_bench.records import JsonDict, VitSpec
from numa_bench.versions import package_versions
from numa_bench.worker.devices import Waived


def build_custom(vit: VitSpec) -> torch.nn.Module:
    """The module that a spec's `target`, or timm, returns for its `args`.

    Raises ModelError for whatever goes wrong in the user's code, and where it returns anything but
    a torch.nn.Module; Waived where timm is not installed.
    """
    factory, args = find_factory(vit)
    try:
        model = factory(**args)
    # A call of sys.exit must become a failed run with its reason too.
    except (Exception, SystemExit) as error:
        raise ModelError(f"{vit.origin} failed: {describe_exception(error)}") from error
    if not isinstance(model, torch.nn.Module):
        kind = type(model).__name__
        raise ModelError(f"{vit.origin} returned a {kind}; it has to return a torch.nn.Module")
    return model


def find_factory(vit: VitSpec) -> tuple[Callable[..., Any], JsonDict]:
    """What makes the model, and its keyword arguments. Errors are those of `build_custom`."""
    if vit.target is not None:
        return find_object(vit.target), vit.args
    try:
        timm = importlib.import_module("timm")
    except ModuleNotFoundError as error:
        if error.name != "timm":
            raise ModelError(f"timm cannot be imported: {describe_exception(error)}") from error
        raise Waived("timm is not installed; pip install timm") from error
    # Random weights are as fast as trained ones, and nothing is downloaded.
    return timm.create_model, {**vit.args, "model_name": vit.timm, "pretrained": False}


def find_object(target: str) -> Callable[..., Any]:
    """What a dotted name such as package.module.Class.method refers to.

    Modules are also found in the directory that this process was started in, after everything that
    Python finds by itself. Raises ModelError.
    """
    here = str(Path.cwd())
    if here not in sys.path:  # it is not where PYTHONSAFEPATH is set
        sys.path.append(here)
    path, *rest = target.split(".")
    found: Any = _import(path, target)
    for name in rest:
        path = f"{path}.{name}"
        if isinstance(found, ModuleType) and not hasattr(found, name):
            _import(path, target)
        if not hasattr(found, name):
            raise ModelError(f"{target}: {path.rpartition('.')[0]} has no attribute {name!r}")
        found = getattr(found, name)
    if not callable(found):
        raise ModelError(f"{target} is a {type(found).__name__}, not a function or a class")
    factory: Callable[..., Any] = found
    return factory


def _import(path: str, target: str) -> ModuleType:
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError as error:
        parent, _, name = path.rpartition(".")
        if error.name == path and parent:
            raise ModelError(f"{target}: {parent} has no attribute {name!r}") from error
        raise ModelError(f"{target}: {describe_exception(error)}") from error
    except (Exception, SystemExit) as error:
        raise ModelError(f"{target}: {path} failed: {describe_exception(error)}") from error


def describe_source(vit: VitSpec) -> JsonDict:
    """Where the code of a model came from: `model_file`, its `model_file_sha256`, and
    `model_package` with the version of the package, each where it is known.

    Call it after `build_custom`: nothing is imported here.
    """
    top = "timm" if vit.target is None else vit.target.partition(".")[0]
    source: JsonDict = {}
    factory, _ = find_factory(vit)
    try:
        path = Path(inspect.getsourcefile(inspect.unwrap(factory)) or "")
        source["model_file_sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
        source["model_file"] = str(path)
    except (OSError, TypeError, ValueError):  # built in, or written in C
        pass
    # The name of a distribution need not be that of its module; that of the common ones is.
    for name, version in package_versions([top]).items():
        source["model_package"] = f"{name} {version}"
    return source
