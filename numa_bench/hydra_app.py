"""What the two apps need from Hydra: resolvers, help text, and errors as one line.

Importing this module registers schemas and resolvers and looks at nothing; a resolver looks at
the machine only when a configuration that uses it is read.
"""

from __future__ import annotations

import difflib
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from numa_bench.config import RunnerConfig, register_configs
from numa_bench.config_docs import all_keys, help_text, leaves
from numa_bench.errors import ConfigError, NumaBenchError, UnknownKeyError
from numa_bench.store import STUDY_MARKER

MOST_GPUS = 16
_asked_for_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"
_UNKNOWN_KEY = re.compile(r"(?:Key|key) '([^']+)' (?:is not in struct|not in)")
_OVERRIDE = re.compile(r"(?:override|merging override) '?(?P<key>[^\s'=]+)(?:=(?P<value>\S*))?")
_NO_OPTION = re.compile(
    r"Could not find '(?P<group>[^']+)/(?P<name>[^'/]+)'\s+Available options in '[^']+':"
    r"(?P<options>(?:\n\t\S+)+)"
)


def setup() -> None:
    """Register schemas and resolvers. Safe to call twice."""
    register_configs()
    resolvers: dict[str, Callable[..., object]] = {
        "study_dir": study_dir,
        "hydra_subdir": lambda resume, now: f".hydra/resumed_{now}" if resume else ".hydra",
        "config_help": help_text,
        "gpu_count": _gpu_count,
    }
    for least in range(MOST_GPUS):
        resolvers[f"if_gpu_count_gt_{least}"] = _more_gpus_than(least)
    for name, resolver in resolvers.items():
        OmegaConf.register_new_resolver(name, resolver, replace=True)


def study_dir(
    root: str, name: str, now: str, dry_run: bool, debug: bool, resume_from: str | None
) -> str:
    """The directory of this study; dry and debug runs have one of their own, used again."""
    if resume_from:
        if not (Path(resume_from) / STUDY_MARKER).is_file():
            raise ConfigError("resume_from", resume_from, _not_a_study(Path(resume_from)))
        return resume_from
    if dry_run:
        return f"{root}/dry_run"
    return f"{root}/debug" if debug else f"{root}/{name}/{now}"


def _not_a_study(path: Path) -> str:
    if not path.is_dir():
        return "no such directory; give the directory of a study, with results.json in it"
    jobs = sorted(job.parent.name for job in path.glob(f"*/{STUDY_MARKER}"))
    if jobs:
        return f"holds several studies; resume one of them: {', '.join(jobs)}"
    return f"is not a study: it has no {STUDY_MARKER}"


def _gpu_count() -> int:
    from numa_bench.topology import live_topology, visible_gpus

    return len(visible_gpus(live_topology(), os.environ.get("CUDA_VISIBLE_DEVICES")))


def _more_gpus_than(least: int) -> Callable[[object, object], object]:
    return lambda then, otherwise: then if _gpu_count() > least else otherwise


_failures: list[Exception] = []


def guard(job: Callable[[], object]) -> None:
    """Run one job of an app. Its error is told here, in one line.

    In a sweep it is raised too, so that the launcher goes on with the other jobs and the sweep
    ends non-zero; by itself it is kept for `run_app`, because Hydra would add lines of its own.
    """
    settings = HydraConfig.get()
    try:
        job()
    except (NumaBenchError, OmegaConfBaseException) as error:
        if _asked_for_traceback:
            raise
        if settings.mode is RunMode.MULTIRUN:
            which = f"job {settings.job.num} ({settings.job.override_dirname or 'no override'})"
            print(f"error: {which}: {one_line(error)}", file=sys.stderr)
            raise
        print(f"error: {one_line(error)}", file=sys.stderr)
        _failures.append(error)


def run_app(app: Callable[[], object]) -> int:
    """Run a function decorated by hydra.main; return the process's exit code.

    Errors of configuration and machine are told in one line on stderr, without a traceback;
    HYDRA_FULL_ERROR=1 asks for the traceback.
    """
    _failures.clear()
    # Hydra would print a multi-line report and exit with 1; with this set it raises instead.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        app()
    except KeyboardInterrupt:
        return 130
    except (NumaBenchError, HydraException, OmegaConfBaseException) as error:
        if _asked_for_traceback:
            raise
        # A job of a sweep told its error when it happened.
        if not _told():
            print(f"error: {one_line(error)}", file=sys.stderr)
        return _exit_code(error)
    return max(map(_exit_code, _failures), default=0)


def _told() -> bool:
    return HydraConfig.initialized() and HydraConfig.get().mode is RunMode.MULTIRUN


def _exit_code(error: Exception) -> int:
    ours = _ours(error)
    return ours.exit_code if ours is not None else 2


def _ours(error: BaseException | None) -> NumaBenchError | None:
    """Our own error inside what Hydra or OmegaConf wrapped around it."""
    while error is not None:
        if isinstance(error, NumaBenchError):
            return error
        error = error.__cause__ or error.__context__
    return None


def one_line(error: BaseException) -> str:
    """An error of ours, Hydra or OmegaConf as one line with key, value and fix."""
    ours = _ours(error)
    if isinstance(ours, UnknownKeyError):
        return unknown_key(str(ours))
    if ours is not None:
        return " ".join(str(ours).split())
    root = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    text = f"{error}\n{root}"
    if group := _NO_OPTION.search(text):
        options = ", ".join(o for o in group["options"].split() if o != "schema")
        return f"{group['group']}={group['name']}: no such file in conf/; one of {options}"
    override = _OVERRIDE.search(text)
    full_key = getattr(root, "full_key", None)
    key = str(full_key or (override["key"] if override else "")).lstrip("+~")
    if unknown := _UNKNOWN_KEY.search(text):
        return unknown_key((override["key"] if override else key or unknown[1]).lstrip("+~"))
    value = f"={override['value']}" if override and override["value"] else ""
    if isinstance(root, OmegaConfBaseException) and key:
        message = str(root.msg).split("full_key:")[0]
        return f"{key}{value}: {_expected(key) or ' '.join(message.split())}"
    return " ".join(str(root).split("\nSet the environment variable")[0].split())


def _expected(key: str) -> str | None:
    """What a known setting takes."""
    if missing := re.fullmatch(r"experiment\.vit_configs\[(\d+)\]", key):
        return f"there is no entry {missing[1]}; entries count from 0, `--cfg job` shows them"
    plain = re.sub(r"\[\d+\]", "[]", key)
    own = plain.replace("experiment.vit_configs[].", "experiment.test.")
    found = [leaf for leaf in leaves(RunnerConfig) if leaf.key in (plain, own)]
    if not found:
        return None
    return f"expected {found[0].type}, for example {found[0].default}"


def unknown_key(key: str) -> str:
    """One line for a key that no schema has, with the nearest that one has."""
    known = all_keys(RunnerConfig)
    plain = re.sub(r"\.(\d+)\.", r"[].", key)
    leaf = [name for name in known if name.rsplit(".", 1)[-1] == plain.rsplit(".", 1)[-1]]
    hint = difflib.get_close_matches(plain, known, n=1, cutoff=0.8) or leaf[:1]
    did_you_mean = f"did you mean {hint[0]}? " if hint else ""
    return f"{key}: unknown key; {did_you_mean}--help lists all keys"
