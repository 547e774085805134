"""`trifocal eval find`: recall, SumR, moments, bytes and milliseconds, on a set of the field or on your own videos."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trifocal.cli.find_data import (
    CacheOption,
    CaptionsOption,
    DataOption,
    FramesOption,
    RootOption,
    Texts,
    TextsOption,
    VideosOption,
    open_data,
)
from trifocal.cli.output import Format, FormatOption, print_json, size, stdout, visible, writing
from trifocal.cli.progress import count_progress
from trifocal.errors import InvalidInput

if TYPE_CHECKING:
    from trifocal.retrieval.evaluation import FindReport, MomentScores


def eval_find(
    model: Annotated[
        Path | None, typer.Option("--model", "-m", help="The folder that `train find` wrote.", show_default="untrained")
    ] = None,
    untrained: Annotated[bool, typer.Option("--untrained", help="Also without training, for comparison.")] = False,
    data: DataOption = None,
    root: RootOption = None,
    captions: CaptionsOption = None,
    videos: VideosOption = None,
    fps: FramesOption = 2.0,
    cache: CacheOption = None,
    texts: TextsOption = Texts.LSA,
    encoder: Annotated[
        str | None, typer.Option(help="What encodes your own videos.", show_default="the model's, else default")
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Which part.", show_default="test, or all of a table without splits")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write the figures as JSON here.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw them here (.png, .svg, .pdf).")] = None,
    format_: FormatOption = Format.HUMAN,
) -> None:
    """Measure retrieval on captions whose videos are known.

    Without --model the prototypes come straight from the encoder's frames, which needs frames and words of one space.
    A rank is 1 + the number of videos that score strictly more.
    """
    from trifocal.retrieval.evaluation import Retriever, Untrained, evaluate

    quiet = format_ is Format.JSON
    folder = None if model is None else _model_folder(model)
    base = None
    if captions is not None:
        from trifocal.retrieval import load_encoder

        base = load_encoder(encoder or _encoder_of(folder))
    found = open_data(
        data=data,
        root=root,
        captions=captions,
        videos=videos,
        fps=fps,
        cache=cache,
        encoder=base,
        texts=texts,
        quiet=quiet,
    )
    part = split or ("test" if "test" in found.splits or len(found.splits) != 1 else next(iter(found.splits)))
    retrievers: dict[str, Retriever] = {}
    if folder is not None:
        from trifocal.retrieval.model import PrototypeRetriever

        retrievers["trained"] = PrototypeRetriever.from_pretrained(folder)
    if folder is None or untrained:
        if found.features.dim != found.words.dim:
            raise InvalidInput(
                f"frames have {found.features.dim} dimensions and words {found.words.dim}: two spaces",
                remedy="Untrained retrieval needs one space for both; give --model.",
            )
        retrievers["untrained"] = Untrained()
    reports: dict[str, FindReport] = {}
    for name, one in retrievers.items():
        with count_progress(name, "videos") as progress:
            reports[name] = evaluate(one, found, split=part, progress=None if quiet else progress)
    document = {name: one.to_dict() for name, one in reports.items()}
    if format_ is Format.JSON:
        print_json(document)
    else:
        for name, report in reports.items():
            _print(name, report)
    if out is not None:
        with writing(out):
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    if plot is not None:
        from trifocal.retrieval.evaluation import plot as draw

        with writing(plot):
            plot.parent.mkdir(parents=True, exist_ok=True)
            draw(reports, plot)


def _print(name: str, report: FindReport) -> None:
    from rich.table import Table

    out = stdout()
    out.print(
        f"\n{name} on {visible(report.data)}, {visible(report.split)}: {report.ranks.queries} queries, "
        f"{report.videos} videos",
        style="bold",
        markup=False,
    )
    heading, *rows = report.rows()
    table = Table(box=None, pad_edge=False, header_style="dim")
    for index, column in enumerate(heading):
        table.add_column(column, justify="right" if index else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    out.print(table)
    out.print(f"by chance SumR {report.chance_sum_r:.1f}; ties {100 * report.ranks.tied:.1f} %", markup=False)
    if report.moments.queries:
        what = "the winner's attention peak" if report.peak == "attention" else "the winner's middle"
        out.print(f"moments: {_placed(report.moments, what)}", markup=False)
        if report.sharpened is not None:
            out.print(f"by clip tokens: {_placed(report.sharpened, 'the best token')}", markup=False)
    out.print(
        f"{report.prototypes_per_video:.1f} prototypes and {size(report.bytes_per_video)} a video; "
        f"{report.query_ms or 0:.2f} ms to encode a query, {report.video_ms or 0:.1f} ms a video",
        markup=False,
    )
    if report.search:
        spent = ", ".join(f"{one.videos}: {one.ms:.3f} ms" for one in report.search)
        out.print(f"search by number of videos: {spent}", markup=False)


def _placed(moments: MomentScores, what: str) -> str:
    """How well moments are placed, in words."""
    ious = ", ".join(f"{100 * at:.0f} %: {value:.1f} %" for at, value in moments.iou_at.items())
    return (
        f"{what} lies inside {moments.peak_inside:.1f} % (by chance {moments.chance:.1f} %), "
        f"mean overlap (IoU) {moments.mean_iou:.3f}, at least {ious}"
    )


def _model_folder(path: Path) -> Path:
    """The folder with the model's files: the one given, or `model/` in the folder of a run."""
    found = path / "model" if (path / "model" / "config.json").is_file() else path
    if not (found / "config.json").is_file():
        raise InvalidInput(f"there is no trained model in {path}", remedy="Give the folder that `train find` wrote.")
    return found


def _encoder_of(folder: Path | None) -> str:
    """The encoder that a model was trained on; the default where nobody says."""
    from trifocal.retrieval.trained import ENCODER_FILE

    path = None if folder is None else folder / ENCODER_FILE
    if path is None or not path.is_file():
        return "default"
    return str(json.loads(path.read_text(encoding="utf-8"))["base"])
