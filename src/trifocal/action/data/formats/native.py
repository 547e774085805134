"""The project's own JSON of labels: everything that `Labels` holds, and nothing else.

Other formats lose something (`losses` says what); this one keeps all, so that converting to it and training from it
loses nothing. It carries a version.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from trifocal.action.data.formats.rows import field, read_json, runs, wrong
from trifocal.action.labels import LabelMap, Labels, VideoLabels
from trifocal.errors import InvalidInput

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["FORMAT", "read_native", "write_native"]

FORMAT = "trifocal-labels"
_VERSION = 1


def write_native(labels: Labels, path: Path) -> None:
    """Write labels; boxes to a thousandth of a pixel, or to a millionth of a frame of unknown size."""
    value = {
        "format": FORMAT,
        "version": _VERSION,
        "classes": [{"id": n, "name": name} for n, name in zip(labels.classes.ids, labels.classes.names, strict=True)],
        "splits": {name: list(members) for name, members in labels.splits.items()},
        "videos": [_to_json(one) for one in labels.videos],
    }
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")


def _to_json(one: VideoLabels) -> dict[str, Any]:
    digits = 3 if one.measured else 6
    return {
        "video": one.video,
        "file": one.file,
        "rate": one.rate,
        "rate_told": one.rate_told,
        "width": one.width,
        "height": one.height,
        "frame_count": one.frame_count,
        "labelled": runs(one.labelled if one.labelled is not None else one.indices),
        "excluded": one.excluded.tolist(),
        "indices": one.indices.tolist(),
        "tracks": one.tracks.tolist(),
        "boxes_xyxy": [[round(float(value), digits) for value in box] for box in one.boxes_xyxy],
        "actions": [np.flatnonzero(row).tolist() for row in one.actions],
    }


def read_native(path: Path) -> Labels:
    """What `write_native` wrote.

    Raises:
        InvalidInput: another format or version, or an entry that is wrong; the message names it.
    """
    value = read_json(path)
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise wrong(path, "the file", f"it is not of the format {FORMAT}", "Convert it with `trifocal labels convert`.")
    if value.get("version") != _VERSION:
        raise wrong(path, "version", f"it is {value.get('version')!r}", f"Only version {_VERSION} is known.")
    entries = field(path, "the file", value, "classes", list)
    pairs = [
        (
            field(path, f"classes, entry {place}", one, "id", int),
            field(path, f"classes, entry {place}", one, "name", str),
        )
        for place, one in enumerate(entries)
    ]
    try:
        classes = LabelMap(tuple(name for _, name in pairs), tuple(number for number, _ in pairs))
    except InvalidInput as error:
        raise InvalidInput(f"{path.name}: {error.message}", remedy=error.remedy) from error
    videos = tuple(
        _from_json(path, place, one, classes)
        for place, one in enumerate(field(path, "the file", value, "videos", list))
    )
    splits = field(path, "the file", value, "splits", dict)
    for name, members in splits.items():
        if not isinstance(members, list) or not all(isinstance(one, str) for one in members):
            raise wrong(path, f"splits, {name!r}", f"it is {members!r}"[:80], "Give a list of ids of videos.")
    try:
        return Labels(classes, videos, {name: tuple(members) for name, members in splits.items()})
    except InvalidInput as error:
        raise InvalidInput(f"{path.name}: {error.message}", remedy=error.remedy) from error


def _from_json(path: Path, place: int, one: dict[str, Any], classes: LabelMap) -> VideoLabels:
    where = f"videos, entry {place}"
    name = field(path, where, one, "video", str)
    where = f"video {name!r}"
    count, file = one.get("frame_count"), one.get("file")
    if not (count is None or (type(count) is int and count > 0)) or not (file is None or isinstance(file, str)):
        raise wrong(path, where, f"frame_count is {count!r} and file {file!r}", "Give a number and a name, or null.")
    lists = {key: field(path, where, one, key, list) for key in ("indices", "tracks", "boxes_xyxy", "actions")}
    rate = float(field(path, where, one, "rate", (int, float)))
    width, height = (field(path, where, one, side, int) for side in ("width", "height"))
    runs = field(path, where, one, "labelled", list)
    actions = np.zeros((len(lists["actions"]), len(classes)), np.bool_)
    try:
        for row, own in enumerate(lists["actions"]):
            actions[row, own] = True
        labelled = [np.arange(first, stop) for first, stop in runs]
        return VideoLabels(
            name,
            np.array(lists["indices"], np.int64),
            np.array(lists["boxes_xyxy"], np.float32).reshape(-1, 4),
            np.array(lists["tracks"], np.int64),
            actions,
            rate,
            width,
            height,
            frame_count=count,
            labelled=np.concatenate([np.zeros(0, np.int64), *labelled]),
            excluded=np.array(one.get("excluded", []), np.int64),
            file=file,
            rate_told=bool(one.get("rate_told", True)),
        )
    except InvalidInput as error:
        raise InvalidInput(f"{path.name}: {error.message}", remedy=error.remedy) from error
    except (ValueError, TypeError, IndexError, OverflowError) as error:
        raise wrong(path, where, f"a value cannot be used: {error}", "Convert the labels anew.") from error
