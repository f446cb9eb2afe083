"""The command line where things that it usually finds are missing: HOME, locale, rights, a checkout
that can be written, permission to bind memory."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from numa_bench.jsonio import read_json
from tests.conftest import PROJECT
from tests.faults import forbid_binding

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's namespaces and seccomp"),
]

RUNNER = str(PROJECT / "hydra_experiment_runner.py")
STUDY = (
    "experiment=quick_test",
    "experiment.vit_configs=[{patch_size: 32, depth: 0}]",
    "experiment.test.num_samples=40",
    "experiment.test.min_timed_s=0.1",
    "experiment.test.time_budget_s=0.5",
    "experiment.test.warmup_budget_s=0.2",
    "profiler=none",
    "tracking=none",
)
#: A process of root that may not do more than other users.
WEAK = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs")
#: All that a process inherits from a job's starter at worst.
BARE = {"PATH": os.environ["PATH"], "LC_ALL": "C"}


def start(*words: str, before: tuple[str, ...] = (), cwd: Path) -> subprocess.CompletedProcess[str]:
    line = [*before, sys.executable, RUNNER, *STUDY, *words]
    # Locks of its own: it does not wait for studies of tests that run beside it.
    env = {**BARE, "NUMA_BENCH_LOCKS": os.environ["NUMA_BENCH_LOCKS"]}
    return subprocess.run(
        line, cwd=cwd, env=env, capture_output=True, text=True, check=False, encoding="utf-8"
    )


def check_passed(done: subprocess.CompletedProcess[str], root: Path) -> None:
    assert done.returncode == 0, done.stderr
    (results,) = root.rglob("results.json")
    assert [record["status"] for record in read_json(results)] == ["passed"]


def test_a_user_without_home_locale_and_privileges(tmp_path: Path) -> None:
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        pytest.skip("setpriv is not installed")
    root = tmp_path / "caf\u00e9"
    done = start(f"output.root='{root}'", before=WEAK if os.geteuid() == 0 else (), cwd=tmp_path)
    check_passed(done, root)


def test_a_checkout_that_cannot_be_written(tmp_path: Path) -> None:
    unshare = ("unshare", "--mount")
    if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting is not permitted here")
    script = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'
    done = start(before=(*unshare, "sh", "-c", script, str(PROJECT)), cwd=tmp_path)
    check_passed(done, tmp_path / "outputs")


def forbid(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    done = start(*words, before=(sys.executable, forbid_binding.__file__), cwd=cwd)
    if done.returncode == forbid_binding.NOT_POSSIBLE:
        pytest.skip("this kernel takes no seccomp filter from us")
    return done


def test_where_binding_is_forbidden_nothing_runs(tmp_path: Path) -> None:
    done = forbid(cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: `numactl --cpunodebind=")
    assert "is not permitted here; in a container add --cap-add SYS_NICE" in line
    assert "experiment.hardware.numa_nodes=unbound" in line
    assert list(tmp_path.iterdir()) == []


def test_where_binding_is_forbidden_the_advice_works(tmp_path: Path) -> None:
    done = forbid("experiment.hardware.numa_nodes=unbound", cwd=tmp_path)
    check_passed(done, tmp_path / "outputs")


def test_a_study_of_another_user_is_refused_in_one_line(tmp_path: Path) -> None:
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("only root can give a directory to another user")
    study = tmp_path / "study"
    for name in (".hydra", "runs"):
        (study / name).mkdir(parents=True, mode=0o700)
        os.chown(study / name, 1234, 1234)
    (study / "results.json").write_text("[]")

    done = start(f"resume_from={study}", before=WEAK, cwd=tmp_path)

    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert f"Permission denied: '{study}/.hydra/" in line
