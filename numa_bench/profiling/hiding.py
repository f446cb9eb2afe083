"""Starts nsys where it cannot read the environments of other processes.

    python -m numa_bench.profiling.hiding COMMAND...

nsys (2023.4, watched with strace) reads /proc/PID/environ of every process that it may read and
keeps what it finds in its report: the tokens in a user's shell, and for root everybody's. COMMAND
gets a mount namespace of its own (unshare(2)) in which /dev/null lies over those files. Process
numbers, files and devices stay what they are. Exit code 125: the kernel does not allow it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from numa_bench.redaction import has_credentials, is_secret

REFUSED = 125
_CLONE_NEWNS, _CLONE_NEWUSER = 0x00020000, 0x10000000  # include/uapi/linux/sched.h
_MS_BIND, _MS_REC, _MS_PRIVATE = 0x1000, 0x4000, 0x40000  # include/uapi/linux/mount.h


def wrap_argv(argv: list[str]) -> list[str]:
    """The command that runs `argv` so."""
    return [sys.executable, "-m", "numa_bench.profiling.hiding", *argv]


def can_hide(project: Path) -> bool:
    """Whether this process may hide environments from a child; `project` is on its path."""
    env = {**os.environ, "PYTHONPATH": str(project)}
    done = subprocess.run(wrap_argv(["true"]), env=env, capture_output=True, check=False)
    return done.returncode == 0


def find_exposed_secrets(proc: Path = Path("/proc")) -> list[str]:
    """Names of variables that look like secrets, in all environments that this user may read."""
    names: set[str] = set()
    for path in _environments(proc):
        with contextlib.suppress(OSError):
            for word in path.read_bytes().decode(errors="replace").split("\0"):
                name, _, value = word.partition("=")
                if is_secret(name) or has_credentials(value):
                    names.add(name)
    return sorted(names)


def main(argv: list[str]) -> int:
    """Hide the environments of all processes there are, then become the command."""
    try:
        _own_mounts()
        for path in _environments(Path("/proc"), but=os.getpid()):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended
                _mount("/dev/null", str(path), _MS_BIND)
        os.execvp(argv[0], argv)
    except OSError as error:
        print(f"environments cannot be hidden: {error}", file=sys.stderr)
        return REFUSED


def _environments(proc: Path, but: int | None = None) -> Iterator[Path]:
    for entry in proc.iterdir():
        path = entry / "environ"
        if entry.name.isdigit() and int(entry.name) != but and os.access(path, os.R_OK):
            yield path


def _own_mounts() -> None:
    """A mount namespace of this process's own; without root in a user namespace of its own."""
    uid, gid = os.getuid(), os.getgid()
    try:
        _call("unshare", _CLONE_NEWNS)
    except PermissionError:
        _call("unshare", _CLONE_NEWNS | _CLONE_NEWUSER)
        # The same numbers inside as outside (user_namespaces(7)).
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    _mount("none", "/", _MS_REC | _MS_PRIVATE)


def _mount(source: str, target: str, flags: int) -> None:
    _call("mount", os.fsencode(source), os.fsencode(target), None, flags, None)


def _call(name: str, *arguments: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
