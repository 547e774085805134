"""The identity of a video: the SHA-256 of its bytes."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from trifocal.video.source import open_source

__all__ = ["content_id"]


def content_id(path: str | os.PathLike[str]) -> str:
    """The hex SHA-256 of the file's bytes: equal for copies whatever their names, different after any change.

    Args:
        path: a regular file.

    Returns:
        64 lower-case hexadecimal digits.

    Raises:
        VideoNotFound: no such file, a folder, or it may not be read.
    """
    with os.fdopen(open_source(Path(path)), "rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
