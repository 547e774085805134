"""Opening a library that is damaged, so that it can be repaired.

A lost or altered `trifocal.json` is written again from the catalogue's copy. A catalogue that SQLite finds damaged is
set aside as `catalogue.sqlite3.damaged`, and every row that can still be read, from the front and from the back of each
table, goes into a new one; rows that have lost their counterpart are dropped, and their files noted down so that
`repair` adds them again. Where nothing can be read, the catalogue starts empty and the folders have to be added again.
A salvage that is killed starts over from what was set aside, which `repair` deletes as its last step.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from typing import TYPE_CHECKING

from trifocal.errors import LibraryDamaged
from trifocal.library import contents
from trifocal.library.catalogue import CATALOGUE_NAME, Catalogue
from trifocal.library.schema import CONTENT_TABLES
from trifocal.library.settings import MANIFEST_NAME, Manifest, read_manifest
from trifocal.library.store import Store, disk_errors

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["SALVAGE", "open_damaged", "set_aside_path"]

SALVAGE = "salvage"
"""The key of `meta` under which the files to be added again are noted down."""

_SIDE_FILES = ("-wal", "-shm")
_KEYS = {
    "videos": "id",
    "prototypes": "video, k",
    "detections": "video, model",
    "tubes": "video, model, number",
    "tube_actions": "video, model, number, place",
}


def set_aside_path(folder: Path) -> Path:
    """Where a damaged catalogue is put until the repair is complete."""
    return folder / f"{CATALOGUE_NAME}.damaged"


def open_damaged(folder: Path) -> tuple[Manifest, Catalogue, tuple[str, ...]]:
    """Open a library, whole or damaged.

    Returns:
        The manifest, the catalogue, and what had to be done, one line each.

    Raises:
        LibraryDamaged: neither `trifocal.json` nor its copy in the catalogue can be read.
    """
    notes: list[str] = []
    stated = kept = None
    with contextlib.suppress(LibraryDamaged):  # the catalogue's copy may do
        stated = read_manifest(folder)
    aside = set_aside_path(folder)
    catalogue = _intact(folder)
    if catalogue is not None:
        kept = _kept_manifest(catalogue)
        if kept is None and aside.exists():  # a salvage was cut off before its rows were in
            catalogue.close()
            catalogue = None
    if catalogue is None:
        kept = _readable_manifest(folder / CATALOGUE_NAME) or _readable_manifest(aside)
    # Videos were made by what the catalogue says; the file may have been edited since.
    manifest = kept or stated
    if manifest is None:
        if catalogue is not None:
            catalogue.close()
        raise LibraryDamaged(
            f"neither {MANIFEST_NAME} nor its copy in {CATALOGUE_NAME} can be read",
            remedy="Make a new library and add the videos to it.",
        )
    if catalogue is None:
        catalogue, note = _rebuilt(folder, manifest)
        notes.append(note)
    try:
        if kept is None:
            with catalogue.write() as connection:
                contents.set_meta(connection, contents.MANIFEST, manifest.to_json())
        if stated != manifest:
            store = Store(folder, space=manifest.revision)
            store.make_folders()
            store.write_file(folder / MANIFEST_NAME, manifest.to_json().encode(), step="manifest")
            notes.append(f"wrote {MANIFEST_NAME} again from the catalogue's copy")
    except BaseException:
        catalogue.close()
        raise
    return manifest, catalogue, tuple(notes)


def _intact(folder: Path) -> Catalogue | None:
    try:
        catalogue = Catalogue(folder)
    except LibraryDamaged:
        return None
    # Rows that name rows that are not there can be mended in place; damaged pages cannot.
    if catalogue.damage():
        catalogue.close()
        return None
    return catalogue


def _kept_manifest(catalogue: Catalogue) -> Manifest | None:
    try:
        with catalogue.read() as connection:
            text = contents.get_meta(connection, contents.MANIFEST)
        return None if text is None else Manifest.from_json(text)
    except LibraryDamaged:
        return None


def _readable_manifest(path: Path) -> Manifest | None:
    if not path.exists():
        return None
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    try:
        row = connection.execute("SELECT value FROM meta WHERE key = ?", (contents.MANIFEST,)).fetchone()
        return None if row is None else Manifest.from_json(row[0])
    except (sqlite3.Error, LibraryDamaged):
        return None
    finally:
        connection.close()


def _rebuilt(folder: Path, manifest: Manifest) -> tuple[Catalogue, str]:
    """A new catalogue with what can be read of the old one."""
    aside = set_aside_path(folder)
    old = folder / CATALOGUE_NAME
    with disk_errors("setting the damaged catalogue aside"):
        if old.exists() and aside.exists() and _half_made(old):
            # A salvage was cut off here before: what there is to read is what it had set aside.
            for suffix in (*_SIDE_FILES, ""):
                old.with_name(old.name + suffix).unlink(missing_ok=True)
        elif old.exists():
            for suffix in _SIDE_FILES:
                aside.with_name(aside.name + suffix).unlink(missing_ok=True)
            old.replace(aside)
        for suffix in _SIDE_FILES:  # also those that a kill left behind
            if old.with_name(old.name + suffix).exists():
                old.with_name(old.name + suffix).replace(aside.with_name(aside.name + suffix))
    found = aside.exists()
    rows = _salvaged(aside) if found else {}
    catalogue = Catalogue(folder, create=True)
    try:
        with catalogue.write() as connection:
            contents.set_meta(connection, contents.MANIFEST, manifest.to_json())
            # Beyond any generation that an index on the disk may be of.
            contents.set_meta(connection, contents.GENERATION, str(_generation_after(folder)))
            contents.set_meta(connection, contents.VISIBILITY, "0")
            connection.execute("PRAGMA defer_foreign_keys = ON")
            for table in CONTENT_TABLES:
                for row in rows.get(table, []):
                    # What contradicts a rule of the tables is damage too.
                    with contextlib.suppress(sqlite3.IntegrityError):
                        connection.execute(
                            f"INSERT INTO {table} ({', '.join(row.keys())}) VALUES ({', '.join('?' * len(row))})",  # noqa: S608 - own names
                            tuple(row),
                        )
            lost = mend_references(connection)
            contents.set_meta(connection, SALVAGE, json.dumps(lost))
            kept = connection.execute("SELECT count(*) FROM videos").fetchone()[0]
    except BaseException:
        catalogue.close()
        raise
    state = "was damaged" if found else "was missing"
    return catalogue, f"{CATALOGUE_NAME} {state}: made a new one with {kept} videos, {len(lost)} files to add again"


def _half_made(path: Path) -> bool:
    """Whether a catalogue is sound, but without the manifest that is written together with the rows."""
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True)
    try:
        if connection.execute("PRAGMA integrity_check").fetchone()[0] != "ok":
            return False
        if connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'meta'").fetchone() is None:
            return True
        return connection.execute("SELECT 1 FROM meta WHERE key = ?", (contents.MANIFEST,)).fetchone() is None
    except sqlite3.Error:
        return False
    finally:
        connection.close()


def mend_references(connection: sqlite3.Connection) -> list[str]:
    """Drop or mend rows that name rows that are not there.

    Returns:
        The paths of files that have lost their video, sorted.
    """
    connection.execute("DELETE FROM prototypes WHERE video NOT IN (SELECT id FROM videos)")
    connection.execute("DELETE FROM detections WHERE video NOT IN (SELECT id FROM videos)")
    connection.execute("DELETE FROM tubes WHERE (video, model) NOT IN (SELECT video, model FROM detections)")
    connection.execute(
        "DELETE FROM tube_actions WHERE (video, model, number) NOT IN (SELECT video, model, number FROM tubes)"
    )
    lost = [
        str(row["path"])
        for row in connection.execute("SELECT path FROM files WHERE video NOT IN (SELECT id FROM videos) ORDER BY path")
    ]
    connection.execute("DELETE FROM files WHERE video NOT IN (SELECT id FROM videos)")
    connection.execute(
        "INSERT OR IGNORE INTO roots SELECT root, iif(root = path, 'file', 'folder') FROM files"
        " WHERE root NOT IN (SELECT path FROM roots)"
    )
    contents.queue_deletions(connection)
    contents.forget_rootless(connection)
    return lost


def _salvaged(path: Path) -> dict[str, list[sqlite3.Row]]:
    found: dict[str, list[sqlite3.Row]] = {}
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True)
    connection.row_factory = sqlite3.Row
    try:
        for table in CONTENT_TABLES:
            rows: dict[tuple[object, ...], sqlite3.Row] = {}
            keys = _KEYS.get(table, "path")
            for order in ("ASC", "DESC"):
                wanted = ", ".join(f"{key} {order}" for key in keys.split(", "))
                # Reading ends at the damaged page; from the other side, it ends at its far edge.
                with contextlib.suppress(sqlite3.Error):
                    for row in connection.execute(f"SELECT * FROM {table} ORDER BY {wanted}"):  # noqa: S608 - own names
                        rows[tuple(row)] = row
            found[table] = list(rows.values())
    finally:
        connection.close()
    return found


def _generation_after(folder: Path) -> int:
    index = folder / "index"
    names = [path.name for path in index.iterdir()] if index.is_dir() else []
    return 1 + max((int(name) for name in names if name.isdigit()), default=0)
