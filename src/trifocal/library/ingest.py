"""New content on its way into the library: decode → encode → write; safe to kill at any instant and to run again.

A video is written as thumbnails, then prototypes, each renamed into place, then one transaction that makes it part of
the library; before that it does not exist. What is kept outside the contents: `jobs` counts how often a video's ingest
was cut off, `failures` remembers files whose bytes cannot be used. A file that fails leaves the contents as they were.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from trifocal.errors import LibraryError
from trifocal.library import account, contents
from trifocal.library.records import AddFailure, FileChange
from trifocal.library.scan import still_the_same
from trifocal.library.stages import EncodedVideo, StageFailure
from trifocal.library.stored import StoredFiles

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from trifocal.library.executor import Executor
    from trifocal.library.meter import Meter
    from trifocal.library.plan import IngestTask
    from trifocal.library.session import Session
    from trifocal.library.tally import Tally

__all__ = ["QUARANTINE_AFTER", "Ingest"]

QUARANTINE_AFTER = 10
"""A video whose ingest was cut off this often is left alone until asked for: it may be what kills the process."""


class Ingest:
    """The decoding part of one `add`, inside a writer's session.

    Args:
        session: the right to write.
        executor: makes who runs the stages; called only when there is something to ingest, as it loads the encoder.
        rules: a hash of all that decides whether a file can be used; remembered with a failure.
        meter: tells the caller how far it is.
        tally: is told what became of each file.
    """

    def __init__(
        self, session: Session, *, executor: Callable[[], Executor], rules: str, meter: Meter, tally: Tally
    ) -> None:
        """Nothing happens before `run`."""
        self._session = session
        self._executor = executor
        self._rules = rules
        self._meter = meter
        self._tally = tally

    def run(self, tasks: tuple[IngestTask, ...], *, retry_failed: bool) -> None:
        """Decode, encode and write new content, first what was never cut off.

        Args:
            tasks: what to ingest.
            retry_failed: also what was cut off so often that it is left alone.
        """
        with self._session.catalogue.read() as connection:
            attempts = {row["sha256"]: row["attempts"] for row in connection.execute("SELECT * FROM jobs")}
        fresh = [task for task in tasks if task.sha256 not in attempts]
        again = [task for task in tasks if task.sha256 in attempts]
        if not retry_failed:
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
                self._fail(_changed(task))
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
            self._fail(_changed(result.task))
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
                        file.path, task.sha256, file.size, file.mtime_ns, self._rules,
                        failure.code, failure.message, failure.remedy, contents.now(),
                    ),
                )  # fmt: skip
        self._session.store.trace("failure.committed")
        for file in task.files:
            self._tally.failed.append(
                AddFailure(path=file.path, code=failure.code, message=failure.message, remedy=failure.remedy)
            )
            self._session.log.write("failed", path=file.path, code=failure.code)


def _bytes(tasks: list[IngestTask]) -> int:
    return sum(task.files[0].size for task in tasks)


def _changed(task: IngestTask) -> StageFailure:
    changed = account.changed_while_read(task.path)
    return StageFailure(task=task, code=changed.code, message=changed.message, remedy=changed.remedy, lasting=False)
