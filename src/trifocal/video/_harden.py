"""Giving up rights: what the decoding process does to itself before it touches a byte of the video.

Limits on memory, CPU, files and descriptors always hold. A network namespace of its own is taken where the kernel
grants one. The process ends with its parent through a pipe whose other end only the parent holds: unlike a parent-death
signal, that does not depend on which thread of the parent started it.
"""

from __future__ import annotations

import ctypes
import fcntl
import math
import os
import resource
import signal
from typing import Final

__all__ = ["close_network", "die_with", "give_up_rights", "set_limits"]

_PR_SET_DUMPABLE: Final = 4
_PR_SET_NO_NEW_PRIVS: Final = 38
_CLONE_NEWUSER: Final = 0x10000000
_CLONE_NEWNET: Final = 0x40000000
_OPEN_FILES: Final = 24


def die_with(lifeline: int) -> None:
    """End this process when the other end of the pipe `lifeline` closes, which it does when its holder dies."""
    signal.signal(signal.SIGIO, signal.SIG_DFL)  # the default is to terminate
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC | os.O_NONBLOCK)
    try:
        # The holder may have died before the signal was armed.
        gone = os.read(lifeline, 1) == b""
    except BlockingIOError:
        gone = False
    if gone:
        os._exit(0)


def close_network() -> bool:
    """Move into a network namespace without interfaces; must run while the process has a single thread.

    Returns:
        Whether the kernel granted it.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    return any(libc.unshare(flags) == 0 for flags in (_CLONE_NEWUSER | _CLONE_NEWNET, _CLONE_NEWNET))


def give_up_rights() -> None:
    """No new privileges through programs, no memory dump to others."""
    libc = ctypes.CDLL(None, use_errno=True)
    for option, value in ((_PR_SET_NO_NEW_PRIVS, 1), (_PR_SET_DUMPABLE, 0)):
        if libc.prctl(option, value, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), f"prctl {option}")


def set_limits(*, memory_bytes: int, cpu_s: float) -> None:
    """Bound memory and CPU; forbid files to grow, core dumps and more than a few descriptors."""
    cpu = math.ceil(cpu_s)
    for what, soft, hard in (
        (resource.RLIMIT_AS, memory_bytes, memory_bytes),
        (resource.RLIMIT_CPU, cpu, cpu + 1),
        (resource.RLIMIT_FSIZE, 0, 0),
        (resource.RLIMIT_CORE, 0, 0),
        (resource.RLIMIT_NOFILE, _OPEN_FILES, _OPEN_FILES),
    ):
        _, present = resource.getrlimit(what)
        if present != resource.RLIM_INFINITY:
            soft, hard = min(soft, present), min(hard, present)
        resource.setrlimit(what, (soft, hard))
