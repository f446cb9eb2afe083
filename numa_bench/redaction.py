"""Keeps out of files, logs and terminals what does not belong there.

Secrets: credentials in URIs, variables whose names suggest one. In texts of others, such as the
names of kernels: what a terminal would obey.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote_plus

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
    # As pathlib writes a URI: scheme:/user:password@host.
    r"|(?<=\w:/)(?!/)[^\s'\"?#/:]*:[^\s'\"?#]+@"
)
#: The same in front of a host, with nothing that makes it a URI: user:password@host.
_BARE = re.compile(r"(?:\A|(?<==)|(?<==['\"]))[^\s'\"?#/:@=]+:(?!/)[^\s'\"?#@]+@")
#: The same as parameters: of a query, and of a connection string such as ODBC's.
_SECRET_NAME = r"[\w.-]*(?:pwd|password|passwd|token|secret|access_?key|api_?key)"
_PARAMETERS = re.compile(
    rf"([?&#](?:user|username|key|{_SECRET_NAME})=)[^&\s]+|(;\s*{_SECRET_NAME}\s*=\s*)[^;&\s]+",
    re.I,
)
#: A value of a query, which may hold such parameters, percent-encoded.
_QUERY_VALUE = re.compile(r"([?&][^\s?&=]+=)([^&\s]+)")
_NESTED = re.compile(rf"(?:\A|[\s;&?{{]){_SECRET_NAME}\s*=\s*\S", re.I)
#: How often a value may be encoded: once for each URI around it.
_ENCODINGS = 3
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
    plain = _QUERY_VALUE.sub(_drop_nested, _CREDENTIALS.sub("", str(text)))
    return _PARAMETERS.sub(r"\1\2", plain)


def _drop_nested(found: re.Match[str]) -> str:
    """A query's parameter, without its value if that holds credentials once it is decoded."""
    value = found[2]
    for _ in range(_ENCODINGS):
        value = unquote_plus(value)
    return found[1] if _NESTED.search(value) or _CREDENTIALS.search(value) else found[0]


def has_credentials(text: str) -> bool:
    """Whether a URI in a text holds a user name or a password."""
    return redact_credentials(text) != text


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
