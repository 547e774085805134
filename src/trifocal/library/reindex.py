"""`reindex`: all videos encoded again with another encoder or other settings, beside what is there, swapped at last.

What is made goes into `spaces/<revision>/` and the catalogue's `next_` tables; searches go on with the old meanwhile.
A run that is killed is taken up where it stopped by the next one with the same aim; one with another aim starts over.
The swap is one transaction: rows, spans and the manifest change together, so vectors of two encoders are never mixed.
Then `trifocal.json` follows (the catalogue's copy counts until it has), and the old files go.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trifocal._version import __version__
from trifocal.errors import InvalidInput, LibraryError
from trifocal.library import account, contents
from trifocal.library.ingest import QUARANTINE_AFTER
from trifocal.library.plan import IngestTask
from trifocal.library.records import AddFailure
from trifocal.library.scan import scan, still_the_same
from trifocal.library.settings import FORMAT, MANIFEST_NAME, Manifest
from trifocal.library.stages import EncodedVideo
from trifocal.library.store import remove_tree
from trifocal.library.stored import StoredFiles
from trifocal.retrieval.encoder import DocumentEncoder

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator

    from trifocal.library.executor import Executor
    from trifocal.library.meter import Meter
    from trifocal.library.session import Session
    from trifocal.library.settings import LibrarySettings
    from trifocal.retrieval import FrameTextEncoder

__all__ = ["ReindexReport", "check_settings", "next_manifest", "reindex", "settle_manifest"]

_COLUMNS = (
    "duration_s", "frames", "warnings", "poster_ms", "prototypes_sha256", "prototypes_bytes", "thumbnails_sha256",
    "thumbnails_bytes", "tokens_sha256", "tokens_bytes",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ReindexReport:
    """What `reindex` did.

    Args:
        swapped: whether the library is the new one now.
        encoder: the id of the encoder that was aimed at.
        videos: how many were encoded in this run.
        kept: how many an interrupted run had encoded before.
        failed: videos that could not be encoded, by their first path; with `leave_out` they have left the library.
    """

    swapped: bool
    encoder: str
    videos: int
    kept: int
    failed: tuple[AddFailure, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)


def reindex(
    session: Session,
    executor: Callable[[], Executor],
    *,
    aim: Manifest,
    meter: Meter,
    leave_out: bool,
) -> ReindexReport:
    """Encode everything again and swap; see `Library.reindex`.

    Args:
        session: the right to write.
        executor: made when there is something to encode; of the new encoder and settings.
        aim: the manifest that the library is to have; its revision is one above the present one.
        meter: tells the caller how far it is.
        leave_out: whether videos that cannot be encoded may leave the library.
    """
    store = session.store.in_space(aim.revision)
    kept = _begin(session, aim)
    store.make_folders()
    failed: list[AddFailure] = []
    tasks = list(_tasks(session, failed))
    done = 0
    if tasks:
        meter.phase("ingest", total=len(tasks), total_bytes=sum(task.files[0].size for _, task in tasks))
        ids = {task.sha256: video for video, task in tasks}
        for result in executor().run(_begun(session, [task for _, task in tasks]), on_seconds=meter.seconds):
            with session.catalogue.write(session.lease) as connection:
                connection.execute("DELETE FROM jobs WHERE sha256 = ?", (result.task.sha256,))
            if isinstance(result, EncodedVideo) and still_the_same(result.task.files[0]):
                video = ids[result.task.sha256]
                stored = StoredFiles.write(store, video, result)
                with session.catalogue.write(session.lease) as connection:
                    _put(connection, video, result, stored)
                    session.store.trace("reindex.video")
                session.store.trace("reindex.video.committed")
                done += 1
            elif isinstance(result, EncodedVideo):
                failed.append(_failure(result.task.path, "changed_while_read", "the file changed while it was read"))
            else:
                failed.append(_failure(result.task.path, result.code, result.message, result.remedy))
            meter.finished(size=result.task.files[0].size)
    swapped = leave_out or not failed
    if swapped:
        _swap(session, aim)
    meter.phase("done")
    failures = tuple(sorted(failed, key=lambda failure: failure.path))
    return ReindexReport(swapped=swapped, encoder=aim.encoder.id, videos=done, kept=kept, failed=failures)


def _begun(session: Session, tasks: list[IngestTask]) -> Iterator[IngestTask]:
    """The tasks, each counted when it is begun: what kills the process again and again is left alone at last."""
    for task in tasks:
        with session.catalogue.write(session.lease) as connection:
            connection.execute(
                "INSERT INTO jobs VALUES (?, ?, 1, ?) ON CONFLICT (sha256) DO UPDATE SET attempts = attempts + 1",
                (task.sha256, task.path, contents.now()),
            )
        session.store.trace("reindex.task.begun")
        yield task


def settle_manifest(session: Session, manifest: Manifest) -> None:
    """Write `trifocal.json` as the catalogue has it."""
    session.store.write_file(session.store.folder / MANIFEST_NAME, manifest.to_json().encode(), step="manifest")


def _begin(session: Session, aim: Manifest) -> int:
    """Note down the aim; returns how many videos an interrupted run with the same one has encoded."""
    with session.catalogue.write(session.lease) as connection:
        pending = contents.get_meta(connection, contents.PENDING)
        if pending is not None and Manifest.from_json(pending) == aim:
            return int(connection.execute("SELECT count(*) FROM next_videos").fetchone()[0])
        connection.execute("DELETE FROM next_videos")
        contents.set_meta(connection, contents.PENDING, aim.to_json())
    session.store.trace("reindex.begun")
    remove_tree(session.store.folder / "spaces" / str(aim.revision))
    return 0


def _tasks(session: Session, failed: list[AddFailure]) -> Iterator[tuple[str, IngestTask]]:
    """Each video that is still to be encoded, with the first of its files that is there with its content."""
    with session.catalogue.read() as connection:
        rows = connection.execute(
            "SELECT id, sha256 FROM videos WHERE id NOT IN (SELECT id FROM next_videos) ORDER BY id"
        ).fetchall()
        files = contents.file_rows(connection)
        often = {
            row["sha256"]: row["attempts"]
            for row in connection.execute("SELECT * FROM jobs WHERE attempts >= ?", (QUARANTINE_AFTER,))
        }
    for row in rows:
        own = [file for file in files if file.video == row["id"]]
        present = scan([file.path for file in own]).files if own else {}
        if row["sha256"] in often and own:
            failed.append(account.quarantined(own[0].path, times=often[row["sha256"]]))
            continue
        here = [present[file.path] for file in own if file.path in present and file.looks_like(present[file.path])]
        found = here[0] if here else None
        if found is None:
            path = own[0].path if own else row["id"]
            failed.append(
                _failure(
                    path, "video_not_found", f"{Path(path).name} is not there with the content that was added",
                    "Connect the drive, `add` its folder, or leave it out.",
                )
            )  # fmt: skip
            continue
        yield row["id"], IngestTask(sha256=row["sha256"], files=(found,))


def _put(connection: sqlite3.Connection, video: str, encoded: EncodedVideo, stored: StoredFiles) -> None:
    values = {
        "id": video,
        "duration_s": encoded.duration_s,
        "frames": encoded.frames,
        "warnings": json.dumps(encoded.warnings, ensure_ascii=False),
        "poster_ms": encoded.poster_ms,
        **stored.columns(),
    }
    connection.execute("DELETE FROM next_videos WHERE id = ?", (video,))
    connection.execute(
        f"INSERT INTO next_videos ({', '.join(values)}) VALUES ({', '.join('?' * len(values))})",  # noqa: S608 - own names
        tuple(values.values()),
    )
    rows = contents.prototype_rows(video, encoded)
    connection.executemany("INSERT INTO next_prototypes VALUES (?, ?, ?, ?, ?)", rows)


def _swap(session: Session, aim: Manifest) -> None:
    """One transaction that makes the library the new one, and the tidying after it."""
    with session.catalogue.write(session.lease) as connection:
        kept = contents.get_meta(connection, contents.MANIFEST)
        if kept is None or Manifest.from_json(kept).revision != aim.revision - 1:
            raise LibraryError("the library has been indexed again meanwhile", remedy="Open it again.")
        # What could not be encoded leaves; the caller has asked for it or there is none.
        connection.execute("DELETE FROM files WHERE video NOT IN (SELECT id FROM next_videos)")
        contents.queue_deletions(connection)
        contents.forget_rootless(connection)
        names = ", ".join(_COLUMNS)
        connection.execute(
            f"UPDATE videos SET ({names}) = (SELECT {names} FROM next_videos WHERE next_videos.id = videos.id)"  # noqa: S608 - own names
        )
        connection.execute("DELETE FROM prototypes")
        connection.execute("INSERT INTO prototypes SELECT * FROM next_prototypes")
        connection.execute("DELETE FROM next_videos")
        connection.execute("DELETE FROM meta WHERE key = ?", (contents.PENDING,))
        contents.set_meta(connection, contents.MANIFEST, aim.to_json())
        contents.bump(connection)
        contents.bump(connection, contents.VISIBILITY)
        session.store.trace("reindex.swapping")
    session.store.trace("reindex.swapped")
    settle_manifest(session, aim)
    session.store = session.store.in_space(aim.revision)
    session.store.discard(session.store.folder / "index")
    session.tidy()
    session.log.write("reindexed", encoder=aim.encoder.id)
    session.store.trace("reindex.done")


def _failure(path: str, code: str, message: str, remedy: str = "Add it again when it is complete.") -> AddFailure:
    return AddFailure(path=path, code=code, message=message, remedy=remedy)


def check_settings(encoder: FrameTextEncoder, *, now: LibrarySettings, chosen: LibrarySettings) -> None:
    """Refuse settings that would change nothing: prototypes, where the encoder makes its own.

    Raises:
        InvalidInput: another number of prototypes, or way to make them, with a trained encoder.
    """
    if not isinstance(encoder, DocumentEncoder):
        return
    for name in ("prototypes", "prototype_method"):
        if getattr(chosen, name) != getattr(now, name):
            raise InvalidInput(
                f"{name} is {getattr(chosen, name)!r}, and the encoder {encoder.id} makes its own prototypes",
                remedy="Leave it out, or train with other ones (`trifocal train find --set prototypes=…`).",
            )


def next_manifest(now: Manifest, **changes: Any) -> Manifest:
    """The manifest of the next revision, with another encoder or other settings."""
    return replace(now, revision=now.revision + 1, format=FORMAT, written_by=__version__, **changes)
