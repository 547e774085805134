"""`add`: from paths to videos in the library; safe to kill at any instant and to run again.

scan (which files) → hash (what is in those that look new) → plan (what it means) → apply (one transaction for all that
needs no decoding) → `ingest` for each new content. What failed before and has not changed is passed over.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from trifocal.errors import VideoError, VideoLimitExceeded, VideoNotFound
from trifocal.library import account, contents
from trifocal.library.ingest import Ingest
from trifocal.library.plan import IngestTask, Plan, SeenFile, make_plan
from trifocal.library.records import AddFailure, AddReport, FileChange, StageTimes
from trifocal.library.scan import Scan, as_failure, is_under, on_disk, scan, still_the_same
from trifocal.library.tally import Tally

if TYPE_CHECKING:
    import os
    import sqlite3
    from collections.abc import Callable, Iterable

    from trifocal.library.executor import Executor
    from trifocal.library.meter import Meter
    from trifocal.library.plan import FileRow, FileUpdate
    from trifocal.library.scan import FoundFile
    from trifocal.library.session import Session
    from trifocal.library.settings import LibrarySettings
    from trifocal.library.stages import VideoReader
    from trifocal.video import Limits

__all__ = ["AddOptions", "Addition"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AddOptions:
    """How to look for files; see `Library.add`."""

    recursive: bool = True
    pattern: str | None = None
    follow_symlinks: bool = False
    retry_failed: bool = False


class Addition:
    """One call of `add`, inside a writer's session.

    Args:
        session: the right to write.
        reader: hashes and opens videos.
        executor: makes who runs the stages; called only when there is something to ingest, as it loads the encoder.
        settings: the library's.
        limits: what a video may cost.
        meter: tells the caller how far it is.
    """

    def __init__(
        self,
        session: Session,
        *,
        reader: VideoReader,
        executor: Callable[[], Executor],
        settings: LibrarySettings,
        limits: Limits,
        meter: Meter,
    ) -> None:
        """Nothing happens before `add` or `again`."""
        self._session = session
        self._reader = reader
        self._limits = limits
        self._meter = meter
        self._tally = Tally()
        # Failures hold for the same bytes under the same rules alone.
        rules = json.dumps([asdict(settings), limits.to_json()], sort_keys=True)
        self._rules = hashlib.sha256(rules.encode()).hexdigest()[:16]
        self._ingest = Ingest(session, executor=executor, rules=self._rules, meter=meter, tally=self._tally)

    def add(
        self, paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], *, options: AddOptions
    ) -> AddReport:
        """Add what `paths` mean; see `Library.add`."""
        began = time.perf_counter()
        self._meter.phase("scan")
        found = scan(
            paths,
            recursive=options.recursive,
            pattern=options.pattern,
            follow_symlinks=options.follow_symlinks,
            exclude=self._session.store.folder,
        )
        with self._session.catalogue.read() as connection:
            rows = contents.file_rows(connection)
            known = {row["path"]: row for row in connection.execute("SELECT * FROM failures")}
        gone = self._gone(found, rows)
        scanned = time.perf_counter()
        seen = self._hash(found, rows, known, options=options)
        hashed = time.perf_counter()
        plan = make_plan(rows, seen, gone=gone, exists=on_disk)
        self._apply(plan, rows, found)
        self._tally.failed += found.failed
        written = time.perf_counter()
        self._tally.times = StageTimes(scan_s=scanned - began, hash_s=hashed - scanned, write_s=written - hashed)
        if plan.tasks:
            self._ingest.run(plan.tasks, retry_failed=options.retry_failed)
        self._tally.times = replace(self._tally.times, total_s=time.perf_counter() - began)
        self._meter.phase("done")
        return self._tally.report()

    def again(self, tasks: tuple[IngestTask, ...]) -> AddReport:
        """Ingest the content of videos that the library holds already, in place of what is stored of them."""
        self._ingest.run(tasks, retry_failed=True)
        return self._tally.report()

    def _gone(self, found: Scan, rows: list[FileRow]) -> set[str]:
        """The catalogue's files that were looked for and are not there; absent paths new to it are failures."""
        gone = {row.path for row in rows if _looked_for(row.path, found) and not on_disk(row.path)}
        for path in sorted(found.absent):
            if not any(is_under(row.path, path) for row in rows):
                missing = VideoNotFound(f"there is no file or folder {path}", remedy="Check the path.")
                found.failed.append(as_failure(path, missing))
        return gone

    def _hash(
        self, found: Scan, rows: list[FileRow], known: dict[str, sqlite3.Row], *, options: AddOptions
    ) -> list[SeenFile]:
        """The content id of every file: from the catalogue where the file looks untouched, else from its bytes."""
        by_path = {row.path: row for row in rows}
        seen: list[SeenFile] = []
        to_read: list[FoundFile] = []
        for file in found.files.values():
            row, failure = by_path.get(file.path), known.get(file.path)
            if row is not None and row.looks_like(file):
                seen.append(SeenFile(found=file, sha256=row.sha256))
            elif (
                failure is not None
                and not options.retry_failed
                and failure["config"] == self._rules
                and (failure["size"], failure["mtime_ns"]) == (file.size, file.mtime_ns)
            ):
                self._tally.skipped.append(
                    AddFailure(
                        path=file.path,
                        code=failure["code"],
                        message=f"{failure['message']} (it failed before and has not changed)",
                        remedy=failure["remedy"],
                    )
                )
            else:
                to_read.append(file)
        self._meter.phase("hash", total=len(to_read))
        for file in to_read:
            self._meter.video(file.path)
            try:
                if file.size > self._limits.file_bytes:
                    raise VideoLimitExceeded(
                        f"{Path(file.path).name} has {file.size} bytes, more than {self._limits.file_bytes}",
                        remedy="Raise `Limits.file_bytes`, or leave it out.",
                    )
                sha256 = self._reader.content_id(file.path)
            except VideoError as error:
                found.failed.append(as_failure(file.path, error))
                continue
            finally:
                self._meter.finished()
            if still_the_same(file):
                seen.append(SeenFile(found=file, sha256=sha256))
            else:
                found.failed.append(account.changed_while_read(file.path))
        return seen

    def _apply(self, plan: Plan, rows: list[FileRow], found: Scan) -> None:
        """All that needs no decoding, in one transaction."""
        by_path = {row.path: row for row in rows}
        lists = {
            "unchanged": self._tally.unchanged,
            "restored": self._tally.restored,
            "moved": self._tally.moved,
            "duplicate": self._tally.duplicates,
        }
        visible = bool(plan.missing) or any(update.kind != "unchanged" for update in plan.updates)
        with self._session.catalogue.write(self._session.lease) as connection:
            for path in plan.vacated:
                connection.execute("DELETE FROM files WHERE path = ?", (path,))
            for update in plan.updates:
                if not _settled(update, by_path.get(update.seen.found.path)):
                    contents.put_file(connection, update.seen.found, video=update.video)
                lists[update.kind].append(FileChange(path=update.seen.found.path, video=update.video, was=update.was))
            for row in plan.missing:
                connection.execute("UPDATE files SET state = 'missing' WHERE path = ?", (row.path,))
                self._tally.missing.append(FileChange(path=row.path, video=row.video))
            self._forget_gone(connection, found)
            removed = contents.queue_deletions(connection)
            contents.forget_rootless(connection)
            if visible:
                contents.bump(connection, contents.VISIBILITY)
        self._session.store.trace("apply.committed")
        self._tally.removed += removed
        self._session.finish_deletions(only=removed)
        for kind in ("restored", "moved", "missing"):
            for change in getattr(self._tally, kind):
                self._session.log.write(kind, path=change.path, video=change.video, was=change.was)

    @staticmethod
    def _forget_gone(connection: sqlite3.Connection, found: Scan) -> None:
        """Failures and interruptions of files that were looked for and are not there any more."""
        for table in ("failures", "jobs"):
            for row in connection.execute(f"SELECT path FROM {table}").fetchall():  # noqa: S608 - one of the two above
                path = row["path"]
                if _looked_for(path, found) and not on_disk(path):
                    connection.execute(f"DELETE FROM {table} WHERE path = ?", (path,))  # noqa: S608 - as above


def _looked_for(path: str, found: Scan) -> bool:
    """Whether a path lies where files were looked for, and was not among them."""
    if path in found.files:
        return False
    return any(place in found.scopes or place in found.absent for place in (path, *map(str, Path(path).parents)))


def _settled(update: FileUpdate, row: FileRow | None) -> bool:
    """Whether the catalogue's row already says all of it."""
    found = update.seen.found
    return update.kind == "unchanged" and row is not None and row.looks_like(found) and is_under(found.root, row.root)
