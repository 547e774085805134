"""`add`: from paths to videos in the library; safe to kill at any instant and to run again.

scan (which files) → hash (what is in those that look new) → plan (what it means) → apply (one transaction for all that
needs no decoding) → for each new content: decode → encode → write. A video is written as thumbnails, then prototypes,
each renamed into place, then one transaction that makes it part of the library; before that it does not exist. What is
kept outside the contents: `jobs` counts how often a video's ingest was cut off, `failures` remembers files whose bytes
cannot be used. A file that fails leaves the contents as they were.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from trifocal.errors import LibraryError, VideoError, VideoLimitExceeded, VideoNotFound
from trifocal.library import account, contents
from trifocal.library.plan import IngestTask, Plan, SeenFile, make_plan
from trifocal.library.records import AddFailure, AddReport, FileChange, StageTimes
from trifocal.library.scan import Scan, as_failure, is_under, on_disk, scan, still_the_same
from trifocal.library.stages import EncodedVideo, StageFailure
from trifocal.library.stored import StoredFiles

if TYPE_CHECKING:
    import os
    import sqlite3
    from collections.abc import Callable, Iterable, Iterator

    from trifocal.library.executor import Executor
    from trifocal.library.meter import Meter
    from trifocal.library.plan import FileRow, FileUpdate
    from trifocal.library.scan import FoundFile
    from trifocal.library.session import Session
    from trifocal.library.settings import LibrarySettings
    from trifocal.library.stages import VideoReader
    from trifocal.video import Limits

__all__ = ["QUARANTINE_AFTER", "AddOptions", "Ingest"]

QUARANTINE_AFTER = 10
"""A video whose ingest was cut off this often is left alone until asked for: it may be what kills the process."""

_CHANGED = "changed_while_read"


@dataclass(frozen=True, slots=True, kw_only=True)
class AddOptions:
    """How to look for files; see `Library.add`."""

    recursive: bool = True
    pattern: str | None = None
    follow_symlinks: bool = False
    retry_failed: bool = False


@dataclass(slots=True)
class _Tally:
    """The report while it grows."""

    added: list[FileChange] = field(default_factory=list)
    duplicates: list[FileChange] = field(default_factory=list)
    unchanged: list[FileChange] = field(default_factory=list)
    moved: list[FileChange] = field(default_factory=list)
    replaced: list[FileChange] = field(default_factory=list)
    restored: list[FileChange] = field(default_factory=list)
    missing: list[FileChange] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    failed: list[AddFailure] = field(default_factory=list)
    skipped: list[AddFailure] = field(default_factory=list)
    times: StageTimes = field(default_factory=StageTimes)

    def report(self) -> AddReport:
        """The finished report, each list by path."""
        changes = {
            name: tuple(sorted(getattr(self, name), key=lambda change: change.path))
            for name in ("added", "duplicates", "unchanged", "moved", "replaced", "restored", "missing")
        }
        failures = {
            name: tuple(sorted(getattr(self, name), key=lambda failure: failure.path)) for name in ("failed", "skipped")
        }
        return AddReport(**changes, **failures, removed=tuple(sorted(self.removed)), times=self.times)


class Ingest:
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
        self._executor = executor
        self._limits = limits
        self._meter = meter
        self._tally = _Tally()
        # Failures hold for the same bytes under the same rules alone.
        rules = json.dumps([asdict(settings), limits.to_json()], sort_keys=True)
        self._config = hashlib.sha256(rules.encode()).hexdigest()[:16]

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
            self.ingest(plan.tasks, options=options)
        self._tally.times = replace(self._tally.times, total_s=time.perf_counter() - began)
        self._meter.phase("done")
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
                and failure["config"] == self._config
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
                found.failed.append(_changed(file.path))
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

    def again(self, tasks: tuple[IngestTask, ...]) -> AddReport:
        """Ingest the content of videos that the library holds already, in place of what is stored of them."""
        self.ingest(tasks, options=AddOptions(retry_failed=True))
        return self._tally.report()

    def ingest(self, tasks: tuple[IngestTask, ...], *, options: AddOptions) -> None:
        """Decode, encode and write new content, first what was never cut off."""
        with self._session.catalogue.read() as connection:
            attempts = {row["sha256"]: row["attempts"] for row in connection.execute("SELECT * FROM jobs")}
        fresh = [task for task in tasks if task.sha256 not in attempts]
        again = [task for task in tasks if task.sha256 in attempts]
        if not options.retry_failed:
            for task in (task for task in again if attempts[task.sha256] >= QUARANTINE_AFTER):
                self._tally.skipped += [
                    account.quarantined(file.path, times=attempts[task.sha256]) for file in task.files
                ]
            again = [task for task in again if attempts[task.sha256] < QUARANTINE_AFTER]
        again.sort(key=lambda task: (attempts[task.sha256], task.path))
        if not fresh and not again:
            return
        executor = self._executor()
        self._meter.phase("ingest", total=len(fresh) + len(again), total_bytes=_bytes(fresh) + _bytes(again))
        begun: dict[str, IngestTask] = {}
        try:
            # One of those cut off before may be what kills the process: each runs alone, so that no other is counted.
            for group in (fresh, *([task] for task in again)):
                for result in executor.run(self._begin(group, begun), on_seconds=self._meter.seconds):
                    self._settle(result)
                    begun.pop(result.task.sha256, None)
        except BaseException:
            self._uncount(begun)
            raise

    def _begin(self, tasks: list[IngestTask], begun: dict[str, IngestTask]) -> Iterator[IngestTask]:
        for task in tasks:
            if not still_the_same(task.files[0]):  # never open what has become a link out of its root meanwhile
                self._fail(_changed_task(task))
                self._meter.finished(size=task.files[0].size)
                continue
            begun[task.sha256] = task  # first: an interrupt may come between the commit and the next line
            with self._session.catalogue.write(self._session.lease) as connection:
                connection.execute(
                    "INSERT INTO jobs VALUES (?, ?, 1, ?) ON CONFLICT (sha256) DO UPDATE"
                    " SET attempts = attempts + 1, path = excluded.path, started_at = excluded.started_at",
                    (task.sha256, task.path, contents.now()),
                )
            self._session.store.trace("job.begun")
            yield task

    def _uncount(self, begun: dict[str, IngestTask]) -> None:
        """Stopped in good order, by the user or by an error: that says nothing against the videos under way."""
        try:
            with self._session.catalogue.write(self._session.lease) as connection:
                for sha256 in begun:
                    connection.execute("DELETE FROM jobs WHERE sha256 = ? AND attempts = 1", (sha256,))
                    connection.execute("UPDATE jobs SET attempts = attempts - 1 WHERE sha256 = ?", (sha256,))
        except LibraryError:
            # The disk is full or the lease is lost, which is the error on its way out; the count is one too high.
            return

    def _settle(self, result: EncodedVideo | StageFailure) -> None:
        started = time.perf_counter()
        if isinstance(result, EncodedVideo) and still_the_same(result.task.files[0]):
            stored = self._write(result)
            times = self._tally.times
            self._tally.times = replace(
                times,
                decode_s=times.decode_s + result.decode_s,
                encode_s=times.encode_s + result.encode_s,
                write_s=times.write_s + time.perf_counter() - started,
                video_s=times.video_s + result.duration_s,
                video_bytes=times.video_bytes + result.task.files[0].size,
                stored_bytes=times.stored_bytes + stored,
            )
        elif isinstance(result, EncodedVideo):
            self._fail(_changed_task(result.task))
        else:
            self._fail(result)
        self._meter.finished(size=result.task.files[0].size)

    def _write(self, encoded: EncodedVideo) -> int:
        """Make a video part of the library; returns the bytes it takes."""
        session, task = self._session, encoded.task
        with session.catalogue.read() as connection:
            video = contents.new_id(connection, task.sha256)
        stored = StoredFiles.write(session.store, video, encoded)
        with session.catalogue.write(session.lease) as connection:
            contents.insert_video(connection, video, encoded, stored=stored)
            for file in task.files:
                contents.put_file(connection, file, video=video)
            removed = contents.queue_deletions(connection)
            contents.forget_rootless(connection)
            contents.bump(connection)
            contents.bump(connection, contents.VISIBILITY)
            session.store.trace("video.committing")
        session.store.trace("video.committed")
        self._tally.removed += removed
        session.finish_deletions(only=removed)
        fresh = True
        for file in task.files:
            was = task.before.get(file.path, "")
            kind = "replaced" if was else "added" if fresh else "duplicates"
            fresh = False
            getattr(self._tally, kind).append(FileChange(path=file.path, video=video, was=was))
            session.log.write(kind, path=file.path, video=video, was=was)
        return stored.bytes

    def _fail(self, failure: StageFailure) -> None:
        """Note a file that cannot be used. What its path held before is not there any more: that is marked missing."""
        task = failure.task
        with self._session.catalogue.write(self._session.lease) as connection:
            connection.execute("DELETE FROM jobs WHERE sha256 = ?", (task.sha256,))
            for path, video in task.before.items():
                changed = connection.execute(
                    "UPDATE files SET state = 'missing' WHERE path = ? AND video = ? AND state = 'present'",
                    (path, video),
                ).rowcount
                if changed:
                    contents.bump(connection, contents.VISIBILITY)
                    self._tally.missing.append(FileChange(path=path, video=video))
            for file in task.files if failure.lasting else ():
                connection.execute(
                    "INSERT OR REPLACE INTO failures VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        file.path, task.sha256, file.size, file.mtime_ns, self._config,
                        failure.code, failure.message, failure.remedy, contents.now(),
                    ),
                )  # fmt: skip
        self._session.store.trace("failure.committed")
        for file in task.files:
            self._tally.failed.append(
                AddFailure(path=file.path, code=failure.code, message=failure.message, remedy=failure.remedy)
            )
            self._session.log.write("failed", path=file.path, code=failure.code)


def _looked_for(path: str, found: Scan) -> bool:
    """Whether a path lies where files were looked for, and was not among them."""
    if path in found.files:
        return False
    return any(place in found.scopes or place in found.absent for place in (path, *map(str, Path(path).parents)))


def _settled(update: FileUpdate, row: FileRow | None) -> bool:
    """Whether the catalogue's row already says all of it."""
    found = update.seen.found
    return update.kind == "unchanged" and row is not None and row.looks_like(found) and is_under(found.root, row.root)


def _bytes(tasks: list[IngestTask]) -> int:
    return sum(task.files[0].size for task in tasks)


def _changed_task(task: IngestTask) -> StageFailure:
    changed = _changed(task.path)
    return StageFailure(task=task, code=changed.code, message=changed.message, remedy=changed.remedy, lasting=False)


def _changed(path: str) -> AddFailure:
    return AddFailure(
        path=path,
        code=_CHANGED,
        message=f"{Path(path).name} changed while it was read",
        remedy="Add it again when it is complete.",
    )
