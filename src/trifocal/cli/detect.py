"""`trifocal detect`: who does what, where and when, in a file, a video of the library, a stream or a camera."""

from __future__ import annotations

import sys
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trifocal.cli.acted import actions_of
from trifocal.cli.add import EXIT_SOME_FAILED
from trifocal.cli.detect_library import detect_all, detect_in_library, print_detections
from trifocal.cli.detect_outputs import (
    check_for_stream,
    check_names,
    check_not_source,
    check_targets,
    draw_heat,
    write_outputs,
)
from trifocal.cli.detect_source import is_file, opened_source
from trifocal.cli.model_options import DeviceOption, chosen_device
from trifocal.cli.output import (
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
)
from trifocal.cli.progress import count_progress
from trifocal.errors import InvalidInput

if TYPE_CHECKING:
    from trifocal.action import ActionModel, DetectConfig, DetectReport, Tube
    from trifocal.video import LiveVideo


class Precision(StrEnum):
    """Of matrix products."""

    FLOAT32 = "float32"
    BF16 = "bf16"


class Linker(StrEnum):
    """How boxes become tubes."""

    VITERBI = "viterbi"
    ONLINE = "online"


def detect(
    video: Annotated[
        str | None,
        typer.Argument(help="A video file, a video of the library by its id, - for the standard input, or a camera."),
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="Instead of one, all videos of the library.")] = False,
    again: Annotated[
        bool, typer.Option("--again", help="In the library: also where this detector has looked in this way before.")
    ] = False,
    out: Annotated[
        list[Path] | None,
        typer.Option(
            "--out",
            "-o",
            help="Write the result, by the name's end: .json, .csv (AVA), .xml (CVAT), .vtt (WebVTT), or .mp4 with "
            "the boxes drawn; repeatable.",
        ),
    ] = None,
    heat: Annotated[
        Path | None, typer.Option(help="Draw where a class looks for an actor: a sheet (.jpg) or a film (.mp4).")
    ] = None,
    actor: Annotated[int | None, typer.Option(min=1, help="With --heat: which actor; the surest by default.")] = None,
    action: Annotated[
        str | None, typer.Option(help="With --heat: which action; the actor's surest by default.")
    ] = None,
    model: Annotated[str, typer.Option(help="The detector: default, or a folder that holds one.")] = "default",
    least: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Show the actions that reach this score at some moment.")
    ] = 0.5,
    every: Annotated[int, typer.Option(min=1, help="Look at every so many frames of those the model samples.")] = 2,
    linker: Annotated[Linker, typer.Option(help="Over the whole video, or as it goes.")] = Linker.VITERBI,
    device: DeviceOption = None,
    precision: Annotated[
        Precision, typer.Option(help="Of matrix products: bf16 is faster where the processor knows it, and rounds.")
    ] = Precision.FLOAT32,
    keep_above: Annotated[
        float | None,
        typer.Option(help="Do not classify actors that are less sure than this (0 to 1): faster, their scores are 0."),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Windows that go through the model at a time.")] = 4,
    camera: Annotated[bool, typer.Option("--camera", help="VIDEO is a camera such as /dev/video0.")] = False,
    size: Annotated[str | None, typer.Option(help="The standard input holds raw RGB of this WIDTHxHEIGHT.")] = None,
    fps: Annotated[float | None, typer.Option(help="With --size: frames per second.")] = None,
    seconds: Annotated[float | None, typer.Option(help="Stop a stream or camera after so long.")] = None,
    library: LibraryOption = None,
    format_: FormatOption = Format.HUMAN,
) -> None:
    """Detect actors and their actions, and follow them as tubes.

    The detector that ships was trained on drawn figures (the playground): it shows how everything works, and knows
    nothing of real people. Bring a published checkpoint (`trifocal weights convert`) or train on your labels.

    A stream or camera is looked at until it ends, --seconds are over or you interrupt it (Ctrl-C): what was seen until
    then is linked, written and printed.

    Of a video named by its id, and with --all, the tubes are kept in the library, where `find --action` and `show`
    read them. Interrupt it whenever you like: the next run goes on with the videos that are left.
    """
    from trifocal.action import DetectConfig, WatchConfig, load_action_model

    outputs = out or []
    check_targets(outputs, heat, actor=actor, action=action)
    stored = video is None or not (video == "-" or camera or is_file(video))
    _check_words(video, all_=all_, again=again and not stored, seconds=stored and seconds is not None)
    if video is None and (outputs or heat is not None):
        raise InvalidInput("--out and --heat are for one video", remedy="Name it by its id.")
    how = WatchConfig(every=every, batch=batch, keep_above=keep_above, precision=precision.value)
    config = DetectConfig(watch=how, linker=linker.value)
    looked, folder = load_action_model(model, device=chosen_device(device)), library or default_library()
    if action is not None:
        looked.label(action)  # an action that it has
    check_names(outputs, looked)
    targets = [*outputs, *([] if heat is None else [heat])]
    if video is None:
        whole = detect_all(folder, model=looked, config=config, again=again)
        if format_ is Format.JSON:
            print_json(whole.to_dict())
        else:
            print_detections(whole, folder)
            _tell_notes(looked.caveat)
        if whole.failed:
            raise typer.Exit(EXIT_SOME_FAILED)
        return
    live = linker is Linker.ONLINE and format_ is Format.HUMAN and not stored
    file: Path | None
    if stored:
        report, file = detect_in_library(
            video, folder, model=looked, config=config, again=again, check=partial(check_not_source, targets)
        )
    else:
        if camera or video == "-":
            check_for_stream(outputs, heat, fps=fps)
        else:
            check_not_source(targets, Path(video))
        with opened_source(video, camera=camera, size=size, fps=fps, seconds=seconds) as (source, name):
            file = source if isinstance(source, Path) else None
            report = _run(source, name, model=looked, config=config, seconds=seconds, least=least if live else None)
    write_outputs(report, outputs, file=file, model=looked, least=least, fps=fps)
    if format_ is Format.JSON:
        print_json(report.to_dict())
    else:
        if not live:
            _print(report, least)
        lost = f"{number(report.dropped, 'frame')} of the camera came too fast and were dropped"
        _tell_notes(*report.warnings, lost if report.dropped else "", report.caveat)
    if heat is not None and file is not None:
        draw_heat(report, heat, file=file, model=looked, actor=actor, action=action, config=how)


def _tell_notes(*notes: str) -> None:
    for note in filter(None, notes):
        stderr().print(note, style="dim" if sys.stderr.isatty() else None, markup=False, soft_wrap=True)


def _run(
    source: Path | LiveVideo,
    name: str,
    *,
    model: ActionModel,
    config: DetectConfig,
    seconds: float | None,
    least: float | None,
) -> DetectReport:
    """Detect; with `least`, each tube is printed as soon as it is known."""
    from trifocal.action import detect as run

    def tell(tube: Tube) -> None:
        if least is not None:
            stdout().print(_line(tube, least), markup=False, soft_wrap=True)

    with count_progress("looking", "seconds") as bar:
        return run(
            source,
            model=model,
            name=name,
            config=config,
            end_s=seconds,
            keep_interrupted=not isinstance(source, Path),
            on_tube=tell,
            progress=lambda at, end: bar(int(at), int(end)) if end else None,
        )


def _check_words(video: str | None, *, all_: bool, again: bool, seconds: bool) -> None:
    if all_ != (video is None):
        said = "no video is named" if video is None else f"--all is given beside {video}"
        raise InvalidInput(said, remedy="Give a video, or --all for the whole library.")
    if again:
        raise InvalidInput("--again is for videos of the library", remedy="Name it by its id, or leave it out.")
    if seconds:
        raise InvalidInput("--seconds is for streams and cameras", remedy="Leave it out.")


def _line(tube: Tube, least: float) -> str:
    return f"actor {tube.actor}  {clock(tube.start_s)}–{clock(tube.end_s)}  {actions_of(tube, least=least)}"


def _print(report: DetectReport, least: float) -> None:
    from rich.table import Table

    out = stdout()
    out.print(f"{number(len(report.tubes), 'actor')} in {number(report.moments, 'moment')} of {clock(report.end_s)}")
    if not report.tubes:
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("actor", "from", "to"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("actions, mean score", overflow="fold")
    for tube in report.tubes:
        actions = plain(actions_of(tube, least=least))
        table.add_row(str(tube.actor), clock(tube.start_s), clock(tube.end_s), actions)
    out.print(table)
