"""Keeps secrets out of files and logs: credentials in URIs, variables whose names suggest one."""

from __future__ import annotations

import re
from collections.abc import Mapping

#: Environment variables that change results.
_VARIABLES = re.compile(
    r"(OMP|GOMP|KMP|MKL|OPENBLAS|CUDA|CUBLAS|CUDNN|NVIDIA|NCCL|PYTORCH|TORCH|TORCHINDUCTOR"
    r"|TRITON|MALLOC|ATEN|DNNL|ONEDNN)_\w+|CUDA_VISIBLE_DEVICES|LD_PRELOAD|GLIBC_TUNABLES"
)
#: Names such as NVIDIA_API_KEY, whose values must stay on this machine.
_SECRET = re.compile(r"TOKEN|SECRET|PASSW|CREDENTIAL|API_?KEY|ACCESS_KEY|AUTH", re.I)
#: User name and password in a URI.
_CREDENTIALS = re.compile(r"(?<=://)(?!/)[^\s'\"?#]+@")
#: The same as parameters of a URI.
_PARAMETERS = re.compile(r"([?&](?:user|username|password|passwd|token|key)=)[^&\s]+", re.I)


def redact_credentials(text: object) -> str:
    """A text without the user names and passwords of URIs in it."""
    return _PARAMETERS.sub(r"\1", _CREDENTIALS.sub("", str(text)))


def has_credentials(uri: str) -> bool:
    """Whether a URI holds a user name or a password."""
    return bool(_CREDENTIALS.search(uri) or _PARAMETERS.search(uri))


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
