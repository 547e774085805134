"""AVA: the csv of one row per box and action, and the JSON of the released loader.

Csv rows are `video,second,x1,y1,x2,y2,action,person` with corners in parts of the frame; the last column may be
missing. A row of a video and a second alone says that somebody looked there and saw nobody. Names of the actions stand
in a label map, `x.pbtxt` beside `x.csv`. Seconds are the frame numbers of the labels (rate 1); where some are not
whole, milliseconds are (rate 1000), unless a rate is given.
"""

from __future__ import annotations

import csv
import io
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from trifocal.action.data.formats.label_maps import numbered, write_label_map
from trifocal.action.data.formats.rows import Row, join, read_json, read_text, wrong
from trifocal.action.labels import LabelMap, Labels
from trifocal.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from trifocal.action.labels import VideoLabels

__all__ = ["read_ava_csv", "read_ava_json", "read_excluded", "write_ava_csv"]

_COLUMNS = "video,second,x1,y1,x2,y2,action,person"
_SLACK = 1e-3
"""How far beyond the frame a corner may lie; AVA's own files have corners of 1.0001."""


def _lines(path: Path) -> list[tuple[int, list[str]]]:
    return [
        (place, [cell.strip() for cell in cells])
        for place, cells in enumerate(csv.reader(io.StringIO(read_text(path))), start=1)
        if cells
    ]


def _number(path: Path, line: int, name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise wrong(path, f"line {line}", f"{name} is {text!r}", f"Give a number; the columns are {_COLUMNS}.")
    return value


def read_excluded(path: Path) -> dict[str, set[float]]:
    """Seconds to leave out, by video: rows `video,second`.

    Raises:
        InvalidInput: a row is not so; the message names its line.
    """
    out: dict[str, set[float]] = {}
    for line, cells in _lines(path):
        if len(cells) < 2 or not cells[0]:
            raise wrong(path, f"line {line}", f"it has {len(cells)} columns", "Give video,second.")
        out.setdefault(cells[0], set()).add(_number(path, line, "the second", cells[1]))
    return out


def read_ava_csv(
    path: Path,
    *,
    classes: LabelMap | None = None,
    excluded: Mapping[str, set[float]] | None = None,
    rate: float | None = None,
) -> Labels:
    """The labels of an AVA csv.

    Args:
        path: the file.
        classes: of the actions; rows of other actions keep their box without an action (as AVA's 60 of 80 are scored).
            Without it the classes are the numbers in the file.
        excluded: seconds to leave out, by video.
        rate: frame numbers per second.

    Raises:
        InvalidInput: there is no row, or one is wrong; the message names its line.
    """
    lines = _lines(path)
    if lines and lines[0][1][1:2] and not _is_number(lines[0][1][1]):
        lines = lines[1:]  # names of the columns
    if not lines:
        raise wrong(
            path, "line 1", "there is no row", f"Give rows {_COLUMNS}; video,second alone where nobody is to be seen."
        )
    times: dict[str, set[float]] = {}
    boxes: list[tuple[str, float, tuple[float, float, float, float], int, int]] = []
    for line, cells in lines:
        if len(cells) < 2 or not cells[0]:
            raise wrong(path, f"line {line}", f"it has {len(cells)} columns", f"The columns are {_COLUMNS}.")
        second = _number(path, line, "the second", cells[1])
        if second < 0:
            raise wrong(path, f"line {line}", f"the second is {second:g}", "Give a second of at least 0.")
        times.setdefault(cells[0], set()).add(second)
        if not any(cells[2:]):
            continue
        if len(cells) < 7:
            raise wrong(path, f"line {line}", f"it has {len(cells)} columns", f"The columns are {_COLUMNS}.")
        corners = [
            _number(path, line, name, text) for name, text in zip(("x1", "y1", "x2", "y2"), cells[2:6], strict=True)
        ]
        if not all(-_SLACK <= value <= 1 + _SLACK for value in corners):
            raise wrong(path, f"line {line}", f"the box is {corners}", "Give corners in parts of the frame, 0 to 1.")
        if corners[2] < corners[0] or corners[3] < corners[1]:
            raise wrong(path, f"line {line}", f"the box {corners} ends before it begins", "Exchange its corners.")
        action = _number(path, line, "the action", cells[6])
        person = _number(path, line, "the person", cells[7]) if len(cells) > 7 and cells[7] else -1
        if action != int(action) or person != int(person):
            raise wrong(
                path, f"line {line}", "the action or the person is not a whole number", f"The columns are {_COLUMNS}."
            )
        boxes.append((cells[0], second, (corners[0], corners[1], corners[2], corners[3]), int(action), int(person)))
    every = [second for seconds in times.values() for second in seconds]
    grid = rate or (1.0 if all(second == int(second) for second in every) else 1000.0)
    known = classes or (numbered(row[3] for row in boxes) if boxes else LabelMap.of(["action 1"]))
    rows: dict[str, list[Row]] = {video: [] for video in times}
    for video, second, box, action, person in boxes:
        rows[video].append(Row(round(second * grid), box, person, known.index_of_id(action)))
    left_out = excluded or {}
    return Labels(
        known,
        tuple(
            join(
                video,
                own,
                known,
                rate=grid,
                labelled=np.array([round(second * grid) for second in times[video]]),
                excluded=np.array([round(second * grid) for second in left_out.get(video, ())], np.int64),
            )
            for video, own in rows.items()
        ),
    )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def read_ava_json(path: Path, *, classes: LabelMap | None = None) -> Labels:
    """The labels of the released loader's JSON: `{"video,0902": {"bboxes": [[...]], "acts": [[...]]}}`.

    Actions are counted from 0; the object may stand below the key `video_frame_bbox`.

    Raises:
        InvalidInput: an entry is wrong; the message names it.
    """
    value = read_json(path)
    entries: Any = value.get("video_frame_bbox", value) if isinstance(value, dict) else None
    if not isinstance(entries, dict):
        raise wrong(path, "the file", "it is no object of boxes by frame", 'Give {"video,0902": {"bboxes": …}}.')
    found: list[tuple[str, int, tuple[float, ...], list[int]]] = []
    for key, entry in entries.items():
        video, _, second = key.rpartition(",")
        corners = entry.get("bboxes") if isinstance(entry, dict) else None
        actions = entry.get("acts") if isinstance(entry, dict) else None
        if not video or not second.isdigit() or not isinstance(corners, list) or not isinstance(actions, list):
            raise wrong(path, f"entry {key!r}", "it is no frame with bboxes and acts", "Export it again.")
        if len(corners) != len(actions):
            raise wrong(path, f"entry {key!r}", f"{len(corners)} boxes, {len(actions)} acts", "Give one list per box.")
        for box, own in zip(corners, actions, strict=True):
            whole = isinstance(own, list) and all(type(one) is int and one >= 0 for one in own)
            if not _is_box(box) or not whole:
                raise wrong(
                    path,
                    f"entry {key!r}",
                    f"a box is {box!r} with acts {own!r}",
                    "Give x1, y1, x2, y2, 0 to 1, and a list of numbers.",
                )
            found.append((video, int(second), tuple(map(float, box)), own))
    known = classes or numbered(one + 1 for _, _, _, own in found for one in own)
    rows: dict[str, list[Row]] = {}
    for video, index, box, own in found:
        places = [known.index_of_id(one + 1) for one in own] or [None]
        rows.setdefault(video, []).extend(Row(index, (box[0], box[1], box[2], box[3]), -1, one) for one in places)
    for key in entries:
        rows.setdefault(key.rpartition(",")[0], [])
    looked = {
        video: [int(key.rpartition(",")[2]) for key in entries if key.rpartition(",")[0] == video] for video in rows
    }
    return Labels(
        known, tuple(join(video, own, known, rate=1.0, labelled=np.array(looked[video])) for video, own in rows.items())
    )


def _is_box(box: Any) -> bool:
    return (
        isinstance(box, list)
        and len(box) == 4
        and all(isinstance(one, int | float) and -_SLACK <= one <= 1 + _SLACK for one in box)
        and box[0] <= box[2]
        and box[1] <= box[3]
    )


def write_ava_csv(labels: Labels, path: Path) -> tuple[Path, Path]:
    """Write an AVA csv, and its label map beside it.

    One row per box and action, corners to six places, and one per second without anybody. A box without an action
    cannot be said in this format: it is left out, and with it its second where nobody else is to be seen, which would
    read as empty. Excluded frames are left out, and corners outside the picture moved to its edge.

    Returns:
        The paths of both.

    Raises:
        InvalidInput: nothing is left to write, or the label map is of other classes.
    """
    rows = [row for one in labels.videos for row in _rows(one, labels.classes)]
    if not rows:
        raise InvalidInput(f"there is nothing to write into {path.name}", remedy="Give labels with a box or a frame.")
    beside = write_label_map(labels.classes, path)
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
    return path, beside


def _rows(one: VideoLabels, classes: LabelMap) -> Iterator[list[object]]:
    unit = one.unit_boxes.clip(0, 1)
    for row in np.flatnonzero(np.isin(one.indices, one.looked_at)):
        second = _second(one.indices[row] / one.rate)
        person = "" if one.tracks[row] < 0 else str(int(one.tracks[row]))
        for action in np.flatnonzero(one.actions[row]):
            yield [one.video, second, *(f"{value:.6f}" for value in unit[row]), classes.ids[action], person]
    for index in np.setdiff1d(one.looked_at, one.indices):
        yield [one.video, _second(index / one.rate)]


def _second(value: float) -> str:
    return f"{int(value):04d}" if value == int(value) else f"{value:.6f}"
