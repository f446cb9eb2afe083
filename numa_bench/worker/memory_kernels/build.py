"""Compiles kernels.c into a shared library beside it, or in the user's cache directory.

    python -m numa_bench.worker.memory_kernels.build

prints one line. Exit code 0: built, or built before; 1: no library, and why. Needs nothing but
Python and a C compiler ($CC, cc, gcc or clang).
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from numa_bench.errors import MachineError

COMMAND = "python -m numa_bench.worker.memory_kernels.build"
SOURCE = Path(__file__).with_name("kernels.c")
COMPILERS = ("cc", "gcc", "clang")
#: Tried in this order: a compiler may not know the CPU (-march=native).
_FLAGS = (("-O3", "-march=native"), ("-O3",))
_COMPILE_S = 60.0


@dataclass(frozen=True)
class Build:
    """A library and how it was made: the compiler's command without file names."""

    path: Path
    made_by: str


def find_library() -> Path | None:
    """The library of this kernels.c for this CPU, if it has been built."""
    name = _library_name()
    return next((d / name for d in _directories() if (d / name).is_file()), None)


def build_library() -> Build:
    """Compile kernels.c, replace an older library, and return the new one.

    The library appears by atomic rename, so that a process that loads it meanwhile gets a whole
    one. Raises MachineError when there is no compiler, it fails, or no directory is writable.
    """
    compiler = _find_compiler()
    refused = []
    for directory in _directories():
        try:
            directory.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=directory, prefix=".build-") as work:
                made = Path(work) / "kernels.so"
                flags = _compile(compiler, made)
                made.chmod(0o755)
                _remove_older(directory)
                made.replace(directory / _library_name())
        except OSError as error:
            refused.append(f"{directory}: {error.strerror or error}")
            continue
        return Build(directory / _library_name(), shlex.join([*compiler, *flags]))
    raise MachineError("no directory for the memory kernels is writable: " + "; ".join(refused))


def library_id() -> str:
    """Which source and which CPU a library is for: it is compiled into it and in its name.

    -march=native makes it one for CPUs with the same instructions, and several hosts may share this
    folder.
    """
    source = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:12]
    return f"{source}-{_cpu_id()}"


def main(arguments: Sequence[str] = ()) -> int:
    """The command line: one line of output, and the exit code."""
    if arguments:
        print(f"usage: {COMMAND}", file=sys.stderr)
        return 2
    try:
        build = build_library()
    except MachineError as error:
        print(f"memory kernels: not built: {error}", file=sys.stderr)
        return 1
    print(f"memory kernels: {build.path} (built with {build.made_by})")
    return 0


def _library_name() -> str:
    return f"_kernels-{library_id()}.so"


def _directories() -> tuple[Path, Path]:
    """Where libraries may be: beside their source, or where the user may write."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return SOURCE.parent, Path(cache) / "numa_bench"


@functools.cache
def _cpu_id() -> str:
    """Architecture, and six digits for the CPU's instructions as the kernel lists them."""
    listed = ""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
        # "flags" on x86, "Features" on Arm; every CPU of a machine has the same.
        listed = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return f"{platform.machine()}-{hashlib.sha256(listed.encode()).hexdigest()[:6]}"


def _find_compiler() -> list[str]:
    """The command of a C compiler, which $CC may have with arguments. Raises MachineError."""
    asked = shlex.split(os.environ.get("CC", ""))
    for command in (asked, *([name] for name in COMPILERS)):
        if command and shutil.which(command[0]):
            return command
    raise MachineError(
        f"no C compiler ($CC, {', '.join(COMPILERS)}): the bandwidth of the host's memory cannot "
        f"be measured; install gcc, then run: {COMMAND}"
    )


def _compile(compiler: list[str], target: Path) -> tuple[str, ...]:
    """Compile kernels.c to `target`; the flags that worked. Raises MachineError."""
    define = f'-DKERNELS_ID="{library_id()}"'
    errors = ""
    for flags in _FLAGS:
        command = [*compiler, *flags, "-shared", "-fPIC", define, "-o", str(target), str(SOURCE)]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=_COMPILE_S, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise MachineError(f"{shlex.join(compiler)} took more than {_COMPILE_S:g} s") from error
        if done.returncode == 0 and target.is_file():
            return flags
        errors = done.stderr.strip() or f"exit status {done.returncode}"
    line = next((line for line in errors.splitlines() if "error" in line), errors.splitlines()[0])
    raise MachineError(f"{shlex.join(compiler)} cannot compile {SOURCE}: {line}")


def _remove_older(directory: Path) -> None:
    """Libraries of other sources for this CPU; those of other CPUs may be in use elsewhere."""
    for path in directory.glob(f"_kernels-*-{_cpu_id()}.so"):
        with contextlib.suppress(OSError):
            path.unlink()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
