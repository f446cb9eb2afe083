"""One directory for each study, also where several hosts start in the same second."""

from __future__ import annotations

import contextlib
from itertools import count
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from numa_bench.errors import NumaBenchError

_KEY = "hydra.run.dir"


class ClaimDirectory(Callback):
    """Creates the directory of a study before Hydra writes there; conf/config.yaml names it.

    Hydra takes a directory that exists, and would replace the snapshot of the study in it.
    """

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        """Claim the directory that the settings name, or one with a number after it.

        Dry runs, debug runs and resumed studies share a directory on purpose, and so may whoever
        names one. Errors are left to Hydra, which resolves the same key next and reports them.
        """
        if any(config.get(key) for key in ("dry_run", "debug", "resume_from")):
            return
        if any(str(given).startswith(f"{_KEY}=") for given in config.hydra.overrides.hydra):
            return
        with contextlib.suppress(NumaBenchError, OmegaConfBaseException, OSError):
            wanted = Path(str(OmegaConf.select(config, _KEY)))
            claimed = claim_directory(wanted)
            if claimed != wanted:
                with read_write(config), open_dict(config):
                    OmegaConf.update(config, _KEY, str(claimed))


def claim_directory(wanted: Path) -> Path:
    """Create a directory that nobody else has: `wanted`, or wanted-2, wanted-3, ...

    mkdir either creates or fails, on network file systems too. Raises OSError.
    """
    wanted.parent.mkdir(parents=True, exist_ok=True)
    for number in count(1):
        path = wanted if number == 1 else wanted.with_name(f"{wanted.name}-{number}")
        with contextlib.suppress(FileExistsError):
            path.mkdir()
            return path
    raise AssertionError("count() does not end")
