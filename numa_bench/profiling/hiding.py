"""Run a command (nsys) so that it cannot read the environments of other processes.

    python -m numa_bench.profiling.hiding COMMAND...

nsys (2023.4, observed with strace) reads /proc/PID/environ of every process that it has access to
and stores it in its report, including tokens in the user's shells, and for root in everybody's.
COMMAND runs in its own mount namespace (unshare(2)) with /dev/null mounted over those files.
Process ids, files and devices are unchanged. Exit code 125: the kernel does not allow it.
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

#: Exit code when namespaces are refused: that of env(1) and timeout(1) for their own failures.
REFUSED = 125
_CLONE_NEWNS, _CLONE_NEWUSER = 0x00020000, 0x10000000  # include/uapi/linux/sched.h
_MS_BIND, _MS_REC, _MS_PRIVATE = 0x1000, 0x4000, 0x40000  # include/uapi/linux/mount.h


def wrap_argv(argv: list[str]) -> list[str]:
    """The command that runs `argv` with the environments hidden."""
    return [sys.executable, "-m", "numa_bench.profiling.hiding", *argv]


def can_hide(project: Path) -> bool:
    """Whether environments can be hidden from a child. `project` is put on its PYTHONPATH."""
    env = {**os.environ, "PYTHONPATH": str(project)}
    done = subprocess.run(wrap_argv(["true"]), env=env, capture_output=True, check=False)
    return done.returncode == 0


def find_exposed_secrets(proc: Path = Path("/proc")) -> list[str]:
    """Names of variables that look like secrets, in every environment that this user can read."""
    names: set[str] = set()
    for path in _environments(proc):
        with contextlib.suppress(OSError):
            for word in path.read_bytes().decode(errors="replace").split("\0"):
                name, _, value = word.partition("=")
                if is_secret(name) or has_credentials(value):
                    names.add(name)
    return sorted(names)


def main(argv: list[str]) -> int:
    """Hide the environments of all running processes, then exec the command."""
    try:
        _unshare_mounts()
        for path in _environments(Path("/proc"), but=os.getpid()):
            with contextlib.suppress(
                FileNotFoundError, ProcessLookupError
            ):  # the process has ended
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


def _unshare_mounts() -> None:
    """Move to a new mount namespace; without root, to a new user namespace as well."""
    uid, gid = os.getuid(), os.getgid()
    try:
        _call("unshare", _CLONE_NEWNS)
    except PermissionError:
        _call("unshare", _CLONE_NEWNS | _CLONE_NEWUSER)
        # Map the user and group to themselves (user_namespaces(7)).
        # setgroups must be denied before an unprivileged process may write gid_map.
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    # Otherwise mounts may propagate to the parent namespace (mount_namespaces(7)).
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
