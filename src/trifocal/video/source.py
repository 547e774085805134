"""The one place where a video file is opened.

`open_source` gives a read-only descriptor of a regular file: never a folder, a pipe or a device, and without waiting
for one; `duplicate` one more of it. `ByteSource` is the file object that FFmpeg reads through: it sees one descriptor
and can open nothing else.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from trifocal.errors import DecoderFailed, UnreadableVideo, VideoNotFound
from trifocal.video.checks import one_line

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["ByteSource", "duplicate", "open_source"]


def open_source(path: Path) -> int:
    """A read-only descriptor of a regular file.

    Raises:
        VideoNotFound: there is nothing there, it is a folder or a device, or it may not be read.
    """
    name = one_line(path.name)
    try:
        # Without O_NONBLOCK, opening a named pipe would wait for its writer for ever.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except PermissionError as error:
        raise VideoNotFound(f"{name} may not be read", remedy="Give yourself permission to read it.") from error
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        raise VideoNotFound(f"there is no file {one_line(path)}", remedy="Check the path.") from error
    except OSError as error:
        raise VideoNotFound(f"{name} cannot be opened: {error.strerror}", remedy="Check the path.") from error
    mode = os.fstat(fd).st_mode
    if stat.S_ISREG(mode):
        return fd
    os.close(fd)
    if stat.S_ISDIR(mode):
        raise VideoNotFound(f"{name} is a folder", remedy="Give a video file, or add the folder to a library.")
    raise VideoNotFound(f"{name} is not a regular file", remedy="Copy its contents to a file first.")


def duplicate(fd: int) -> int:
    """Another descriptor of the same open file.

    Raises:
        DecoderFailed: this process may have no more of them.
    """
    try:
        return os.dup(fd)
    except OSError as error:
        raise DecoderFailed(
            f"no further decoder can be had: {error.strerror}", remedy="Close some of what is open."
        ) from error


class ByteSource:
    """Reads a descriptor at a position of its own, so that others who hold the same descriptor are not disturbed.

    Args:
        fd: a descriptor of a regular file; it stays open.
        label: the file's name, for messages.
        on_read: called before each read; it may raise to stop.
    """

    name = "video"

    def __init__(self, fd: int, *, label: str = "the video", on_read: Callable[[], None] = lambda: None) -> None:
        """Stand at the first byte."""
        self.fd = fd
        self.label = label
        self.on_read = on_read
        self.size = os.fstat(fd).st_size
        self._at = 0

    def read(self, count: int) -> bytes:
        """Up to `count` bytes; empty at the end.

        Raises:
            UnreadableVideo: the disk does not give them.
        """
        self.on_read()
        try:
            block = os.pread(self.fd, count, self._at)
        except OSError as error:
            raise UnreadableVideo(
                f"{self.label} cannot be read: {error.strerror}", remedy="Check the disk that holds it."
            ) from error
        self._at += len(block)
        return block

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move, as `io.RawIOBase.seek` does."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self.size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        """The position."""
        return self._at

    def seekable(self) -> bool:
        """Whether `seek` goes everywhere."""
        return True
