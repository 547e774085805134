"""`trifocal add`: bring videos into the library; safe to interrupt and to run again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trifocal.cli.output import (
    Format,
    FormatOption,
    LibraryOption,
    clock,
    default_library,
    print_json,
    size,
    stderr,
    stdout,
    visible,
)
from trifocal.errors import InvalidInput, LibraryNotFound, VideoLimitExceeded

if TYPE_CHECKING:
    from trifocal.library import AddProgress, AddReport, Library
    from trifocal.video import Limits

EXIT_SOME_FAILED = 3


class TokensKept(StrEnum):
    """`LibrarySettings.clip_tokens`."""

    NONE = "none"
    HALF = "half"
    INT8 = "int8"


CHANGES = {
    "added": "added",
    "duplicates": "duplicate",
    "moved": "moved",
    "replaced": "replaced",
    "restored": "back",
    "unchanged": "unchanged",
    "missing": "gone",
}


def add(
    paths: Annotated[list[str], typer.Argument(help="Video files, folders, or globs in quotes.")],
    library: LibraryOption = None,
    recursive: Annotated[bool, typer.Option(help="Whether folders inside folders count.")] = True,
    pattern: Annotated[str | None, typer.Option(help="Take only files whose name matches, such as '*.mp4'.")] = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            help="For a new library: a CLIP or SigLIP model, or the folder of a trained one.",
            show_default="offline default",
        ),
    ] = None,
    clip_tokens: Annotated[
        TokensKept | None,
        typer.Option(help="For a new library: keep every encoded frame, so that moments are placed to the frame."),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, max=32, help="Videos decoded ahead of the one being encoded.")] = 1,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try files again that failed before.")] = False,
    follow_symlinks: Annotated[bool, typer.Option("--follow-symlinks", help="Follow links inside folders.")] = False,
    limit: Annotated[
        list[str] | None,
        typer.Option(
            help="Change what one video may cost, such as duration_s=36000; repeatable.", metavar="NAME=NUMBER"
        ),
    ] = None,
    format_: FormatOption = Format.HUMAN,
) -> None:
    """Add videos to the library, or bring it up to date with folders that changed.

    What has not changed is skipped; what moved, changed or went is noticed. Interrupt it whenever you like: the next
    run goes on where this one stopped. A file that cannot be used is reported and stops nothing.
    """
    folder, limits, quiet = library or default_library(), parse_limits(limit or []), format_ is Format.JSON
    with (
        open_or_create(folder, encoder=encoder, limits=limits, clip_tokens=clip_tokens) as opened,
        add_progress(quiet=quiet) as progress,
    ):
        report = opened.add(
            paths,
            recursive=recursive,
            pattern=pattern,
            workers=workers,
            retry_failed=retry_failed,
            follow_symlinks=follow_symlinks,
            progress=progress,
        )
    if format_ is Format.JSON:
        print_json(report.to_dict())
    else:
        print_report(report, folder)
    if report.failed:
        raise typer.Exit(EXIT_SOME_FAILED)


def parse_limits(settings: list[str]) -> Limits:
    """`NAME=NUMBER` each, over the defaults.

    Raises:
        InvalidInput: not of that form, no such limit, or a number that it cannot be.
    """
    from trifocal.video import Limits

    defaults = asdict(Limits())
    numbers = [name for name, value in defaults.items() if not isinstance(value, tuple)]
    changed: dict[str, float] = {}
    for setting in settings:
        name, _, text = setting.partition("=")
        if name not in numbers:
            raise InvalidInput(
                f"there is no limit {name!r}", remedy=f"Give NAME=NUMBER with one of {', '.join(numbers)}."
            )
        try:
            changed[name] = int(text) if isinstance(defaults[name], int) else float(text)
        except ValueError as error:
            raise InvalidInput(f"limit {name} is {text!r}", remedy="Give a positive number.") from error
    return replace(Limits(), **changed)  # type: ignore[arg-type]  # the names and kinds were just checked


@contextmanager
def open_or_create(
    folder: Path, *, encoder: str | None, limits: Limits | None = None, clip_tokens: TokensKept | None = None
) -> Iterator[Library]:
    """The library in `folder`, made there if there is none yet."""
    from trifocal.library import Library, LibrarySettings

    try:
        library = Library.open(folder, encoder=encoder, limits=limits)
    except LibraryNotFound:
        settings = LibrarySettings(clip_tokens="none" if clip_tokens is None else clip_tokens.value)
        library = Library.create(folder, encoder=encoder or "default", settings=settings, limits=limits)
    with library:
        yield library


@contextmanager
def add_progress(*, quiet: bool) -> Iterator[Callable[[AddProgress], None] | None]:
    """A bar in seconds of video with rate and time left, on a terminal."""
    if quiet or not stderr().is_terminal:
        yield None
        return
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (TextColumn("{task.fields[phase]}"), BarColumn(), TextColumn("{task.fields[facts]}", markup=False))
    with Progress(*columns, console=stderr(), transient=True) as bar:
        task = bar.add_task("add", total=None, phase="looking", facts="")

        def show(now: AddProgress) -> None:
            facts = f"{now.done_videos}/{now.total_videos}"
            if now.rate > 0:
                facts += f"  {now.rate:.1f}× real time"
            if now.eta_s is not None:
                facts += f"  {clock(now.eta_s)} left"
            if now.video:
                facts += f"  {visible(Path(now.video).name)}"
            known = now.phase == "ingest" and now.total_s > 0
            done, total = (now.done_s, now.total_s) if known else (now.done_videos, now.total_videos or None)
            bar.update(task, completed=done, total=total, phase=now.phase, facts=facts)

        yield show


def print_report(report: AddReport, folder: Path) -> None:
    """Print what an `add` did: the counts, the cost, and each file that failed."""
    out, err = stdout(), stderr()
    counts = [f"{len(changes)} {word}" for name, word in CHANGES.items() if (changes := getattr(report, name))]
    if report.skipped:
        counts.append(f"{len(report.skipped)} skipped")
    if report.failed:
        counts.append(f"[red]{len(report.failed)} failed[/]")
    out.print(", ".join(counts) or "no videos found")
    times = report.times
    if times.video_s > 0:
        speed = times.video_s / times.total_s if times.total_s else 0.0
        out.print(
            f"{clock(times.video_s)} of video in {clock(times.total_s)} ({speed:.1f}× real time), "
            f"{size(times.stored_bytes)} stored in {visible(str(folder))}",
            markup=False,
        )
    for word, failures in (("failed", report.failed), ("skipped", report.skipped)):
        for failure in failures:
            line = f"{word}: {failure.path}: {failure.message}. {failure.remedy}"
            err.print(visible(line.rstrip()), markup=False, soft_wrap=True)
    if any(failure.code == VideoLimitExceeded.code for failure in report.failed):
        err.print("limits are set with --limit NAME=NUMBER", markup=False, soft_wrap=True)
