"""`trifocal detect` on the library: its videos looked at, the tubes kept, and what came of it told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from trifocal.cli.find import path_of
from trifocal.cli.output import clock, number, plain, stderr, stdout, visible
from trifocal.errors import (
    DecoderFailed,
    LibraryNotFound,
    NotInLibrary,
    UnreadableVideo,
    UnsupportedVideo,
    VideoError,
    VideoLimitExceeded,
    VideoNotFound,
)

if TYPE_CHECKING:
    from trifocal.action import ActionModel, DetectConfig, DetectReport
    from trifocal.library import DetectionReport, DetectProgress

_KINDS: dict[str, type[VideoError]] = {
    kind.code: kind for kind in (DecoderFailed, UnreadableVideo, UnsupportedVideo, VideoLimitExceeded, VideoNotFound)
}

__all__ = ["detect_all", "detect_in_library", "print_detections"]


def detect_in_library(
    video: str, folder: Path, *, model: ActionModel, config: DetectConfig, again: bool, check: Callable[[Path], None]
) -> tuple[DetectReport, Path]:
    """Look at one video of the library, keep its tubes, and give them with its file.

    `check` is called with the file before it is looked at.

    Raises:
        VideoNotFound: there is no such video, or no such library, or its file is gone.
        VideoError: its file cannot be used.
    """
    from trifocal.library import Library

    try:
        with Library.open(folder) as opened:
            record = opened.video(video)
            file = Path(opened.source(record.id))
            check(file)
            with detect_progress() as progress:
                done = opened.detect(record.id, model=model, config=config, again=again, progress=progress)
            for failure in done.failed:
                raise _KINDS.get(failure.code, VideoError)(failure.message, remedy=failure.remedy)
            report = opened.detected(record.id, model=done.model)[0]
            return report, file
    except (LibraryNotFound, NotInLibrary) as error:
        raise VideoNotFound(
            f"{video} is neither a file nor a video of the library in {folder}",
            remedy="Check the path, or take an id from `trifocal list`.",
        ) from error


def detect_all(folder: Path, *, model: ActionModel, config: DetectConfig, again: bool) -> DetectionReport:
    """Look at all videos of the library."""
    from trifocal.library import Library

    with Library.open(folder) as opened, detect_progress() as progress:
        return opened.detect(model=model, config=config, again=again, progress=progress)


def print_detections(report: DetectionReport, folder: Path) -> None:
    """Print what a run over the library did: a line a video, the counts, and each file that failed."""
    from rich.table import Table

    from trifocal.library import Library

    with Library.open(folder) as opened:
        paths = {record.id: path_of(record) for record in opened.videos()}
    if report.detected:
        table = Table(box=None, pad_edge=False, header_style="dim")
        table.add_column("actors", justify="right", no_wrap=True)
        table.add_column("moments", justify="right", no_wrap=True)
        table.add_column("video", overflow="fold")
        for one in report.detected:
            table.add_row(str(one.tubes), str(one.moments), plain(Path(paths[one.video]).name))
        stdout().print(table)
    counts = [f"{number(len(report.detected), 'video')} looked at"]
    counts += [f"{len(report.unchanged)} unchanged"] if report.unchanged else []
    counts += [f"{len(report.failed)} failed"] if report.failed else []
    stdout().print(", ".join(counts))
    for failure in report.failed:
        line = f"failed: {failure.path}: {failure.message}. {failure.remedy}"
        stderr().print(visible(line.rstrip()), markup=False, soft_wrap=True)


@contextmanager
def detect_progress() -> Iterator[Callable[[DetectProgress], None] | None]:
    """A bar in videos, with the seconds seen of the one that is looked at, on a terminal."""
    if not stderr().is_terminal:
        yield None
        return
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (TextColumn("looking"), BarColumn(), TextColumn("{task.fields[facts]}", markup=False))
    with Progress(*columns, console=stderr(), transient=True) as bar:
        task = bar.add_task("detect", total=None, facts="")

        def show(now: DetectProgress) -> None:
            facts = f"{now.done_videos}/{now.total_videos}"
            if now.video:
                facts += f"  {clock(now.at_s)} of {clock(now.end_s)}  {visible(Path(now.video).name)}"
            part = min(1.0, now.at_s / now.end_s) if now.end_s > 0 else 0.0
            bar.update(task, completed=now.done_videos + part, total=now.total_videos, facts=facts)

        yield show
