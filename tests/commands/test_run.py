"""hydra_experiment_runner.py as people type it: what works, what is refused, and its messages.

Most command lines run inside this process (fixture `runner`); those of the documentation run
verbatim in a shell.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from numa_bench.config.schema import RunnerConfig
from numa_bench.config.schemas.isolation import IsolationConfig
from numa_bench.config.settings import list_keys, list_settings
from numa_bench.isolation.host_locks import HostLocks
from numa_bench.plan.plan import Plan
from tests.conftest import PROJECT, RUNNER, Outcome
from tests.fake_sysfs import FakeGpu, FakeNode, build_tree
from tests.fake_worker import TOPOLOGY
from tests.isolation.test_resources import spec_on
from tests.machines import laptop, server

Runner = Callable[..., Outcome]
RUNS = re.compile(r"^(\d+) runs of (\d+) cells in (\w+) order", re.M)

# --- the documented command lines, verbatim


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A machine with nodes 0 and 2 and GPUs 0-2, which the documentation names."""
    nodes = [FakeNode(0, "0-3"), FakeNode(2, "4-7")]
    gpus = [
        FakeGpu(f"0000:{bus}:00.0", numa_node=n) for bus, n in (("1b", 0), ("43", 0), ("9d", 2))
    ]
    return build_tree(tmp_path_factory.mktemp("machine"), nodes, gpus)


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Outcome]:
    """Run a line in sh, in the project, where `python` is this interpreter."""
    programs = tmp_path_factory.mktemp("bin")
    (programs / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (programs / "python").chmod(0o755)
    drop = ("HYDRA_FULL_ERROR", "NUMA_BENCH_OWN_ERRORS", "CUDA_VISIBLE_DEVICES")
    env = {name: value for name, value in os.environ.items() if name not in drop}
    env["PATH"] = f"{programs}{os.pathsep}{env['PATH']}"

    def run(line: str) -> Outcome:
        done = subprocess.run(
            ["sh", "-c", line],
            cwd=PROJECT,
            env=env,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return Outcome(done.returncode, done.stdout, done.stderr, [])

    return run


#: Line of the documentation, what it plans job by job: (runs, cells).
DOCUMENTED = {
    "python hydra_experiment_runner.py": [(360, 72)],
    "python hydra_experiment_runner.py experiment=scaling_study": [(288, 96)],
    "python hydra_experiment_runner.py experiment=quick_test": [(12, 12)],
    "python hydra_experiment_runner.py experiment.test.num_samples=2000": [(360, 72)],
    "python hydra_experiment_runner.py experiment=numa_study experiment.hardware.gpu_ids=[0,1] "
    # Compiling takes half a minute each time: four of five repeats fit into two hours.
    "experiment.test.compile_model=true": [(192, 48)],
    "python hydra_experiment_runner.py experiment.vit_configs[0].depth=8": [(360, 72)],
    "python hydra_experiment_runner.py -m experiment.test.batch_size=8,16,32 "
    "experiment.hardware.numa_nodes=0,2": [(90, 18)] * 6,
    "python hydra_experiment_runner.py -m 'experiment.vit_configs[0].depth=4,6,8,12' "
    "'experiment.vit_configs[0].dim=256,512,768'": [
        # Where the first model comes to equal another one, it is measured once.
        (300, 60) if (depth, dim) in ((4, 256), (6, 512)) else (360, 72)
        for depth in (4, 6, 8, 12)
        for dim in (256, 512, 768)
    ],
    "python hydra_experiment_runner.py -m experiment=numa_study,scaling_study "
    "experiment.hardware.gpu_ids=[0],[1],[2]": [(120, 24)] * 3 + [(96, 32)] * 3,
    "python hydra_experiment_runner.py -m experiment=numa_study "
    "experiment.hardware.numa_nodes=[0],[2]": [(90, 18)] * 2,
    "python hydra_experiment_runner.py -m experiment=scaling_study "
    "experiment.test.compile_model=true,false": [(288, 96)] * 2,
    "python hydra_experiment_runner.py experiment=grid_search": [(12, 12)] * 9,
    "python hydra_experiment_runner.py debug=true": [(72, 72)],
}


@pytest.mark.slow
@pytest.mark.parametrize("line", DOCUMENTED)
def test_documented_command_lines_work_verbatim(
    shell: Callable[[str], Outcome], tree: Path, tmp_path: Path, line: str
) -> None:
    out = shell(f"{line} dry_run=true topology_root={tree} output.root={tmp_path}/out")

    assert (out.code, out.stderr) == (0, "")
    assert [(int(m[1]), int(m[2])) for m in RUNS.finditer(out.stdout)] == DOCUMENTED[line]
    assert not list(tmp_path.rglob("results.json"))


@pytest.mark.slow
def test_this_machine_is_planned_without_any_setting(
    shell: Callable[[str], Outcome], tmp_path: Path
) -> None:
    out = shell(f"python hydra_experiment_runner.py dry_run=true output.root={tmp_path}")

    assert (out.code, out.stderr) == (0, "")
    assert RUNS.search(out.stdout)


@pytest.mark.slow
def test_an_unquoted_sweep_works_from_another_directory(
    shell: Callable[[str], Outcome], tree: Path, tmp_path: Path
) -> None:
    """conf/ is beside the program; outputs go where the user is."""
    out = shell(
        f"cd {tmp_path} && python {RUNNER} -m experiment=quick_test "
        f"experiment.vit_configs[1].depth=3,4 dry_run=true topology_root={tree}"
    )

    assert (out.code, out.stderr) == (0, "")
    assert len(RUNS.findall(out.stdout)) == 2
    assert [path.name for path in (tmp_path / "outputs").iterdir()] == ["dry_run"]
    assert {path.name for path in (tmp_path / "outputs" / "dry_run").iterdir()} == {
        "0",
        "1",
        "multirun.yaml",
    }


# --- what is refused


#: Command line, and the beginning of the one line that it leaves on stderr.
REFUSED = [
    # keys that no schema has
    ("+typo=1", "typo: unknown key; --help lists all keys"),
    ("typo=1", "typo: unknown key; --help lists all keys"),
    ("experiment.typo=1", "experiment.typo: unknown key"),
    ("+experiment.typo=1", "experiment.typo: unknown key"),
    ("++experiment.test.typo=1", "experiment.test.typo: unknown key"),
    ("+experiment.vit_configs[0].typo=1", "experiment.vit_configs[0].typo: unknown key"),
    ("experiment.vit_configs[0].typo=1", "experiment.vit_configs[0].typo: unknown key"),
    (
        "experiment.test.num_sample=3",
        "experiment.test.num_sample: unknown key; did you mean experiment.test.num_samples?",
    ),
    (
        "experiment.batch_size=3",
        "experiment.batch_size: unknown key; did you mean experiment.test.batch_size?",
    ),
    ("gpu_ids=0", "gpu_ids: unknown key; did you mean experiment.hardware.gpu_ids?"),
    (
        "experiment.vit_configs=[{depht: 1}]",
        "experiment.vit_configs[].depht: unknown key; did you mean experiment.vit_configs[].depth?",
    ),
    ("experiment.test={sed: 1}", "experiment.test.sed: unknown key; did you mean experiment.test"),
    ("experiment.test.seed.x=1", "experiment.test.seed.x: unknown key"),
    # values of the wrong type
    ("experiment.test.num_samples=abc", "experiment.test.num_samples=abc: expected int"),
    ("experiment.test.num_samples=1.5", "experiment.test.num_samples=1.5: expected int"),
    ("experiment.test.num_samples=null", "experiment.test.num_samples=null: expected int"),
    ("experiment.test.num_samples=[1,2]", "experiment.test.num_samples=[1,2]: expected int"),
    ("experiment.test.compile_model=maybe", "experiment.test.compile_model=maybe: expected bool"),
    (
        "experiment.vit_configs[0].depth=x",
        "experiment.vit_configs[0].depth=x: expected int, for example 6",
    ),
    (
        "experiment.vit_configs[0].seed=x",
        "experiment.vit_configs[0].seed=x: expected int, for example 0",
    ),
    ("experiment.name=null", "experiment.name=null: expected str"),
    ("dry_run=maybe", "dry_run=maybe: expected bool"),
    ("experiment.vit_configs=5", "experiment.vit_configs=5: expected a list [{patch_size"),
    ("experiment.vit_configs=null", "experiment.vit_configs=null: expected a list [{patch_size"),
    ("experiment.vit_configs=[5]", "experiment.vit_configs=[5]: expected a model {patch_size"),
    ("experiment.vit_configs[0]=3", "experiment.vit_configs[0]=3: expected a model {patch_size"),
    (
        "experiment.vit_configs=[{depth: abc}]",
        "experiment.vit_configs=[{depth: abc}]: depth: expected int",
    ),
    (
        "experiment.hardware=5",
        "experiment.hardware=5: is a group of settings; set one of them, e.g. "
        "experiment.hardware.device=auto",
    ),
    ("experiment.test=null", "experiment.test=null: is a group of settings"),
    # impossible values
    ("experiment.test.num_samples=-1", "experiment.test.num_samples=-1: must be at least 1"),
    (
        "experiment.test.time_budget_s=inf",
        "experiment.test.time_budget_s=inf: must be finite",
    ),
    ("experiment.repeats=0", "experiment.repeats=0: must be at least 1"),
    (
        "experiment.vit_configs[1].heads=7",
        "experiment.vit_configs[1].heads=7: does not divide dim=128; use a divisor of dim",
    ),
    (
        "experiment.vit_configs[1].patch_size=300",
        "experiment.vit_configs[1].patch_size=300: larger than the image (224 px); use a smaller",
    ),
    (
        "experiment.vit_configs[0].time_budget_s=0",
        "experiment.vit_configs[0].time_budget_s=0.0: must be greater than 0",
    ),
    ("experiment.vit_configs=[]", "experiment.vit_configs=[]: give at least one model"),
    (
        "experiment.hardware.memory_policy=first",
        "experiment.hardware.memory_policy=first: unknown; use one of bind, preferred,",
    ),
    ("experiment.test.precision=int8", "experiment.test.precision=int8: unknown; use one of fp32"),
    ("experiment.order=random", "experiment.order=random: unknown; use one of shuffled,"),
    ("experiment.hardware.device=tpu", "experiment.hardware.device=tpu: unknown; use one of auto,"),
    ("output.log_level=LOUD", "output.log_level=LOUD: unknown; use one of DEBUG,"),
    ("output.root=", "output.root='': must not be empty; set a directory"),
    ("experiment.name=../../x", "experiment.name=../../x: use letters, digits,"),
    ("experiment.name=/tmp/x", "experiment.name=/tmp/x: use letters, digits,"),
    ("experiment.vit_configs[0].name=../x", "experiment.vit_configs[0].name=../x: use letters"),
    # things that are not there
    ("experiment=nope", "experiment=nope: no such file in conf/; one of bandwidth_study, command"),
    ("output=nope", "output=nope: no such file in conf/; one of base"),
    (
        "experiment.vit_configs[9].depth=1",
        "experiment.vit_configs[9].depth=1: no such entry; entries are numbered from 0",
    ),
    (
        "+experiment.vit_configs[9]={depth: 1}",
        "experiment.vit_configs[9]={depth: 1}: no such entry",
    ),
    (
        "experiment.hardware.gpu_ids=[0,9]",
        "experiment.hardware.gpu_ids=[0,9]: no GPU 9: this machine has GPU 0, 1, 2, 3, 4, 5, 6, 7",
    ),
    (
        "experiment.hardware.numa_nodes=[0,1]",
        "experiment.hardware.numa_nodes=1: no such node; this machine has nodes 0, 2",
    ),
    (
        "experiment.hardware.memory_nodes=1",
        "experiment.hardware.memory_nodes=1: no such node; this machine has nodes 0, 2",
    ),
    ("resume_from=nowhere", "resume_from=nowhere: no such directory; give the directory of a"),
    ("resume_from=/proc", "resume_from=/proc: is not a study: it has no results.json"),
    ("topology_root=/nowhere", "topology_root=/nowhere: needs dry_run=true"),
    ("experiment=schema", "experiment.name: needs a value; set it, or choose an experiment"),
    # what Hydra cannot read or compose
    ("foo", "foo: cannot be parsed; write key=value"),
    ("experiment.test.seed=[1", "experiment.test.seed=[1: cannot be parsed; write key=value"),
    ("experiment.vit_configs[-1].depth=1", "experiment.vit_configs[-1].depth=1: cannot be parsed"),
    ("experiment=null", "experiment=null: expected the name of a file in conf/experiment, one of"),
    ("tracking=null", "tracking=null: expected the name of a file in conf/tracking, one of mlflow"),
    ("profiler=3", "profiler=3: expected the name of a file in conf/profiler, one of auto, n"),
    ("nothing=3.5", "nothing: unknown key"),
    ("=3", "=3: has no key; write key=value"),
    ("experimnt=quick_test", "experimnt: unknown key; did you mean experiment? --help"),
    ("experiment.hardwre=5", "experiment.hardwre: unknown key; did you mean experiment.hardware?"),
    ("experiment.name=${nope}", "experiment.name=${nope}: Interpolation key 'nope' not found"),
    ("output.root=${a.b}", "output.root=${a.b}: Interpolation key 'a.b' not found"),
    ("experiment.repeats=100000", "experiment.repeats=100000: plans "),
    ("~experiment.vit_configs[0]", "~experiment.vit_configs.0: "),
    ("~experiment.test.seed", "experiment.test.seed: a setting cannot be removed; set it"),
    (
        "experiment.test.num_samples=8,16",
        "experiment.test.num_samples=8,16: several values; add -m for a sweep",
    ),
    (
        "experiment.hardware.numa_nodes=0,2",
        "experiment.hardware.numa_nodes=0,2: several values; add -m for a sweep, or write "
        "experiment.hardware.numa_nodes=[0,2]",
    ),
    (
        "experiment.test.seed=${nokey}",
        "experiment.test.seed=${nokey}: Interpolation key 'nokey' not found",
    ),
    (
        "experiment.hardware.gpu_ids=${oc.env:NOT_SET}",
        "experiment.hardware.gpu_ids=${oc.env:NOT_SET}: ",
    ),
    (
        "experiment.hardware.gpu_ids=${if_gpu_count_gt_99:0,1}",
        "experiment.hardware.gpu_ids=${if_gpu_count_gt_99:0,1}: Unsupported interpolation type",
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize(("argument", "expected"), REFUSED, ids=[a for a, _ in REFUSED])
def test_a_mistake_is_told_in_one_line_and_nothing_runs(
    runner: Runner, tmp_path: Path, argument: str, expected: str
) -> None:
    out = runner(argument, machine=server())

    assert out.error.startswith(expected)
    assert (out.code, out.stdout, out.studies) == (2, "", [])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["../../x", "../x", "/tmp/numa_bench_x", "a/b"])
def test_a_name_makes_no_directory_elsewhere(runner: Runner, tmp_path: Path, name: str) -> None:
    """Hydra makes the output directory before the configuration is validated."""
    assert runner(f"experiment.name={name}", "output.root=deep/er").code == 2
    assert runner("-m", f"experiment.name={name}", "output.root=deep/er").code == 2

    assert list(tmp_path.iterdir()) == []
    assert not Path("/tmp/numa_bench_x").exists()


def test_two_mistakes_are_one_line_too(runner: Runner) -> None:
    assert runner("experiment.repeats=0", "experiment.order=x").error.startswith("experiment.")


@pytest.mark.slow
def test_the_cpu_machine_says_what_it_lacks(runner: Runner) -> None:
    out = runner("experiment.hardware.gpu_ids=[0,1]", machine=laptop())

    assert (out.code, out.studies) == (2, [])
    assert out.error == (
        "experiment.hardware.gpu_ids=[0,1]: no GPU 0: this machine has no usable GPU; use null "
        "to measure the CPU"
    )
    assert runner("experiment.hardware.numa_nodes=0,2", "-m", machine=laptop()).code == 2


def test_named_gpus_that_are_hidden_are_waived(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,2")

    out = runner("experiment.hardware.gpu_ids=[0,1]", machine=server())

    (plan,) = out.studies
    reasons = {(run.device.gpu_id, run.waived) for run in plan.runs}
    assert reasons == {(0, "not granted: GPU 0 (CUDA_VISIBLE_DEVICES=1,2)"), (1, None)}


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_a_mig_slice_does_not_become_the_cpu(
    runner: Runner, monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-1a000000-0000-4000-8000-000000000001")
    setting = f"experiment.hardware.device={device}"

    out = runner("experiment=quick_test", setting, machine=server())

    assert out.code == 2
    assert out.error.startswith("CUDA_VISIBLE_DEVICES names MIG-1a000000")
    assert "name whole GPUs" in out.error
    assert out.studies == []


@pytest.mark.slow
def test_a_mig_slice_is_no_matter_on_the_cpu(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-1")

    for setting in ("experiment.hardware.device=cpu", "experiment.hardware.gpu_ids=[]"):
        assert len(runner("experiment=quick_test", setting, machine=server()).studies) == 1


def test_a_real_error_keeps_its_traceback(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug must not look like a mistake of the user."""

    def broken(_: object) -> None:
        raise TypeError("a bug")

    monkeypatch.setattr("numa_bench.config.loading.validate_config", broken)

    with pytest.raises(TypeError, match="a bug"):
        runner("experiment=quick_test")


def test_hydra_full_error_asks_for_the_traceback(shell: Callable[[str], Outcome]) -> None:
    out = shell(f"HYDRA_FULL_ERROR=1 python {RUNNER} experiment.typo=1 output.root=/nowhere")

    assert out.code == 1
    assert "Traceback" in out.stderr


def test_a_shell_sees_nothing_else_on_stderr(
    shell: Callable[[str], Outcome], tmp_path: Path
) -> None:
    """As `test_a_mistake_is_told_in_one_line`, with everything that starts before main()."""
    out = shell(f"python hydra_experiment_runner.py experiment.test.seed=-1 output.root={tmp_path}")

    assert (out.code, out.stdout) == (2, "")
    assert out.error == "experiment.test.seed=-1: must be at least 0"


# --- what is started


def test_the_plan_that_is_run_is_the_one_configured(runner: Runner) -> None:
    out = runner("experiment.vit_configs[0].depth=8", "experiment.repeats=1", machine=laptop())

    (study,) = out.studies
    assert out.code == 0
    assert [cell.vit.depth for cell in study.cells] == [8, 2, 4, 6, 8, 12]


def test_nobody_measures_while_a_study_starts_up(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = HostLocks(IsolationConfig(wait_limit_s=0.0), TOPOLOGY)
    free: list[bool] = []

    def note_turn() -> None:
        with others.hold(spec_on(0, 0)) as turn:
            free.append(turn.problem is None)

    def study(*_: object, started: Callable[[], None], **__: object) -> None:
        note_turn()
        started()
        note_turn()

    monkeypatch.setattr("numa_bench.commands.run.check_gpus", lambda _: note_turn())
    monkeypatch.setattr("numa_bench.runner.study.run_study", study)

    assert runner("experiment=quick_test", machine=laptop()).code == 0
    assert free == [False, False, True]


@pytest.mark.slow
def test_visible_gpus_are_honoured(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    def gpus(*arguments: str) -> list[int | None]:
        (study,) = runner(
            "experiment=quick_test", "experiment.max_gpus=null", *arguments, machine=server()
        ).studies
        return list(dict.fromkeys(cell.device.gpu_id for cell in study.cells))

    from_environment = "experiment.hardware.gpu_ids=${oc.env:CUDA_VISIBLE_DEVICES,[0,1,2,3]}"
    assert gpus() == list(range(8))
    assert gpus(from_environment) == [0, 1, 2, 3]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,2")
    assert gpus() == gpus(from_environment) == [5, 2]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert gpus() == gpus(from_environment) == [None]


def test_a_resolved_copy_of_the_configuration_is_kept(runner: Runner, tmp_path: Path) -> None:
    runner("experiment=quick_test", "experiment.hardware.gpu_ids=${oc.env:NOT_SET,''}")

    (saved,) = tmp_path.glob("outputs/quick_test/*/*/.hydra/config_resolved.yaml")
    assert yaml.safe_load(saved.read_text())["experiment"]["hardware"]["gpu_ids"] == ""


@pytest.mark.slow
def test_a_study_is_resumed_in_its_directory(runner: Runner, tmp_path: Path) -> None:
    runner("experiment=quick_test", "experiment.repeats=2")
    (study,) = tmp_path.glob("outputs/quick_test/*/*")
    (study / "results.json").write_text("[]")
    before = {path: path.read_bytes() for path in (study / ".hydra").glob("*.yaml")}

    out = runner(f"resume_from={study.relative_to(tmp_path)}")

    (plan,) = out.studies
    assert (out.code, plan.study, len(plan.runs)) == (0, "quick_test", 6)
    assert [path.name for path in (tmp_path / "outputs").iterdir()] == ["quick_test"]
    unchanged = {path: path.read_bytes() for path in before}
    del unchanged[study / ".hydra" / "config_resolved.yaml"]
    assert unchanged.items() <= before.items()


def test_a_folder_of_studies_that_is_no_sweep_cannot_be_resumed(
    runner: Runner, tmp_path: Path
) -> None:
    for job in "01":
        (tmp_path / "sweep" / job).mkdir(parents=True)
        (tmp_path / "sweep" / job / "results.json").write_text("[]")

    assert "resume one of them: 0, 1" in runner("resume_from=sweep").error


# --- sweeps


@pytest.mark.slow
def test_a_job_that_this_machine_cannot_run_stops_the_sweep_before_it_starts(
    runner: Runner, tmp_path: Path
) -> None:
    out = runner(
        "-m", "experiment=quick_test", "experiment.hardware.numa_nodes=0,99,2", machine=server()
    )

    assert (out.code, out.studies) == (2, [])
    assert re.match(
        r"job 1 \(.*numa_nodes=99.*\): experiment\.hardware\.numa_nodes=99: ", out.error
    )
    assert "this machine has nodes 0, 2" in out.error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_failed_study_in_a_sweep_is_told_and_counts(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    from numa_bench.errors import StudyFailed

    ran: list[int] = []

    def study(plan: Plan, *_: object, **__: object) -> None:
        ran.append(plan.cells[0].test.seed)
        if plan.cells[0].test.seed == 1:
            raise StudyFailed("not every run passed: 1 failed")

    monkeypatch.setattr("numa_bench.runner.study.run_study", study)

    out = runner("-m", "experiment=quick_test", "experiment.test.seed=0,1,2")

    assert (out.code, ran) == (1, [0, 1, 2])
    assert "not every run passed" in out.error


@pytest.mark.slow
def test_an_interrupted_sweep_ends_with_130(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[int] = []

    def study(plan: Plan, *_: object, **__: object) -> None:
        ran.append(plan.cells[0].test.seed)
        raise KeyboardInterrupt

    monkeypatch.setattr("numa_bench.runner.study.run_study", study)

    out = runner("-m", "experiment=quick_test", "experiment.test.seed=0,1,2")

    assert (out.code, ran) == (130, [0])


def test_a_wrong_type_in_a_sweep_is_told_before_any_job(runner: Runner) -> None:
    out = runner("-m", "experiment=quick_test", "experiment.test.seed=1,abc")

    assert (out.code, out.studies) == (2, [])
    assert out.error == (
        "job 1 (experiment.test.seed=abc): experiment.test.seed=abc: expected int, for example 0"
    )


@pytest.mark.slow
def test_jobs_of_a_sweep_over_experiments_keep_apart(runner: Runner, tmp_path: Path) -> None:
    out = runner("-m", "experiment=quick_test,pipeline_study", "experiment.repeats=1,2")

    assert [(plan.study, len(plan.runs) // len(plan.cells)) for plan in out.studies] == [
        ("quick_test", 1),
        ("quick_test", 2),
        ("pipeline_study", 1),
        ("pipeline_study", 2),
    ]
    jobs = [path.parent.parent for path in tmp_path.glob("**/.hydra/config_resolved.yaml")]
    assert sorted(job.name for job in jobs) == ["0", "1", "2", "3"]
    assert len({job.parent.name for job in jobs}) == 1  # one time stamp for the sweep


@pytest.mark.slow
def test_jobs_in_processes_of_their_own_tell_their_errors(
    shell: Callable[[str], Outcome], tree: Path, tmp_path: Path
) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    for job in ("1", "2"):  # only seen when a job starts
        (tmp_path / job).mkdir()
        (tmp_path / job / "results.json").write_text("[]")

    out = shell(
        "python hydra_experiment_runner.py -m hydra/launcher=joblib hydra.launcher.n_jobs=2 "
        "experiment=quick_test experiment.repeats=1,2,3 "
        f"dry_run=true topology_root={tree} hydra.sweep.dir={tmp_path}"
    )

    assert out.code == 2
    assert len(RUNS.findall(out.stdout)) == 1
    assert f"{tmp_path}/1 already holds a study" in out.stderr
    assert f"{tmp_path}/2 already holds a study" in out.stderr
    assert "Traceback" not in out.stderr


# --- asking


@pytest.mark.slow
def test_help_shows_every_setting_with_its_documentation(runner: Runner) -> None:
    out = runner("--help")

    text = " ".join(out.stdout.split())
    assert (out.code, out.stderr, out.studies) == (0, "", [])
    for leaf in list_settings(RunnerConfig):
        assert f"{leaf.key}={leaf.default} {' '.join(leaf.help.split())}" in text
    for name in ("numa_study", "quick_test", "grid_search"):
        assert name in text
    assert "130 interrupted" in text


@pytest.mark.parametrize("arguments", [(), ("experiment=grid_search",), ("experiment=quick_test",)])
def test_the_composed_configuration_can_be_printed(
    runner: Runner, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    out = runner("--cfg", "job", *arguments)

    assert (out.code, out.stderr, out.studies) == (0, "", [])
    found = yaml.safe_load(out.stdout)
    for key in list_keys(RunnerConfig):
        node = found
        for part in key.replace("[]", ".0").split("."):
            assert part in node or isinstance(node, list), key
            node = node[int(part)] if isinstance(node, list) else node[part]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_dry_run_prints_the_matrix_and_runs_nothing(runner: Runner, tmp_path: Path) -> None:
    out = runner("dry_run=true", "experiment=quick_test", "experiment.repeats=2", machine=server())

    assert (out.code, out.stderr, out.studies) == (0, "", [])
    for node in (0, 2):
        assert re.search(rf"gpu0_numa{node}_vit32x6x512_r\*-[0-9a-f]{{6}}", out.stdout)
    assert "24 runs of 12 cells in shuffled order" in out.stdout
    assert "Nothing was run." in out.stdout
    assert not list(tmp_path.rglob("results.json"))
