"""Video that is not a file: a stream through a pipe, bare pictures through a pipe, a camera.

All three have a size and a `stream` that gives the frames of a sampling once, in order. Pipes make their writer wait
and lose nothing; a camera cannot wait, so its queue holds a few frames and drops the oldest.
"""

from __future__ import annotations

import fcntl
import math
import os
import tempfile
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Generator, Iterator
from typing import IO, TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt

from trifocal.errors import InvalidInput, UnreadableVideo, VideoLimitExceeded
from trifocal.video.checks import check_whole, is_number
from trifocal.video.decode import BATCH_BYTES
from trifocal.video.draw import UPRIGHT, Painter
from trifocal.video.frames import Frames, target_size
from trifocal.video.limits import Limits
from trifocal.video.media import admit, check_size
from trifocal.video.pipe import read_head, streamable
from trifocal.video.sampling import Sampling, Selector
from trifocal.video.sandbox import Sandbox

if TYPE_CHECKING:
    from types import TracebackType

    from trifocal.video.info import VideoInfo

__all__ = ["Camera", "LiveVideo", "PipedVideo", "RawVideo"]

Picture = npt.NDArray[np.uint8]
_SPOOL_BYTES = 1 << 20
_FIRST_FREE = 3
_CHECK_WRITER = "Look for an error of the program that writes it."


class LiveVideo(ABC):
    """What the three have in common.

    Attributes:
        height: rows of a frame.
        width: columns of a frame.
        dropped: frames that were given up because they came faster than they were taken.
    """

    height: int
    width: int
    dropped: int = 0

    def stream(self, sampling: Sampling, *, batch_size: int = 32) -> Generator[Frames]:
        """The wanted frames in batches, once.

        Args:
            sampling: `at_fps` or `every`; nobody knows where the middle of a stream is.
            batch_size: most frames in a batch.

        Raises:
            InvalidInput: another sampling.
            VideoError: the stream cannot be read (further).
        """
        if sampling.kind not in ("at_fps", "every") or sampling.max_frames is not None:
            raise InvalidInput(
                f"sampling {sampling.kind} needs a known end", remedy="Use at_fps or every for a stream."
            )
        check_whole("batch_size", batch_size, low=1)
        yield from self._batches(sampling, batch_size)

    @abstractmethod
    def _batches(self, sampling: Sampling, batch_size: int) -> Iterator[Frames]: ...

    def close(self) -> None:  # noqa: B027 (most hold nothing)
        """Release what is held; the pipe stays with its owner."""

    def __enter__(self) -> Self:
        """The video itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()


class PipedVideo(LiveVideo):
    """A video in a container, through a pipe: decoded in a process of its own as it comes.

    An MP4 that keeps its index at the end cannot be decoded before it has come whole; it is put into a temporary file
    first, within `Limits.file_bytes`.

    Args:
        fd: a pipe, such as the standard input; it stays open.
        name: what messages call it.
        limits: what it may cost.

    Raises:
        VideoError: no video that can be read.
    """

    def __init__(self, fd: int, *, name: str = "the stream", limits: Limits | None = None) -> None:
        """Wait for the first frame."""
        limits = limits or Limits()
        head = read_head(fd)
        if not head:
            raise UnreadableVideo(f"nothing came through {name}", remedy=_CHECK_WRITER)
        admit(head, size=len(head), name=name, limits=limits)
        self._spool: IO[bytes] | None = None
        self._fd = -1
        if streamable(head):
            # A number of its own: the decoding process gets the first three of them anew.
            self._fd = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _FIRST_FREE)
            try:
                self._session = Sandbox(self._fd, name=name, limits=limits, head=head)
            except BaseException:
                os.close(self._fd)
                raise
        else:
            self._spool = _spooled(fd, head, name=name, limits=limits)
            try:
                self._session = Sandbox(self._spool.fileno(), name=name, limits=limits)
            except BaseException:
                self._spool.close()
                raise
        self.info: VideoInfo = self._session.info
        self.height, self.width = self.info.height, self.info.width

    def _batches(self, sampling: Sampling, batch_size: int) -> Iterator[Frames]:
        for consumer, images, times, warnings in self._session.pieces([sampling], batch_size=batch_size):
            if consumer >= 0:
                yield Frames(images, np.array(times, np.float64), warnings)

    def close(self) -> None:
        """Stop the decoder."""
        self._session.close()
        if self._spool is not None:
            self._spool.close()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class RawVideo(LiveVideo):
    """Bare RGB pictures through a pipe, one after the other, each height × width × 3 bytes.

    Args:
        fd: the pipe; it stays open.
        size: height and width.
        fps: pictures a second, for their times.
        limits: what it may cost.

    Raises:
        InvalidInput: a size or a rate that cannot be.
        VideoLimitExceeded: larger than the limits.
    """

    def __init__(self, fd: int, *, size: tuple[int, int], fps: float, limits: Limits | None = None) -> None:
        """Nothing is read yet."""
        for name, side in zip(("height", "width"), size, strict=True):
            check_whole(name, side, low=1)
        limits = limits or Limits()
        if not is_number(fps) or not 0 < fps <= limits.fps:
            raise InvalidInput(f"fps is {fps!r}", remedy="Give frames per second, above 0 and within the limits.")
        self.height, self.width = size
        check_size(self.width, self.height, limits=limits, name="the stream")
        self._fd, self._fps = fd, fps

    def _batches(self, sampling: Sampling, batch_size: int) -> Iterator[Frames]:
        yield from _collect(self._pictures(), sampling, size=(self.height, self.width), batch_size=batch_size)

    def _pictures(self) -> Iterator[tuple[float, Picture]]:
        each, index = self.height * self.width * 3, 0
        while True:
            picture = bytearray()
            while len(picture) < each and (block := os.read(self._fd, each - len(picture))):
                picture += block
            if not picture and index == 0:
                raise UnreadableVideo("no picture came through the stream", remedy=_CHECK_WRITER)
            if not picture:
                return
            if len(picture) < each:
                raise UnreadableVideo(
                    f"the stream ends with {len(picture):,} bytes of a picture of {each:,}",
                    remedy="Check --size; raw pictures are RGB, 3 bytes a pixel.",
                )
            yield index / self._fps, np.frombuffer(picture, np.uint8).reshape(self.height, self.width, 3)
            index += 1


class Camera(LiveVideo):
    """A source that does not wait. A thread takes its frames; only the newest few are kept until they are wanted.

    Args:
        frames: seconds and RGB pictures `(H, W, 3)`, as they come.
        size: height and width.
        hold: frames that may wait; a further one drops the oldest.
    """

    def __init__(self, frames: Iterator[tuple[float, Picture]], *, size: tuple[int, int], hold: int = 4) -> None:
        """Begin to take frames."""
        check_whole("hold", hold, low=1)
        self.height, self.width = size
        self._frames, self._hold = frames, hold
        self._waiting: deque[tuple[float, Picture]] = deque()
        self._changed = threading.Condition()
        self._ended = self._closed = False
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._take, name="camera", daemon=True)
        self._thread.start()

    @classmethod
    def open(cls, device: str, *, hold: int = 4, limits: Limits | None = None) -> Self:
        """A Video4Linux camera, such as `/dev/video0`.

        Raises:
            UnreadableVideo: it cannot be opened.
        """
        import av  # the camera is trusted, so its pictures are read in this process

        try:
            container = av.open(device, format="v4l2")
            stream = container.streams.video[0]
        except (OSError, av.error.FFmpegError, ValueError, IndexError) as error:
            raise UnreadableVideo(
                f"the camera {device} cannot be opened: {error}", remedy="Check the device and your right to use it."
            ) from error
        check_size(stream.width, stream.height, limits=limits or Limits(), name=device)

        def pictures() -> Iterator[tuple[float, Picture]]:
            first: float | None = None
            with container:
                for frame in container.decode(stream):
                    seconds = float(frame.time or 0.0)
                    first = seconds if first is None else first
                    yield seconds - first, frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False)

        return cls(pictures(), size=(stream.height, stream.width), hold=hold)

    def _take(self) -> None:
        try:
            for frame in self._frames:
                with self._changed:
                    if self._closed:
                        return
                    if len(self._waiting) == self._hold:
                        self._waiting.popleft()
                        self.dropped += 1
                    self._waiting.append(frame)
                    self._changed.notify()
        except Exception as error:  # noqa: BLE001 -- handed over to whoever reads
            self._failure = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify()

    def _newest(self) -> Iterator[tuple[float, Picture]]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._ended)
                if not self._waiting:
                    break
                frame = self._waiting.popleft()
            yield frame
        if self._failure is not None:
            raise UnreadableVideo(f"the camera stopped: {self._failure}", remedy="Check the device.") from self._failure

    def _batches(self, sampling: Sampling, batch_size: int) -> Iterator[Frames]:  # noqa: ARG002 (see below)
        # One frame at a time: a batch would be old before it is full.
        yield from _collect(self._newest(), sampling, size=(self.height, self.width), batch_size=1)

    def close(self) -> None:
        """Stop taking frames."""
        with self._changed:
            self._closed = True


def _spooled(fd: int, head: bytes, *, name: str, limits: Limits) -> IO[bytes]:
    """All of a pipe in a temporary file that nobody else sees."""
    spool = tempfile.TemporaryFile()  # noqa: SIM115 (the caller closes it)
    try:
        block, total = head, 0
        while block:
            total += len(block)
            if total > limits.file_bytes:
                raise VideoLimitExceeded(
                    f"{name} has more than {limits.file_bytes:,} bytes, and keeps its index at the end",
                    remedy="Write it with the index in front (faststart), or raise file_bytes in Limits.",
                )
            spool.write(block)
            block = os.read(fd, _SPOOL_BYTES)
        spool.flush()
    except BaseException:
        spool.close()
        raise
    return spool


def _collect(
    pictures: Iterator[tuple[float, Picture]], sampling: Sampling, *, size: tuple[int, int], batch_size: int
) -> Iterator[Frames]:
    """The wanted pictures, scaled as a decoder would, in batches."""
    from av import VideoFrame

    height, width = target_size(sampling.size, height=size[0], width=size[1])
    painter = Painter(height, width, orientation=UPRIGHT)
    most = max(1, min(batch_size, BATCH_BYTES // (height * width * 3)))
    images, times = np.empty((most, height, width, 3), np.uint8), list[float]()
    for time_s, picture in _chosen(pictures, sampling):
        if picture.shape[:2] == (height, width):
            images[len(times)] = picture
        else:
            painter.draw(VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24"), images[len(times)])
        times.append(time_s)
        if len(times) == most:
            yield Frames(images.copy(), np.array(times, np.float64))
            times = []
    if times:
        yield Frames(images[: len(times)].copy(), np.array(times, np.float64))


def _chosen(pictures: Iterator[tuple[float, Picture]], sampling: Sampling) -> Iterator[tuple[float, Picture]]:
    selector = Selector(sampling, duration_s=math.inf)
    shown: tuple[float, Picture] | None = None
    period = 0.0
    for following in pictures:
        current = shown or following
        period = following[0] - current[0] or period
        yield from _repeat(current, selector.settle(current[0], following[0]))
        if selector.wants(following[0]):
            yield following
        shown = following
        if selector.done:
            return
    if shown is not None:
        yield from _repeat(shown, selector.finish(shown[0], end_s=shown[0] + period))


def _repeat(picture: tuple[float, Picture], times: int) -> Iterator[tuple[float, Picture]]:
    return iter([picture] * times)
