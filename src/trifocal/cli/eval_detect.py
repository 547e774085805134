"""`trifocal eval detect`: frame-mAP and video-mAP of detections in a file, what goes wrong, and a picture of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from trifocal.cli.labels import ExcludedOption, KindOption, MapOption, RateOption, load
from trifocal.cli.output import Format, FormatOption, plain, print_json, stderr, stdout, visible, writing
from trifocal.errors import InvalidInput

if TYPE_CHECKING:
    from trifocal.action.evaluation import Evaluation


def eval_detect(
    labels: Annotated[Path, typer.Option("--labels", help="The truth: a label file.")],
    detections: Annotated[
        Path,
        typer.Option("--detections", "-d", help="An AVA csv with scores, or what `trifocal detect` wrote as JSON."),
    ],
    kind: KindOption = None,
    label_map: MapOption = None,
    excluded: ExcludedOption = None,
    rate: RateOption = None,
    split: Annotated[str | None, typer.Option(help="Only this split of the labels.")] = None,
    videos: Annotated[
        Path | None, typer.Option("--videos", help="The folder of the videos, where the labels do not tell their size.")
    ] = None,
    policy: Annotated[
        str, typer.Option(help="fixed, multisports, reference-ava, reference-ucf or reference-jhmdb.")
    ] = "fixed",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write everything as JSON here.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw it here (.png, .svg, .pdf).")] = None,
    format_: FormatOption = Format.HUMAN,
) -> None:
    """Compare detections with labels: average precision per class, and whether place or class goes wrong."""
    from trifocal.action.data.clips import VideoFolder
    from trifocal.action.evaluation import evaluate, save_plot
    from trifocal.action.evaluation.files import read_detections
    from trifocal.action.evaluation.report import EvaluationPolicy

    if policy not in get_args(EvaluationPolicy):
        raise InvalidInput(f"policy is {policy!r}", remedy=f"Give one of {', '.join(get_args(EvaluationPolicy))}.")
    read = load(labels, kind, label_map, excluded, rate)
    read = read.split(split) if split is not None else read
    if videos is not None:
        with VideoFolder(videos) as frames:
            read = read.measured({one.video: frames.size(one) for one in read.videos if not one.measured})
    if not detections.is_file():
        raise InvalidInput(f"there is no file {detections}", remedy="Give the path of detections.")
    found, tubes = read_detections(detections, read)
    if tubes is not None and not all(one.measured for one in read.videos):
        raise InvalidInput(
            "the tubes count in pixels, and the labels do not tell the size of the pictures", remedy="Give --videos."
        )
    result = evaluate(read, found, tubes=tubes, policy=policy)  # type: ignore[arg-type]
    if out is not None:
        with writing(out):
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_text(json.dumps(result.to_dict(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    if plot is not None:
        with writing(plot):
            plot.parent.mkdir(parents=True, exist_ok=True)
        save_plot(result, plot)
    for path in (out, plot):
        if path is not None:
            stderr().print(f"wrote {visible(str(path))}", markup=False, soft_wrap=True)
    if format_ is Format.JSON:
        print_json(result.to_dict())
    else:
        _print(result)


def _print(result: Evaluation) -> None:
    from rich.table import Table

    from trifocal.action.evaluation.diagnosis import KINDS

    out = stdout()
    for name, value in result.figures().items():
        out.print(f"{name:28s} {100 * value:6.2f}", markup=False)
    rows = [row for row in result.rows() if row["actors"]]
    measures = [name for name in (rows[0] if rows else {}) if "_ap@" in name]
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("class")
    for name in ("actors", *measures, *(KINDS if result.errors is not None else ())):
        table.add_column(name, justify="right")
    for row in rows:
        figures = ["" if row[name] is None else f"{100 * row[name]:.1f}" for name in measures]
        errors = [str(row["errors"][kind]) for kind in KINDS] if result.errors is not None else []
        table.add_row(plain(row["class"]), str(row["actors"]), *figures, *errors)
    out.print(table)
