"""The decoding process: `python -m trifocal.video._worker CONTROL VIDEO LIFELINE`, three inherited descriptors.

It gives up its rights, decodes, and answers on the control socket; pictures go into shared memory that the parent made.
It opens nothing, and what goes wrong in it is one message or one exit status.
"""

from __future__ import annotations

import base64
import ctypes
import errno
import fcntl
import mmap
import os
import platform
import resource
import signal
import socket
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any, Final

import av.audio.codeccontext
import av.audio.stream
import av.logging
import av.subtitles.codeccontext
import av.subtitles.stream
import numpy as np
import numpy.typing as npt

from trifocal.errors import DecoderFailed, TrifocalError, VideoLimitExceeded
from trifocal.video import _harden
from trifocal.video._seccomp import refuse_system_calls
from trifocal.video.decode import Decoder, batch_shape
from trifocal.video.limits import Limits
from trifocal.video.pipe import LiveDecoder
from trifocal.video.sampling import Sampling
from trifocal.video.wire import Hangup, describe_error, receive, send, slot_layout

# PyAV loads some of its modules when a file first needs them, which is too late once nothing can be opened.
_PRELOADED: Final = (av.audio.codeccontext, av.audio.stream, av.subtitles.codeccontext, av.subtitles.stream)
_BEAT_S: Final = 0.5


class Worker:
    """Serves one video to one parent.

    Args:
        control: the socket.
        fd: the video.
        overheard: where FFmpeg's log lines arrive.
    """

    def __init__(self, control: socket.socket, fd: int, overheard: list[tuple[int, str, str]]) -> None:
        """Take the setup, give up rights, and look at the video."""
        self.control = control
        setup, _ = receive(control)
        self.limits = Limits.from_json(setup["limits"])
        self.fault: dict[str, Any] | None = setup["fault"]
        self._beat_at = 0.0
        # The namespace needs a single thread: the parent's environment keeps numpy from starting more.
        network_closed = _harden.close_network()
        _harden.set_limits(memory_bytes=self.limits.memory_bytes, cpu_s=self.limits.cpu_s)
        filtered = refuse_system_calls()
        decoder = Decoder if setup["head"] is None else partial(LiveDecoder, head=base64.b64decode(setup["head"]))
        self.decoder = decoder(
            fd,
            name=setup["name"],
            limits=self.limits,
            threads=setup["threads"],
            tick=self.tick,
            overheard=overheard,
        )
        send(
            control,
            {
                "kind": "info",
                "info": self.decoder.info.to_json(),
                "network_closed": network_closed,
                "filtered": filtered,
            },
        )

    def tick(self, walked: int) -> None:
        """Show the parent that work goes on."""
        if self.fault is not None and walked >= self.fault["after"]:
            _misbehave(self.fault["how"], self.control)
        now = time.monotonic()
        if now - self._beat_at > _BEAT_S:
            self._beat_at = now
            send(self.control, {"kind": "beat", "walked": walked})

    def serve(self) -> None:
        """Answer requests until the parent hangs up."""
        while True:
            request, memory = receive(self.control)
            if memory is None:
                raise Hangup("a request came without its memory")
            self._answer(request, memory)

    def _answer(self, request: dict[str, Any], memory: int) -> None:
        samplings = [Sampling.from_json(values) for values in request["samplings"]]
        shapes = [batch_shape(s, self.decoder.info, request["batch_size"]) for s in samplings]
        offsets, total = slot_layout([int(np.prod(shape)) for shape in shapes], each=request["slots"])
        shared = mmap.mmap(memory, total)
        os.close(memory)
        free = [list(slots) for slots in offsets]
        held: list[list[int]] = [[] for _ in offsets]

        def allocate(consumer: int) -> npt.NDArray[np.uint8]:
            while not free[consumer]:
                released, _ = receive(self.control)
                free[released["consumer"]].append(offsets[released["consumer"]][released["slot"]])
            offset = free[consumer].pop(0)
            held[consumer].append(offset)
            shape = shapes[consumer]
            return np.frombuffer(shared, np.uint8, int(np.prod(shape)), offset).reshape(shape)

        warnings: list[str] = []
        for batch in self.decoder.batches(samplings, allocate=allocate, warn=warnings.append):
            slot = offsets[batch.consumer].index(held[batch.consumer].pop(0))
            piece = {"consumer": batch.consumer, "slot": slot, "times_s": batch.times_s, "warnings": warnings}
            send(self.control, {"kind": "batch", **piece})
        send(self.control, {"kind": "end", "warnings": warnings, "walked": self.decoder.walked})
        # Slots that the parent releases after the end belong to this request, not to the next.
        while any(len(free[i]) < len(offsets[i]) for i in range(len(offsets))):
            released, _ = receive(self.control)
            free[released["consumer"]].append(offsets[released["consumer"]][released["slot"]])


def _misbehave(how: str, control: socket.socket) -> None:
    """Fail on purpose, so that tests can show what a failing decoder does to its surroundings: nothing."""
    match how:
        case "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "hang":
            signal.pause()
        case "spin":
            while True:
                pass
        case "break out":
            refused = 0
            for attempt in (
                lambda: os.open("/etc/hostname", os.O_RDONLY),
                socket.socket,
                os.fork,
                lambda: os.kill(1, 0),
                lambda: resource.prlimit(os.getppid(), resource.RLIMIT_CPU),
                lambda: os.setpriority(os.PRIO_PROCESS, os.getppid(), 1),
                lambda: os.sched_setaffinity(os.getppid(), {0}),
                lambda: os.utime("/etc/hostname"),
                lambda: os.setxattr("/etc/hostname", "user.a", b""),
                lambda: fcntl.fcntl(control, fcntl.F_SETOWN, os.getppid()),
                lambda: _queue_signal(os.getppid()),
            ):
                try:
                    attempt()
                except PermissionError:
                    refused += 1
            os._exit(40 + refused)
        case "exit":
            os._exit(7)
        case "babble":
            control.sendall(b"\xff" * 64)
        case "memory":
            bytearray(1 << 50)
        case "error":
            raise RuntimeError("a fault was asked for")


def _queue_signal(pid: int) -> None:
    """Send a process nothing, by the one call for signals that Python does not have (rt_tgsigqueueinfo)."""
    number = {"x86_64": 297, "aarch64": 240}[platform.machine()]
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(number, pid, pid, 0, ctypes.create_string_buffer(128)) != 0:
        raise OSError(ctypes.get_errno(), "rt_tgsigqueueinfo")


def main(arguments: list[str]) -> None:
    """Run one decoding process."""
    control_fd, video, lifeline = (int(argument) for argument in arguments)
    _harden.die_with(lifeline)
    _harden.give_up_rights()
    av.logging.set_level(av.logging.ERROR)
    with socket.socket(fileno=control_fd) as control, av.logging.Capture(local=False) as overheard:
        try:
            _run(control, video, overheard)
        except Hangup:
            return


def _run(control: socket.socket, video: int, overheard: list[tuple[int, str, str]]) -> None:
    """Serve, and tell the parent in one line what ended it."""
    try:
        Worker(control, video, overheard).serve()
    except Hangup:
        raise
    except TrifocalError as error:
        send(control, describe_error(error))
    except Exception as error:  # noqa: BLE001 (whatever it is, the parent must hear of it)
        if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
            failed: TrifocalError = VideoLimitExceeded(
                "decoding needs more memory than allowed",
                remedy="Raise memory_bytes in Limits, or ask for smaller frames.",
            )
        else:
            failed = DecoderFailed(
                f"the decoder failed with {type(error).__name__} at {_place(error)}",
                remedy="Convert the video to H.264 in MP4 and try again.",
            )
        send(control, describe_error(failed))


def _place(error: Exception) -> str:
    """File and line where it happened, without a path."""
    step = error.__traceback__
    while step is not None and step.tb_next is not None:
        step = step.tb_next
    return "?" if step is None else f"{Path(step.tb_frame.f_code.co_filename).name}:{step.tb_lineno}"


if __name__ == "__main__":
    main(sys.argv[1:])
