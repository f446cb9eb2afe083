"""Studies that start in the same second get directories of their own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from numa_bench.config.claim import ClaimDirectory, claim_directory
from tests.conftest import PROJECT


def config_of(directory: Path, *overrides: str, **keys: Any) -> DictConfig:
    hydra = {"run": {"dir": str(directory)}, "overrides": {"hydra": list(overrides)}}
    config = OmegaConf.create({"hydra": hydra, **keys})
    OmegaConf.set_readonly(config.hydra, True)  # as Hydra does
    return config


def test_directories_are_claimed_once_by_many_at_once(tmp_path: Path) -> None:
    wanted = tmp_path / "numa_study" / "2026-01-31" / "14-30-15"
    with ThreadPoolExecutor(8) as pool:
        claimed = list(pool.map(claim_directory, [wanted] * 40))
    assert len(set(claimed)) == 40
    assert wanted in claimed
    assert {path.parent for path in claimed} == {wanted.parent}


def test_the_second_study_of_a_second_gets_a_number(tmp_path: Path) -> None:
    configs = [config_of(tmp_path / "14-30-15") for _ in range(2)]
    for config in configs:
        ClaimDirectory().on_run_start(config)
    names = [Path(config.hydra.run.dir).name for config in configs]
    assert names == ["14-30-15", "14-30-15-2"]
    assert sorted(p.name for p in tmp_path.iterdir()) == names


@pytest.mark.parametrize(
    "make",
    [
        lambda at: config_of(at, dry_run=True),
        lambda at: config_of(at, debug=True),
        lambda at: config_of(at, resume_from=str(at)),
        lambda at: config_of(at, f"hydra.run.dir={at}"),
    ],
    ids=["dry run", "debug", "resumed", "named"],
)
def test_directories_that_are_shared_on_purpose(
    tmp_path: Path, make: Callable[[Path], DictConfig]
) -> None:
    (tmp_path / "there").mkdir()
    for name in ("there", "new"):
        config = make(tmp_path / name)
        ClaimDirectory().on_run_start(config)
        assert config.hydra.run.dir == str(tmp_path / name)
    assert not (tmp_path / "new").exists()


def test_a_directory_that_cannot_be_made_is_left_to_hydra(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    config = config_of(tmp_path / "file" / "14-30-15")
    ClaimDirectory().on_run_start(config)
    assert config.hydra.run.dir == str(tmp_path / "file" / "14-30-15")


@pytest.mark.slow
def test_hydra_takes_the_claimed_directory(tmp_path: Path) -> None:
    """A second study with the time stamp of the first leaves that one's snapshot alone."""
    code = (
        "import sys; from omegaconf import OmegaConf\n"
        "from numa_bench.commands import run\n"
        "from numa_bench.config import hydra_app\n"
        "register = hydra_app.register_hydra\n"
        "def register_one_second():\n"
        "    register()\n"
        "    OmegaConf.register_new_resolver('now', lambda form: 'T', replace=True)\n"
        "hydra_app.register_hydra = register_one_second\n"
        "run.run = lambda node: None\n"
        "sys.argv[1:] = ['experiment=quick_test', 'tracking=none', f'output.root={sys.argv[1]}']\n"
        "sys.exit(run.main())"
    )
    for _ in range(2):
        subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=PROJECT, check=True)
    made = sorted(p.parent.name for p in tmp_path.rglob(".hydra"))
    assert made == ["T", "T-2"]
