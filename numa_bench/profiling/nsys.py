"""Nsight Systems' command line: whether it is there, and its export to SQLite."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from numa_bench.errors import NumaBenchError
from numa_bench.versions import PROJECT

INSTALL = (
    "install it with tools/install_nsys.sh of a checkout (Debian), or NVIDIA's nsight-systems-cli "
    "(https://developer.nvidia.com/nsight-systems)"
)
#: Where tools/install_nsys.sh puts it, in a checkout.
OWN = PROJECT / ".nsys" / "usr" / "bin" / "nsys"
EXPORT_TIMEOUT_S = 120.0
PROBE_TIMEOUT_S = 60.0
#: Variables that nsys itself needs; a report embeds the environment of its session.
_NEEDED = ("PATH", "LD_LIBRARY_PATH", "HOME", "LANG", "LC_ALL")


class NsysError(NumaBenchError):
    """nsys is missing, or could not do what it was asked for."""


def find_nsys(executable: str | None = None) -> str | None:
    """The absolute path of nsys; None where there is none.

    By default what the variable NSYS names, else nsys on PATH or in this project's .nsys.
    """
    executable = executable or os.environ.get("NSYS") or "nsys"
    found = shutil.which(executable) or (shutil.which(OWN) if executable == "nsys" else None)
    return str(Path(found).absolute()) if found else None


def read_version(executable: str) -> str:
    """The version that this nsys tells, such as 2023.4.4.54. Raises NsysError."""
    with _private_tmp() as tmp:
        try:
            told = subprocess.run(
                [executable, "--version"],
                capture_output=True,
                text=True,
                errors="replace",
                env=minimal_environment(os.environ, tmp),
                timeout=60,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise NsysError(f"{executable} does not run: {error}; {INSTALL}") from error
    words = [word for word in told.stdout.split() if word[:1].isdigit()]
    if told.returncode != 0 or not words:
        raise NsysError(f"{executable} --version fails: {_first_line(told.stderr)}; {INSTALL}")
    return words[0].partition("-")[0]


def probe_nsys(executable: str, options: Sequence[str]) -> None:
    """Record a process that does nothing. Raises NsysError when no report comes of it."""
    with _private_tmp() as tmp:
        report = Path(tmp) / "probe.nsys-rep"
        argv = [executable, "profile", *options, f"--output={report}", "true"]
        env = minimal_environment(os.environ, tmp)
        try:
            _run(argv, env, PROBE_TIMEOUT_S, ())
        except OSError as error:
            raise NsysError(f"{executable} does not run: {error}; {INSTALL}") from error
        if not report.is_file():
            raise NsysError(f"{executable} writes no report{why_no_report(Path(tmp))}")


def why_no_report(tmp: Path) -> str:
    """What a session that left no report says of it in its private TMPDIR, or an empty text."""
    if any(tmp.glob("**/*.qdstrm")):
        return (
            ", only raw data: its QdstrmImporter is not where it looks for it, which is so with "
            "Debian's package as it is; tools/install_nsys.sh installs one that works"
        )
    return ""


def export_argv(executable: str, report: Path, target: Path) -> list[str]:
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
    """Export `report` to `target`, which is complete or not there. Raises NsysError.

    `pass_fds` are kept open for as long as the export lasts.
    """
    # Kept apart until it is whole. nsys takes the kind of file from --type, not from its name.
    part = target.with_name(f".{target.name}.part")
    try:
        with _private_tmp() as tmp:
            _run(
                export_argv(executable, report, part),
                minimal_environment(os.environ, tmp),
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
    """Export with whatever nsys this machine has. Raises NsysError when it has none."""
    executable = find_nsys()
    if executable is None:
        raise NsysError(f"{report}: nsys is needed to export a .nsys-rep; {INSTALL}")
    export_sqlite(executable, report, target)


def minimal_environment(environ: Mapping[str, str], tmp: str) -> dict[str, str]:
    """What nsys needs and nothing else, with all of its own state below `tmp`."""
    return {**{n: environ[n] for n in _NEEDED if n in environ}, "TMPDIR": tmp}


def _run(argv: list[str], env: dict[str, str], timeout_s: float, fds: Sequence[int]) -> None:
    # In a file: a daemon that keeps a pipe open would be waited for.
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
            process.wait(timeout_s)
        except subprocess.TimeoutExpired as error:
            raise NsysError(f"nsys {argv[1]} took longer than {timeout_s:.0f} s") from error
        finally:
            if process.returncode is None:  # not reaped: its group's number is still its own
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        errors.seek(0)
        told = _first_line(errors.read().decode("utf-8", errors="replace"))
    if process.returncode != 0:
        raise NsysError(f"nsys {argv[1]} ended with {process.returncode}: {told}")


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "no reason given")


def _private_tmp() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="numa_bench-nsys-", ignore_cleanup_errors=True)
