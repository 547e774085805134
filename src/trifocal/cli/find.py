"""`trifocal find`: the moments that match, as a table, and as clips, a contact sheet or a page when asked.

What is looked for may be texts, pictures and clips, together and less others (`cli/asked.py` makes queries and filters
of the options).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trifocal.cli.acted import as_moments, print_spans, spans_json, tell_unseen
from trifocal.cli.asked import filter_from, queries_from
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
    stderr,
    stdout,
    visible,
    writing,
)
from trifocal.cli.page import MomentCard, QuerySection, plays_in_browsers, write_page
from trifocal.cli.progress import count_progress
from trifocal.errors import LibraryDamaged, VideoError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from trifocal.library import ActionSpan, Library, Moment, VideoRecord

SHORTEST_CLIP_S = 1.0
LONGEST_STEM = 100  # bytes of a video's name that go into the name of its clip


def find(
    queries: Annotated[
        list[str] | None, typer.Argument(help="What to look for, in words; several give one table each.")
    ] = None,
    library: LibraryOption = None,
    top: Annotated[int, typer.Option("--top", "-n", min=1, help="How many moments.")] = 10,
    per_video: Annotated[
        int | None,
        typer.Option(min=1, help="How many of them from one video at most.", show_default="1; all with --action alone"),
    ] = None,
    within: Annotated[
        list[str] | None, typer.Option("--in", help="Look in this video alone: an id or a path; repeatable.")
    ] = None,
    include_missing: Annotated[
        bool, typer.Option("--include-missing", help="Also in videos whose files are gone.")
    ] = False,
    together: Annotated[
        list[str] | None, typer.Option("--and", help="And this, in words, in the same moment; repeatable.")
    ] = None,
    but_not: Annotated[list[str] | None, typer.Option("--not", help="But not this, in words; repeatable.")] = None,
    image: Annotated[list[Path] | None, typer.Option(help="Like this picture; repeatable.")] = None,
    clip: Annotated[list[Path] | None, typer.Option(help="Like this video; repeatable.")] = None,
    from_file: Annotated[
        Path | None, typer.Option("--queries", help="A text file with one query a line, all searched at once.")
    ] = None,
    folder: Annotated[Path | None, typer.Option(help="Only videos in this folder, or one below it.")] = None,
    after: Annotated[
        str | None, typer.Option(help="Only files last changed on this date or later.", metavar="YYYY-MM-DD")
    ] = None,
    before: Annotated[
        str | None, typer.Option(help="Only files last changed before this date.", metavar="YYYY-MM-DD")
    ] = None,
    longer: Annotated[float | None, typer.Option(help="Only videos of at least so many seconds.")] = None,
    shorter: Annotated[float | None, typer.Option(help="Only videos of at most so many seconds.")] = None,
    action: Annotated[
        list[str] | None,
        typer.Option(help="Only where somebody does this, by `trifocal detect --all`; any one, when repeated."),
    ] = None,
    least_action: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="With --action: its least score while it is going on.")
    ] = 0.5,
    clips: Annotated[Path | None, typer.Option(help="Write each moment as an mp4 into this folder.")] = None,
    sheet: Annotated[Path | None, typer.Option(help="Write a contact sheet (JPEG) of the moments.")] = None,
    page: Annotated[Path | None, typer.Option(help="Write an HTML page with players at the moments.")] = None,
    format_: FormatOption = Format.HUMAN,
) -> None:
    """Find the moments that match a text, a picture or a clip best, in all videos of the library.

    With --action and nothing else to look for, the stretches in which somebody does it are listed, by score.
    """
    from trifocal.library import Library

    alone = bool(action) and not (queries or from_file or together or but_not or image or clip)
    asked = (
        {}
        if alone
        else queries_from(
            queries or [], file=from_file, together=together or [], but_not=but_not or [], images=image, clips=clip
        )
    )
    where = filter_from(folder=folder, after=after, before=before, longer=longer, shorter=shorter)
    with Library.open(library or default_library()) as opened:
        spans: list[ActionSpan] = []
        if alone:
            spans = opened.find_actions(
                action or [],
                least_score=least_action,
                top=top,
                spans_per_video=per_video,
                videos=within or None,
                where=where,
                include_missing=include_missing,
            )
            found = {" or ".join(action or []): as_moments(spans)}
        else:
            lists = opened.find_many(
                list(asked.values()),
                top=top,
                moments_per_video=per_video or 1,
                videos=within or None,
                where=where,
                include_missing=include_missing,
                actions=action or None,
                least_score=least_action,
            )
            found = dict(zip(asked, lists, strict=True))
        records = {record.id: record for record in opened.videos()}
        hidden = 0 if include_missing else opened.status().missing
        if format_ is Format.HUMAN:  # first, as what follows takes its time and may fail
            if alone:
                print_spans(spans, {video: path_of(record) for video, record in records.items()})
            for query, moments in ({} if alone else found).items():
                print_moments(query, moments, records, heading=len(found) > 1)
            if hidden:
                note = f"left out: {number(hidden, 'video')} without a file; --include-missing looks in them too"
                stderr().print(note, soft_wrap=True)
        if action:
            tell_unseen(opened, action)
        written = {
            query: _write_clips(opened, moments, folder=clips, prefix=f"{place + 1}-" if len(found) > 1 else "")
            for place, (query, moments) in enumerate(found.items())
            if clips is not None
        }
        if clips is not None and any(clip for of_query in written.values() for clip in of_query):
            _tell_written(clips)
        if sheet is not None:
            _write_sheet(opened, found, records, sheet)
        if page is not None:
            with writing(page):
                shown = sections(opened, found, clips=page.with_name(f"{page.stem}_files"))
                write_page(page, title="Moments", queries=tuple(shown))
            _tell_written(page)
    if format_ is Format.JSON:
        if alone:
            paths = {video: path_of(record) for video, record in records.items()}
            (name,) = found
            print_json([{"query": name, "moments": spans_json(spans, paths, written.get(name, []))}])
            return
        print_json([_as_json(query, moments, records, written.get(query, [])) for query, moments in found.items()])


def print_moments(query: str, moments: list[Moment], records: dict[str, VideoRecord], *, heading: bool = True) -> None:
    """Print one query's moments as a table."""
    from rich.table import Table

    out = stdout()
    if heading:
        out.print(f"\n“{visible(query)}”", style="bold", markup=False)
    if not moments:
        out.print("nothing found; the library is empty, its videos are gone, or none is as asked")
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("#", "from", "to", "score"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("video", overflow="fold")
    if out.width >= NARROW:
        table.add_column("id", style="dim", no_wrap=True)
    for place, moment in enumerate(moments, start=1):
        name = Path(path_of(records[moment.video])).name
        start, end = clock(moment.start_s), clock(moment.end_s)
        facts = (str(place), start, end, f"{moment.score:z.3f}", plain(name))
        table.add_row(*facts, *((moment.video[:8],) if out.width >= NARROW else ()))
    out.print(table)


def path_of(record: VideoRecord) -> str:
    """The file that stands for a video: one that is there, else one that was."""
    return (record.paths or record.missing_paths)[0]


def picture(path: Path | str) -> NDArray[np.uint8]:
    """A thumbnail as uint8 (H, W, 3).

    Raises:
        LibraryDamaged: it is missing or no picture.
    """
    import numpy as np
    from PIL import Image

    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except OSError as error:
        raise LibraryDamaged(
            f"the thumbnail {path} cannot be read", remedy="Run `trifocal verify --repair`."
        ) from error


def sections(library: Library, found: dict[str, list[Moment]], *, clips: Path) -> list[QuerySection]:
    """The page's view of what was found; moments that browsers cannot play are cut into `clips`."""
    records = {record.id: record for record in library.videos()}
    out = []
    for query, moments in found.items():
        cards = []
        for moment in moments:
            record = records[moment.video]
            source = Path(path_of(record))
            seek = plays_in_browsers(source, codec=record.codec)
            if not seek:
                clip = _clip(library, moment, clips / f"{record.id}-{round(moment.start_s * 1000)}.mp4")
                source = clip or source
            cards.append(
                MomentCard(
                    title=Path(path_of(record)).name,
                    start_s=moment.start_s,
                    end_s=moment.end_s,
                    duration_s=record.duration_s,
                    score=moment.score,
                    source=source,
                    seek=seek,
                    poster=library.thumbnail(record.id, at_s=(moment.start_s + moment.end_s) / 2),
                )
            )
        out.append(QuerySection(query=query, moments=tuple(cards)))
    return out


def _write_clips(library: Library, moments: list[Moment], *, folder: Path, prefix: str) -> list[str | None]:
    """One mp4 a moment, named by its rank; None where the video cannot be read now."""
    written: list[str | None] = []
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with count_progress("clips", "written") as progress:
        for place, moment in enumerate(moments, start=1):
            stem = _stem(Path(path_of(library.video(moment.video))).stem)
            name = f"{prefix}{place:02d}-{stem}-{round(moment.start_s * 1000)}ms.mp4"
            clip = _clip(library, moment, folder / name)
            written.append(None if clip is None else str(clip))
            progress(place, len(moments))
    return written


def _stem(name: str) -> str:
    """A video's name as part of another file's name: without what cannot be printed, and not too long for any disk."""
    return (
        "".join(character if character.isprintable() else "_" for character in name)
        .encode()[:LONGEST_STEM]
        .decode(errors="ignore")
    )


def _clip(library: Library, moment: Moment, target: Path) -> Path | None:
    """Cut a moment out of its video; None, and a note on stderr, when the video cannot be read now."""
    from trifocal import video

    target.parent.mkdir(parents=True, exist_ok=True)
    end_s = max(moment.end_s, moment.start_s + SHORTEST_CLIP_S)
    try:
        video.cut_clip(library.source(moment.video), target, start_s=moment.start_s, end_s=end_s)
    except VideoError as error:
        stderr().print(visible(f"no clip: {error}"), markup=False, soft_wrap=True)
        return None
    return target


def _tell_written(target: Path) -> None:
    stderr().print(f"wrote {visible(str(target))}", markup=False, soft_wrap=True)


def _write_sheet(library: Library, found: dict[str, list[Moment]], records: dict[str, VideoRecord], path: Path) -> None:
    """One row a query when there are several, so that the rows stand in the order of the queries."""
    from trifocal import video

    shown = [moment for moments in found.values() for moment in moments]
    if not shown:
        stderr().print("nothing was found, so there is no contact sheet")
        return
    pictures = [picture(library.thumbnail(one.video, at_s=(one.start_s + one.end_s) / 2)) for one in shown]
    labels = [f"{visible(Path(path_of(records[one.video])).name)} {clock(one.start_s)}" for one in shown]
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    columns = max(map(len, found.values())) if len(found) > 1 else None
    video.write_jpeg(path, video.contact_sheet(pictures, labels=labels, columns=columns))
    _tell_written(path)


def _as_json(
    query: str, moments: list[Moment], records: dict[str, VideoRecord], clips: list[str | None]
) -> dict[str, Any]:
    return {
        "query": query,
        "moments": [
            moment.to_dict() | {"path": path_of(records[moment.video])} | ({"clip": clips[place]} if clips else {})
            for place, moment in enumerate(moments)
        ],
    }
