"""Refuse settings with user names or passwords in URIs, before Hydra saves them in files."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from numa_bench.config.error_text import name_key
from numa_bench.config.hydra.guard import SweepRefused
from numa_bench.config.output_validation import URI_KEY, check_uri
from numa_bench.errors import ConfigError
from numa_bench.redaction import has_credentials, redact_uri


class CredentialCheck(Callback):
    """Raises SweepRefused, the only error that Hydra lets through."""

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        """Called before a single job."""
        refuse_credentials(config)

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Called before a sweep."""
        refuse_credentials(config)


def refuse_credentials(config: DictConfig) -> None:
    """Raise SweepRefused if a value of a composed configuration has credentials.

    Overrides count too: Hydra saves them as they were typed, those of a sweep unparsed.
    """
    plain: Any = OmegaConf.to_container(config, resolve=False)
    of_hydra = plain.pop("hydra")
    given = [*of_hydra["overrides"]["task"], *of_hydra["overrides"]["hydra"]]
    typed = [word.lstrip("+~").partition("=")[::2] for word in given]
    swept = (of_hydra["sweeper"].get("params") or {}).items()
    for key, value in [*list_texts(plain), *typed, *((k, str(v)) for k, v in swept)]:
        try:
            if key == URI_KEY:
                check_uri(value)
            elif has_credentials(value):
                raise ConfigError(
                    name_key(key),
                    redact_uri(value),
                    "contains a user name or password, and settings are stored in files; remove it",
                )
        except ConfigError as error:
            raise SweepRefused([str(error)]) from None


def list_texts(node: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Key and value of every text in a tree of settings."""
    if isinstance(node, str):
        yield key, node
    elif isinstance(node, (dict, list)):
        pairs = node.items() if isinstance(node, dict) else enumerate(node)
        for name, value in pairs:
            yield from list_texts(value, f"{key}.{name}".lstrip("."))
