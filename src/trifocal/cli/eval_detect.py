"""`trifocal eval detect`: frame-mAP and video-mAP of a model or of a file, what goes wrong, and a picture of it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from trifocal.cli.labels import (
    AttributeOption,
    ExcludedOption,
    KindOption,
    MapOption,
    RateOption,
    StartOption,
    load,
    measured,
)
from trifocal.cli.model_options import DeviceOption, chosen_device
from trifocal.cli.output import Format, FormatOption, plain, print_json, stderr, stdout, visible, writing
from trifocal.cli.progress import count_progress
from trifocal.errors import InvalidInput

if TYPE_CHECKING:
    from trifocal.action import Tube
    from trifocal.action.data.windows import Compat
    from trifocal.action.evaluation import Detections, Evaluation
    from trifocal.action.labels import Labels


def eval_detect(
    labels: Annotated[Path, typer.Option("--labels", help="The truth: a label file.")],
    detections: Annotated[
        Path | None,
        typer.Option("--detections", "-d", help="An AVA csv with scores, or what `trifocal detect` wrote as JSON."),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="A model's folder, or default, in place of --detections; needs --videos.")
    ] = None,
    kind: KindOption = None,
    label_map: MapOption = None,
    excluded: ExcludedOption = None,
    rate: RateOption = None,
    attribute: AttributeOption = None,
    split: Annotated[str | None, typer.Option(help="Only this split of the labels.")] = None,
    videos: Annotated[
        Path | None,
        typer.Option("--videos", help="The folder of the videos: for --model, and for sizes and rates nobody told."),
    ] = None,
    start: StartOption = 0.0,
    threshold: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="With --model: class scores below this are left out.")
    ] = 0.0,
    batch: Annotated[int, typer.Option(min=1, help="With --model: clips at a time.")] = 4,
    device: DeviceOption = None,
    policy: Annotated[
        str, typer.Option(help="fixed, multisports, reference-ava, reference-ucf or reference-jhmdb.")
    ] = "fixed",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write everything as JSON here.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw it here (.png, .svg, .pdf).")] = None,
    format_: FormatOption = Format.HUMAN,
) -> None:
    """Compare detections with labels: average precision per class, and whether place or class goes wrong.

    With `--detections`, tubes and rows of a file are read off at the labelled frames; videos that only one of the two
    files knows are told. With `--model`, a model looks at the clip around each labelled frame and everything it says
    counts, without linking, as published figures are measured; with `--policy reference-…` it is shown the frames of
    the released loaders.
    """
    from trifocal.action.data.clips import VideoFolder
    from trifocal.action.evaluation import evaluate, save_plot
    from trifocal.action.evaluation.report import EvaluationPolicy

    if policy not in get_args(EvaluationPolicy):
        raise InvalidInput(f"policy is {policy!r}", remedy=f"Give one of {', '.join(get_args(EvaluationPolicy))}.")
    if (detections is None) == (model is None):
        raise InvalidInput("one of --detections and --model is needed, and not both", remedy="Give one of the two.")
    read = load(labels, kind, label_map, excluded, rate, attribute)
    read = read.split(split) if split is not None else read
    if videos is not None:
        with VideoFolder(videos) as frames:
            read = measured(read, frames)
    tubes: list[Tube] | None = None
    if detections is not None:
        found, tubes = _read(detections, read, start_s=start)
    else:
        if videos is None:
            raise InvalidInput("--model looks at the videos", remedy="Give their folder with --videos.")
        compat: Compat = "reference" if policy.startswith("reference") else "default"
        facts: dict[str, Any] = {"batch": batch, "start_s": start, "least_score": threshold, "compat": compat}
        found = _look(str(model), read, videos, device=device, **facts)
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


def _read(path: Path, labels: Labels, *, start_s: float) -> tuple[Detections, list[Tube] | None]:
    """Detections of a file."""
    from trifocal.action.evaluation.files import read_detections

    if not path.is_file():
        raise InvalidInput(f"there is no file {path}", remedy="Give the path of detections.")
    found, tubes = read_detections(path, labels, start_s=start_s, note=_warn)
    if tubes is not None and not all(one.measured for one in labels.videos):
        raise InvalidInput(
            "the tubes count in pixels, and the labels do not tell the size of the pictures", remedy="Give --videos."
        )
    return found, tubes


def _warn(sentence: str) -> None:
    """What changes the figures and may not be meant."""
    stderr().print(visible(sentence), style="dim" if sys.stderr.isatty() else None, markup=False, soft_wrap=True)


def _look(reference: str, labels: Labels, videos: Path, *, device: str | None, **facts: Any) -> Detections:
    """Detections of a model."""
    from trifocal.action import load_action_model
    from trifocal.action.clip_input import detect_labelled
    from trifocal.action.data.clips import VideoFolder

    model = load_action_model(reference, device=str(chosen_device(device)))
    with VideoFolder(videos) as frames, count_progress("looking", "clips") as progress:
        return detect_labelled(model, labels, frames=frames, progress=progress, **facts)


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
