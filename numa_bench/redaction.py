"""Keeps out of files, logs and terminals what does not belong there.

Secrets: credentials in URIs, variables whose names suggest one. In texts of others, such as the
names of kernels: what a terminal would obey.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

#: Environment variables that change results.
_VARIABLES = re.compile(
    r"(OMP|GOMP|KMP|MKL|OPENBLAS|CUDA|CUBLAS|CUDNN|NVIDIA|NCCL|PYTORCH|TORCH|TORCHINDUCTOR"
    r"|TRITON|MALLOC|ATEN|DNNL|ONEDNN)_\w+|CUDA_VISIBLE_DEVICES|LD_PRELOAD|GLIBC_TUNABLES"
)
#: Names such as NVIDIA_API_KEY, whose values must stay on this machine.
_SECRET = re.compile(r"TOKEN|SECRET|PASSW|CREDENTIAL|API_?KEY|ACCESS_KEY|AUTH", re.I)
#: User name and password in a URI, also in one without a scheme.
_CREDENTIALS = re.compile(
    r"(?<=://)(?!/)[^\s'\"?#]+@"
    r"|(?:(?<=[^:/\w]//)|(?<=^//))(?!/)[^\s'\"?#/:]*:[^\s'\"?#]+@"
)
#: The same in front of a host, with nothing that makes it a URI: user:password@host.
_BARE = re.compile(r"(?:\A|(?<==)|(?<==['\"]))[^\s'\"?#/:@=]+:(?!/)[^\s'\"?#@]+@")
#: The same as parameters of a URI.
_PARAMETERS = re.compile(r"([?&](?:user|username|password|passwd|token|key)=)[^&\s]+", re.I)
#: Control sequences as in ECMA-48: CSI, then strings such as a window title, then other escapes.
_SEQUENCES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[P\]X^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"
    r"|\x1b[ -/]*[0-~]?"
)
#: Other control characters, marks that change the direction of text, and halves of surrogate pairs,
#: which no file can hold.
_CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def clean_text(text: str) -> str:
    """A text of somebody else as it can be shown: without control sequences and characters.

    Tabs and line breaks stay. A control character that is no part of a sequence becomes U+FFFD.
    """
    if text.isprintable():  # nearly always, and much quicker
        return text
    return _CONTROLS.sub("\ufffd", _SEQUENCES.sub("", text.replace("\r\n", "\n")))


def clean_data(data: Any) -> Any:
    """JSON data with all of its texts, keys included, as `clean_text` returns them."""
    if isinstance(data, str):
        return clean_text(data)
    if isinstance(data, dict):
        return {clean_text(str(key)): clean_data(value) for key, value in data.items()}
    return [clean_data(item) for item in data] if isinstance(data, list) else data


def redact_credentials(text: object) -> str:
    """A text without the user names and passwords of URIs in it."""
    return _PARAMETERS.sub(r"\1", _CREDENTIALS.sub("", str(text)))


def has_credentials(text: str) -> bool:
    """Whether a URI in a text holds a user name or a password."""
    return bool(_CREDENTIALS.search(text) or _PARAMETERS.search(text))


def redact_uri(uri: str) -> str:
    """A setting that should be a URI, or its override, without them, even where it has no scheme.

    In other texts user:password@host may be the name of a file.
    """
    return redact_credentials(_BARE.sub("", uri))


def is_secret(name: str) -> bool:
    """Whether a variable's name suggests that its value must not be stored or passed on."""
    return _SECRET.search(name) is not None


def result_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that change results, sorted. Others are left out: they may hold secrets."""
    return {
        name: value
        for name, value in sorted(environ.items())
        if _VARIABLES.fullmatch(name) and not is_secret(name) and not has_credentials(value)
    }
