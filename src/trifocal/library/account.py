"""What people are told of a library: its videos, its state, its failures, and an ordered account of everything.

All take a connection inside `Catalogue.read()`. `dump` leaves out times of day, file times and file numbers, so that
two libraries with the same contents share it however they came by them.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from trifocal.library.contents import GENERATION, get_meta, hidden_videos
from trifocal.library.records import AddFailure, LibraryStatus, VideoRecord

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from trifocal.library.settings import EncoderIdentity, LibrarySettings

__all__ = ["changed_while_read", "dump", "failures", "quarantined", "status", "video_records"]


def video_records(connection: sqlite3.Connection, ids: Iterable[str] | None = None) -> list[VideoRecord]:
    """The videos, all or those of the given ids, by first path, then id."""
    if ids is None:
        videos = connection.execute("SELECT * FROM videos").fetchall()
        files = connection.execute("SELECT video, path, state FROM files ORDER BY path").fetchall()
        counts = connection.execute("SELECT video, count(*) AS k FROM prototypes GROUP BY video").fetchall()
    else:
        videos, files, counts = [], [], []
        for video in sorted(set(ids)):
            videos += connection.execute("SELECT * FROM videos WHERE id = ?", (video,)).fetchall()
            files += connection.execute(
                "SELECT video, path, state FROM files WHERE video = ? ORDER BY path", (video,)
            ).fetchall()
            counts += connection.execute(
                "SELECT video, count(*) AS k FROM prototypes WHERE video = ? GROUP BY video", (video,)
            ).fetchall()
    places: dict[str, dict[str, list[str]]] = {}
    for row in files:
        places.setdefault(row["video"], {"present": [], "missing": []})[row["state"]].append(row["path"])
    k_of = {row["video"]: row["k"] for row in counts}
    records = []
    for row in videos:
        paths = places.get(row["id"], {"present": [], "missing": []})
        records.append(
            VideoRecord(
                id=row["id"],
                paths=tuple(paths["present"]),
                missing_paths=tuple(paths["missing"]),
                state="ready" if paths["present"] else "missing",
                sha256=row["sha256"],
                size_bytes=row["size_bytes"],
                duration_s=row["duration_s"],
                container=row["container"],
                codec=row["codec"],
                width=row["width"],
                height=row["height"],
                average_fps=row["average_fps"],
                has_audio=bool(row["has_audio"]),
                frames=row["frames"],
                prototypes=k_of.get(row["id"], 0),
                library_bytes=row["prototypes_bytes"] + row["thumbnails_bytes"] + row["tokens_bytes"],
                warnings=tuple(json.loads(row["warnings"])),
                added_at=row["added_at"],
            )
        )
    return sorted(records, key=lambda record: ((record.paths + record.missing_paths + ("",))[0], record.id))


def status(connection: sqlite3.Connection, *, encoder: str, quarantine: int) -> LibraryStatus:
    """The library at a glance; `quarantine` is the number of interruptions after which a video is left alone."""

    def one(query: str, *values: object) -> Any:
        return connection.execute(query, values).fetchone()[0]

    return LibraryStatus(
        videos=one("SELECT count(*) FROM videos"),
        missing=len(hidden_videos(connection)),
        failures=one("SELECT count(*) FROM failures"),
        interrupted=one("SELECT count(*) FROM jobs"),
        quarantined=one("SELECT count(*) FROM jobs WHERE attempts >= ?", quarantine),
        prototypes=one("SELECT count(*) FROM prototypes"),
        duration_s=float(one("SELECT coalesce(sum(duration_s), 0) FROM videos")),
        library_bytes=one("SELECT coalesce(sum(prototypes_bytes + thumbnails_bytes + tokens_bytes), 0) FROM videos"),
        encoder=encoder,
        generation=int(get_meta(connection, GENERATION) or 0),
    )


def failures(connection: sqlite3.Connection, *, quarantine: int) -> list[AddFailure]:
    """The files that cannot be used, and those interrupted at least `quarantine` times, by path."""
    found = [
        AddFailure(path=row["path"], code=row["code"], message=row["message"], remedy=row["remedy"])
        for row in connection.execute("SELECT * FROM failures")
    ]
    found += [
        quarantined(row["path"], times=row["attempts"])
        for row in connection.execute("SELECT * FROM jobs WHERE attempts >= ?", (quarantine,))
    ]
    return sorted(found, key=lambda failure: failure.path)


def quarantined(path: str, *, times: int) -> AddFailure:
    """What is said of a video that was interrupted so often that it is left alone."""
    return AddFailure(
        path=path,
        code="quarantined",
        message=f"{PurePath(path).name} was being ingested {times} times when the process was killed",
        remedy="Try it again with `retry_failed` (`trifocal add --retry-failed`), or leave it out.",
    )


def changed_while_read(path: str) -> AddFailure:
    """What is said of a file that is no longer what it was when it was opened."""
    return AddFailure(
        path=path,
        code="changed_while_read",
        message=f"{PurePath(path).name} changed while it was read",
        remedy="Add it again when it is complete.",
    )


def dump(connection: sqlite3.Connection, *, settings: LibrarySettings, encoder: EncoderIdentity) -> str:
    """The contents in order, as JSON: settings, encoder, roots, videos, files, prototypes, detections (hashed).

    Times of day, file times and file numbers are left out, and so are failures and interruptions: they are no contents.
    """
    queries = {
        "roots": "SELECT path, kind FROM roots ORDER BY path",
        "videos": "SELECT * FROM videos ORDER BY id",
        "files": "SELECT path, video, root, size, state FROM files ORDER BY path",
        "prototypes": "SELECT * FROM prototypes ORDER BY video, k",
        "detections": "SELECT * FROM detections ORDER BY video, model",
    }
    rows: dict[str, Any] = {name: [dict(row) for row in connection.execute(query)] for name, query in queries.items()}
    for video in rows["videos"]:
        del video["added_at"]
    for detection in rows["detections"]:
        del detection["detected_at"]
    return json.dumps(
        {"settings": asdict(settings), "encoder": asdict(encoder), **rows}, indent=1, sort_keys=True, ensure_ascii=False
    )
