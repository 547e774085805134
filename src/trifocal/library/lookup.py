"""Which video a person means: by id, by the start of an id, or by the path of one of its files."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Literal

from trifocal.errors import InvalidInput, NotInLibrary
from trifocal.library.scan import is_under

if TYPE_CHECKING:
    import sqlite3

__all__ = ["find_video", "paths_under", "resolved"]

_ID_START = re.compile(r"[0-9a-f]{3,64}")
_LISTED = 5


def resolved(name: str | os.PathLike[str]) -> str:
    """A path as the catalogue keeps it: absolute, free of links.

    Raises:
        InvalidInput: it is empty or cannot be a path.
    """
    text = os.fspath(name)
    if not text or "\0" in text:
        raise InvalidInput(f"{text!r} names no video", remedy="Give an id, the start of one, or a path.")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput("the name is not UTF-8", remedy="Give the video's id instead.") from error
    return os.path.realpath(os.path.expanduser(text))  # noqa: PTH111 - `Path` drops what `realpath` has to see


def find_video(connection: sqlite3.Connection, name: str | os.PathLike[str]) -> str:
    """The id of the video that `name` means: an id, else the path of one of its files, else the start of an id.

    Args:
        connection: inside `read()`.
        name: at least three characters when it is the start of an id.

    Raises:
        NotInLibrary: no video goes by that name, or several do; the error lists them.
    """
    path, text = resolved(name), os.fspath(name)
    row = connection.execute("SELECT id FROM videos WHERE id = ?", (text,)).fetchone()
    if row is None:
        row = connection.execute("SELECT video AS id FROM files WHERE path = ?", (path,)).fetchone()
    if row is not None:
        return str(row["id"])
    if _ID_START.fullmatch(text):
        rows = connection.execute(
            "SELECT id FROM videos WHERE substr(id, 1, ?) = ? ORDER BY id LIMIT ?", (len(text), text, _LISTED)
        ).fetchall()
        if len(rows) == 1:
            return str(rows[0]["id"])
        if rows:
            raise NotInLibrary(
                f"{text!r} is the start of several ids: {', '.join(row['id'] for row in rows)}",
                remedy="Give more of the id.",
            )
    raise NotInLibrary(
        f"no video in the library goes by {text!r}",
        remedy="Give an id, the start of one, or the path of an added file.",
    )


def paths_under(
    connection: sqlite3.Connection, folder: str, *, table: Literal["files", "failures", "jobs"]
) -> list[str]:
    """The files of the catalogue (or those that failed, or were cut off) at or under a resolved path, sorted."""
    query = f"SELECT path FROM {table} ORDER BY path"  # noqa: S608 - one of three names
    return [str(row["path"]) for row in connection.execute(query) if is_under(row["path"], folder)]
