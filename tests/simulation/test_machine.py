"""The simulated machine as the product sees it: topology, NVML, numactl, the real runner."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from numa_bench.machine.topology import discover_topology
from tests.conftest import PROJECT
from tests.simulation import machine as machines
from tests.simulation.machine import Binding, dual_socket_4_gpus, dual_socket_8_gpus
from tests.simulation.numactl_shim import BINDING

pytestmark = pytest.mark.slow

Run = Callable[..., subprocess.CompletedProcess[str]]
UUID_5 = "GPU-5a000000-0000-4000-8000-000000000005"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The variables of a machine with eight GPUs."""
    directory = tmp_path / "machine"
    directory.mkdir()
    return dual_socket_8_gpus().install(directory)


@pytest.fixture
def start(environment: dict[str, str], tmp_path: Path) -> Run:
    """Start a program on that machine."""

    def started(*argv: str, **variables: str) -> subprocess.CompletedProcess[str]:
        inherited = {k: v for k, v in os.environ.items() if k != "CUDA_VISIBLE_DEVICES"}
        path = {"PYTHONPATH": str(PROJECT)}
        return subprocess.run(
            argv,
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**inherited, **path, **environment, **variables},
            check=False,
        )

    return started


@pytest.fixture
def plan(start: Run) -> Callable[..., list[Counter[int]]]:
    """GPUs in each printed run matrix of `hydra_experiment_runner.py dry_run=true`."""

    def planned(*arguments: str, **variables: str) -> list[Counter[int]]:
        runner = str(PROJECT / "hydra_experiment_runner.py")
        done = start(sys.executable, runner, *arguments, "dry_run=true", **variables)
        assert done.returncode == 0, done.stderr
        return gpus_by_matrix(done.stdout)

    return planned


def gpus_by_matrix(text: str) -> list[Counter[int]]:
    """How many rows each GPU has in each table of planned runs."""
    tables = text.split("planned runs")[1:]
    return [Counter(int(n) for n in re.findall(r"GPU (\d+) \(node \d\)", t)) for t in tables]


def test_the_tree_and_nvml_are_those_of_the_machine(tmp_path: Path) -> None:
    machine = dual_socket_8_gpus()
    topology = discover_topology(machine.write_tree(tmp_path), machine.nvml())

    assert [gpu.numa_node for gpu in topology.gpus] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert [gpu.uuid for gpu in topology.gpus] == [gpu.uuid for gpu in machine.gpus]
    assert topology.nodes[1].distances == {0: 12, 1: 10, 2: 32, 3: 32}
    assert topology.nodes[3].cpus == (12, 13, 14, 15)
    assert topology.notes == ()


def test_a_process_sees_the_machine_by_its_variables(start: Run) -> None:
    done = start(sys.executable, "-m", "numa_bench.topology", "--json")

    found = json.loads(done.stdout)
    assert [gpu["numa_node"] for gpu in found["gpus"]] == [0, 0, 1, 1, 2, 2, 3, 3]


#: Two models, two placements.
SMALL = ("experiment.vit_configs=[{depth:0},{depth:2}]", "experiment.hardware.numa_nodes=[0,2]")


@pytest.mark.parametrize(
    ("arguments", "variables", "expected"),
    [
        ([], {}, [range(8)]),
        (["experiment.hardware.gpu_ids=[0,1]"], {}, [(0, 1)]),
        ([f"experiment.hardware.gpu_ids=[{UUID_5}]"], {}, [(5,)]),
        ([], {"CUDA_VISIBLE_DEVICES": "6,2"}, [(6, 2)]),
        ([], {"CUDA_VISIBLE_DEVICES": UUID_5}, [(5,)]),
        (["experiment.hardware.gpu_ids=[6]"], {"CUDA_VISIBLE_DEVICES": f"{UUID_5},6"}, [(6,)]),
        (["-m", "experiment.hardware.gpu_ids=[0],[1],[7]"], {}, [(0,), (1,), (7,)]),
    ],
)
def test_the_runner_plans_the_gpus_of_the_machine(
    plan: Callable[..., list[Counter[int]]],
    arguments: list[str],
    variables: dict[str, str],
    expected: list[Sequence[int]],
) -> None:
    assert plan(*arguments, *SMALL, **variables) == [dict.fromkeys(g, 4) for g in expected]


def test_the_sweeps_of_the_readme_are_planned(
    plan: Callable[..., list[Counter[int]]],
) -> None:
    """DESIGN section 1, word for word."""
    gpus = plan(
        "-m", "experiment=numa_study,scaling_study", "experiment.hardware.gpu_ids=[0],[1],[2]"
    )
    assert [set(counter) for counter in gpus] == [{0}, {1}, {2}] * 2
    depths = plan("-m", "experiment.vit_configs[0].depth=4,6", *SMALL)
    assert [set(counter) for counter in depths] == [set(range(8))] * 2


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("experiment.hardware.gpu_ids=[8]", "no GPU 8: this machine has GPU 0, 1, 2, 3"),
        ("experiment.hardware.numa_nodes=4", "4"),
    ],
)
def test_the_runner_refuses_what_the_machine_lacks(start: Run, argument: str, message: str) -> None:
    runner = str(PROJECT / "hydra_experiment_runner.py")
    done = start(sys.executable, runner, argument, "dry_run=true")

    assert done.returncode == 2
    assert message in done.stderr


SHOW = "import os; print(os.environ['SIMULATED_BINDING'])"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--cpunodebind=2", "--membind=3"], ([8, 9, 10, 11], 2, [3], "bind")),
        (["--physcpubind=4-5,7"], ([4, 5, 7], 1, [], None)),
        (["--cpunodebind=1", "--preferred=0"], ([4, 5, 6, 7], 1, [0], "preferred")),
        (["--interleave=0-1,3"], ([], None, [0, 1, 3], "interleave")),
        (["--interleave=all"], ([], None, [0, 1, 2, 3], "interleave")),
        (["-N", "0", "--localalloc"], ([0, 1, 2, 3], 0, [], "local")),
    ],
)
def test_numactl_records_what_it_was_asked_for(
    start: Run, options: list[str], expected: tuple[Any, ...]
) -> None:
    done = start("numactl", *options, sys.executable, "-c", SHOW)

    names = ("cpus", "cpu_node", "memory_nodes", "policy")
    assert json.loads(done.stdout) == dict(zip(names, expected, strict=True))


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["--membind=4", "true"], "<4> is invalid"),
        (["--cpunodebind=0-7", "true"], "<0-7> is invalid"),
        (["--physcpubind=16", "true"], "<16> is invalid"),
        (["--membind=zero", "true"], "<zero> is invalid"),
        (["--membind=0", "/no/such/command"], "No such file or directory"),
        (["--membind=0"], "usage: numactl"),
    ],
)
def test_numactl_refuses_what_the_machine_lacks(start: Run, argv: list[str], line: str) -> None:
    done = start("numactl", *argv)

    assert done.returncode == 1
    assert line in done.stdout + done.stderr


@pytest.mark.skipif(shutil.which("numactl") is None, reason="numactl is not installed")
@pytest.mark.parametrize("option", ["--membind=99", "--cpunodebind=99", "--physcpubind=9999"])
def test_the_real_numactl_refuses_in_the_same_words(start: Run, option: str) -> None:
    real = subprocess.run(["numactl", option, "true"], capture_output=True, text=True, check=False)
    shim = start("numactl", option, "true")

    assert shim.returncode == real.returncode == 1
    refusal = f"<{option.split('=')[1]}> is invalid"
    assert refusal in real.stdout.splitlines()
    assert refusal in shim.stdout.splitlines()
    assert real.stderr.splitlines()[0] == shim.stderr.splitlines()[0]


def test_pages_are_where_the_binding_says(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = dual_socket_4_gpus()

    def pages(binding: Binding | None) -> dict[int, int]:
        if binding is None:
            monkeypatch.delenv(BINDING, raising=False)
        else:
            monkeypatch.setenv(BINDING, json.dumps(vars(binding)))
        return dict(machines.locate_pages(machine, [(4096, 8192), (8000, 4096)]))

    assert pages(None) == {0: 4}
    assert pages(Binding(cpu_node=2, policy="local")) == {2: 4}
    assert pages(Binding(cpu_node=2, memory_nodes=(3,), policy="bind")) == {3: 4}
    assert pages(Binding(memory_nodes=(1, 3), policy="interleave")) == {1: 2, 3: 2}


def test_links_follow_from_distance() -> None:
    machine = dual_socket_4_gpus(
        h2d_gb_per_s=50, same_socket_link=0.9, remote_link=0.5, remote_host=3, launch_us=4
    )
    gpu = machine.gpus[1]

    rates = [machine.links(gpu, 1, (node,)).h2d_bytes_per_s / 1e9 for node in range(4)]
    assert rates == pytest.approx([45, 50, 25, 25])
    both = machine.links(gpu, 1, (1, 3)).h2d_bytes_per_s / 1e9
    assert both == pytest.approx(2 / (1 / 50 + 1 / 25))
    launches = [machine.links(gpu, node, (1,)).launch_s for node in range(4)]
    assert launches == pytest.approx([4e-6, 4e-6, 12e-6, 12e-6])


def test_the_runtime_is_that_of_the_visible_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = dual_socket_8_gpus(remote_link=0.5)
    monkeypatch.setenv(BINDING, json.dumps(vars(Binding(cpu_node=0, memory_nodes=(0,)))))
    rates = {}
    for visible in ("0", "5", UUID_5, "GPU-5a"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        runtime = machines.make_runtime(machine)
        rates[visible] = (runtime.properties().uuid[:6], runtime.links.h2d_bytes_per_s / 1e9)

    assert rates["0"] == ("GPU-0a", 50)
    assert {rates[name] for name in ("5", UUID_5, "GPU-5a")} == {("GPU-5a", 25)}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(RuntimeError, match="no GPU ''"):
        machines.make_runtime(machine)
