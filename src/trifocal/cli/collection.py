"""`trifocal list`, `show`, `remove` and `verify`: what the library holds, and whether it is sound."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from trifocal.cli.acted import detection_json, shortly
from trifocal.cli.add import add_progress
from trifocal.cli.find import path_of, picture
from trifocal.cli.output import (
    NARROW,
    Format,
    FormatOption,
    LibraryOption,
    clock,
    default_library,
    number,
    plain,
    print_json,
    size,
    stdout,
    visible,
    writing,
)

EXIT_UNSOUND = 5

Videos = Annotated[list[str], typer.Argument(help="Ids, starts of ids, or paths.")]


def list_videos(
    library: LibraryOption = None,
    failed: Annotated[bool, typer.Option("--failed", help="List the files that could not be used instead.")] = False,
    format_: FormatOption = Format.HUMAN,
) -> None:
    """List the videos of the library."""
    from rich.table import Table

    from trifocal.library import Library

    with Library.open(library or default_library()) as opened:
        records, failures, status = opened.videos(), opened.failures(), opened.status()
    if format_ is Format.JSON:
        print_json([one.to_dict() for one in failures] if failed else [record.to_dict() for record in records])
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    if failed:
        table.add_column("file", overflow="fold")
        table.add_column("code", no_wrap=True)
        table.add_column("what happened")
        for failure in failures:
            table.add_row(*(plain(text) for text in (failure.path, failure.code, failure.message)))
    else:
        wide = stdout().width >= NARROW
        table.add_column("id", no_wrap=True)
        table.add_column("length", justify="right", no_wrap=True)
        if wide:
            table.add_column("size", justify="right", no_wrap=True)
            table.add_column("codec", no_wrap=True)
        table.add_column("video", overflow="fold")
        for record in records:
            gone = " (gone)" if record.state == "missing" else ""
            picture_is = (f"{record.width}×{record.height}", record.codec) if wide else ()
            name = plain(path_of(record)) + gone
            table.add_row(record.id[:8], clock(record.duration_s), *picture_is, name)
    stdout().print(table)
    summary = f"{number(status.videos, 'video')}, {clock(status.duration_s)}, {size(status.library_bytes)} stored"
    notes = [("gone", status.missing), ("failed", status.failures), ("unfinished", status.interrupted)]
    stdout().print(summary + "".join(f", {count} {name}" for name, count in notes if count), style="dim")


def show(
    video: Annotated[str, typer.Argument(help="An id, the start of one, or a path.")],
    library: LibraryOption = None,
    sheet: Annotated[Path | None, typer.Option(help="Write a contact sheet (JPEG) of its parts.")] = None,
    format_: FormatOption = Format.HUMAN,
) -> None:
    """Show what the library knows about one video."""
    from trifocal.library import Library

    with Library.open(library or default_library()) as opened:
        record = opened.video(video)
        spans = [[round(float(second), 3) for second in span] for span in opened.prototypes(record.id).spans_s]
        pictures = opened.thumbnails(record.id)
        seen = opened.detected(record.id)
    if sheet is not None:
        from trifocal import video as media

        images = [picture(one.path) for one in pictures]
        with writing(sheet):
            sheet.parent.mkdir(parents=True, exist_ok=True)
        media.write_jpeg(sheet, media.contact_sheet(images, labels=[clock(one.at_s) for one in pictures]))
    if format_ is Format.JSON:
        values = {"spans_s": spans, "detections": [detection_json(report) for report in seen]}
        print_json(record.to_dict() | values)
        return
    from rich.table import Table

    fps = "unknown" if record.average_fps is None else f"{record.average_fps:.3f}".rstrip("0").rstrip(".")
    facts: dict[str, str] = {
        "id": record.id,
        "state": record.state,
        "files": "\n".join((*map(plain, record.paths), *(f"{plain(path)} (gone)" for path in record.missing_paths))),
        "length": clock(record.duration_s),
        "picture": f"{record.width}×{record.height}, {fps} frames/s, {record.codec} in {record.container}",
        "sound": "yes" if record.has_audio else "no",
        "file size": size(record.size_bytes),
        "stored": f"{size(record.library_bytes)}, from {number(record.frames, 'frame')}",
        number(record.prototypes, "part"): "  ".join(f"{clock(start)}–{clock(end)}" for start, end in sorted(spans)),
        "seen": "\n".join(shortly(report, record) for report in seen),
        "added": record.added_at,
        "warnings": "\n".join(map(plain, record.warnings)),
    }
    table = Table(box=None, pad_edge=False, show_header=False)
    for name, value in facts.items():
        if value:
            table.add_row(name, value)
    stdout().print(table)


def remove(
    videos: Videos,
    library: LibraryOption = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    format_: FormatOption = Format.HUMAN,
) -> None:
    """Remove videos from the library, with everything derived from them. The video files stay."""
    from trifocal.library import Library

    with Library.open(library or default_library()) as opened:
        if not yes:
            typer.confirm(
                f"Remove {visible(', '.join(videos))} from the library (the files stay)?", abort=True, err=True
            )
        report = opened.remove(videos)
    if format_ is Format.JSON:
        print_json(report.to_dict())
    else:
        stdout().print(f"removed {number(len(report.videos), 'video')}, {size(report.freed_bytes)} freed")


def verify(
    library: LibraryOption = None,
    sources: Annotated[bool, typer.Option("--sources", help="Also read every video and compare its bytes.")] = False,
    repair: Annotated[bool, typer.Option("--repair", help="Put right what is wrong.")] = False,
    format_: FormatOption = Format.HUMAN,
) -> None:
    """Check the library against itself and its videos; exit code 5 when something is wrong and not put right."""
    from trifocal.library import Library

    values: dict[str, Any] = {}
    with Library.open(library or default_library(), damaged=repair) as opened:
        if repair:
            with add_progress(quiet=format_ is Format.JSON) as progress:
                values["repair"] = opened.repair(sources=sources, progress=progress).to_dict()
        report = opened.verify(sources=sources)
    values["verify"] = report.to_dict()
    if format_ is Format.JSON:
        print_json(values)
    else:
        for line in values.get("repair", {}).get("done", []):
            stdout().print(f"repaired: {visible(line)}", markup=False, soft_wrap=True)
        for line in values.get("repair", {}).get("lost", []):
            stdout().print(f"not repaired: {visible(line)}", markup=False, soft_wrap=True)
        for problem in report.problems:
            stdout().print(f"problem: {visible(f'{problem.subject}: {problem.message}')}", markup=False, soft_wrap=True)
        if report.ok:
            stdout().print(f"sound: {number(report.videos, 'video')}, {size(report.checked_bytes)} checked")
        elif not repair:
            stdout().print("`trifocal verify --repair` puts right what it can")
    if not report.ok:
        raise typer.Exit(EXIT_UNSOUND)
