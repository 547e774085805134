"""Decoding in a separate process that can be killed: the parent's side.

One `Sandbox` is one process with one video. It receives a descriptor, never a path, and limits on itself. Pictures come
back through memory that this side made, sealed and sized, and are copied out before anyone sees them. A process that
crashes, hangs, babbles or uses up its allowance is killed, and its video gets one error.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import math
import mmap
import os
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from trifocal.errors import DecoderFailed, InvalidInput, VideoLimitExceeded
from trifocal.video.checks import one_line
from trifocal.video.decode import batch_shape
from trifocal.video.info import VideoInfo
from trifocal.video.media import check_size
from trifocal.video.wire import Hangup, rebuild_error, receive, send, slot_layout

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from trifocal.video.limits import Limits
    from trifocal.video.sampling import Sampling

__all__ = ["Piece", "Sandbox"]

_SLOTS: Final = 2
_F_ADD_SEALS: Final = 1033
_SEAL_SHRINK_GROW_SEAL: Final = 0x2 | 0x4 | 0x1
_REMEDY: Final = "Only this video is affected; converting it to H.264 in MP4 usually helps."

Piece = tuple[int, npt.NDArray[np.uint8], list[float], tuple[str, ...]]
"""Which sampling, its pictures `(T, H, W, 3)`, their seconds, and the warnings so far."""


class Sandbox:
    """A decoding process with one video.

    Args:
        fd: a read-only descriptor of a regular file, or of a pipe; it stays open and is inherited.
        name: the file's name, for messages.
        limits: what the video may cost.
        threads: decoder threads.
        head: for a pipe, what was already read from it; `None` for a file.
        fault: for tests: how the process shall misbehave, and after how many frames.

    Raises:
        VideoError: the video cannot be used; each subclass says why.
    """

    def __init__(
        self,
        fd: int,
        *,
        name: str,
        limits: Limits,
        threads: int = 1,
        head: bytes | None = None,
        fault: dict[str, Any] | None = None,
    ) -> None:
        """Start the process and wait for its description of the video."""
        self._name, self._limits = name, limits
        self._waited_s, self._lifeline = 0.0, -1
        self._start(fd)
        try:
            begun = None if head is None else base64.b64encode(head).decode("ascii")
            setup = {"limits": limits.to_json(), "name": name, "threads": threads, "head": begun, "fault": fault}
            self._send(setup)
            message = self._receive("info")
            self.network_closed = bool(message.get("network_closed"))
            self.filtered = bool(message.get("filtered"))
            self.info = self._checked_info(message.get("info"))
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def close(self) -> None:
        """Kill the process and release everything; safe to call again, but only where no walk is going on."""
        self._control.close()
        if self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1
        self.stop()

    def stop(self) -> None:
        """Kill the process, from any thread; a walk that is going on meets its end and releases the rest."""
        self._process.kill()
        self._process.wait()

    def _start(self, fd: int) -> None:
        with contextlib.ExitStack() as ours, contextlib.ExitStack() as theirs:
            try:
                self._control, control = socket.socketpair()
                ours.callback(self._control.close)
                theirs.callback(control.close)
                lifeline, self._lifeline = os.pipe2(os.O_CLOEXEC)
                ours.callback(os.close, self._lifeline)
                theirs.callback(os.close, lifeline)
                handed = (control.fileno(), fd, lifeline)
                # A list, no shell; the module search path is handed over so that both sides are the same code.
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-s", "-m", "trifocal.video._worker", *map(str, handed)],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    pass_fds=handed,
                    env={
                        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
                        "OPENBLAS_NUM_THREADS": "1",
                        "OMP_NUM_THREADS": "1",
                    },
                    start_new_session=True,
                )
            except OSError as error:
                raise DecoderFailed(
                    f"the decoding process cannot be started: {error.strerror}",
                    remedy="Free memory, processes and open files.",
                ) from error
            ours.pop_all()

    def pieces(self, samplings: Sequence[Sampling], *, batch_size: int) -> Iterator[Piece]:
        """Walk the video once; see `Decoder.batches`. A walk that is not finished leaves the process unusable.

        Raises:
            DecoderFailed: the process crashed, hung or misbehaved.
            VideoLimitExceeded: it used up what it is allowed.
        """
        self._waited_s = 0.0
        shapes = [batch_shape(sampling, self.info, batch_size) for sampling in samplings]
        offsets, total = slot_layout([math.prod(shape) for shape in shapes], each=_SLOTS)
        with _shared(total) as (fd, memory):
            request = {"samplings": [s.to_json() for s in samplings], "batch_size": batch_size, "slots": _SLOTS}
            self._send(request, fd=fd)
            while True:
                message = self._receive("batch", "end")
                if message["kind"] == "end":
                    yield -1, np.empty((0, 0, 0, 3), np.uint8), [], _texts(message.get("warnings"))
                    return
                consumer, slot, times = self._checked_batch(message, shapes)
                _, height, width, _ = shapes[consumer]
                count = len(times) * height * width * 3
                flat = np.frombuffer(memory, np.uint8, count, offsets[consumer][slot]).copy()
                images = flat.reshape(len(times), height, width, 3)  # (T, H, W, 3)
                self._send({"consumer": consumer, "slot": slot})
                yield consumer, images, times, _texts(message.get("warnings"))

    # ---------------------------------------------------------------- messages

    def _send(self, message: dict[str, Any], *, fd: int | None = None) -> None:
        try:
            self._control.settimeout(self._limits.stall_s)
            send(self._control, message, fd=fd)
        except Hangup:
            # It may have said why before it went; that is read next.
            return
        except TimeoutError as error:
            raise self._stalled() from error

    def _receive(self, *expected: str) -> dict[str, Any]:
        """The next message of an expected kind; beats only show that there is life."""
        while True:
            left = self._limits.wall_s - self._waited_s
            if left <= 0:
                self.close()
                raise VideoLimitExceeded(
                    f"decoding {self._name} took more than {self._limits.wall_s:g} s",
                    remedy="Raise wall_s in Limits, or ask for fewer frames.",
                )
            begin = time.monotonic()
            try:
                self._control.settimeout(min(left, self._limits.stall_s))
                message, extra = receive(self._control, until=begin + left)
            except TimeoutError as error:
                self._waited_s += time.monotonic() - begin
                if self._limits.wall_s - self._waited_s <= 0:
                    continue
                raise self._stalled() from error
            except Hangup as error:
                raise (self._died() if error.closed else self._babbled()) from error
            self._waited_s += time.monotonic() - begin
            if extra is not None:
                os.close(extra)
            kind = message.get("kind")
            if kind == "beat":
                continue
            if kind == "error":
                self.close()
                raise rebuild_error(message)
            if kind not in expected:
                raise self._babbled()
            return message

    def _stalled(self) -> DecoderFailed:
        self.close()
        return DecoderFailed(
            f"the decoder gave no sign of life for {self._limits.stall_s:g} s on {self._name} and was stopped",
            remedy=_REMEDY,
        )

    def _babbled(self) -> DecoderFailed:
        self.close()
        return DecoderFailed(f"the decoder answered nonsense on {self._name} and was stopped", remedy=_REMEDY)

    def _died(self) -> DecoderFailed | VideoLimitExceeded:
        """Why the process is gone."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=2)
        status = self._process.returncode
        self.close()
        if status is None:
            return self._babbled()
        if status == -signal.SIGXCPU:
            return VideoLimitExceeded(
                f"decoding {self._name} took more than {self._limits.cpu_s:g} CPU seconds",
                remedy="Raise cpu_s in Limits, or ask for fewer frames.",
            )
        names = {known.value: known.name for known in signal.Signals}  # real-time signals have none
        how = f"signal {names.get(-status, -status)}" if status < 0 else f"exit status {status}"
        return DecoderFailed(f"the decoder crashed on {self._name} ({how})", remedy=_REMEDY)

    # ---------------------------------------------------------------- checks

    def _checked_info(self, values: object) -> VideoInfo:
        try:
            info = VideoInfo.from_json(values if isinstance(values, dict) else {})
        except InvalidInput as error:
            raise self._babbled() from error
        if min(info.width, info.height) < 1:
            raise self._babbled()
        check_size(info.width, info.height, limits=self._limits, name=self._name)
        return info

    def _checked_batch(
        self, message: dict[str, Any], shapes: Sequence[tuple[int, int, int, int]]
    ) -> tuple[int, int, list[float]]:
        consumer, slot, times = message.get("consumer"), message.get("slot"), message.get("times_s")
        if (
            not isinstance(consumer, int)
            or not isinstance(slot, int)
            or not isinstance(times, list)
            or not 0 <= consumer < len(shapes)
            or not 0 <= slot < _SLOTS
            or not 1 <= len(times) <= shapes[consumer][0]
            or not all(isinstance(t, float) and math.isfinite(t) for t in times)
        ):
            raise self._babbled()
        return consumer, slot, times


@contextlib.contextmanager
def _shared(total: int) -> Iterator[tuple[int, mmap.mmap]]:
    """Memory to share, sealed so that the other side cannot shrink it under a reader."""
    with contextlib.ExitStack() as stack:
        try:
            fd = os.memfd_create("trifocal-frames", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            stack.callback(os.close, fd)
            os.ftruncate(fd, total)
            fcntl.fcntl(fd, _F_ADD_SEALS, _SEAL_SHRINK_GROW_SEAL)
            memory = stack.enter_context(mmap.mmap(fd, total, prot=mmap.PROT_READ))
        except OSError as error:
            raise DecoderFailed(
                f"{total:,} bytes of shared memory cannot be had: {error.strerror}",
                remedy="Free memory and open files, or ask for smaller frames.",
            ) from error
        yield fd, memory


def _texts(values: object) -> tuple[str, ...]:
    return tuple(one_line(value) for value in values[:64]) if isinstance(values, list) else ()
