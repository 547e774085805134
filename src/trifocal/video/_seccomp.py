"""A filter of system calls for the decoding process: after it, no file, socket or program can be opened.

Nor can a file's name, rights, times or attributes be changed, or another process be signalled or adjusted.
The process holds all it needs when the filter goes on: the video, the control socket, and later the shared memory that
arrives over it. What is refused answers "not permitted" instead of killing, so that libraries which only look around
(for the number of processors, say) go on. Written from seccomp(2) and the kernel's tables of system calls for x86-64
and AArch64; on other machines there is no filter.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from dataclasses import dataclass
from typing import Final

__all__ = ["refuse_system_calls"]

_PR_SET_SECCOMP: Final = 22
_FILTER_MODE: Final = 2
_ALLOW: Final = 0x7FFF0000
_KILL: Final = 0x80000000
_ERROR: Final = 0x00050000
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER_AT, _ARCHITECTURE_AT, _FIRST_AT, _SECOND_AT = 0, 4, 16, 24
_CLONE_THREAD: Final = 0x00010000
# F_SETOWN, F_SETSIG, F_SETOWN_EX; FIOSETOWN, SIOCSPGRP: a descriptor's events become signals to a process of choice.
_ADOPTIONS: Final = (8, 10, 15, 0x8901, 0x8902)


@dataclass(frozen=True, slots=True)
class _Machine:
    """One kernel's numbers: what is refused outright, and the calls whose arguments decide."""

    architecture: int
    refused: tuple[int, ...]
    kills: tuple[int, ...]
    prlimit: int
    controls: tuple[int, ...]
    clone: int
    clone3: int = 435
    beyond: int = 0xFFFFFFFF


# In this order: open, creat, openat(2), *_by_handle_at, open_tree; socket to listen; fork and exec; reaching into other
# processes, signals that carry data, priorities and processors; namespaces and mounts; kernel facilities, queues and
# watches; changes to the file tree; times and attributes of files; memory that could become a program.
_MACHINES: Final = {
    "x86_64": _Machine(
        architecture=0xC000003E,
        refused=(
            *(2, 85, 257, 437, 303, 304, 428),
            *(41, 42, 43, 49, 50, 53, 288),
            *(57, 58, 59, 322),
            *(101, 310, 311, 434, 424, 438, 129, 297, 440, 141, 142, 144, 203, 251, 314),
            *(272, 308, 165, 166, 155, 161),
            *(321, 298, 248, 249, 250, 323, 425, 175, 313, 176, 246, 29, 68, 64, 240, 241, 253, 294, 300),
            *(87, 263, 82, 264, 316, 83, 258, 84, 86, 265, 88, 266, 90, 268, 452, 92, 94, 260, 76, 133, 259),
            *(132, 235, 261, 280, 188, 189, 190, 197, 198, 199, 463, 466),
            *(319, 447),
        ),
        kills=(62, 200, 234),
        prlimit=302,
        controls=(72, 16),
        clone=56,
        beyond=0x40000000,  # the x32 calls, which would go round the numbers above
    ),
    "aarch64": _Machine(
        architecture=0xC00000B7,
        refused=(
            *(56, 437, 264, 265, 428),
            *(198, 199, 200, 201, 202, 203, 242),
            *(221, 281),
            *(117, 270, 271, 434, 424, 438, 138, 240, 440, 140, 118, 119, 122, 30, 274),
            *(97, 268, 40, 39, 41, 51),
            *(280, 241, 217, 218, 219, 282, 425, 105, 273, 106, 104, 194, 186, 190, 180, 181, 26, 262),
            *(35, 38, 276, 34, 37, 36, 53, 452, 54, 45, 33),
            *(88, 5, 6, 7, 14, 15, 16, 463, 466),
            *(279, 447),
        ),
        kills=(129, 130, 131),
        prlimit=261,
        controls=(25, 29),
        clone=220,
    ),
}


def refuse_system_calls() -> bool:
    """Put the filter on this process and all its threads to come; it cannot be taken off. Needs no-new-privileges.

    Returns:
        Whether it is on: not on other kinds of machine, nor where the kernel refuses it.
    """
    machine = _MACHINES.get(platform.machine())
    if machine is None:
        return False
    program = _program(machine, pid=os.getpid())
    code = ctypes.create_string_buffer(b"".join(program), 8 * len(program))
    header = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    return bool(libc.prctl(_PR_SET_SECCOMP, _FILTER_MODE, ctypes.byref(header), 0, 0) == 0)


def _program(machine: _Machine, *, pid: int) -> list[bytes]:
    """The filter, a classic BPF program: a false comparison skips the verdict after it."""
    refuse, pretend_absent = _ERROR | errno.EPERM, _ERROR | errno.ENOSYS
    steps = [_step(_LOAD, _ARCHITECTURE_AT), *_unless(_EQUAL, machine.architecture, _KILL), _step(_LOAD, _NUMBER_AT)]
    steps += _if(_AT_LEAST, machine.beyond, refuse)
    # Told that clone3 does not exist, the C library falls back to clone, whose flags can be read here.
    steps += _if(_EQUAL, machine.clone3, pretend_absent)
    for number in machine.refused:
        steps += _if(_EQUAL, number, refuse)
    first, second = _step(_LOAD, _FIRST_AT), _step(_LOAD, _SECOND_AT)
    itself = [first, *_if(_EQUAL, pid, _ALLOW)]
    steps += _when(machine.clone, [first, *_if(_ANY_BIT, _CLONE_THREAD, _ALLOW)], refuse)
    for number in machine.kills:
        steps += _when(number, itself, refuse)
    # Asking for one's own limits by the process number 0 is how the C library does it.
    steps += _when(machine.prlimit, [*itself, *_if(_EQUAL, 0, _ALLOW)], refuse)
    for number in machine.controls:
        refusals = [step for command in _ADOPTIONS for step in _if(_EQUAL, command, refuse)]
        steps += _when(number, [second, *refusals], _ALLOW)
    return [*steps, _step(_RETURN, _ALLOW)]


def _when(number: int, steps: list[bytes], otherwise: int) -> list[bytes]:
    """For that call alone: these steps, which look at its arguments, and a verdict where none of them gave one."""
    body = [*steps, _step(_RETURN, otherwise)]
    return [_step(_EQUAL, number, no=len(body)), *body]


def _if(compare: int, value: int, verdict: int) -> list[bytes]:
    return [_step(compare, value, no=1), _step(_RETURN, verdict)]


def _unless(compare: int, value: int, verdict: int) -> list[bytes]:
    return [_step(compare, value, yes=1), _step(_RETURN, verdict)]


def _step(code: int, value: int, *, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("HBBI", code, yes, no, value)
