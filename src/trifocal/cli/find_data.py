"""Which data `train find` and `eval find` mean: one of the field, or your own videos with a table of captions.

Frames of the user's own videos are encoded once and kept in a cache folder, so training and evaluation share them.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from trifocal.cli.output import number, stdout, visible
from trifocal.cli.progress import count_progress
from trifocal.errors import InvalidInput

if TYPE_CHECKING:
    from trifocal.retrieval import FrameTextEncoder
    from trifocal.retrieval.data import DataReport, RetrievalData
    from trifocal.training import Processes

T = TypeVar("T")
TWO_ANNOTATIONS = "anet-2a"


class Texts(StrEnum):
    """What the texts of `anet-2a` become vectors by."""

    LSA = "lsa"
    MINILM = "minilm"


DataOption = Annotated[
    str | None,
    typer.Option(
        "--data",
        help="A set of the field by name (tvr-i3d, tvr-clip, activitynet-i3d, …), `anet-2a`, or `layout` for any "
        "folder in the field's layout.",
    ),
]
RootOption = Annotated[Path | None, typer.Option("--root", help="Where the files of --data lie.")]
CaptionsOption = Annotated[
    Path | None,
    typer.Option("--captions", help="Your own: a CSV or JSONL with video, caption, and start_s, end_s, split."),
]
VideosOption = Annotated[
    Path | None, typer.Option("--videos", help="The folder of your videos.", show_default="beside the captions")
]
FramesOption = Annotated[float, typer.Option("--fps", min=0.01, max=60, help="Frames a second, of your own videos.")]
CacheOption = Annotated[
    Path | None,
    typer.Option("--cache", help="Where encoded frames (or texts) are kept.", show_default="beside the captions"),
]
TextsOption = Annotated[
    Texts,
    typer.Option(help="What encodes the texts of anet-2a: a latent space fitted on its train.json, or MiniLM."),
]


def open_data(
    *,
    data: str | None,
    root: Path | None,
    captions: Path | None,
    videos: Path | None,
    fps: float,
    cache: Path | None,
    encoder: FrameTextEncoder | None,
    quiet: bool,
    texts: Texts = Texts.LSA,
    group: Processes | None = None,
) -> RetrievalData:
    """The data set that the options name.

    Args:
        data: a name, or None for `captions`.
        root: the folder of a named set.
        captions: a table of one's own.
        videos: the folder of its videos; that of the table by default.
        fps: frames a second.
        cache: where encoded frames are kept; `.trifocal-features` beside the table by default. The texts of `anet-2a`
            by MiniLM: `.trifocal-texts` in the set's folder by default.
        encoder: of frames and words of one's own; needed with `captions`.
        quiet: show no progress.
        texts: what the texts of `anet-2a` are encoded by.
        group: the processes that all open it; the first encodes, the others find that done.

    Raises:
        InvalidInput: neither or both kinds, or what the readers refuse.
    """
    from trifocal.retrieval import data as readers

    if (data is None) == (captions is None):
        raise InvalidInput("name one kind of data", remedy="Give --captions with your own table, or --data and --root.")
    if data is not None:
        if root is None:
            raise InvalidInput(f"--data {data} needs its folder", remedy="Add --root.")
        if data == TWO_ANNOTATIONS:
            if texts is Texts.LSA:
                return readers.read_two_annotations(root)
            encode = readers.KeptSentences(cache or (root if root.is_dir() else root.parent) / ".trifocal-texts")
            return _first(group, lambda: readers.read_two_annotations(root, encode=encode))
        return readers.open_layout(root) if data == "layout" else readers.open_field(data, root)
    assert captions is not None
    if encoder is None:
        raise InvalidInput("captions of your own need an encoder", remedy="Name one with --encoder.")
    splits = readers.read_own(captions)
    named = list(dict.fromkeys(video for one in splits.values() for video in one.videos()))
    files = readers.files_of(videos or captions.parent, named, table=captions)
    kept = cache or captions.parent / ".trifocal-features"
    with count_progress("encoding", "videos") as progress:
        told = None if quiet else progress
        features = _first(
            group,
            lambda: readers.extract_features(files, encoder, cache=kept, frames_per_second=fps, progress=told),
        )
    words = readers.encode_words(encoder, {one.id: one.text for part in splits.values() for one in part})
    return readers.RetrievalData(
        name=captions.stem, features=features, words=words, splits=readers.with_durations(splits, features)
    )


def _first(group: Processes | None, make: Callable[[], T]) -> T:
    """What `make` gives, made by the first process and then, from what that has kept, by the others."""
    if group is None or group.world == 1:
        return make()
    if not group.first:
        group.told(None)
        return make()
    made = make()
    group.told(None)
    return made


def print_check(report: DataReport) -> None:
    """Print what a data set holds and what is wrong with it."""
    from rich.table import Table

    out = stdout()
    table = Table(box=None, pad_edge=False, header_style="dim")
    headings = ("split", "videos", "captions", "per video", "rows a video", "words", "seconds", "moments", "M/V")
    for name in headings:
        table.add_column(name, justify="left" if name == "split" else "right", no_wrap=True)
    for name, one in report.splits.items():
        table.add_row(
            visible(name),
            str(one.videos),
            str(one.captions),
            _spread(one.captions_per_video),
            _spread(one.rows_per_video),
            _spread(one.words_per_caption),
            _spread(one.durations_s),
            str(one.moments),
            "–" if one.moment_share is None else f"{one.moment_share:.2f}",
        )
    out.print(f"{visible(report.name)}: frames of {report.dims[0]} and words of {report.dims[1]} numbers", markup=False)
    out.print(table)
    for line in report.notes:
        out.print(f"note: {visible(line)}", markup=False)
    for line in report.problems:
        out.print(f"problem: {visible(line)}", markup=False)
    if not report.problems:
        out.print("nothing is wrong with it")
    else:
        out.print(f"{number(len(report.problems), 'problem')}", markup=False)


def _spread(values: tuple[float, float, float] | None) -> str:
    """Fewest, mean and most: `5–12.3–40`, one number where they are one."""
    if values is None:
        return "–"
    low, mean, high = values
    return f"{mean:.4g}" if low == high else f"{low:.4g}–{mean:.4g}–{high:.4g}"
