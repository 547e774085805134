"""Detections from files: an AVA csv with scores, or the JSON that `trifocal detect` writes.

Csv rows are `video,second,x1,y1,x2,y2,action,score` with corners in parts of the frame; rows of one video, second and
box are one detection with several scores, and each labelled frame takes the rows of the second nearest to it. Actions
are meant by name where a label map stands beside the csv (`x.pbtxt`), else by the labels' numbers. The JSON is a
report, a list of reports, or a list of tubes, which are read off at the labelled frames. A video that the labels do not
know by its full name is looked up without folder and ending.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trifocal.action.data.formats.label_maps import label_map_beside, read_label_map
from trifocal.action.data.formats.rows import read_json, read_text, wrong
from trifocal.action.evaluation.sampling import moment_reach, nearest_moments
from trifocal.action.evaluation.tables import Detections
from trifocal.action.tube import Tube
from trifocal.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from trifocal.action.labels import LabelMap, Labels, VideoLabels

__all__ = ["read_detections", "read_tubes"]

_FARTHEST_S = 0.5
"""How far a row's second may be from a labelled frame that it is the nearest to."""


def read_detections(
    path: Path, labels: Labels, *, start_s: float = 0.0, note: Callable[[str], None] | None = None
) -> tuple[Detections, list[Tube] | None]:
    """What a detector wrote, in the labels' own classes, pixels and frame numbers.

    Args:
        path: csv or JSON.
        labels: that it will be compared with.
        start_s: the videos' second that is the labels' second 0 (-900 for AVA's clips that begin at second 900).
        note: told, in a sentence, of videos that only one of the two files knows, or that no labelled frame is near.

    Returns:
        Single frames, and the tubes where the file has tubes.

    Raises:
        InvalidInput: the file is wrong, the message names the line or the entry; the labels know none of its videos.
    """
    names = _Names(labels)
    if path.suffix.lower() == ".csv":
        found, tubes, looked_at = _csv(path, labels, start_s, names), None, set()
    else:
        reports, listed = _entries(path)
        looked_at = {names.find(video) for video in reports}  # even where nobody was found
        known = [(names.find(tube.video), tube) for tube in listed]
        tubes = [
            Tube(name, tube.actor, tube.times_s - start_s, tube.boxes_xyxy, dict(tube.actions))
            for name, tube in known
            if name is not None
        ]
        found = Detections.of_tubes(tubes, labels)
        looked_at -= {tube.video for tube in tubes}
    names.check(path)
    if note is not None:
        seen = looked_at | {found.videos[place] for place in np.unique(found.video).tolist()}
        for sentence in names.told(seen):
            note(sentence)
    return found, tubes


def read_tubes(path: Path) -> list[Tube]:
    """The tubes of a report, a list of reports, or a list of tubes.

    Raises:
        InvalidInput: an entry is no tube; the message names it.
    """
    return _entries(path)[1]


def _entries(path: Path) -> tuple[list[str], list[Tube]]:
    """The videos of reports, and all tubes."""
    value = read_json(path)
    videos: list[str] = []
    entries: list[Any] = []
    for one in value if isinstance(value, list) else [value]:
        if isinstance(one, dict) and isinstance(one.get("tubes"), list):
            videos += [one["video"]] if isinstance(one.get("video"), str) else []
            entries += one["tubes"]
        else:
            entries.append(one)
    tubes = []
    for place, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise wrong(path, f"tube {place}", f"it is {entry!r}"[:80], "Give what `trifocal detect` writes.")
        try:
            tubes.append(Tube.from_dict(entry))
        except InvalidInput as error:
            raise wrong(path, f"tube {place}", error.message, error.remedy) from error
    return videos, tubes


class _Names:
    """Which of the labels' videos the videos of a file are, and which are none.

    Args:
        labels: that the file is compared with.
    """

    def __init__(self, labels: Labels) -> None:
        """Know the labels' videos and nothing of the file yet."""
        self._known = {one.video for one in labels.videos}
        self._files = {one.file: one.video for one in labels.videos if one.file}
        self._found: dict[str, str | None] = {}

    def find(self, video: str) -> str | None:
        """The labels' id of a video; None where they do not know it. It is remembered that the file has it."""
        if video not in self._found:
            file = Path(video).name
            tried = (video, self._files.get(video), self._files.get(file), file, file.rpartition(".")[0] or file)
            self._found[video] = next((one for one in tried if one in self._known), None)
        return self._found[video]

    def check(self, path: Path) -> None:
        """Refuse a file of other videos.

        Raises:
            InvalidInput: it names videos, and the labels know none of them.
        """
        if self._found and not any(self._found.values()):
            raise InvalidInput(
                f"no video of {path} is in the labels: it has {_some(self._found)}, they have {_some(self._known)}",
                remedy="Name its videos as the labels do, folder and ending aside, or give labels of them.",
            )

    def told(self, seen: Collection[str | None]) -> list[str]:
        """What does not fit, a sentence each.

        Args:
            seen: ids of videos with a detection at a labelled frame, or in which nobody was found.
        """
        strangers = [video for video, name in self._found.items() if name is None]
        named = {name for name in self._found.values() if name is not None}
        out = []
        if silent := self._known - named:
            out.append(f"without any detection, so that all their actors count as missed: {_some(silent)}")
        if away := named - set(seen):
            out.append(f"without a detection near a labelled frame (is the start right?): {_some(away)}")
        if strangers:
            out.append(f"detections of videos that the labels do not have are left out: {_some(strangers)}")
        return out


def _some(videos: Collection[str], *, most: int = 3) -> str:
    """The first few of some videos by name, and how many there are."""
    first = ", ".join(repr(one) for one in sorted(videos)[:most])
    count = f"{len(videos)} video" + ("" if len(videos) == 1 else "s")
    return f"{count} ({first}{', …' if len(videos) > most else ''})"


def _columns(path: Path, classes: LabelMap) -> dict[int, int]:
    """The labels' class of each number of a csv: by name where a label map stands beside the csv, else by number."""
    beside = label_map_beside(path)
    if beside.is_file():
        own, places = read_label_map(beside), {name: place for place, name in enumerate(classes.names)}
        if named := {number: places[name] for name, number in zip(own.names, own.ids, strict=True) if name in places}:
            return named
    return {number: place for place, number in enumerate(classes.ids)}


def _csv(path: Path, labels: Labels, start_s: float, names: _Names) -> Detections:
    ids = _columns(path, labels.classes)
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
        name = names.find(cells[0].strip())
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
    scores = np.full((len(rows), len(labels.classes)), np.nan)
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
