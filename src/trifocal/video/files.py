"""Writing a file so that it is there whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from trifocal.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["atomic"]


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """The path of a temporary file that takes the name `path` only when the block ends well.

    The bytes go to a temporary file in the same folder, are flushed to the disk, and replace `path` in one step. When
    the block raises, the temporary file is removed and what was at `path` before stays.

    Raises:
        InvalidInput: the folder does not exist or may not be written.
    """
    try:
        fd, temporary = tempfile.mkstemp(prefix=f".{path.name[:64]}.", suffix=".part", dir=path.parent.absolute())
    except OSError as error:
        raise InvalidInput(
            f"{path} cannot be written: {error.strerror}", remedy="Give a path in a folder that exists and is yours."
        ) from error
    try:
        try:
            yield Path(temporary)
            os.fsync(fd)
        finally:
            os.close(fd)
        umask = os.umask(0)
        os.umask(umask)
        Path(temporary).chmod(0o666 & ~umask)  # as an ordinary new file; mkstemp makes it private
        try:
            Path(temporary).replace(path)
        except OSError as error:
            raise InvalidInput(f"{path} cannot be written: {error.strerror}", remedy="Give another path.") from error
        _flush_folder(path.parent)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            Path(temporary).unlink()
        raise


def _flush_folder(folder: Path) -> None:
    # Without this the new name may be lost with the power, though the bytes are safe.
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
