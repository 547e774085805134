"""The catalogue's tables, and how an older one becomes the present one.

`MIGRATIONS[n]` leads from `user_version` n to n + 1; each runs in one transaction. Contents are `roots`, `videos`,
`files` and `prototypes`; they make up the dump that two equal libraries share. `meta` holds the copy of the manifest
and the generation, which grows with every change of what can be found. `jobs`, `failures`, `lease` and `deletions` are
the work in progress: attempts of videos whose ingest was interrupted, files that cannot be used, who is writing,
and deletions whose files are not gone yet. `next_videos` and `next_prototypes` fill up beside the contents while a
library is indexed again, and take their place in one transaction at the end (`reindex`). `detections`, `tubes` and
`tube_actions` are contents too: what detectors saw (`tubes`).
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

from trifocal.errors import LibraryError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["CONTENT_TABLES", "MIGRATIONS", "migrate"]

CONTENT_TABLES = ("roots", "videos", "files", "prototypes", "detections", "tubes", "tube_actions")

_VERSION_1 = """
CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE roots (
    path TEXT PRIMARY KEY,
    kind TEXT NOT NULL CHECK (kind IN ('file', 'folder'))
) STRICT, WITHOUT ROWID;

CREATE TABLE videos (
    id TEXT PRIMARY KEY CHECK (length(id) >= 16),
    sha256 TEXT NOT NULL UNIQUE CHECK (length(sha256) = 64),
    size_bytes INTEGER NOT NULL,
    container TEXT NOT NULL,
    codec TEXT NOT NULL,
    width INTEGER NOT NULL,
    height INTEGER NOT NULL,
    average_fps REAL,
    duration_s REAL NOT NULL CHECK (duration_s >= 0),
    has_audio INTEGER NOT NULL CHECK (has_audio IN (0, 1)),
    frames INTEGER NOT NULL CHECK (frames >= 1),
    warnings TEXT NOT NULL,
    poster_ms INTEGER NOT NULL,
    prototypes_sha256 TEXT NOT NULL,
    prototypes_bytes INTEGER NOT NULL,
    thumbnails_sha256 TEXT NOT NULL,
    thumbnails_bytes INTEGER NOT NULL,
    added_at TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE files (
    path TEXT PRIMARY KEY,
    video TEXT NOT NULL REFERENCES videos (id) ON DELETE CASCADE,
    root TEXT NOT NULL REFERENCES roots (path),
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    inode INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('missing', 'present'))
) STRICT, WITHOUT ROWID;
CREATE INDEX files_video ON files (video);
CREATE INDEX files_root ON files (root);

CREATE TABLE prototypes (
    video TEXT NOT NULL REFERENCES videos (id) ON DELETE CASCADE,
    k INTEGER NOT NULL CHECK (k >= 0),
    start_s REAL NOT NULL CHECK (start_s >= 0),
    end_s REAL NOT NULL CHECK (end_s >= start_s),
    thumbnail_ms INTEGER NOT NULL,
    PRIMARY KEY (video, k)
) STRICT, WITHOUT ROWID;

CREATE TABLE jobs (
    sha256 TEXT PRIMARY KEY,
    path TEXT NOT NULL,
    attempts INTEGER NOT NULL CHECK (attempts >= 1),
    started_at TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE failures (
    path TEXT PRIMARY KEY,
    sha256 TEXT NOT NULL,
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    config TEXT NOT NULL,
    code TEXT NOT NULL,
    message TEXT NOT NULL,
    remedy TEXT NOT NULL,
    failed_at TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE lease (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    token TEXT NOT NULL,
    verb TEXT NOT NULL,
    host TEXT NOT NULL,
    pid INTEGER NOT NULL,
    process_start TEXT NOT NULL,
    heartbeat REAL NOT NULL
) STRICT;

CREATE TABLE deletions (
    video TEXT PRIMARY KEY CHECK (video = '' OR length(video) >= 16),
    paths TEXT NOT NULL
) STRICT, WITHOUT ROWID;
"""

_VERSION_2 = """
ALTER TABLE videos ADD COLUMN tokens_sha256 TEXT;
ALTER TABLE videos ADD COLUMN tokens_bytes INTEGER NOT NULL DEFAULT 0;

CREATE TABLE next_videos (
    id TEXT PRIMARY KEY REFERENCES videos (id) ON DELETE CASCADE,
    duration_s REAL NOT NULL CHECK (duration_s >= 0),
    frames INTEGER NOT NULL CHECK (frames >= 1),
    warnings TEXT NOT NULL,
    poster_ms INTEGER NOT NULL,
    prototypes_sha256 TEXT NOT NULL,
    prototypes_bytes INTEGER NOT NULL,
    thumbnails_sha256 TEXT NOT NULL,
    thumbnails_bytes INTEGER NOT NULL,
    tokens_sha256 TEXT,
    tokens_bytes INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

CREATE TABLE next_prototypes (
    video TEXT NOT NULL REFERENCES next_videos (id) ON DELETE CASCADE,
    k INTEGER NOT NULL CHECK (k >= 0),
    start_s REAL NOT NULL CHECK (start_s >= 0),
    end_s REAL NOT NULL CHECK (end_s >= start_s),
    thumbnail_ms INTEGER NOT NULL,
    PRIMARY KEY (video, k)
) STRICT, WITHOUT ROWID;
"""

_VERSION_3 = """
CREATE TABLE detections (
    video TEXT NOT NULL REFERENCES videos (id) ON DELETE CASCADE,
    model TEXT NOT NULL CHECK (length(model) = 16),
    name TEXT NOT NULL,
    caveat TEXT NOT NULL,
    classes TEXT NOT NULL,
    config TEXT NOT NULL,
    width INTEGER NOT NULL CHECK (width >= 1),
    height INTEGER NOT NULL CHECK (height >= 1),
    moments INTEGER NOT NULL CHECK (moments >= 0),
    end_s REAL NOT NULL CHECK (end_s >= 0),
    warnings TEXT NOT NULL,
    tubes INTEGER NOT NULL CHECK (tubes >= 0),
    tubes_sha256 TEXT NOT NULL CHECK (length(tubes_sha256) = 64),
    tubes_bytes INTEGER NOT NULL CHECK (tubes_bytes >= 0),
    detected_at TEXT NOT NULL,
    PRIMARY KEY (video, model)
) STRICT, WITHOUT ROWID;

CREATE TABLE tubes (
    video TEXT NOT NULL,
    model TEXT NOT NULL,
    number INTEGER NOT NULL CHECK (number >= 0),
    actor INTEGER NOT NULL,
    times BLOB NOT NULL,
    boxes BLOB NOT NULL,
    PRIMARY KEY (video, model, number),
    FOREIGN KEY (video, model) REFERENCES detections (video, model) ON DELETE CASCADE
) STRICT;

CREATE TABLE tube_actions (
    video TEXT NOT NULL,
    model TEXT NOT NULL,
    number INTEGER NOT NULL,
    place INTEGER NOT NULL CHECK (place >= 0),
    action TEXT NOT NULL,
    peak REAL NOT NULL,
    scores BLOB NOT NULL,
    PRIMARY KEY (video, model, number, place),
    FOREIGN KEY (video, model, number) REFERENCES tubes (video, model, number) ON DELETE CASCADE
) STRICT;
CREATE INDEX tube_actions_action ON tube_actions (action, peak);
"""

MIGRATIONS: tuple[str, ...] = (_VERSION_1, _VERSION_2, _VERSION_3)


def migrate(connection: sqlite3.Connection, *, migrations: Sequence[str] = MIGRATIONS, read_only: bool = False) -> int:
    """Bring the catalogue to the present version; a killed migration leaves the one before.

    Args:
        connection: in autocommit mode (`isolation_level=None`).
        migrations: the statements from each version to the next.
        read_only: only check that there is nothing to do.

    Returns:
        How many migrations ran.

    Raises:
        LibraryError: a later version of Trifocal wrote the catalogue, or an earlier one did and it is `read_only`.
    """
    ran = 0
    while True:
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
        if version > len(migrations):
            raise LibraryError(
                f"the catalogue has version {version}, this version of Trifocal knows {len(migrations)}",
                remedy="Upgrade Trifocal, or make a new library.",
            )
        if version == len(migrations):
            return ran
        if read_only:
            raise LibraryError(
                f"the catalogue has version {version}, and may not be written to bring it to {len(migrations)}",
                remedy="Open it once where it may be written.",
            )
        connection.execute("BEGIN IMMEDIATE")
        try:
            # Another process may have migrated while this one waited for the lock.
            if int(connection.execute("PRAGMA user_version").fetchone()[0]) == version:
                for statement in _statements(migrations[version]):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {version + 1}")
                ran += 1
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")


def _statements(script: str) -> list[str]:
    # `executescript` commits by itself; a migration has to be one transaction.
    statements, pending = [], ""
    for part in script.split(";"):
        pending += part + ";"
        if sqlite3.complete_statement(pending):
            if pending.strip(" \n;"):
                statements.append(pending)
            pending = ""
    return statements
