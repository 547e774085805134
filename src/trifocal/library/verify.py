"""`verify`: everything the library holds is checked against everything else; nothing is changed.

A `Finding` is a problem, which `repair` puts right or says why not, or a note, which needs nobody: that a file is known
to be missing, or that the index is older than the catalogue and will be built at the next search.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from trifocal.errors import InvalidInput, LibraryDamaged, VideoError
from trifocal.library import account, contents
from trifocal.library.ingest import QUARANTINE_AFTER
from trifocal.library.salvage import SALVAGE
from trifocal.library.scan import is_under, on_disk
from trifocal.library.settings import MANIFEST_NAME, Manifest, read_manifest
from trifocal.library.store import disk_errors, thumbnail_name
from trifocal.library.tubes import detections, read_report
from trifocal.retrieval.prototypes import Prototypes

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

    import numpy as np

    from trifocal.library.catalogue import Catalogue
    from trifocal.library.records import AddFailure
    from trifocal.library.search import Search
    from trifocal.library.stages import VideoReader
    from trifocal.library.store import Store

__all__ = ["Finding", "Kind", "VerifyReport", "verify"]

Kind = Literal[
    "settings",
    "catalogue",
    "reference",
    "prototypes",
    "thumbnails",
    "tokens",
    "tubes",
    "stray",
    "unfinished",
    "no_files",
    "file_missing",
    "file_returned",
    "file_changed",
    "file_outside",
    "index",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that is not as it should be.

    Args:
        kind: what sort of thing.
        subject: the video's id, the file, or the part of the library.
        message: what is wrong.
        problem: whether it needs repair; otherwise it is only worth knowing.
    """

    kind: Kind
    subject: str
    message: str
    problem: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyReport:
    """What `verify` found.

    Args:
        findings: problems and notes.
        failures: files that cannot be used or are quarantined, each with its remedy; they are not problems.
        videos: how many were checked.
        files: how many video files were looked for.
        checked_bytes: how much was read and hashed.
    """

    findings: tuple[Finding, ...]
    failures: tuple[AddFailure, ...]
    videos: int
    files: int
    checked_bytes: int

    @property
    def ok(self) -> bool:
        """Whether there is no problem."""
        return not self.problems

    @property
    def problems(self) -> tuple[Finding, ...]:
        """The findings that need repair."""
        return tuple(finding for finding in self.findings if finding.problem)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {"ok": self.ok, **asdict(self)}


def verify(
    catalogue: Catalogue, store: Store, search: Search, *, manifest: Manifest, reader: VideoReader, sources: bool
) -> VerifyReport:
    """Check a library; see `Library.verify`."""
    findings = list(_settings(store.folder, manifest, catalogue))
    damage = catalogue.damage()
    findings += [Finding(kind="catalogue", subject=catalogue.path.name, message=message) for message in damage]
    if damage:
        return VerifyReport(findings=tuple(findings), failures=(), videos=0, files=0, checked_bytes=0)
    with catalogue.read() as connection:
        videos = connection.execute("SELECT * FROM videos ORDER BY id").fetchall()
        files = connection.execute(
            "SELECT files.*, sha256 FROM files LEFT JOIN videos ON videos.id = files.video ORDER BY path"
        ).fetchall()
        roots = [str(row["path"]) for row in connection.execute("SELECT path FROM roots")]
        pending = [str(row["video"]) for row in connection.execute("SELECT video FROM deletions")]
        failures = account.failures(connection, quarantine=QUARANTINE_AFTER)
        begun = contents.pending_revision(connection)
        salvaged = json.loads(contents.get_meta(connection, SALVAGE) or "[]")
        parts = {row["id"]: _parts(connection, row["id"]) for row in videos}
    findings += [
        Finding(kind="reference", subject=catalogue.path.name, message=message)
        for message in catalogue.broken_references()
    ]
    with_files = {row["video"] for row in files}
    checked = 0
    with disk_errors("reading the library"):
        if salvaged:
            message = f"{len(salvaged)} files that lost their video are still to be added again"
            findings.append(Finding(kind="reference", subject=catalogue.path.name, message=message))
        for row in videos:
            findings += _video(store, row, *parts[row["id"]], dim=manifest.encoder.dim)
            checked += row["prototypes_bytes"] + row["thumbnails_bytes"] + row["tokens_bytes"]
            if row["id"] not in with_files:
                findings.append(Finding(kind="no_files", subject=row["id"], message="the video has no file"))
        tubes, tubes_bytes = _tubes(catalogue)
        findings += tubes
        checked += tubes_bytes
        findings += _leftovers(store, {row["id"] for row in videos}, pending, begun=begun)
        for row in files:
            findings += _file(row, roots=roots, reader=reader, sources=sources)
            checked += row["size"] if sources else 0
        if trouble := search.trouble():
            findings.append(Finding(kind="index", subject="index", message=trouble[1], problem=trouble[0]))
    return VerifyReport(
        findings=tuple(findings),
        failures=tuple(failures),
        videos=len(videos),
        files=len(files),
        checked_bytes=checked,
    )


def _settings(folder: Path, manifest: Manifest, catalogue: Catalogue) -> Iterator[Finding]:
    try:
        stated = read_manifest(folder)
    except LibraryDamaged as error:
        yield Finding(kind="settings", subject=MANIFEST_NAME, message=error.message)
        return
    try:
        with catalogue.read() as connection:
            kept = contents.get_meta(connection, contents.MANIFEST)
    except LibraryDamaged:
        return  # told as damage of the catalogue
    if stated != manifest or kept is None or Manifest.from_json(kept) != manifest:
        yield Finding(
            kind="settings", subject=MANIFEST_NAME, message=f"{MANIFEST_NAME} and the catalogue do not say the same"
        )


def _parts(connection: sqlite3.Connection, video: str) -> tuple[np.ndarray, set[str]]:
    names = {
        thumbnail_name(row[0])
        for row in connection.execute("SELECT thumbnail_ms FROM prototypes WHERE video = ?", (video,))
    }
    return contents.spans(connection, video), names


def _video(store: Store, row: sqlite3.Row, spans_s: np.ndarray, names: set[str], *, dim: int) -> Iterator[Finding]:
    video = str(row["id"])
    try:
        prototypes = Prototypes(vectors=store.read_prototypes(video, sha256=row["prototypes_sha256"]), spans_s=spans_s)
        if prototypes.dim != dim:
            raise InvalidInput(f"the prototypes have {prototypes.dim} dimensions, the encoder has {dim}")
    except (InvalidInput, LibraryDamaged) as error:
        yield Finding(kind="prototypes", subject=video, message=error.message)
    else:
        # Spans are stored as float32: they may end a rounding step after the length.
        if spans_s.max() > row["duration_s"] * (1 + 1e-6) + 1e-3:
            yield Finding(kind="prototypes", subject=video, message="a prototype ends after the video")
    folder = store.thumbnails_path(video)
    found = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if found != names:
        yield Finding(
            kind="thumbnails", subject=video, message=f"{len(found)} thumbnails are there, {len(names)} should be"
        )
    elif store.hash_thumbnails(folder) != row["thumbnails_sha256"]:
        yield Finding(kind="thumbnails", subject=video, message="the thumbnails are not what was written")
    elif row["poster_ms"] is None or thumbnail_name(row["poster_ms"]) not in names:
        yield Finding(kind="thumbnails", subject=video, message="the poster is none of the thumbnails")
    if row["tokens_sha256"] is not None:
        try:
            store.read_tokens(video, sha256=row["tokens_sha256"])
        except LibraryDamaged as error:
            yield Finding(kind="tokens", subject=video, message=error.message)


def _tubes(catalogue: Catalogue) -> tuple[list[Finding], int]:
    """What is wrong with stored tubes, and how many bytes they are; the subject is video/detector."""
    found: list[Finding] = []
    with catalogue.read() as connection:
        looked = detections(connection)
        for one in looked:
            try:
                read_report(connection, one.video, one.model)
            except LibraryDamaged as error:
                found.append(Finding(kind="tubes", subject=f"{one.video}/{one.model}", message=error.message))
    return found, sum(one.stored_bytes for one in looked)


def _leftovers(store: Store, known: set[str], pending: list[str], *, begun: int | None) -> Iterator[Finding]:
    if begun is not None:
        message = "indexing all videos again was interrupted; `trifocal reindex` goes on, or starts over"
        yield Finding(kind="unfinished", subject=f"spaces/{begun}", message=message, problem=False)
    for path in store.strays(known, pending=begun):
        name = str(path.relative_to(store.folder))
        yield Finding(kind="stray", subject=name, message="it belongs to no video of the catalogue")
    temporary = store.folder / "tmp"
    left = len(list(temporary.iterdir())) if temporary.is_dir() else 0
    if left:
        yield Finding(
            kind="unfinished", subject="tmp", message=f"{left} files of a writer that was killed, or is at work"
        )
    for video in pending:
        yield Finding(kind="unfinished", subject=video, message="its removal was not finished")


def _file(row: sqlite3.Row, *, roots: list[str], reader: VideoReader, sources: bool) -> Iterator[Finding]:
    path, here = str(row["path"]), on_disk(row["path"])
    if not any(is_under(path, root) for root in roots):
        yield Finding(kind="file_outside", subject=path, message="the file lies in none of the registered roots")
    if not here:
        known = row["state"] == "missing"
        yield Finding(
            kind="file_missing",
            subject=path,
            message="the file is not there" + (", as is known" if known else ""),
            problem=not known,
        )
        return
    status = Path(path).lstat()
    same = (status.st_size, status.st_mtime_ns, status.st_ino) == (row["size"], row["mtime_ns"], row["inode"])
    if same and sources:
        try:
            same = reader.content_id(path) == row["sha256"]
        except VideoError as error:
            yield Finding(kind="file_changed", subject=path, message=error.message)
            return
    if row["state"] == "missing" and same:
        yield Finding(kind="file_returned", subject=path, message="the file was missing and is back")
    elif row["state"] == "missing":
        yield Finding(
            kind="file_changed", subject=path, message="the file holds something else, as is known", problem=False
        )
    elif not same:
        yield Finding(kind="file_changed", subject=path, message="the file has changed since it was added")
