"""Run a command as a container does that forbids memory policies: EPERM by a seccomp filter.

    python tests/faults/forbid_binding.py COMMAND...

The system calls are those that Docker's default profile allows with CAP_SYS_NICE only: mbind,
set_mempolicy, get_mempolicy. x86-64 only; exit code 77 where the kernel takes no filter.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys

#: linux/filter.h, linux/seccomp.h: load a word, jump if equal, return.
LOAD, JUMP_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, FAIL = 0x7FFF0000, 0x00050000
NO_NEW_PRIVS, SET_SECCOMP, FILTER = 38, 22, 2
#: Numbers of the system calls on x86-64.
CALLS = (237, 238, 239)
NOT_POSSIBLE = 77


def build_filter() -> bytes:
    """A program in the kernel's format: u16 code, u8 jt, u8 jf, u32 k, for each instruction."""
    code = [(LOAD, 0, 0, 0)]
    # Each comparison jumps over the others and the first return.
    code += [(JUMP_EQUAL, len(CALLS) - at, 0, call) for at, call in enumerate(CALLS)]
    code += [(RETURN, 0, 0, ALLOW), (RETURN, 0, 0, FAIL | errno.EPERM)]
    return b"".join(struct.pack("HBBI", *instruction) for instruction in code)


def main() -> int:
    """Install the filter and become the command."""
    program = build_filter()
    buffer = ctypes.create_string_buffer(program)
    header = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    if platform.machine() != "x86_64" or libc.prctl(NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return NOT_POSSIBLE
    if libc.prctl(SET_SECCOMP, FILTER, header, 0, 0) != 0:
        return NOT_POSSIBLE
    os.execvp(sys.argv[1], sys.argv[1:])
    return 1


if __name__ == "__main__":
    sys.exit(main())
