"""Opening a video: `open`, `probe` and `Video`, the verbs that the rest of Trifocal uses.

A `Video` holds one descriptor and keeps one idle decoder, a separate process by default. Each walk takes the idle
decoder or starts another, so walks of one video may overlap; a decoder whose walk was left early is thrown away.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self
from warnings import warn

import numpy as np
import numpy.typing as npt

from trifocal.errors import InvalidInput, VideoError, VideoLimitExceeded
from trifocal.video.checks import check_whole, one_line
from trifocal.video.decode import Decoder, batch_shape
from trifocal.video.frames import Frames, target_size
from trifocal.video.limits import Limits
from trifocal.video.media import admit
from trifocal.video.sandbox import Piece, Sandbox
from trifocal.video.sniff import SNIFF_BYTES
from trifocal.video.source import ByteSource, duplicate, open_source

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping
    from types import TracebackType

    from trifocal.video.info import VideoInfo
    from trifocal.video.sampling import Sampling

__all__ = ["Video", "open", "probe"]


class _Session(Protocol):
    """A decoder, in this process or in another."""

    info: VideoInfo

    def pieces(self, samplings: list[Sampling], *, batch_size: int) -> Iterator[Piece]: ...

    def stop(self) -> None: ...

    def close(self) -> None: ...


class _Local:
    """A decoder in this process, with the interface of a `Sandbox`."""

    def __init__(self, fd: int, *, name: str, limits: Limits, threads: int) -> None:
        # Its own: a number that is closed under a walk may come to mean another file.
        self._fd = duplicate(fd)
        try:
            self._decoder = Decoder(self._fd, name=name, limits=limits, threads=threads)
        except BaseException:
            os.close(self._fd)
            raise
        self.info = self._decoder.info

    def pieces(self, samplings: list[Sampling], *, batch_size: int) -> Iterator[Piece]:
        warnings: list[str] = []

        def allocate(consumer: int) -> npt.NDArray[np.uint8]:
            return np.empty(batch_shape(samplings[consumer], self.info, batch_size), np.uint8)

        for batch in self._decoder.batches(samplings, allocate=allocate, warn=warnings.append):
            yield batch.consumer, batch.images[: len(batch.times_s)], batch.times_s, tuple(warnings)
        yield -1, np.empty((0, 0, 0, 3), np.uint8), [], tuple(warnings)

    def stop(self) -> None:
        """Nothing to kill: the walk ends where it next sees that the video is closed."""

    def close(self) -> None:
        self._decoder.close()
        os.close(self._fd)


class Video:
    """An open video. Use `trifocal.video.open` to make one, and close it or use it as a context manager."""

    def __init__(
        self, path: Path, *, limits: Limits, isolated: bool, threads: int, fault: dict[str, Any] | None = None
    ) -> None:
        """Open the file and start the first decoder."""
        self.path = path
        self._name = one_line(path.name)
        self._limits, self._isolated, self._threads, self._fault = limits, isolated, threads, fault
        # Reentrant: a walk that was dropped may be cleared away while its own thread holds the lock.
        self._lock = threading.RLock()
        self._walking: list[_Session] = []
        self._noticed: list[str] = []
        self._fd = open_source(path)
        try:
            # What is no video by its first bytes needs no process to find out.
            head = ByteSource(self._fd, label=self._name).read(SNIFF_BYTES)
            admit(head, size=os.fstat(self._fd).st_size, name=self._name, limits=limits)
            self._idle: _Session | None = self._start(self._fd)
        except BaseException:
            os.close(self._fd)
            self._fd = -1
            raise
        self.info: VideoInfo = self._idle.info
        self._notice(self.info.warnings)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was found wrong with the video so far, one line each; empty when nothing."""
        return tuple(self._noticed)

    def __repr__(self) -> str:
        """Shapes and times, no pixels."""
        info = self.info
        return f"Video({self._name!r}, {info.codec} {info.width}×{info.height}, {info.duration_s:.2f} s)"

    def __enter__(self) -> Self:
        """The video itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def __del__(self) -> None:
        """Close what was dropped open, and say so as for a file."""
        if getattr(self, "_fd", -1) >= 0:
            self.close()
            warn(f"{self._name} was not closed", ResourceWarning, source=self, stacklevel=2)

    def close(self) -> None:
        """Stop the decoders and close the file; safe to call again. Walks that are going on end with an error."""
        with self._lock:
            idle, self._idle = self._idle, None
            fd, self._fd = self._fd, -1
            walking = list(self._walking)
        if idle is not None:
            idle.close()
        for session in walking:
            session.stop()
        if fd >= 0:
            os.close(fd)

    def read(self, sampling: Sampling) -> Frames:
        """The wanted frames, all at once.

        Args:
            sampling: which frames, and how large.

        Returns:
            `Frames` with images uint8 `(T, H, W, 3)`; T may be 0 for a range in which no frame starts.

        Raises:
            VideoLimitExceeded: the result would exceed `Limits.decoded_bytes`, or another limit.
            VideoError: the video cannot be decoded.
        """
        height, width = target_size(sampling.size, height=self.info.height, width=self.info.width)
        each = height * width * 3
        most = self._limits.decoded_bytes // each
        if sampling.kind == "at_times" and len(sampling.times_s or ()) > most:
            raise self._too_much(each * len(sampling.times_s or ()))
        images = np.empty((0, height, width, 3), np.uint8)
        times: list[float] = []
        for _, piece, piece_times in self._walk([sampling], batch_size=64):
            filled = len(times)
            times += piece_times
            if len(times) > most:
                raise self._too_much(each * len(times))
            if len(times) > len(images):
                # Grows in place where the allocator can, so the peak stays near the result.
                images.resize((min(most, max(len(times), 2 * len(images))), height, width, 3), refcheck=False)
            images[filled : len(times)] = piece
        images.resize((len(times), height, width, 3), refcheck=False)
        return Frames(images, np.array(times, np.float64), self.warnings)

    def stream(self, sampling: Sampling, *, batch_size: int = 32) -> Generator[Frames]:
        """The wanted frames in batches, with memory for two batches.

        Args:
            sampling: which frames, and how large.
            batch_size: most frames in a batch; large pictures come in smaller batches (64 MiB).

        Yields:
            `Frames` in the order of time.

        Raises:
            VideoError: the video cannot be decoded (further).
        """
        for _, frames in self.stream_many({"": sampling}, batch_size=batch_size):
            yield frames

    def stream_many(self, samplings: Mapping[str, Sampling], *, batch_size: int = 32) -> Generator[tuple[str, Frames]]:
        """Several samplings from one walk through the video: each frame is decoded at most once for all.

        Args:
            samplings: what each consumer wants, by name.
            batch_size: most frames in a batch.

        Yields:
            `(name, Frames)`; for each name in the order of time.

        Raises:
            VideoError: the video cannot be decoded (further).
        """
        check_whole("batch_size", batch_size, low=1)
        if not samplings:
            return
        names = list(samplings)
        for consumer, images, times in self._walk(list(samplings.values()), batch_size=batch_size):
            yield names[consumer], Frames(images, np.array(times, np.float64), self.warnings)

    def _walk(
        self, samplings: list[Sampling], *, batch_size: int
    ) -> Iterator[tuple[int, npt.NDArray[np.uint8], list[float]]]:
        session = self._take()
        finished = False
        try:
            for consumer, images, times, warnings in session.pieces(samplings, batch_size=batch_size):
                if self._fd < 0:
                    raise self._closed()
                self._notice(warnings)
                if consumer >= 0:
                    yield consumer, images, times
            finished = True
        except VideoError:
            if self._fd < 0:
                raise self._closed() from None
            raise
        finally:
            self._give_back(session, usable=finished)

    def _start(self, fd: int) -> _Session:
        if self._isolated:
            return Sandbox(fd, name=self._name, limits=self._limits, threads=self._threads, fault=self._fault)
        return _Local(fd, name=self._name, limits=self._limits, threads=self._threads)

    def _take(self) -> _Session:
        with self._lock:
            if self._fd < 0:
                raise self._closed()
            session, self._idle = self._idle, None
            if session is not None:
                self._walking.append(session)
                return session
            fd = duplicate(self._fd)
        try:
            # Outside the lock: it takes a moment, and other walks need not wait for it.
            session = self._start(fd)
        finally:
            os.close(fd)
        with self._lock:
            self._walking.append(session)
        return session

    def _give_back(self, session: _Session, *, usable: bool) -> None:
        with self._lock:
            self._walking.remove(session)
            if usable and self._idle is None and self._fd >= 0:
                self._idle = session
                return
        session.close()

    def _closed(self) -> InvalidInput:
        return InvalidInput(f"{self._name} is closed", remedy="Open it again.")

    def _notice(self, warnings: tuple[str, ...]) -> None:
        self._noticed += [warning for warning in warnings if warning not in self._noticed]

    def _too_much(self, needed: int) -> VideoLimitExceeded:
        return VideoLimitExceeded(
            f"the frames asked of {self._name} need {needed:,} bytes or more, above {self._limits.decoded_bytes:,}",
            remedy="Ask for fewer or smaller frames, use stream, or raise decoded_bytes in Limits.",
        )


def open(  # noqa: A001 (read as `video.open`, like the built-in)
    path: str | os.PathLike[str], *, limits: Limits | None = None, isolated: bool = True, threads: int = 1
) -> Video:
    """Open a video for reading.

    Args:
        path: a video file; what it is, is told by its bytes.
        limits: what it may cost; the defaults of `Limits` when left out.
        isolated: decode in a separate process that can be killed. Without it the limits on memory, CPU and time do not
            hold and a crash in a codec is a crash here: only for files that you made.
        threads: decoder threads. More are faster on large pictures and take more memory.

    Raises:
        VideoNotFound: no such file, a folder, or it may not be read.
        UnsupportedVideo: a playlist, or a container or codec that is not allowed.
        UnreadableVideo: empty, damaged, or without pictures.
        VideoLimitExceeded: it is larger, longer or faster than the limits.
        DecoderFailed: the decoding process crashed, hung or was killed.
    """
    check_whole("threads", threads, low=1, high=64)
    return Video(Path(path), limits=limits or Limits(), isolated=isolated, threads=threads)


def probe(path: str | os.PathLike[str], *, limits: Limits | None = None, isolated: bool = True) -> VideoInfo:
    """What a video is. Reads its header, and its first picture to know how it is turned.

    Args:
        path: a video file.
        limits: what it may cost.
        isolated: look at it in a separate process that can be killed.

    Raises:
        VideoError: as `open`.
    """
    with open(path, limits=limits, isolated=isolated) as video:
        return video.info
