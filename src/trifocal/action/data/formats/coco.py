"""COCO-style video JSON: `videos`, `images` with a frame number, `annotations` with a track, `categories` = actions.

An annotation's category is its action; several annotations of one image, track and box are several actions of one
actor, and a list `action_ids` (or a list of names, `actions`, also below `attributes`) says them at once. Frames count
from 0 (`frame_id` or `frame_index`); boxes are x, y, width, height in pixels.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trifocal.action.data.formats.rows import GUESSED_RATE, VIDEO_SUFFIXES, Row, field, join, read_json, wrong
from trifocal.action.labels import LabelMap, Labels

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trifocal.action.labels import VideoLabels

__all__ = ["read_coco", "write_coco"]


def read_coco(path: Path, *, classes: LabelMap | None = None, rate: float | None = None) -> Labels:
    """The labels of all videos of a file.

    Args:
        path: the JSON.
        classes: of the actions, by name; without it the file's categories.
        rate: frames per second where a video does not say (`fps`); None guesses 25, which `Labels.timed` may correct.

    Raises:
        InvalidInput: an entry is missing or wrong; the message names it.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        raise wrong(path, "the file", "it is no object", "Give videos, images, annotations and categories.")
    categories = _by_id(path, value, "categories")
    names = {number: field(path, f"categories, id {number}", one, "name", str) for number, one in categories.items()}
    known = classes or LabelMap(tuple(names[n] for n in sorted(names)), tuple(sorted(names)))
    videos, images = _by_id(path, value, "videos"), _by_id(path, value, "images")
    frame: dict[int, tuple[int, int]] = {}
    for number, one in images.items():
        where = f"images, id {number}"
        video = field(path, where, one, "video_id", int)
        if video not in videos:
            raise wrong(path, where, f"video_id is {video}", "Name a video of the file.")
        index = one.get("frame_id", one.get("frame_index"))
        if not isinstance(index, int) or isinstance(index, bool) or index < 0:
            raise wrong(path, where, f"frame_id is {index!r}", "Give the frame's number, from 0.")
        frame[number] = (video, index)
    rows: dict[int, list[Row]] = {number: [] for number in videos}
    for place, one in enumerate(field(path, "the file", value, "annotations", list)):
        where = f"annotations, entry {place}"
        image = field(path, where, one, "image_id", int)
        if image not in frame:
            raise wrong(path, where, f"image_id is {image}", "Name an image of the file.")
        video, index = frame[image]
        box = _box(path, where, one)
        track = _track(path, where, one)
        actions = _actions(path, where, one, names, known)
        rows[video] += [Row(index, box, track, action) for action in actions or [None]]
    looked: dict[int, list[int]] = {number: [] for number in videos}
    for video, index in frame.values():
        looked[video].append(index)
    made: dict[str, VideoLabels] = {}
    for number, one in videos.items():
        own = _video(path, number, one, rows[number], known, rate=rate, looked=looked[number], images=images)
        if own.video in made:
            where = f"videos, id {number}"
            raise wrong(path, where, f"another video is called {own.video!r} too", "Give each its own name.")
        made[own.video] = own
    return Labels(known, tuple(made.values()))


def _by_id(path: Path, value: Mapping[str, Any], key: str) -> dict[int, Mapping[str, Any]]:
    entries = field(path, "the file", value, key, list)
    out: dict[int, Mapping[str, Any]] = {}
    for place, one in enumerate(entries):
        number = field(path, f"{key}, entry {place}", one, "id", int)
        if number in out:
            raise wrong(path, f"{key}, entry {place}", f"the id {number} stands twice", "Give each its own id.")
        out[number] = one
    return out


def _box(path: Path, where: str, one: Mapping[str, Any]) -> tuple[float, float, float, float]:
    box = one.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(isinstance(v, int | float) for v in box):
        raise wrong(path, where, f"bbox is {box!r}", "Give x, y, width, height in pixels.")
    x, y, width, height = map(float, box)
    if not np.isfinite([x, y, width, height]).all():
        raise wrong(path, where, f"bbox is {box!r}", "Give finite numbers.")
    if width < 0 or height < 0:
        raise wrong(path, where, f"bbox is {box!r}, of negative size", "Give x, y of the corner at the top left.")
    return x, y, x + width, y + height


def _track(path: Path, where: str, one: Mapping[str, Any]) -> int:
    """The actor's number; -1 where there is none, or null."""
    track = one.get("track_id", one.get("instance_id"))
    if track is None:
        return -1
    if isinstance(track, bool) or not isinstance(track, int | float) or track != track // 1:
        raise wrong(path, where, f"track_id is {track!r}", "Give the actor's number, a whole one.")
    return int(track)


def _rate(path: Path, where: str, one: Mapping[str, Any]) -> float | None:
    """Frames per second; None where the file does not tell."""
    told = one.get("fps")
    if told is None or told == 0:
        return None
    if isinstance(told, bool) or not isinstance(told, int | float) or not 0 < told < np.inf:
        raise wrong(path, where, f"fps is {told!r}", "Give frames per second, a number above 0.")
    return float(told)


def _actions(
    path: Path, where: str, one: Mapping[str, Any], names: Mapping[int, str], known: LabelMap
) -> list[int | None]:
    below = one.get("attributes")
    named = one.get("actions", below.get("actions") if isinstance(below, dict) else None)
    if named is None:
        numbers = one.get("action_ids", [one["category_id"]] if one.get("category_id") is not None else [])
        if not isinstance(numbers, list):
            raise wrong(path, where, f"action_ids is {numbers!r}", "Give a list of ids of categories.")
        for number in numbers:
            if not isinstance(number, int) or number not in names:
                raise wrong(path, where, f"the category {number!r} is unknown", "Name a category of the file.")
        named = [names[number] for number in numbers]
    if not isinstance(named, list):
        raise wrong(path, where, f"actions is {named!r}", "Give a list of names.")
    if strangers := [name for name in named if name not in known.names]:
        raise wrong(path, where, f"the action {strangers[0]!r} is unknown", f"Use one of {', '.join(known.names[:8])}.")
    return [known.index(name) for name in named]


def _video(
    path: Path,
    number: int,
    one: Mapping[str, Any],
    rows: list[Row],
    known: LabelMap,
    *,
    rate: float | None,
    looked: list[int],
    images: Mapping[int, Mapping[str, Any]],
) -> VideoLabels:
    where = f"videos, id {number}"
    name = one.get("name", one.get("file_name"))
    if not isinstance(name, str) or not name:
        raise wrong(path, where, f"name is {name!r}", "Give the video's name.")
    sized = one if "width" in one else next((image for image in images.values() if image["video_id"] == number), one)
    size = (field(path, where, sized, "width", int), field(path, where, sized, "height", int))
    count = one.get("length", one.get("frame_count"))
    told = _rate(path, where, one) or rate
    if min(size) < 1:
        raise wrong(path, where, f"its picture is {size[0]} x {size[1]}", "Give width and height in pixels.")
    return join(
        Path(name).stem if Path(name).suffix.lower() in VIDEO_SUFFIXES else name,
        rows,
        known,
        rate=told or GUESSED_RATE,
        rate_told=told is not None,
        size=size,
        frame_count=count if isinstance(count, int) and count > 0 else None,
        labelled=np.array(looked, np.int64),
        file=one.get("file_name") if isinstance(one.get("file_name"), str) else None,
    )


def write_coco(labels: Labels, path: Path) -> None:
    """Write all videos: an annotation per box, its actions as `action_ids` and the first also as `category_id`.

    Raises:
        InvalidInput: the size of a video's picture is not known.
    """
    videos: list[dict[str, Any]] = []
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, one in enumerate(labels.videos, start=1):
        if not one.measured:
            raise wrong(path, one.video, "the size of its picture is not known", "Call labels.measured(sizes).")
        facts = {"id": number, "name": one.video, "width": one.width, "height": one.height}
        facts |= {"fps": one.rate} if one.rate_told else {}
        facts |= {"length": one.frame_count} if one.frame_count is not None else {}
        videos.append(facts | ({"file_name": one.file} if one.file else {}))
        ids = {}
        for index in one.looked_at:
            ids[int(index)] = len(images) + 1
            images.append(
                {"id": len(images) + 1, "video_id": number, "frame_id": int(index)} | _sides(one.width, one.height)
            )
        for row in range(len(one)):
            index = int(one.indices[row])
            if index not in ids:
                continue
            x1, y1, x2, y2 = (round(float(value), 2) for value in one.boxes_xyxy[row])
            actions = [labels.classes.ids[place] for place in np.flatnonzero(one.actions[row])]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": ids[index],
                    "video_id": number,
                    "track_id": int(one.tracks[row]),
                    "category_id": actions[0] if actions else None,
                    "action_ids": actions,
                    "bbox": [x1, y1, round(x2 - x1, 2), round(y2 - y1, 2)],
                    "area": round((x2 - x1) * (y2 - y1), 2),
                    "iscrowd": 0,
                }
            )
    categories = [{"id": n, "name": name} for n, name in zip(labels.classes.ids, labels.classes.names, strict=True)]
    value = {"videos": videos, "images": images, "annotations": annotations, "categories": categories}
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")


def _sides(width: int, height: int) -> dict[str, int]:
    return {"width": width, "height": height}
