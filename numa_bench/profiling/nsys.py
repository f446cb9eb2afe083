"""Nsight Systems' command line: find and probe it, and export reports to SQLite."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from numa_bench.errors import NumaBenchError
from numa_bench.isolation.scratch import hold_scratch
from numa_bench.versions import PROJECT

INSTALL = (
    "install it with tools/install_nsys.sh of a checkout (Debian), or NVIDIA's nsight-systems-cli "
    "(https://developer.nvidia.com/nsight-systems)"
)
#: Where tools/install_nsys.sh installs it, in a checkout.
OWN = PROJECT / ".nsys" / "usr" / "bin" / "nsys"
#: Generous limits against a hanging nsys: a report of the default window exports in seconds, and a
#: probe takes one or two.
EXPORT_TIMEOUT_S = 120.0
PROBE_TIMEOUT_S = 60.0
#: The same for a probe that starts CUDA, which takes some seconds on a server with many GPUs.
CUDA_PROBE_TIMEOUT_S = 180.0
#: Variables that nsys itself needs; no more, because a report embeds the environment.
_NEEDED = ("PATH", "LD_LIBRARY_PATH", "HOME", "LANG", "LC_ALL")


class NsysError(NumaBenchError):
    """nsys is missing, or failed."""


def find_nsys(executable: str | None = None) -> str | None:
    """The absolute path of nsys, or None.

    By default the value of the variable NSYS, else nsys on PATH or in this project's .nsys.
    """
    executable = executable or os.environ.get("NSYS") or "nsys"
    path = shutil.which(executable) or (shutil.which(OWN) if executable == "nsys" else None)
    return str(Path(path).absolute()) if path else None


def read_version(executable: str) -> str:
    """The version of this nsys, such as 2023.4.4.54. Raises NsysError."""
    try:
        result = _ask(executable, "--version")
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NsysError(f"{executable} does not run: {error}; {INSTALL}") from error
    words = [word for word in result.stdout.split() if word[:1].isdigit()]
    if result.returncode != 0 or not words:
        raise NsysError(f"{executable} --version fails: {_first_line(result.stderr)}; {INSTALL}")
    return words[0].partition("-")[0]


def knows_option(executable: str, option: str) -> bool:
    """Whether `nsys profile` of this version lists an option; False if it does not answer."""
    try:
        result = _ask(executable, "profile", "--help")
    except (OSError, subprocess.TimeoutExpired):
        return False
    # The end of the word: other options may start with the same name.
    return re.search(rf"^\s*{re.escape(option)}(?![\w-])", result.stdout, re.MULTILINE) is not None


def probe_nsys(executable: str, options: Sequence[str]) -> None:
    """Record a process that does nothing. Raises NsysError if that produces no report."""
    with hold_scratch() as tmp:
        env = build_minimal_environment(os.environ, tmp)
        _record_probe(executable, options, ["true"], env, PROBE_TIMEOUT_S)


def probe_cuda(
    executable: str, options: Sequence[str], command: Sequence[str], env: Mapping[str, str]
) -> None:
    """Record a process that runs a kernel on a GPU, and look for the kernel in the export.

    An nsys that is older than the CUDA in use may record nothing, or break the process. Raises
    NsysError. TMPDIR in `env` is replaced.
    """
    with hold_scratch() as tmp:
        own = {**env, "TMPDIR": str(tmp)}
        report = _record_probe(executable, options, command, own, CUDA_PROBE_TIMEOUT_S)
        target = report.with_suffix(".sqlite")
        export_sqlite(executable, report, target)
        if count_kernels(target) == 0:
            raise NsysError(
                f"{executable} recorded a CUDA process and no kernel of it; it may be older than "
                f"the CUDA in use: {INSTALL}"
            )


def count_kernels(sqlite: Path) -> int:
    """Kernels in an exported report. Raises NsysError if it cannot be read."""
    # nsys creates no table that would be empty.
    tables = "SELECT count(*) FROM sqlite_master WHERE name = 'CUPTI_ACTIVITY_KIND_KERNEL'"
    try:
        with contextlib.closing(sqlite3.connect(f"file:{sqlite}?mode=ro", uri=True)) as base:
            if not base.execute(tables).fetchone()[0]:
                return 0
            return int(
                base.execute("SELECT count(*) FROM CUPTI_ACTIVITY_KIND_KERNEL").fetchone()[0]
            )
    except sqlite3.Error as error:
        raise NsysError(f"{sqlite.name} of a probe cannot be read: {error}") from error


def _ask(executable: str, *words: str) -> subprocess.CompletedProcess[str]:
    with hold_scratch() as tmp:
        process = subprocess.Popen(
            [executable, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env=build_minimal_environment(os.environ, tmp),
            start_new_session=True,
        )
        with process, _ending_group(process):
            out, err = process.communicate(timeout=PROBE_TIMEOUT_S)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


@contextlib.contextmanager
def _ending_group(process: subprocess.Popen[Any]) -> Iterator[None]:
    """Kill the group of a process that has not ended in the body, whose programs may hang too."""
    try:
        yield
    finally:
        if process.returncode is None:  # not reaped yet, so the group id is still valid
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _record_probe(
    executable: str,
    options: Sequence[str],
    command: Sequence[str],
    env: dict[str, str],
    timeout_s: float,
) -> Path:
    tmp = Path(env["TMPDIR"])
    report = tmp / "probe.nsys-rep"
    argv = [executable, "profile", *options, f"--output={report}", *command]
    try:
        _run(argv, env, timeout_s, ())
    except OSError as error:
        raise NsysError(f"{executable} does not run: {error}; {INSTALL}") from error
    # Exit code 0 does not mean that there is a report.
    if not report.is_file():
        raise NsysError(f"{executable} writes no report{explain_missing_report(tmp)}")
    return report


def explain_missing_report(tmp: Path) -> str:
    """Why a session wrote no report, judging by its private TMPDIR; "" if unknown."""
    if any(tmp.glob("**/*.qdstrm")):
        return (
            ", only raw data: it does not find its QdstrmImporter, as in Debian's unmodified "
            "package; tools/install_nsys.sh installs one that works"
        )
    return ""


def build_export_argv(executable: str, report: Path, target: Path) -> list[str]:
    """The command that turns a report into an SQLite file."""
    options = ["--type=sqlite", "--force-overwrite=true", "--quiet=true", f"--output={target}"]
    return [executable, "export", *options, str(report)]


def export_sqlite(
    executable: str,
    report: Path,
    target: Path,
    *,
    timeout_s: float = EXPORT_TIMEOUT_S,
    pass_fds: Sequence[int] = (),
) -> None:
    """Export `report` to `target`, which is either complete or absent. Raises NsysError.

    `pass_fds` stay open in the nsys process, for as long as the export lasts.
    """
    # Renamed when complete. nsys takes the file type from --type, not from the name.
    part = target.with_name(f".{target.name}.part")
    try:
        with hold_scratch() as tmp:
            _run(
                build_export_argv(executable, report, part),
                build_minimal_environment(os.environ, tmp),
                timeout_s,
                pass_fds,
            )
        part.replace(target)
    except OSError as error:
        raise NsysError(f"{report} could not be exported: {error}") from error
    except NsysError as error:
        raise NsysError(f"{report} could not be exported: {error}") from error
    finally:
        part.unlink(missing_ok=True)


def export_report(report: Path, target: Path) -> None:
    """Export with the nsys of this machine. Raises NsysError if there is none."""
    executable = find_nsys()
    if executable is None:
        raise NsysError(f"{report}: nsys is needed to export a .nsys-rep; {INSTALL}")
    export_sqlite(executable, report, target)


def build_minimal_environment(environ: Mapping[str, str], tmp: Path) -> dict[str, str]:
    """The variables that nsys needs and no others; it keeps its own state below `tmp`."""
    return {**{n: environ[n] for n in _NEEDED if n in environ}, "TMPDIR": str(tmp)}


def _run(argv: list[str], env: dict[str, str], timeout_s: float, fds: Sequence[int]) -> None:
    # stderr goes to a file: nsys leaves a daemon that would keep a pipe open.
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            env=env,
            pass_fds=fds,
            start_new_session=True,
        )
        try:
            with _ending_group(process):
                process.wait(timeout_s)
        except subprocess.TimeoutExpired as error:
            raise NsysError(f"nsys {argv[1]} took longer than {timeout_s:.0f} s") from error
        errors.seek(0)
        reason = _first_line(errors.read().decode("utf-8", errors="replace"))
    if process.returncode != 0:
        raise NsysError(f"nsys {argv[1]} exited with {process.returncode}: {reason}")


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "no reason given")
