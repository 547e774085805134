"""Decoding what comes through a pipe: once, in order, with nothing known beforehand.

`PipeSource` reads the pipe and waits for it as long as it takes, showing signs of life meanwhile. `LiveDecoder` is a
`Decoder` that does not jump and gives the frames that a file with the same contents would give.
"""

from __future__ import annotations

import math
import os
import select
from collections.abc import Callable
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

from trifocal.errors import InvalidInput, UnreadableVideo
from trifocal.video.cursor import Cursor, Shown
from trifocal.video.decode import Decoder
from trifocal.video.sniff import SNIFF_BYTES
from trifocal.video.source import ByteSource

if TYPE_CHECKING:
    from trifocal.video.draw import Orientation
    from trifocal.video.info import VideoInfo

__all__ = ["LiveDecoder", "PipeSource", "read_head", "streamable"]

_BEAT_S: Final = 0.5


def read_head(fd: int) -> bytes:
    """The first `SNIFF_BYTES` of a pipe, or all there is."""
    head = bytearray()
    while len(head) < SNIFF_BYTES and (block := os.read(fd, SNIFF_BYTES - len(head))):
        head += block
    return bytes(head)


def streamable(head: bytes) -> bool:
    """Whether a video that begins so can be read from front to back: an MP4 with its index at the end cannot."""
    at = 0
    while at + 8 <= len(head):
        size, name = int.from_bytes(head[at : at + 4], "big"), head[at + 4 : at + 8]
        if name == b"mdat":
            return False
        if name in (b"moov", b"moof") or not name.isalnum():
            return True
        if size == 1:
            size = int.from_bytes(head[at + 8 : at + 16], "big")
        if size < 8:
            return True
        at += size
    return True


class PipeSource(ByteSource):
    """Reads a pipe, the part that was already taken from it first.

    Args:
        fd: the pipe; it stays open.
        head: what was already read.
        label: its name, for messages.
        on_read: called before each read and while waiting; it may raise to stop.
    """

    def __init__(self, fd: int, *, head: bytes, label: str, on_read: Callable[[], None]) -> None:
        """Stand at the first byte."""
        super().__init__(fd, label=label, on_read=on_read)
        self._head = head
        self.size = 0

    def read(self, count: int) -> bytes:
        """Up to `count` bytes; waits for at least one, empty at the end."""
        self.on_read()
        if self._at < len(self._head):
            block = self._head[self._at : self._at + count]
        else:
            while not select.select([self.fd], [], [], _BEAT_S)[0]:
                self.on_read()
            try:
                block = os.read(self.fd, count)
            except OSError as error:
                raise UnreadableVideo(
                    f"{self.label} cannot be read: {error.strerror}", remedy="Check what writes to it."
                ) from error
        self._at += len(block)
        return block

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Back to the first byte, while no more than the head has been read."""
        if (offset, whence) != (0, os.SEEK_SET) or self._at > len(self._head):
            raise UnreadableVideo(
                f"{self.label} cannot be read from front to back", remedy="Save it to a file and give its path."
            )
        self._at = 0
        return 0

    def seekable(self) -> bool:
        """A pipe is not."""
        return False


class _Ahead(Cursor):
    """A cursor whose first frame has been looked at already, and that never jumps."""

    first: Shown | None = None

    def next(self) -> Shown | None:
        """The next frame, or `None` at the end."""
        first, self.first = self.first, None
        return first or super().next()

    def skip_to(self, time_s: float) -> None:
        """Stay: what is not wanted is decoded and dropped."""


class LiveDecoder(Decoder):
    """Describes a stream by its first frame and walks it once.

    Args:
        fd: a pipe; it stays open.
        head: what was already read from it.
        options: as `Decoder`.
    """

    def __init__(self, fd: int, *, head: bytes, **options: Any) -> None:
        """Wait for the first frame."""
        self._head = head
        self._cursor: _Ahead | None = None
        super().__init__(fd, **options)

    def _source(self, fd: int, name: str) -> ByteSource:
        return PipeSource(fd, head=self._head, label=name, on_read=lambda: self._tick(self.walked))

    def _describe(self) -> tuple[Orientation, VideoInfo]:
        self._cursor = _Ahead(self._media, tick=self._tick)
        first = self._cursor.next()
        if first is None:
            raise UnreadableVideo(
                f"{self._media.name} ended before its first picture", remedy="Check what writes to it."
            )
        self._cursor.first = first
        return self._info(first, Fraction(0))

    def _begin(self) -> Cursor:
        cursor, self._cursor = self._cursor, None
        if cursor is None:
            raise InvalidInput("a stream can be read only once", remedy="Ask for all samplings at the same time.")
        return cursor

    def _length_s(self) -> float:
        return math.inf

    def _end_s(self, before_s: float, last_s: float) -> float:
        """The last frame is taken to last as long as the one before it."""
        return 2 * last_s - before_s if math.isfinite(before_s) else last_s
