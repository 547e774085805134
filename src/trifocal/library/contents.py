"""The statements: what is read from and written to the catalogue's tables, one function each.

All take a connection inside `Catalogue.read()` or `Catalogue.write()`; none commits. What people are told of a library
is put together in `account`.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import PurePath
from typing import TYPE_CHECKING

import numpy as np

from trifocal.errors import EncoderMismatch
from trifocal.library.plan import FileRow
from trifocal.library.settings import Manifest

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection

    from numpy.typing import NDArray

    from trifocal.library.scan import FoundFile
    from trifocal.library.stages import EncodedVideo
    from trifocal.library.stored import StoredFiles
    from trifocal.retrieval import VideoFilter

__all__ = [
    "admitted_videos",
    "adopt_root",
    "bump",
    "check_revision",
    "file_rows",
    "forget_rootless",
    "get_meta",
    "hidden_videos",
    "index_rows",
    "insert_video",
    "new_id",
    "now",
    "pending_revision",
    "prototype_rows",
    "put_file",
    "queue_deletions",
    "set_meta",
    "spans",
]

GENERATION, VISIBILITY, MANIFEST = "generation", "visibility", "manifest"
PENDING = "reindex"
"""The key of `meta` under which the manifest lies that a `reindex` is making true."""
ENGINE = "engine"
"""The key of `meta` that names the engine of the index; see `engine`."""

_ID_DIGITS, _ID_STEP = 16, 4


def now() -> str:
    """The time, UTC, ISO 8601, whole seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def get_meta(connection: sqlite3.Connection, key: str) -> str | None:
    """A value of `meta`."""
    row = connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    return None if row is None else str(row["value"])


def set_meta(connection: sqlite3.Connection, key: str, value: str) -> None:
    """Set a value of `meta`."""
    connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))


def bump(connection: sqlite3.Connection, key: str = GENERATION) -> None:
    """Count a change: `generation` of which videos there are, `visibility` of whether they have a file."""
    set_meta(connection, key, str(int(get_meta(connection, key) or 0) + 1))


def check_revision(connection: sqlite3.Connection, manifest: Manifest) -> None:
    """Refuse to go on with a library that was indexed again since its manifest was read.

    Raises:
        EncoderMismatch: the catalogue's vectors are of another revision.
    """
    kept = get_meta(connection, MANIFEST)
    if kept is not None and (now_is := Manifest.from_json(kept)).revision != manifest.revision:
        raise EncoderMismatch(
            f"the library has been indexed again since it was opened, by the encoder {now_is.encoder.id}",
            remedy="Open it again.",
        )


def index_rows(connection: sqlite3.Connection) -> dict[str, tuple[str, float]]:
    """For each video what its vectors and spans are known by, and its length in seconds."""
    return {
        str(row["id"]): (str(row["prototypes_sha256"])[:16], float(row["duration_s"]))
        for row in connection.execute("SELECT id, prototypes_sha256, duration_s FROM videos ORDER BY id")
    }


def admitted_videos(connection: sqlite3.Connection, where: VideoFilter) -> set[str]:
    """The videos that have a file which a filter admits; its date is that of its last change.

    The same as `VideoFilter.admits`, in SQL: for a hundred thousand files that takes a tenth of the time.
    """
    conditions, values = ["1"], list[float | str]()
    for condition, value in (
        ("mtime_ns / 1e9 >= ?", where.after_s),
        ("mtime_ns / 1e9 < ?", where.before_s),
        ("duration_s >= ?", where.shortest_s),
        ("duration_s <= ?", where.longest_s),
    ):
        if value is not None:
            conditions.append(condition)
            values.append(value)
    if where.folder is not None:
        # All that start with "folder/" sort between "folder/" and "folder0".
        folder = where.folder.rstrip("/")
        conditions.append("path >= ? AND path < ?")
        values += [f"{folder}/", f"{folder}0"]
    rows = connection.execute(
        f"SELECT DISTINCT video FROM files JOIN videos ON videos.id = files.video WHERE {' AND '.join(conditions)}",  # noqa: S608 - conditions from above
        values,
    )
    return {str(row["video"]) for row in rows}


def pending_revision(connection: sqlite3.Connection) -> int | None:
    """The revision that a `reindex` under way, or interrupted, is making."""
    text = get_meta(connection, PENDING)
    return None if text is None else Manifest.from_json(text).revision


def new_id(connection: sqlite3.Connection, sha256: str) -> str:
    """The id for new content: the first hex digits of its hash, 16 or as many more as tell it from every other's."""
    digits = _ID_DIGITS
    while True:
        row = connection.execute("SELECT sha256 FROM videos WHERE id = ?", (sha256[:digits],)).fetchone()
        if row is None or row["sha256"] == sha256 or digits >= len(sha256):
            return sha256[:digits]
        digits += _ID_STEP


def file_rows(connection: sqlite3.Connection) -> list[FileRow]:
    """All files, by path."""
    return [
        FileRow(**dict(row))
        for row in connection.execute(
            "SELECT path, video, sha256, root, files.size, mtime_ns, inode, state FROM files"
            " JOIN videos ON videos.id = files.video ORDER BY path"
        )
    ]


def adopt_root(connection: sqlite3.Connection, root: str, *, kind: str) -> str:
    """Register a root, unless a wider one covers it; narrower ones become part of it.

    Returns:
        The root that covers it now.
    """
    for cover in (root, *map(str, PurePath(root).parents)):
        if connection.execute("SELECT 1 FROM roots WHERE path = ?", (cover,)).fetchone():
            return cover
    connection.execute("INSERT INTO roots VALUES (?, ?)", (root, kind))
    # All that start with "root/" sort between "root/" and "root0".
    below = root if root.endswith("/") else f"{root}/"
    narrower = connection.execute(
        "SELECT path FROM roots WHERE path >= ? AND path < ? AND path != ?", (below, f"{below[:-1]}0", root)
    ).fetchall()
    for row in narrower:
        connection.execute("UPDATE files SET root = ? WHERE root = ?", (root, row["path"]))
        connection.execute("DELETE FROM roots WHERE path = ?", (row["path"],))
    return root


def put_file(connection: sqlite3.Connection, found: FoundFile, *, video: str) -> None:
    """Write the row of a file that is there, in place of what the path held before, and forget its failure."""
    root = adopt_root(connection, found.root, kind="file" if found.root == found.path else "folder")
    connection.execute(
        "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?, 'present')",
        (found.path, video, root, found.size, found.mtime_ns, found.inode),
    )
    connection.execute("DELETE FROM failures WHERE path = ?", (found.path,))


def insert_video(
    connection: sqlite3.Connection,
    video: str,
    encoded: EncodedVideo,
    *,
    stored: StoredFiles,
) -> None:
    """Write a video and the spans of its prototypes, in place of what is there under its id; its files stay.

    Args:
        connection: inside `write()`.
        video: its id.
        encoded: what there is to store.
        stored: hashes and bytes of its files.
    """
    info = encoded.info
    values = {
        "id": video,
        "sha256": encoded.task.sha256,
        "size_bytes": encoded.task.files[0].size,
        "container": info.container,
        "codec": info.codec,
        "width": info.width,
        "height": info.height,
        "average_fps": None if info.average_fps is None else float(info.average_fps),
        "duration_s": encoded.duration_s,
        "has_audio": int(info.has_audio),
        "frames": encoded.frames,
        "warnings": json.dumps(encoded.warnings, ensure_ascii=False),
        "poster_ms": encoded.poster_ms,
        **stored.columns(),
        "added_at": now(),
    }
    names = ", ".join(values)
    changes = ", ".join(f"{name} = excluded.{name}" for name in values if name not in ("id", "added_at"))
    connection.execute(
        f"INSERT INTO videos ({names}) VALUES ({', '.join('?' * len(values))})"  # noqa: S608 - column names from above
        f" ON CONFLICT (id) DO UPDATE SET {changes}",
        tuple(values.values()),
    )
    connection.execute("DELETE FROM prototypes WHERE video = ?", (video,))
    connection.executemany("INSERT INTO prototypes VALUES (?, ?, ?, ?, ?)", prototype_rows(video, encoded))
    connection.execute("DELETE FROM jobs WHERE sha256 = ?", (encoded.task.sha256,))


def prototype_rows(video: str, encoded: EncodedVideo) -> list[tuple[str, int, float, float, int]]:
    """The rows of a video's prototypes: video, k, start, end, thumbnail."""
    return [
        (video, k, float(start_s), float(end_s), at_ms)
        for k, ((start_s, end_s), at_ms) in enumerate(
            zip(encoded.prototypes.spans_s, encoded.thumbnail_ms, strict=True)
        )
    ]


def queue_deletions(connection: sqlite3.Connection, *, paths: Collection[str] = ()) -> list[str]:
    """Delete the videos that have no file row left, and note down that their stored files are to follow.

    Args:
        connection: inside `write()`.
        paths: files that the log is to forget as well.

    Returns:
        Their ids, sorted.
    """
    gone = [
        str(row["id"])
        for row in connection.execute("SELECT id FROM videos WHERE id NOT IN (SELECT video FROM files) ORDER BY id")
    ]
    for video in gone:
        connection.execute("INSERT OR REPLACE INTO deletions VALUES (?, ?)", (video, json.dumps(sorted(paths))))
        connection.execute("DELETE FROM videos WHERE id = ?", (video,))
    if gone:
        bump(connection)
    elif paths:
        connection.execute("INSERT OR REPLACE INTO deletions VALUES ('', ?)", (json.dumps(sorted(paths)),))
    return gone


def forget_rootless(connection: sqlite3.Connection) -> None:
    """Delete the roots that cover no file."""
    connection.execute("DELETE FROM roots WHERE path NOT IN (SELECT root FROM files)")


def spans(connection: sqlite3.Connection, video: str) -> NDArray[np.float32]:
    """What each prototype covers: float32 (K, 2), seconds."""
    rows = connection.execute("SELECT start_s, end_s FROM prototypes WHERE video = ? ORDER BY k", (video,)).fetchall()
    return np.array([tuple(row) for row in rows], dtype=np.float32).reshape(len(rows), 2)


def hidden_videos(connection: sqlite3.Connection) -> set[str]:
    """The videos that have no file now."""
    return {
        str(row["id"])
        for row in connection.execute("SELECT id FROM videos EXCEPT SELECT video FROM files WHERE state = 'present'")
    }
