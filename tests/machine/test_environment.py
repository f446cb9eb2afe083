"""What is recorded of the machine, and when two environments are the same."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from numa_bench.machine.environment import (
    collect_kernel_settings,
    describe_environment,
    hash_environment,
    read_git_commit,
)
from numa_bench.machine.model import Gpu, NumaNode, Topology
from tests.fake_sysfs import write
from tests.machines import make_gpu, make_node

TOPOLOGY = Topology(
    (NumaNode(0, (0, 1), 1, {0: 10}),), (Gpu(0, "0000:01:00.0", "0x10de", "0x1", 0, "H", "GPU-1"),)
)


def describe(tmp_path: Path, **variables: str) -> dict[str, object]:
    return describe_environment(tmp_path, TOPOLOGY, variables, tmp_path)


def test_variables_that_change_results_are_kept_and_secrets_are_not(tmp_path: Path) -> None:
    found = describe(
        tmp_path,
        OMP_NUM_THREADS="4",
        CUDA_VISIBLE_DEVICES="1",
        PYTORCH_CUDA_ALLOC_CONF="x",
        AWS_SECRET_ACCESS_KEY="hidden",
        HOME="/root",
    )
    assert found["variables"] == {
        "CUDA_VISIBLE_DEVICES": "1",
        "OMP_NUM_THREADS": "4",
        "PYTORCH_CUDA_ALLOC_CONF": "x",
    }


def test_the_id_follows_what_changes_results(tmp_path: Path) -> None:
    one = describe(tmp_path, OMP_NUM_THREADS="4")
    assert hash_environment(one) == one["id"]
    assert describe(tmp_path, OMP_NUM_THREADS="4", HOME="/x")["id"] == one["id"]
    assert describe(tmp_path, OMP_NUM_THREADS="8")["id"] != one["id"]


def test_the_id_does_not_follow_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = describe(tmp_path)
    monkeypatch.setattr("sys.argv", ["other.py", "resume_from=x"])
    assert describe(tmp_path)["id"] == one["id"]


@pytest.mark.parametrize(("text", "value"), [("always [madvise] never", "madvise"), ("1", "1")])
def test_kernel_settings_are_the_chosen_words(text: str, value: str, tmp_path: Path) -> None:
    write(tmp_path, "sys/kernel/mm/transparent_hugepage/enabled", text)
    assert collect_kernel_settings(tmp_path) == {"transparent_hugepages": value}


def test_gpus_are_named_by_uuid(tmp_path: Path) -> None:
    assert describe(tmp_path)["gpus"] == [{"name": "H", "uuid": "GPU-1"}]


def test_numa_mode_and_links_are_described(tmp_path: Path) -> None:
    write(tmp_path, "proc/cpuinfo", "model name\t: AMD EPYC 9654 96-Core Processor\n")
    gpus = (
        make_gpu(0, 0),
        replace(make_gpu(1, 1), link=(4, 8)),
        replace(make_gpu(2, 1), link=None),
    )
    nodes = tuple(make_node(i, (i,), {}, socket=i // 2) for i in range(4))

    found = describe_environment(tmp_path, Topology(nodes, gpus), {}, tmp_path)

    assert found["nodes_per_package"] == 2
    assert found["numa_mode"] == "NPS2 (2 NUMA nodes per socket)"
    assert found["gpu_links"] == {"0": "PCIe 5.0 x16", "1": "PCIe 4.0 x8", "2": None}


def test_the_id_follows_the_links_and_not_what_is_derived_from_nodes(tmp_path: Path) -> None:
    """A slot of fewer lanes changes results; the mode is the same as nodes and CPUs."""
    fast = Topology((make_node(0, (0,), {}, socket=0),), (make_gpu(0, 0),))
    slow = replace(fast, gpus=(replace(make_gpu(0, 0), link=(5, 8)),))
    silent = replace(fast, nodes=tuple(replace(node, packages=()) for node in fast.nodes))

    ids = [describe_environment(tmp_path, t, {}, tmp_path)["id"] for t in (fast, slow, silent)]

    assert ids[0] != ids[1]
    assert ids[0] == ids[2]


def test_without_a_gpu_there_are_no_links(tmp_path: Path) -> None:
    """So that hosts without a GPU keep the id that they had before links were recorded."""
    found = describe_environment(tmp_path, replace(TOPOLOGY, gpus=()), {}, tmp_path)

    assert "gpu_links" not in found


def test_the_commit_says_when_the_tree_was_changed(tmp_path: Path) -> None:
    def git(*words: str) -> None:
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        subprocess.run(["git", "-C", tmp_path, *identity, *words], check=True, capture_output=True)

    assert read_git_commit(tmp_path) is None
    git("init")
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "-m", "one")
    clean = read_git_commit(tmp_path)
    assert clean
    assert not clean.endswith("-dirty")
    (tmp_path / "a").write_text("2")
    assert read_git_commit(tmp_path) == f"{clean}-dirty"


def test_an_installed_package_has_no_commit_of_the_repository_around_it(tmp_path: Path) -> None:
    subprocess.run(["git", "init", tmp_path], check=True, capture_output=True)
    installed = tmp_path / "lib" / "site-packages"
    installed.mkdir(parents=True)
    (installed / "a").write_text("1")
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    for words in (["add", "."], ["commit", "-m", "one"]):
        subprocess.run(["git", "-C", tmp_path, *identity, *words], check=True, capture_output=True)

    assert read_git_commit(tmp_path)
    assert read_git_commit(installed) is None
