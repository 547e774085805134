"""Writing a file so that it is there whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from typing import TYPE_CHECKING

from trifocal.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["atomic", "unwritable"]


def unwritable(path: Path, error: OSError) -> InvalidInput:
    """The error for a path that the system does not let us write."""
    return InvalidInput(
        f"{path} cannot be written: {error.strerror or error}",
        remedy="Give a path in a folder that exists and is yours, on a disk with room.",
    )


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """The path of a temporary file that takes the name `path` only when the block ends well.

    The bytes go to a temporary file in the same folder, are flushed to the disk, and replace `path` in one step. When
    the block raises, the temporary file is removed and what was at `path` before stays.

    Raises:
        InvalidInput: the folder does not exist or may not be written, or the disk is full.
    """
    temporary = path.parent.absolute() / f".trifocal-{secrets.token_hex(8)}.part"
    try:
        # Opened by hand rather than by `tempfile`, so that it has the rights of an ordinary new file from the start.
        fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise unwritable(path, error) from error
    try:
        try:
            yield temporary
            _settle(fd, temporary, path)
        finally:
            os.close(fd)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        raise


def _settle(fd: int, temporary: Path, path: Path) -> None:
    try:
        os.fsync(fd)
        temporary.replace(path)
        # Without this the new name may be lost with the power, though the bytes are safe.
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise unwritable(path, error) from error
