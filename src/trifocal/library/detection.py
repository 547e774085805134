"""`detect`: a detector looks at videos of the library, and what it saw becomes rows of the catalogue.

One transaction a video: killed at any moment, a run leaves whole videos, and the next one goes on with the rest. A
video that the same detector has looked at in the same way is passed over; in another way, what it saw is replaced.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trifocal.errors import InvalidInput, VideoError, VideoNotFound
from trifocal.library import account, contents
from trifocal.library.lookup import find_video
from trifocal.library.records import AddFailure, Detection, DetectProgress
from trifocal.library.scan import as_failure, scan, still_the_same
from trifocal.library.tubes import delete_detection, detections, looked_with, put_detection

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable

    from trifocal.library.looker import Looker
    from trifocal.library.plan import FileRow
    from trifocal.library.scan import FoundFile
    from trifocal.library.session import Session
    from trifocal.video import Limits

__all__ = ["DetectionReport", "detect_videos", "forget_detector"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectionReport:
    """What `Library.detect` did.

    Args:
        model: the detector's id.
        detected: the videos that were looked at in this run.
        unchanged: those that the detector had looked at in the same way before.
        failed: those that could not be looked at, by their first path.
    """

    model: str
    detected: tuple[Detection, ...]
    unchanged: tuple[Detection, ...]
    failed: tuple[AddFailure, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "model": self.model,
            "detected": [one.to_dict() for one in self.detected],
            "unchanged": [one.to_dict() for one in self.unchanged],
            "failed": [one.to_dict() for one in self.failed],
        }


def detect_videos(
    session: Session,
    looker: Looker,
    names: Iterable[str | os.PathLike[str]] | None,
    *,
    again: bool,
    limits: Limits,
    progress: Callable[[DetectProgress], None] | None,
) -> DetectionReport:
    """Look at videos, all or the named ones; see `Library.detect`."""
    with session.catalogue.read() as connection:
        if names is None:
            videos = [record.id for record in account.video_records(connection)]
        else:
            videos = list(dict.fromkeys(find_video(connection, name) for name in names))
        rows = contents.file_rows(connection)
        before = looked_with(connection, looker.id)
        unchanged = [video for video in videos if not again and before.get(video) == looker.config]
        kept = [one for video in unchanged for one in detections(connection, video, model=looker.id)]
    files: dict[str, list[FileRow]] = {}
    for row in rows:
        files.setdefault(row.video, []).append(row)
    todo = [video for video in videos if video not in set(unchanged)]
    detected: list[Detection] = []
    failed: list[AddFailure] = []
    for done, video in enumerate(todo):
        own = files.get(video, [])
        path = own[0].path if own else video
        found = _whole(own)
        if found is None:
            gone = VideoNotFound(
                f"{Path(path).name} is not there with the content that was added",
                remedy="Connect the drive, or `add` its folder.",
            )
            failed.append(as_failure(path, gone))
            continue

        def tell(at_s: float, end_s: float, *, path: str = found.path, done: int = done) -> None:
            if progress is not None:
                progress(DetectProgress(video=path, done_videos=done, total_videos=len(todo), at_s=at_s, end_s=end_s))

        tell(0.0, 0.0)
        try:
            report = looker.look(found.path, video=video, limits=limits, progress=tell)
        except VideoError as error:
            failed.append(as_failure(found.path, error))
            continue
        if not still_the_same(found):
            changed = AddFailure(
                path=found.path,
                code="changed_while_read",
                message="the file changed while it was read",
                remedy="Add it again when it is complete.",
            )
            failed.append(changed)
            continue
        with session.catalogue.write(session.lease) as connection:
            detected.append(put_detection(connection, video, looker=looker, report=report))
            session.store.trace("detect.video")
        session.store.trace("detect.video.committed")
        session.log.write("detected", video=video, path=found.path, model=looker.id)
        session.store.trace("detect.video.logged")
    if progress is not None:
        progress(DetectProgress(video="", done_videos=len(todo), total_videos=len(todo), at_s=0.0, end_s=0.0))
    session.catalogue.shrink()  # what was replaced is not to stay in the write-ahead log
    return DetectionReport(
        model=looker.id,
        detected=tuple(detected),
        unchanged=tuple(kept),
        failed=tuple(sorted(failed, key=lambda failure: failure.path)),
    )


def forget_detector(session: Session, model: str) -> int:
    """Delete everything that a detector saw, by its id or name; see `Library.forget_detector`."""
    with session.catalogue.write(session.lease) as connection:
        gone = detections(connection, model=model)
        if not gone:
            known = sorted({one.name for one in detections(connection)})
            raise InvalidInput(
                f"no detector {model!r} has looked at the library",
                remedy=f"Those that have: {', '.join(known)}." if known else "None has.",
            )
        for one in gone:
            delete_detection(connection, one.video, one.model)
        session.store.trace("forget.committing")
    session.catalogue.shrink()
    session.store.trace("forget.done")
    return len(gone)


def _whole(files: list[FileRow]) -> FoundFile | None:
    """The first of a video's files that is there as it was added."""
    present = scan([file.path for file in files]).files if files else {}
    return next(
        (present[file.path] for file in files if file.path in present and file.looks_like(present[file.path])), None
    )
