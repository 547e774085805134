"""Detections from files: an AVA csv with scores, or the JSON that `trifocal detect` writes.

Csv rows are `video,second,x1,y1,x2,y2,action,score` with corners in parts of the frame; rows of one video, second and
box are one detection with several scores, and each labelled frame takes the rows of the second nearest to it. The JSON
is a report, a list of reports, or a list of tubes, which are read off at the labelled frames. A video that the labels
do not know by its full name is looked up without folder and ending.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trifocal.action.data.formats.rows import read_json, read_text, wrong
from trifocal.action.evaluation.sampling import moment_reach, nearest_moments
from trifocal.action.evaluation.tables import Detections
from trifocal.action.tube import Tube
from trifocal.errors import InvalidInput

if TYPE_CHECKING:
    from trifocal.action.labels import Labels, VideoLabels

__all__ = ["read_detections", "read_tubes"]

_FARTHEST_S = 0.5
"""How far a row's second may be from a labelled frame that it is the nearest to."""


def read_detections(path: Path, labels: Labels, *, start_s: float = 0.0) -> tuple[Detections, list[Tube] | None]:
    """What a detector wrote, in the labels' own classes, pixels and frame numbers.

    Args:
        path: csv or JSON.
        labels: that it will be compared with.
        start_s: the videos' second that is the labels' second 0 (-900 for AVA's clips that begin at second 900).

    Returns:
        Single frames, and the tubes where the file has tubes.

    Raises:
        InvalidInput: the file is wrong; the message names the line or the entry.
    """
    if path.suffix.lower() == ".csv":
        return _csv(path, labels, start_s), None
    tubes = [_known(tube, labels, start_s) for tube in read_tubes(path)]
    kept = [tube for tube in tubes if tube is not None]
    return Detections.of_tubes(kept, labels), kept


def read_tubes(path: Path) -> list[Tube]:
    """The tubes of a report, a list of reports, or a list of tubes.

    Raises:
        InvalidInput: an entry is no tube; the message names it.
    """
    value = read_json(path)
    reports = value if isinstance(value, list) else [value]
    entries: list[Any] = []
    for one in reports:
        entries += one["tubes"] if isinstance(one, dict) and isinstance(one.get("tubes"), list) else [one]
    tubes = []
    for place, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise wrong(path, f"tube {place}", f"it is {entry!r}"[:80], "Give what `trifocal detect` writes.")
        try:
            tubes.append(Tube.from_dict(entry))
        except InvalidInput as error:
            raise wrong(path, f"tube {place}", error.message, error.remedy) from error
    return tubes


def _name(video: str, labels: Labels) -> str | None:
    known = {one.video for one in labels.videos}
    files = {one.file: one.video for one in labels.videos if one.file}
    stem = Path(video).name.rpartition(".")[0] or Path(video).name
    return next(
        (one for one in (video, files.get(video), files.get(Path(video).name), Path(video).name, stem) if one in known),
        None,
    )


def _known(tube: Tube, labels: Labels, start_s: float) -> Tube | None:
    name = _name(tube.video, labels)
    if name is None:
        return None
    return Tube(name, tube.actor, tube.times_s - start_s, tube.boxes_xyxy, dict(tube.actions))


def _csv(path: Path, labels: Labels, start_s: float) -> Detections:
    ids = {number: place for place, number in enumerate(labels.classes.ids)}
    videos = tuple(one.video for one in labels.videos)
    said: dict[int, dict[float, dict[tuple[float, ...], dict[int, float]]]] = {}  # by video, second, box and class
    for line, cells in enumerate(csv.reader(io.StringIO(read_text(path))), start=1):
        if not cells or (line == 1 and len(cells) > 1 and not cells[1].strip().replace(".", "", 1).isdigit()):
            continue
        if len(cells) < 8:
            raise wrong(
                path, f"line {line}", f"it has {len(cells)} columns", "Give video,second,x1,y1,x2,y2,action,score."
            )
        try:
            second, *corners, action, score = (float(cell) for cell in cells[1:8])
        except ValueError as error:
            raise wrong(path, f"line {line}", f"{error}", "Give numbers after the video.") from error
        if not np.isfinite([second, *corners, action, score]).all():
            raise wrong(path, f"line {line}", "a number is not finite", "Drop the row.")
        name = _name(cells[0].strip(), labels)
        if name is None:
            continue
        place = videos.index(name)
        one = labels.videos[place]
        size = (one.width, one.height, one.width, one.height)
        box = tuple(value * side for value, side in zip(corners, size, strict=True))
        # Rows of classes that the labels lack still tell that somebody looked at this second.
        boxes = said.setdefault(place, {}).setdefault(second - start_s, {})
        if action in ids:
            boxes.setdefault(box, {})[ids[int(action)]] = score
    rows = [row for place, moments in said.items() for row in _at_labelled_frames(place, moments, labels.videos[place])]
    scores = np.full((len(rows), len(ids)), np.nan)
    for number, (*_, own) in enumerate(rows):
        for column, value in own.items():
            scores[number, column] = value
    return Detections(
        labels.classes,
        videos,
        np.array([row[0] for row in rows], np.int64),
        np.array([row[1] for row in rows], np.int64),
        np.array([row[2] for row in rows], np.float64).reshape(-1, 4),
        scores,
    )


def _at_labelled_frames(
    place: int, moments: dict[float, dict[tuple[float, ...], dict[int, float]]], one: VideoLabels
) -> list[tuple[int, int, tuple[float, ...], dict[int, float]]]:
    """(video, frame, box, scores) of the moment that is nearest to each labelled frame."""
    seconds = sorted(moments)
    half = moment_reach(np.array(seconds), rate=one.rate)
    # Somebody who is seen at two moments a minute apart was not there all the minute.
    reach = max(0.5 / one.rate, min(half, _FARTHEST_S))
    return [
        (place, index, box, own)
        for index, at in nearest_moments(seconds, one, reach=reach)
        for box, own in moments[seconds[at]].items()
    ]
