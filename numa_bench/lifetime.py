"""A process that ends together with the one that started it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # include/uapi/linux/prctl.h


def end_with_parent(parent: int | None) -> None:
    """Get SIGTERM from the kernel when the parent dies (prctl(2)); at once if it has died already.

    `parent` is its process number; None if it is not known.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    # A parent that died before the call sends no signal any more.
    if parent is not None and os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)
