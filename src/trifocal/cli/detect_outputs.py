"""What `trifocal detect` writes: tubes as files by the name's end, the film with boxes, where a class looks.

Targets are checked before anything is looked at, as far as that can be: hours of work must not end in a wrong name.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trifocal.cli.output import stderr, writing
from trifocal.errors import InvalidInput

if TYPE_CHECKING:
    from trifocal.action import ActionModel, DetectReport, WatchConfig

__all__ = ["check_for_stream", "check_names", "check_not_source", "check_targets", "draw_heat", "write_outputs"]

FILM_RATE = 30.0
FILM_SIDE = 720
SHEET_MOMENTS = 12
FORMS = (".json", ".csv", ".xml", ".vtt", ".mp4")
HEAT_FORMS = (".jpg", ".jpeg", ".mp4")


def check_targets(out: Sequence[Path], heat: Path | None, *, actor: int | None, action: str | None) -> None:
    """Refuse names that could not be written, and words about a picture that nobody asked for.

    Raises:
        InvalidInput: says which.
    """
    for path in out:
        if path.suffix.lower() not in FORMS:
            raise InvalidInput(f"{path} ends in no known way", remedy="Give .json, .csv, .xml, .vtt or .mp4.")
    if heat is not None and heat.suffix.lower() not in HEAT_FORMS:
        raise InvalidInput(f"{heat} ends in no known way", remedy="Give .jpg or .mp4.")
    for path in (*out, *([] if heat is None else [heat])):
        if not path.parent.is_dir():
            raise InvalidInput(f"{path} has no folder {path.parent}", remedy="Make it, or give another path.")
        if path.is_dir():
            raise InvalidInput(f"{path} is a folder", remedy="Give a file's name.")
    if heat is None and (actor is not None or action is not None):
        said = "--actor" if actor is not None else "--action"
        raise InvalidInput(f"{said} says what --heat draws", remedy="Give --heat too, or leave it out.")


def check_names(out: Sequence[Path], model: ActionModel) -> None:
    """Refuse an AVA csv beside which a label map of other classes stands.

    Raises:
        InvalidInput: says which.
    """
    from trifocal.action.data.formats.label_maps import check_label_map
    from trifocal.action.tube_files import numbered_classes

    for path in out:
        if path.suffix.lower() == ".csv":
            check_label_map(numbered_classes(model.classes, model.ids), path)


def check_not_source(targets: Sequence[Path], file: Path) -> None:
    """Refuse to write over the video that is looked at.

    Raises:
        InvalidInput: a target is that file.
    """
    for path in targets:
        if path.exists() and file.exists() and path.samefile(file):
            raise InvalidInput(f"{path} is the video itself", remedy="Give another name, so that it is kept.")


def check_for_stream(out: Sequence[Path], heat: Path | None, *, fps: float | None) -> None:
    """Refuse what cannot be made of a stream.

    Raises:
        InvalidInput: a picture, which would need the stream twice; frame numbers, which need a known rate.
    """
    endings = {path.suffix.lower() for path in out}
    if heat is not None or ".mp4" in endings:
        raise InvalidInput(
            "a picture of a stream would need it twice", remedy="Save the stream to a file first, or give .json."
        )
    if ".xml" in endings and fps is None:
        raise InvalidInput(
            "frame numbers of a stream are not known",
            remedy="Give .json or .csv, or send raw RGB with --size and --fps.",
        )


def write_outputs(
    report: DetectReport,
    out: Sequence[Path],
    *,
    file: Path | None,
    model: ActionModel,
    least: float,
    fps: float | None,
) -> None:
    """Write every form that was asked for, and say so.

    Args:
        report: what was detected.
        out: where to; the names' ends say in which form.
        file: the video, or `None` of a stream.
        model: whose classes they are.
        least: least score of an action that is shown.
        fps: of a stream of bare pictures.
    """
    for path in out:
        with writing(path):
            written = _write(report, path, file=file, model=model, least=least, fps=fps)
        for one in written:
            stderr().print(f"written: {one}", markup=False, soft_wrap=True)


def _write(
    report: DetectReport, path: Path, *, file: Path | None, model: ActionModel, least: float, fps: float | None
) -> tuple[Path, ...]:
    match path.suffix.lower():
        case ".json":
            path.write_text(json.dumps(report.to_dict(), ensure_ascii=False) + "\n", encoding="utf-8")
        case ".vtt":
            from trifocal.action import write_webvtt

            path.write_text(write_webvtt(report.tubes, least_score=least), encoding="utf-8")
        case ".csv" | ".xml":
            from trifocal.action import write_tubes
            from trifocal.video import probe

            rate = fps or (FILM_RATE if file is None else probe(file).average_fps or FILM_RATE)
            return write_tubes(report, path, classes=model.classes, ids=model.ids, fps=rate, least_score=least)
        case _:
            _film(report, path, file=file or path, least=least)
    return (path,)


def _film(report: DetectReport, path: Path, *, file: Path, least: float) -> None:
    from trifocal import video as files
    from trifocal.action import annotated
    from trifocal.video import Sampling, write_mp4

    with files.open(file) as opened:
        rate = min(FILM_RATE, opened.info.average_fps or FILM_RATE)
        frames = opened.stream(Sampling.at_fps(rate, size=FILM_SIDE))
        drawn = annotated(frames, report.tubes, size=(report.height, report.width), least_score=least)
        write_mp4(path, drawn, fps=rate)


def draw_heat(
    report: DetectReport,
    path: Path,
    *,
    file: Path,
    model: ActionModel,
    actor: int | None,
    action: str | None,
    config: WatchConfig,
) -> None:
    """Draw where a class looks for an actor.

    Args:
        report: what was detected.
        path: a sheet (.jpg) or a film (.mp4).
        file: the video.
        model: what looks.
        actor: its number; `None` takes the surest.
        action: the class; `None` takes the actor's surest.
        config: how the video was watched.

    Raises:
        InvalidInput: nobody was detected, or there is no such actor.
    """
    from trifocal.action import heat
    from trifocal.video import contact_sheet, write_jpeg, write_mp4

    tubes = [tube for tube in report.tubes if actor is None or tube.actor == actor]
    if not report.tubes:
        raise InvalidInput(f"nobody was detected, so there is no {path.name}", remedy="Leave --heat out.")
    if not tubes:
        known = ", ".join(str(tube.actor) for tube in report.tubes)
        raise InvalidInput(f"there is no actor {actor}", remedy=f"Actors: {known}.")
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
            one_map = model.detector.config.class_queries == "shared"
            looks = "the model looks (one map for all actions)" if one_map else f"“{action}” looks"
            shown = list(pictures)
            title = f"actor {tube.actor}: where {looks}"
            sheet = contact_sheet([p for _, p in shown], times_s=[t for t, _ in shown], title=title, width=320)
            write_jpeg(path, sheet)
    stderr().print(f"written: {path}", markup=False, soft_wrap=True)
