"""CVAT's "CVAT for video 1.1" XML: a track is an actor, an attribute says the action.

An attribute called `action` or `actions` (or as named) holds the actions, several with commas between; a checkbox that
is ticked is an action of its own name; where a label has no attributes, it is itself the action. Frames that an export
left out between two key frames of a track are filled in, boxes on a straight line, actions as before.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element, ElementTree, ParseError, SubElement, indent

import numpy as np
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from trifocal.action.data.formats.rows import GUESSED_RATE, Row, join, read_text, wrong
from trifocal.action.labels import LabelMap, Labels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trifocal.action.labels import VideoLabels

__all__ = ["read_cvat", "write_cvat"]

_NONE = ("", "__undefined__", "none", "None")
_CORNERS = ("xtl", "ytl", "xbr", "ybr")
_Box = tuple[float, float, float, float]


def read_cvat(
    path: Path,
    *,
    classes: LabelMap | None = None,
    rate: float | None = None,
    video: str | None = None,
    attributes: Sequence[str] = ("action", "actions"),
) -> Labels:
    """The labels of one video.

    Args:
        path: the XML.
        classes: of the actions; without it those that the file names, in order of name.
        rate: frames per second of the video, which the file does not tell; None guesses 25, which `Labels.timed` may
            correct.
        video: its id; the name of the source or the task by default, without its ending.
        attributes: names of the attributes that hold actions.

    Raises:
        InvalidInput: it is no such XML; the message names the element.
    """
    try:
        root = fromstring(read_text(path))
    except ParseError as error:
        raise wrong(path, f"line {error.position[0]}", "it is no XML", "Export it as CVAT for video 1.1.") from error
    except DefusedXmlException as error:
        raise wrong(path, "its head", "it declares entities or a document type", "Remove the declaration.") from error
    if root.tag != "annotations" or root.find("image") is not None:
        raise wrong(path, f"<{root.tag}>", "it is not of a video", "Export it as CVAT for video 1.1.")
    found: list[tuple[int, int, _Box, tuple[str, ...]]] = []
    for place, track in enumerate(root.iter("track")):
        where = f'<track id="{track.get("id")}">'
        number = _whole(path, where, "id", track.get("id", str(place)))
        found += [(number, *one) for one in _boxes(path, where, track, attributes)]
    known = classes or LabelMap.of(sorted({name for *_, names in found for name in names}) or ["action"])
    for number, index, _, names in found:
        if strangers := [name for name in names if name not in known.names]:
            raise wrong(
                path, f'<track id="{number}">, <box frame="{index}">', f"the action {strangers[0]!r} is unknown",
                f"Use one of {', '.join(known.names[:8])}.",
            )  # fmt: skip
    rows = []
    for number, index, box, names in found:
        actions: list[int | None] = [known.index(name) for name in names]
        rows += [Row(index, box, number, action) for action in actions or [None]]
    name, size, count = _facts(path, root)
    facts = {"frame_count": count, "labelled": _labelled(count), "rate_told": rate is not None}
    return Labels(known, (join(video or name, rows, known, rate=rate or GUESSED_RATE, size=size, **facts),))


def _labelled(count: int | None) -> np.ndarray | None:
    return None if count is None else np.arange(count)


def _whole(path: Path, where: str, name: str, text: str | None) -> int:
    if text is None or not text.isdigit():
        raise wrong(path, where, f"{name} is {text!r}", "Give a whole number of at least 0.")
    return int(text)


def _boxes(
    path: Path, where: str, track: Element, attributes: Sequence[str]
) -> list[tuple[int, _Box, tuple[str, ...]]]:
    """(frame, box, actions) of a track, with the frames between filled in."""
    label = track.get("label", "")
    shown: list[tuple[int, bool, _Box, tuple[str, ...]]] = []
    for box in track.iter("box"):
        index = _whole(path, f"{where}, <box>", "frame", box.get("frame"))
        at = f'{where}, <box frame="{index}">'
        try:
            x1, y1, x2, y2 = (float(box.get(name, "")) for name in _CORNERS)
        except ValueError as error:
            raise wrong(path, at, f"a corner is no number ({error})", f"Give {', '.join(_CORNERS)}.") from error
        if not np.isfinite([x1, y1, x2, y2]).all():
            raise wrong(path, at, "a corner is not finite", f"Give {', '.join(_CORNERS)}.")
        if x2 < x1 or y2 < y1:
            raise wrong(path, at, f"the box {[x1, y1, x2, y2]} ends before it begins", "Exchange its corners.")
        names = _actions(box, label, attributes)
        shown.append((index, box.get("outside") == "1", (x1, y1, x2, y2), names))
    shown.sort(key=lambda one: one[0])
    out: list[tuple[int, _Box, tuple[str, ...]]] = []
    for place, (index, outside, corners, names) in enumerate(shown):
        if place and shown[place - 1][0] == index:
            raise wrong(path, f'{where}, <box frame="{index}">', "the frame stands twice", "Keep one of the two.")
        if outside:
            continue
        out.append((index, corners, names))
        if place + 1 < len(shown):
            then, _, there, _ = shown[place + 1]
            for between in range(index + 1, then):
                share = (between - index) / (then - index)
                mixed = [a + share * (b - a) for a, b in zip(corners, there, strict=True)]
                out.append((between, (mixed[0], mixed[1], mixed[2], mixed[3]), names))
    return out


def _actions(box: Element, label: str, attributes: Sequence[str]) -> tuple[str, ...]:
    given = [(one.get("name", ""), (one.text or "").strip()) for one in box.findall("attribute")]
    if not given:
        return (label,) if label else ()
    names: list[str] = []
    for name, text in given:
        if name in attributes:
            names += [part.strip() for part in text.split(",") if part.strip() not in _NONE]
        elif text.lower() == "true":
            names.append(name)
    return tuple(dict.fromkeys(names))


def _facts(path: Path, root: Element) -> tuple[str, tuple[int, int], int | None]:
    """Name, (width, height), and the number of frames where the file tells."""
    task = root.find("meta/task")
    if task is None:
        task = root.find("meta/job")
    source = root.findtext("meta/source") or (task.findtext("name") if task is not None else None) or path.stem
    found = root.find("meta/original_size") if task is None else task.find("original_size")
    if found is None:
        found = root.find("meta/original_size")
    if found is None:
        raise wrong(path, "<meta>", "there is no <original_size>", "Export it as CVAT for video 1.1.")
    size = (
        _whole(path, "<original_size>", "width", found.findtext("width")),
        _whole(path, "<original_size>", "height", found.findtext("height")),
    )
    if min(size) < 1:
        raise wrong(path, "<original_size>", f"it is {size[0]} x {size[1]}", "Give width and height in pixels.")
    text = task.findtext("size") if task is not None else None
    return Path(source).stem, size, int(text) if text and text.isdigit() else None


def write_cvat(labels: VideoLabels, path: Path, *, classes: LabelMap) -> None:
    """Write one video as CVAT for video 1.1: a label `actor` whose attribute `action` holds the actions.

    Args:
        labels: with boxes in pixels; rows without a track become tracks of one frame.
        path: where to.
        classes: of the actions.

    Raises:
        InvalidInput: the size of the picture is not known.
    """
    if not labels.measured:
        raise wrong(path, labels.video, "the size of its picture is not known", "Call labels.resized(width, height).")
    root = Element("annotations")
    SubElement(root, "version").text = "1.1"
    task = SubElement(SubElement(root, "meta"), "task")
    SubElement(task, "name").text = labels.video
    if labels.frame_count is not None:
        SubElement(task, "size").text = str(labels.frame_count)
    label = SubElement(SubElement(task, "labels"), "label")
    SubElement(label, "name").text = "actor"
    attribute = SubElement(SubElement(label, "attributes"), "attribute")
    for name, text in (
        ("name", "action"), ("mutable", "True"), ("input_type", "text"), ("default_value", ""),
        ("values", ", ".join(classes.names)),
    ):  # fmt: skip
        SubElement(attribute, name).text = text
    size = SubElement(task, "original_size")
    SubElement(size, "width").text = str(labels.width)
    SubElement(size, "height").text = str(labels.height)
    next_free = int(labels.tracks.max(initial=-1)) + 1
    lone = np.cumsum(labels.tracks < 0) - 1 + next_free
    tracks = np.where(labels.tracks < 0, lone, labels.tracks)
    for number in np.unique(tracks):
        track = SubElement(root, "track", id=str(number), label="actor", source="manual")
        rows = np.flatnonzero(tracks == number)
        for place, row in enumerate(rows):
            index = int(labels.indices[row])
            _add_box(
                track,
                index,
                labels.boxes_xyxy[row],
                "0",
                [classes.names[i] for i in np.flatnonzero(labels.actions[row])],
            )
            follows = place + 1 < len(rows) and labels.indices[rows[place + 1]] == index + 1
            if not follows and (labels.frame_count is None or index + 1 < labels.frame_count):
                _add_box(track, index + 1, labels.boxes_xyxy[row], "1", [])
    indent(root)
    ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)


def _add_box(track: Element, index: int, corners: np.ndarray, outside: str, actions: list[str]) -> None:
    values = {"frame": str(index), "keyframe": "1", "outside": outside, "occluded": "0", "z_order": "0"}
    values |= {name: f"{value:.2f}" for name, value in zip(_CORNERS, corners, strict=True)}
    box = SubElement(track, "box", values)
    SubElement(box, "attribute", name="action").text = ", ".join(actions)
