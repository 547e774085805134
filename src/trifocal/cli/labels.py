"""`trifocal labels`: look at label files of actions, draw them on their videos, turn one format into another."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trifocal.cli.output import Format, FormatOption, number, plain, print_json, stderr, stdout, visible, writing
from trifocal.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trifocal.action.data.check import LabelReport
    from trifocal.action.data.clips import VideoFolder
    from trifocal.action.labels import Labels

app = typer.Typer(help="Check, draw and convert labels of actions.", no_args_is_help=True, rich_markup_mode="markdown")

LabelsArgument = Annotated[Path, typer.Argument(help="A label file; for CVAT also a folder of XML files.")]
KindOption = Annotated[
    str | None,
    typer.Option(
        "--kind", "-k", help="trifocal, ava, ava-json, cvat, coco or tubes.", show_default="told from the file"
    ),
]
MapOption = Annotated[Path | None, typer.Option("--label-map", help="Names of the classes: pbtxt or JSON.")]
ExcludedOption = Annotated[Path | None, typer.Option(help="AVA: a csv of seconds to leave out.")]
RateOption = Annotated[
    float | None,
    typer.Option(
        help="Frames per second, where the file does not tell.", show_default="the video's with --videos, else 25"
    ),
]
AttributeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--attribute",
        help="CVAT: the attribute that holds actions; give it several times for several.",
        show_default="action, actions",
    ),
]
VideosOption = Annotated[Path | None, typer.Option("--videos", help="The folder of the videos.")]
StartOption = Annotated[
    float,
    typer.Option("--start-s", "--start", help="The videos' second that is the labels' second 0; AVA's clips: -900."),
]


def load(
    path: Path,
    kind: str | None,
    label_map: Path | None,
    excluded: Path | None,
    rate: float | None,
    attributes: Sequence[str] | None = None,
) -> Labels:
    """Read labels as every verb names them.

    Raises:
        InvalidInput: an unknown format, or a wrong file.
    """
    from trifocal.action.data.formats import FORMATS, read_labels
    from trifocal.action.data.formats.cvat import ATTRIBUTES

    if kind is not None and kind not in FORMATS:
        raise InvalidInput(f"the format is {kind!r}", remedy=f"Give one of {', '.join(FORMATS)}.")
    return read_labels(
        path,
        kind=kind,  # type: ignore[arg-type]
        label_map=label_map,
        excluded=excluded,
        rate=rate,
        attributes=tuple(attributes) if attributes else ATTRIBUTES,
    )


def measured(labels: Labels, frames: VideoFolder) -> Labels:
    """With the sizes and frame rates of the videos themselves, where no label file told them."""
    sizes = {one.video: frames.size(one) for one in labels.videos if not one.measured}
    return frames.timed(labels).measured(sizes)


@app.command()
def check(
    labels: LabelsArgument,
    kind: KindOption = None,
    label_map: MapOption = None,
    excluded: ExcludedOption = None,
    rate: RateOption = None,
    attribute: AttributeOption = None,
    videos: VideosOption = None,
    start: StartOption = 0.0,
    format_: FormatOption = Format.HUMAN,
) -> None:
    """Count what labels hold, and tell what cannot be right: boxes outside, without area or twice, times after the end.

    Attributes of CVAT that no action was made of are listed; where no box has an action they are what is wrong. Leaves
    with 1 when something is wrong.
    """
    from trifocal.action.data.check import check_labels
    from trifocal.action.data.clips import VideoFolder

    read = load(labels, kind, label_map, excluded, rate, attribute)
    if videos is None:
        report = check_labels(read)
    else:
        with VideoFolder(videos) as frames:
            report = check_labels(frames.timed(read), frames=frames, start_s=start)
    if format_ is Format.JSON:
        print_json(report.to_dict())
    else:
        _print(report)
    if report.problems:
        raise typer.Exit(1)


def _print(report: LabelReport) -> None:
    from rich.table import Table

    out = stdout()
    facts = (
        number(report.videos, "video"),
        number(report.tracks, "track"),
        f"{report.boxes} boxes in {number(report.frames, 'frame')}",
    )
    out.print(", ".join(facts), markup=False)
    if report.empty_frames:
        out.print(f"{number(report.empty_frames, 'frame')} looked at without anybody", markup=False)
    if report.without_action:
        out.print(f"{report.without_action} boxes without an action", markup=False)
    for name, count in report.unread.items():
        out.print(f"attribute {visible(name)!r} not read: {count} boxes have a value in it", markup=False)
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name, side in (("class", "left"), ("boxes", "right"), ("videos", "right")):
        table.add_column(name, justify=side)  # type: ignore[arg-type]
    for name, count in report.boxes_of_class.items():
        table.add_row(plain(name), str(count), str(report.videos_of_class[name]))
    out.print(table)
    for kind, count in Counter(problem.kind for problem in report.problems).items():
        out.print(f"\n{kind}: {number(count, 'video')}", style="bold", markup=False)
        for problem in [one for one in report.problems if one.kind == kind][:10]:
            out.print(
                f"  {visible(problem.video)}: {problem.count} rows, {visible(problem.text)}",
                markup=False,
                soft_wrap=True,
            )
    if any(problem.kind == "no action" for problem in report.problems):
        out.print("\nName the attribute that holds the actions: --attribute NAME.", markup=False)
    if not report.problems:
        out.print("\nnothing is wrong")


@app.command()
def draw(
    labels: LabelsArgument,
    videos: Annotated[Path, typer.Option("--videos", help="The folder of the videos.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The picture to write (JPEG).")],
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=100, help="How many frames.")] = 12,
    video: Annotated[str | None, typer.Option(help="Of this video alone.", show_default="all")] = None,
    kind: KindOption = None,
    label_map: MapOption = None,
    rate: RateOption = None,
    attribute: AttributeOption = None,
    start: StartOption = 0.0,
) -> None:
    """Draw labelled frames with their boxes and actions, evenly spread, on one sheet."""
    import numpy as np

    from trifocal import video as media
    from trifocal.action.data.check import draw_labels
    from trifocal.action.data.clips import VideoFolder

    read = load(labels, kind, label_map, None, rate, attribute)
    chosen = read.only([video]) if video is not None else read
    with VideoFolder(videos) as frames:
        chosen = frames.timed(chosen)
        places = [(one, int(index)) for one in chosen.videos for index in np.unique(one.indices)]
        if not places:
            raise InvalidInput("there is no labelled box to draw", remedy="Give labels with boxes.")
        picked = [
            places[i] for i in np.unique(np.linspace(0, len(places) - 1, min(count, len(places))).round().astype(int))
        ]
        pictures = [
            draw_labels(one, index=index, names=read.classes.names, frames=frames, start_s=start)
            for one, index in picked
        ]
    texts = [visible(f"{one.video} {index}") for one, index in picked]
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
    media.write_jpeg(out, media.contact_sheet(pictures, labels=texts))
    stderr().print(f"wrote {visible(str(out))}", markup=False, soft_wrap=True)


@app.command()
def convert(
    labels: LabelsArgument,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="What to write; for CVAT a folder, or NAME.xml for one video.")
    ],
    to: Annotated[str, typer.Option("--to", help="trifocal, ava, cvat or coco.")] = "trifocal",
    kind: KindOption = None,
    label_map: MapOption = None,
    excluded: ExcludedOption = None,
    rate: RateOption = None,
    attribute: AttributeOption = None,
    videos: VideosOption = None,
    start: StartOption = 0.0,
    split: Annotated[str | None, typer.Option(help="Only this split, such as train0.")] = None,
) -> None:
    """Turn labels of one format into another; the pickles of JHMDB and others are read without running them.

    CVAT and COCO count in pixels and in frames of the video; where labels tell no size of pictures, or count seconds,
    give --videos. AVA's csv gets its label map beside it. What a format cannot hold is told.
    """
    from trifocal.action.data.clips import VideoFolder
    from trifocal.action.data.formats import losses, write_labels

    if to not in ("trifocal", "ava", "cvat", "coco"):
        raise InvalidInput(f"nothing writes {to!r}", remedy="Give trifocal, ava, cvat or coco.")
    in_frames = to in ("cvat", "coco")
    if start and not (in_frames and videos is not None):
        raise InvalidInput(
            "--start-s is given, and nothing is counted in frames of the videos", remedy="Give --videos, --to cvat."
        )
    read = load(labels, kind, label_map, excluded, rate, attribute)
    read = read.split(split) if split is not None else read
    if videos is not None:
        with VideoFolder(videos) as frames:
            read = measured(read, frames)
            read = _in_frames(read, frames, start) if in_frames else read
    if in_frames and not all(one.measured for one in read.videos):
        raise InvalidInput(
            f"{to} counts in pixels, and {visible(labels.name)} does not tell the size of the pictures",
            remedy="Give the folder of the videos with --videos.",
        )
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
    written = write_labels(read, out, kind=to)  # type: ignore[arg-type]
    for loss in losses(read, to):
        stderr().print(f"{to}: {visible(loss)}", markup=False, soft_wrap=True)
    where = [out] if to == "cvat" else written
    for place, path in enumerate(where):
        what = number(len(read), "video") if place == 0 else "their label map"
        stderr().print(f"wrote {what} to {visible(str(path))}", markup=False, soft_wrap=True)


def _in_frames(labels: Labels, frames: VideoFolder, start: float) -> Labels:
    """With frames counted as the videos count them, where the labels count seconds or another rate.

    A rate within a hundredth of the video's is that rate, rounded: then the frames keep their numbers.
    """
    from trifocal.action.labels import Labels

    videos = []
    for one in labels.videos:
        rate = frames.length(one)[1]
        same = start == 0 and abs(one.rate - rate) <= 0.01 * rate
        videos.append(one if same else one.on_grid(rate, start_s=start))
    return Labels(labels.classes, tuple(videos), labels.splits)
