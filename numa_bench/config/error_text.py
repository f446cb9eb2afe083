"""Errors of Hydra and OmegaConf as one line that names the key, the value and the fix."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Sequence

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigIndexError,
    ConfigKeyError,
    InterpolationResolutionError,
    MissingMandatoryValue,
    OmegaConfBaseException,
    UnsupportedInterpolationType,
)

from numa_bench.config.hydra.launchers import KEY as LAUNCHER
from numa_bench.config.hydra.launchers import explain_missing
from numa_bench.config.settings import CONFIG_DIR, UNSET, list_keys, list_settings
from numa_bench.errors import NumaBenchError, UnknownKeyError

MODELS = "experiment.vit_configs"
_OVERRIDE = re.compile(r"^(?:Error merging override|To append to your config use \+) ?(.+)", re.M)
_AMBIGUOUS = re.compile(r"^Ambiguous value for argument '([^=]+)=(.*)'$", re.M)
_NO_OPTION = re.compile(
    r"Could not find '(?P<group>[^']+)/(?P<name>[^'/]*)'\s+Available options in '[^']+':"
    r"(?P<options>(?:\n\t\S+)+)"
)
#: Also for an option that is only inherited from, as conf/hydra/launcher/slurm.yaml does.
_NO_LAUNCHER = re.compile(r"Could not (?:find|load) 'hydra/launcher/([^']+)'")
_MISSING = re.compile(r"Missing mandatory value: ([\w.]+)")
_NO_VALUE = "needs a value; set it, or choose an experiment that does"


def find_own_error(error: BaseException | None) -> NumaBenchError | None:
    """The NumaBenchError in the chain of exceptions that Hydra or OmegaConf raised, or None."""
    seen: set[int] = set()
    # OmegaConf makes an error its own cause where a debugger or coverage traces (_utils._raise).
    while error is not None and id(error) not in seen:
        if isinstance(error, NumaBenchError):
            return error
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return None


def format_error(error: BaseException, schema: type) -> str:
    """An error of ours, Hydra or OmegaConf as one line with key, value and fix.

    `schema` is the config class of the application that failed.
    """
    ours = find_own_error(error)
    if isinstance(ours, UnknownKeyError):
        return format_unknown_key(name_key(str(ours)), schema)
    if ours is not None:
        return _joined(str(ours))
    if isinstance(error, OverrideParseException):
        return (
            f"{error.override}: cannot be parsed; write key=value, lists as [0,1], quote the rest"
        )
    root = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    if missing := _MISSING.search(str(root)):  # usually experiment.name, needed by hydra.run.dir
        return f"{missing[1]}: {_NO_VALUE}"
    if isinstance(root, OmegaConfBaseException):
        return _refused(str(error), root, schema)
    text = str(error)
    launcher = _NO_LAUNCHER.search(text)
    if launcher is not None and (install := explain_missing(launcher[1])):
        return f"{LAUNCHER}={launcher[1]}: {install}"
    if group := _NO_OPTION.search(text):
        options = ", ".join(o for o in group["options"].split() if o != "schema")
        return f"{group['group']}={group['name']}: no such file in conf/; one of {options}"
    if several := _AMBIGUOUS.search(text):
        key, value = name_key(several[1]), several[2]
        fix = f", or write {key}=[{value}]" if "list" in (_expected(key, schema) or "") else ""
        return f"{key}={value}: several values; add -m for a sweep{fix}"
    if isinstance(error, (TypeError, ValueError)):  # raised by Hydra for, e.g., experiment=null
        return _describe_composition(text)
    return _joined(text)


def format_unknown_key(key: str, schema: type) -> str:
    """One line for a key that is not in the schema, with the closest key that is."""
    section, _, word = re.sub(r"\[\d+\]", "[]", key).rpartition(".")
    known = [name.rpartition(".") for name in list_keys(schema)]
    beside = {last: f"{above}.{last}".lstrip(".") for above, _, last in known if above == section}
    anywhere = {last: f"{above}.{last}".lstrip(".") for above, _, last in reversed(known)}
    groups = [name.rpartition(".") for name in _list_groups(known)]
    beside |= {last: f"{above}.{last}".lstrip(".") for above, _, last in groups if above == section}
    hints = [
        *(beside[name] for name in difflib.get_close_matches(word, beside, cutoff=0.7)),
        *(anywhere[name] for name in difflib.get_close_matches(word, anywhere, cutoff=0.8)),
    ]
    did_you_mean = f"did you mean {hints[0]}? " if hints else ""
    return f"{key}: unknown key; {did_you_mean}--help lists all keys"


def _list_groups(known: Sequence[tuple[str, str, str]]) -> list[str]:
    """The groups of settings above these keys, such as experiment and experiment.test."""
    return list(
        dict.fromkeys(
            ".".join(parts[: end + 1])
            for parts in (above.split(".") for above, _, _ in known if above)
            for end in range(len(parts))
        )
    )


def _describe_composition(text: str) -> str:
    """An error of Hydra's, `text`, that names no override."""
    words = [word for word in sys.argv[1:] if not word.startswith("-")]
    typed = " ".join(words)
    plain = f"{typed}: {_joined(text)}; --help lists groups and keys"
    return _find_group_override(words) or plain


def _find_group_override(words: Sequence[str]) -> str | None:
    """The first word that gives Hydra no name where it wants one of a file, and what to write."""
    for word in words:
        key, equals, _ = word.partition("=")
        if equals and not key:
            return f"{word}: has no key; write key=value"
        if not equals or not re.fullmatch(r"\w+(/\w+)*", key) or _is_name(word):
            continue
        if files := sorted(path.stem for path in (CONFIG_DIR / key).glob("*.yaml")):
            names = ", ".join(files)
            return f"{word}: expected the name of a file in conf/{key}, one of {names}"
    return None


def _is_name(word: str) -> bool:
    """Whether an override's value is a text or a list of them, as a name of a file is."""
    try:
        return isinstance(OverridesParser.create().parse_override(word).value(), (str, list))
    except HydraException:
        return True


def _refused(text: str, root: OmegaConfBaseException, schema: type) -> str:
    """The override that OmegaConf rejected, as it was typed, and what is expected there."""
    match = _OVERRIDE.search(text)
    typed, _, value = (match[1] if match else "").partition("=")
    key, full_key = name_key(typed), str(root.full_key or "")
    if not key and full_key.startswith("hydra.") and (shown := _find_typed(root)):
        return f"{shown}: {_problem(root, '', '', schema)}"
    if not key or full_key.startswith(key):
        place = full_key
    elif key.startswith(full_key):  # a parent key failed, or OmegaConf named no key
        place = key
    else:  # in a list under construction OmegaConf does not know the index
        place = f"{key}[].{full_key}" if key == MODELS else f"{key}.{full_key}"
    above = full_key and key.startswith(f"{full_key}.")
    if isinstance(root, ConfigIndexError) or (above and _is_entry(full_key)):
        problem = "no such entry; entries are numbered from 0, `--cfg job` lists them"
    elif re.fullmatch(rf"{re.escape(MODELS)}\[\d+\]\.args(\..+)?", place) and value:
        problem = f"not among the model's args yet; to add it, write ++{key}={value}"
    elif above or isinstance(root, (ConfigAttributeError, ConfigKeyError)):
        return format_unknown_key(place, schema)
    elif typed.startswith("~"):
        problem = "a setting cannot be removed; set it to another value"
    else:
        problem = _problem(root, place, key, schema)
    shown = f"{key}={value}" if value else key or _interpolated(full_key)
    return f"{shown}: {problem}" if shown else problem


def _problem(root: OmegaConfBaseException, place: str, key: str, schema: type) -> str:
    expected = _expected(place, schema)
    if isinstance(root, MissingMandatoryValue):
        return _NO_VALUE
    if isinstance(root, (InterpolationResolutionError, UnsupportedInterpolationType)):
        why = _joined(str(root).split("full_key:")[0])
        return f"{why}; {expected}" if expected else why
    if expected is None:
        return _joined(str(root).split("full_key:")[0])
    below = place.removeprefix(key).lstrip("[].") if key else ""
    return f"{below}: {expected}" if below and not _is_entry(place) else expected


def _expected(place: str, schema: type) -> str | None:
    """The kind of value that a known setting or group of settings accepts."""
    if place == MODELS or _is_entry(place):
        model = "{patch_size: 32, depth: 6, dim: 512}"
        return f"expected a model {model}" if _is_entry(place) else f"expected a list [{model}]"
    plain = re.sub(r"\[\d+\]", "[]", place)
    own = plain.replace(f"{MODELS}[].", "experiment.test.")
    for leaf in list_settings(schema):
        if leaf.key in (plain, own):
            example = "" if leaf.default == UNSET else f", for example {leaf.default}"
            return f"expected {leaf.type}{example}"
        if plain and leaf.key.startswith(f"{plain}."):
            return f"is a group of settings; set one of them, e.g. {leaf.key}={leaf.default}"
    return None


def _is_entry(key: str) -> bool:
    return re.fullmatch(re.escape(MODELS) + r"\[\d+\]", key) is not None


def name_key(key: str) -> str:
    """A key as users write it: without + or ~, and a.0.b as a[0].b."""
    return re.sub(r"\.(\d+)(?=\.|$)", r"[\1]", key.strip().strip("'").lstrip("+~"))


def _interpolated(key: str) -> str:
    """The override with an interpolation that `key` came from, or else just the key.

    Where OmegaConf names no key, these are all overrides with an interpolation.
    """
    if not HydraConfig.initialized():
        return key
    overrides = OmegaConf.to_container(HydraConfig.get().overrides, resolve=False)
    assert isinstance(overrides, dict)
    interpolated = [override for override in overrides["task"] if "${" in override]
    if not key:
        return " ".join(interpolated)
    own = (override for override in interpolated if name_key(override.partition("=")[0]) == key)
    typed = next(own, key)
    return name_key(typed.partition("=")[0]) + "".join(typed.partition("=")[1:])


def _find_typed(root: OmegaConfBaseException) -> str | None:
    """The override with the interpolation that failed: Hydra's directories are made of settings."""
    missing = re.search(r"[Kk]ey '([^']+)'", str(root))
    wanted = f"${{{missing[1]}}}" if missing else "${"
    return next((word for word in sys.argv[1:] if wanted in word), None)


def _joined(text: str) -> str:
    return " ".join(text.split())
