"""`repair`: what `verify` finds is put right, and said.

Broken references are mended; leftovers deleted; files looked at again, as `add` would; a video whose prototypes or
thumbnails are damaged is made again from its source file. Where there is none with its content, one with damaged
prototypes leaves the library, one that lacks thumbnails alone stays; damaged tubes are deleted, for `detect` to look
again; the index is deleted, to be built at the next search. A damaged `trifocal.json` or catalogue has been mended when
the library was opened with `damaged=True`.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from trifocal.errors import LibraryDamaged, VideoError
from trifocal.library import contents
from trifocal.library.addition import AddOptions
from trifocal.library.plan import IngestTask
from trifocal.library.salvage import SALVAGE, mend_references, set_aside_path
from trifocal.library.scan import scan, still_the_same
from trifocal.library.settings import MANIFEST_NAME, Manifest
from trifocal.library.store import remove_tree
from trifocal.library.tubes import delete_detection

if TYPE_CHECKING:
    from collections.abc import Callable

    from trifocal.library.addition import Addition
    from trifocal.library.records import AddReport
    from trifocal.library.scan import FoundFile
    from trifocal.library.search import Search
    from trifocal.library.session import Session
    from trifocal.library.stages import VideoReader
    from trifocal.library.verify import VerifyReport

__all__ = ["RepairReport", "repair"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairReport:
    """What `repair` did.

    Args:
        done: what was put right, one line each.
        lost: what could not be, and what that means.
        after: what `verify` finds now.
    """

    done: tuple[str, ...]
    lost: tuple[str, ...]
    after: VerifyReport

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {**asdict(self), "after": self.after.to_dict()}


def repair(
    session: Session,
    addition: Callable[[], Addition],
    *,
    check: Callable[[], VerifyReport],
    search: Search,
    manifest: Manifest,
    reader: VideoReader,
    before: VerifyReport,
    mended: tuple[str, ...],
) -> RepairReport:
    """Put right what `before` and the present state of the library show; see `Library.repair`.

    Args:
        session: the right to write; taking it has deleted leftovers.
        addition: makes a fresh one for each round.
        check: `Library.verify`.
        search: the library's index.
        manifest: what `trifocal.json` has to say.
        reader: reads sources.
        before: what was found before the session tidied up.
        mended: what was done when the library was opened.
    """
    done, lost = list(mended), list[str]()
    if any(finding.kind == "catalogue" for finding in before.findings):
        raise LibraryDamaged(
            "the catalogue's pages are damaged",
            remedy="Run `trifocal verify --repair` (in Python: `Library.open(folder, damaged=True).repair()`).",
        )
    done += [
        f"deleted {finding.subject}: {finding.message}"
        for finding in before.problems
        if finding.kind in ("stray", "unfinished")
    ]
    if any(finding.kind == "settings" for finding in before.problems):
        session.store.write_file(session.store.folder / MANIFEST_NAME, manifest.to_json().encode(), step="manifest")
        done.append(f"wrote {MANIFEST_NAME} again")
    again = _references(session, done)
    useless = {finding.subject for finding in before.problems if finding.kind == "prototypes"}
    dark = {finding.subject for finding in before.problems if finding.kind in ("thumbnails", "tokens")} - useless
    tasks = _sources(session, useless, dark, reader=reader, done=done, lost=lost)
    if tasks:
        report = addition().again(tuple(tasks))
        done += [f"made video {task.sha256[:16]} again from {task.path}" for task in _finished(tasks, report)]
        failed = {failure.path: failure for failure in report.failed}
        for task in tasks:
            if task.path in failed:
                lost.append(f"{task.path} could not be ingested again: {failed[task.path].message}")
    for finding in before.problems:
        if finding.kind == "tubes":
            video, model = finding.subject.split("/")
            with session.catalogue.write(session.lease) as connection:
                delete_detection(connection, video, model)
            done.append(f"deleted the damaged tubes of video {video} by the detector {model}")
            lost.append(f"tubes of video {video}: `trifocal detect {video}` looks again")
    again += [
        finding.subject
        for finding in before.problems
        if finding.kind in ("file_missing", "file_returned", "file_changed", "file_outside")
    ]
    if again:
        # Looked at by content: a change that kept size and time would pass otherwise.
        with session.catalogue.write(session.lease) as connection:
            connection.executemany("UPDATE files SET inode = -1 WHERE path = ?", [(path,) for path in again])
        report = addition().add(sorted(set(again)), options=AddOptions())
        done += _told(report)
        lost += [f"{failure.path}: {failure.message}" for failure in (*report.failed, *report.skipped)]
    if any(finding.kind == "index" for finding in before.findings):
        search.clear()
        done.append("deleted the index; the next search builds it")
    with session.catalogue.write(session.lease) as connection:
        connection.execute("DELETE FROM meta WHERE key = ?", (SALVAGE,))
    aside = set_aside_path(session.store.folder)
    for path in (aside, aside.with_name(f"{aside.name}-wal"), aside.with_name(f"{aside.name}-shm")):
        remove_tree(path)
    return RepairReport(done=tuple(done), lost=tuple(lost), after=check())


def _references(session: Session, done: list[str]) -> list[str]:
    """Mend rows that name rows that are not there; returns the files to add again."""
    with session.catalogue.write(session.lease) as connection:
        connection.execute("PRAGMA defer_foreign_keys = ON")
        broken = connection.execute("PRAGMA foreign_key_check").fetchall()
        again = [str(path) for path in json.loads(contents.get_meta(connection, SALVAGE) or "[]")]
        if broken:
            again += mend_references(connection)
            # Kept until they are added: a repair that is killed goes on with them.
            contents.set_meta(connection, SALVAGE, json.dumps(again))
            done.append(f"mended {len(broken)} broken references in the catalogue")
        gone = contents.queue_deletions(connection)
    session.finish_deletions()
    done += [f"removed video {video}, which had no file" for video in gone]
    return again


def _sources(
    session: Session, useless: set[str], dark: set[str], *, reader: VideoReader, done: list[str], lost: list[str]
) -> list[IngestTask]:
    """A task for each damaged video that has a source.

    Of the others, those whose prototypes are `useless` are removed, as nothing can be found while they are there;
    those that lack thumbnails or clip tokens alone stay in the `dark` until their file is back.
    """
    tasks = []
    for video in sorted(useless | dark):
        with session.catalogue.read() as connection:
            row = connection.execute("SELECT sha256 FROM videos WHERE id = ?", (video,)).fetchone()
            paths = [
                str(file["path"])
                for file in connection.execute("SELECT path FROM files WHERE video = ? ORDER BY path", (video,))
            ]
        if row is None:
            continue
        found = next((file for file in _found(paths) if _content(reader, file.path) == row["sha256"]), None)
        if found is not None and still_the_same(found):
            tasks.append(IngestTask(sha256=row["sha256"], files=(found,)))
            continue
        if video in dark:
            lost.append(f"thumbnails of video {video}: repair again when one of its files is back ({', '.join(paths)})")
            continue
        with session.catalogue.write(session.lease) as connection:
            connection.execute("DELETE FROM files WHERE video = ?", (video,))
            contents.queue_deletions(connection)
            contents.forget_rootless(connection)
        session.finish_deletions()
        done.append(f"removed video {video}, which was damaged and has no file with its content")
        lost.append(f"video {video}: add it again when one of its files is back ({', '.join(paths)})")
    return tasks


def _found(paths: list[str]) -> list[FoundFile]:
    return list(scan(paths).files.values()) if paths else []


def _content(reader: VideoReader, path: str) -> str:
    try:
        return reader.content_id(path)
    except VideoError:
        return ""


def _finished(tasks: list[IngestTask], report: AddReport) -> list[IngestTask]:
    paths = {change.path for change in (*report.added, *report.replaced, *report.duplicates)}
    return [task for task in tasks if task.path in paths]


def _told(report: AddReport) -> list[str]:
    lines = []
    for verb in ("added", "duplicates", "moved", "replaced", "restored", "missing"):
        lines += [f"{verb}: {change.path}" for change in getattr(report, verb)]
    return [*lines, *(f"removed video {video}, whose file was replaced" for video in report.removed)]
