"""`trifocal detect`: who does what, where and when, in a file, a video of the library, a stream or a camera."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trifocal.cli.acted import actions_of
from trifocal.cli.add import EXIT_SOME_FAILED
from trifocal.cli.detect_library import detect_all, detect_in_library, print_detections
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
    writing,
)
from trifocal.cli.progress import count_progress
from trifocal.errors import InvalidInput

if TYPE_CHECKING:
    from trifocal.action import ActionModel, DetectConfig, DetectReport, Tube, WatchConfig
    from trifocal.video import Limits, LiveVideo

FILM_RATE = 30.0
FILM_SIDE = 720
SHEET_MOMENTS = 12
FASTEST = 240  # frames per second of a stream, for the limit on frames


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
    least: Annotated[float, typer.Option(min=0.0, max=1.0, help="Least score of an action that is shown.")] = 0.5,
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
    nothing of real people. Bring a published checkpoint (`trifocal.action.convert`) or train on your labels.

    Of a video named by its id, and with --all, the tubes are kept in the library, where `find --action` and `show`
    read them. Interrupt it whenever you like: the next run goes on with the videos that are left.
    """
    from trifocal.action import DetectConfig, WatchConfig, load_action_model

    _check_targets(out or [], heat)
    stored = video is None or not (video == "-" or camera or _is_file(video))
    _check_words(video, all_=all_, again=again and not stored, seconds=stored and seconds is not None)
    if video is None and (out or heat is not None):
        raise InvalidInput("--out and --heat are for one video", remedy="Name it by its id.")
    how = WatchConfig(every=every, batch=batch, keep_above=keep_above, precision=precision.value)
    config = DetectConfig(watch=how, linker=linker.value)
    looked, folder = load_action_model(model, device=chosen_device(device)), library or default_library()
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
        report, file = detect_in_library(video, folder, model=looked, config=config, again=again)
    else:
        with _source(video, camera=camera, size=size, fps=fps, seconds=seconds) as (source, name):
            file = source if isinstance(source, Path) else None
            if file is None and (heat is not None or any(path.suffix == ".mp4" for path in out or [])):
                raise InvalidInput(
                    "a picture of a stream would need it twice",
                    remedy="Save the stream to a file first, or give .json.",
                )
            report = _run(source, name, model=looked, config=config, seconds=seconds, least=least if live else None)
    for path in out or []:
        with writing(path):
            _write(report, path, file=file, model=looked, least=least, fps=fps)
        stderr().print(f"written: {path}", markup=False, soft_wrap=True)
    if heat is not None and file is not None:
        _draw_heat(report, heat, file=file, model=looked, actor=actor, action=action, config=how)
    if format_ is Format.JSON:
        print_json(report.to_dict())
        return
    if not live:
        _print(report, least)
    _tell_notes(*report.warnings, report.caveat)


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


def _is_file(video: str) -> bool:
    try:
        return Path(video).exists()
    except (OSError, ValueError):  # too long, or no path at all
        return False


def _check_targets(out: list[Path], heat: Path | None) -> None:
    for path in out:
        if path.suffix.lower() not in (".json", ".csv", ".xml", ".vtt", ".mp4"):
            raise InvalidInput(f"{path} ends in no known way", remedy="Give .json, .csv, .xml, .vtt or .mp4.")
    if heat is not None and heat.suffix.lower() not in (".jpg", ".jpeg", ".mp4"):
        raise InvalidInput(f"{heat} ends in no known way", remedy="Give .jpg or .mp4.")


@contextmanager
def _source(
    video: str, *, camera: bool, size: str | None, fps: float | None, seconds: float | None
) -> Iterator[tuple[Path | LiveVideo, str]]:
    """What to look at, and its name."""
    from trifocal.video import Camera, PipedVideo, RawVideo

    if (size is None) != (fps is None) or (size is not None and video != "-"):
        raise InvalidInput("--size and --fps belong together, and to the standard input", remedy="Give both, and -.")
    if seconds is not None and video != "-" and not camera:
        raise InvalidInput("--seconds is for streams and cameras", remedy="Leave it out.")
    limits = _limits()
    if camera:
        with Camera.open(video, limits=limits) as source:
            yield source, video
    elif video != "-":
        yield Path(video), video
    elif size is None:
        with PipedVideo(sys.stdin.fileno(), name="the standard input", limits=limits) as stream:
            yield stream, "stdin"
    else:
        sides = _parsed_size(size)
        raw = RawVideo(sys.stdin.fileno(), size=sides, fps=fps or 0.0, limits=limits)
        yield raw, "stdin"


def _limits() -> Limits:
    """For streams: they last as long as their writer likes."""
    from trifocal.video import Limits

    year = 366 * 86_400.0
    return Limits(duration_s=year, cpu_s=year, wall_s=year, frames=int(year * FASTEST))


def _parsed_size(text: str) -> tuple[int, int]:
    width, cross, height = text.lower().partition("x")
    if not cross or not width.isdecimal() or not height.isdecimal():
        raise InvalidInput(f"--size is {text}", remedy="Give WIDTHxHEIGHT, such as 640x360.")
    return int(height), int(width)


def _write(
    report: DetectReport, path: Path, *, file: Path | None, model: ActionModel, least: float, fps: float | None
) -> None:
    match path.suffix.lower():
        case ".json":
            path.write_text(json.dumps(report.to_dict(), ensure_ascii=False) + "\n", encoding="utf-8")
        case ".vtt":
            from trifocal.action import write_webvtt

            path.write_text(write_webvtt(report.tubes, least_score=least), encoding="utf-8")
        case ".csv" | ".xml":
            from trifocal.action import write_tubes

            rate = (fps or _rate(file)) if path.suffix.lower() == ".xml" else FILM_RATE
            write_tubes(report, path, classes=model.classes, ids=model.ids, fps=rate, least_score=least)
        case _:
            _film(report, path, file=file or path, least=least)


def _rate(file: Path | None) -> float:
    """Frames a second of a file, which CVAT's frame numbers count in."""
    from trifocal import video as files

    if file is None:
        raise InvalidInput(
            "frame numbers of a stream are not known",
            remedy="Give .json or .csv, or send raw RGB with --size and --fps.",
        )
    return files.probe(file).average_fps or FILM_RATE


def _film(report: DetectReport, path: Path, *, file: Path, least: float) -> None:
    from trifocal import video as files
    from trifocal.action import annotated
    from trifocal.video import Sampling, write_mp4

    with files.open(file) as opened:
        rate = min(FILM_RATE, opened.info.average_fps or FILM_RATE)
        frames = opened.stream(Sampling.at_fps(rate, size=FILM_SIDE))
        drawn = annotated(frames, report.tubes, size=(report.height, report.width), least_score=least)
        write_mp4(path, drawn, fps=rate)


def _draw_heat(
    report: DetectReport,
    path: Path,
    *,
    file: Path,
    model: ActionModel,
    actor: int | None,
    action: str | None,
    config: WatchConfig,
) -> None:
    from trifocal.action import heat
    from trifocal.video import contact_sheet, write_jpeg, write_mp4

    tubes = [tube for tube in report.tubes if actor is None or tube.actor == actor]
    if not tubes:
        known = ", ".join(str(tube.actor) for tube in report.tubes) or "none"
        raise InvalidInput(f"there is no actor {actor}" if actor else "nobody was detected", remedy=f"Actors: {known}.")
    tube = max(tubes, key=lambda one: max((one.score(name) for name in one.actions), default=0.0))
    if action is None:
        action = next(iter(tube.actions), model.classes[0])
    film = path.suffix.lower() == ".mp4"
    pictures = heat(file, tube, model=model, action=action, config=config, moments=None if film else SHEET_MOMENTS)
    with writing(path):
        if film:
            step = (tube.end_s - tube.start_s) / max(1, len(tube) - 1)
            write_mp4(path, (picture for _, picture in pictures), fps=1 / step if step > 0 else 1)
        else:
            looks = f"“{action}” looks"
            if model.detector.config.class_queries == "shared":
                looks = "the actor's map looks (this model has one map for all actions)"
            shown = list(pictures)
            title = f"actor {tube.actor}: where {looks}"
            sheet = contact_sheet([p for _, p in shown], times_s=[t for t, _ in shown], title=title, width=320)
            write_jpeg(path, sheet)
    stderr().print(f"written: {path}", markup=False, soft_wrap=True)


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
