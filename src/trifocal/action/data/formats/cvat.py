"""CVAT's "CVAT for video 1.1" XML: a track is an actor, an attribute says the action.

An attribute called `action` or `actions` (or as named) holds the actions, several with commas between; a checkbox that
is ticked is an action of its own name; where a label has no attributes, it is itself the action. Frames that were
looked at (`cvat_head`) and left out between two key frames of a track are filled in as CVAT shows them: boxes on a
straight line, actions as before. Attributes with other values are counted and told, `VideoLabels.unread`.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element, ParseError

import numpy as np
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from trifocal.action.data.formats.cvat_head import read_head, whole
from trifocal.action.data.formats.rows import GUESSED_RATE, Row, join, read_text, wrong
from trifocal.action.labels import LabelMap, Labels

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["ATTRIBUTES", "CORNERS", "read_cvat", "split_actions"]

ATTRIBUTES = ("action", "actions")
"""Attributes that hold actions, unless others are named."""

CORNERS = ("xtl", "ytl", "xbr", "ybr")

_NONE = ("", "__undefined__", "none", "None")
_MOST_TRACK = 2**62
_Box = tuple[float, float, float, float]


def read_cvat(
    path: Path,
    *,
    classes: LabelMap | None = None,
    rate: float | None = None,
    video: str | None = None,
    attributes: Sequence[str] = ATTRIBUTES,
) -> Labels:
    """The labels of one video.

    Args:
        path: the XML.
        classes: of the actions; without it those that the file's head names, or that boxes have, in order of name.
        rate: frames per second of the video, which CVAT's files do not tell; None guesses 25, which `Labels.timed`
            may correct.
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
    head = read_head(path, root)
    given = classes or head.classes
    between = head.labelled if head.bounded else None
    found: list[tuple[int, int, _Box, tuple[str, ...]]] = []
    unread: Counter[str] = Counter()
    for place, track in enumerate(root.iter("track")):
        where = f'<track id="{track.get("id")}">'
        number = whole(path, where, "id", track.get("id", str(place)), most=_MOST_TRACK)
        unread.update(_unread(track, attributes))
        actor = -1 if head.untracked_from is not None and number >= head.untracked_from else number
        found += [(actor, *one) for one in _boxes(path, where, track, attributes, given, between)]
    known = classes or _known(head.classes, {name for *_, names in found for name in names})
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
    told = head.rate or rate
    one = join(
        video or head.video,
        rows,
        known,
        rate=told or GUESSED_RATE,
        size=head.size,
        frame_count=head.frame_count,
        labelled=head.labelled,
        excluded=np.array(head.excluded, np.int64),
        file=head.file,
        rate_told=told is not None,
        unread=dict(unread),
    )
    return Labels(known, (one,))


def _known(told: LabelMap | None, found: set[str]) -> LabelMap:
    """The classes of a file: those that it names in its head, and others that boxes have."""
    if told is None:
        return LabelMap.of(sorted(found) or ["action"])
    more = sorted(found - set(told.names))
    return LabelMap((*told.names, *more), (*told.ids, *(told.ids[-1] + 1 + place for place in range(len(more)))))


def _boxes(
    path: Path,
    where: str,
    track: Element,
    attributes: Sequence[str],
    known: LabelMap | None,
    between: NDArray[np.int64] | None,
) -> list[tuple[int, _Box, tuple[str, ...]]]:
    """(frame, box, actions) of a track, with the frames between filled in: all, or those of `between`."""
    label = track.get("label", "")
    shown: list[tuple[int, bool, _Box, tuple[str, ...]]] = []
    for box in track.iter("box"):
        index = whole(path, f"{where}, <box>", "frame", box.get("frame"))
        at = f'{where}, <box frame="{index}">'
        try:
            x1, y1, x2, y2 = (float(box.get(name, "")) for name in CORNERS)
        except ValueError as error:
            raise wrong(path, at, f"a corner is no number ({error})", f"Give {', '.join(CORNERS)}.") from error
        if not np.isfinite([x1, y1, x2, y2]).all():
            raise wrong(path, at, "a corner is not finite", f"Give {', '.join(CORNERS)}.")
        if x2 < x1 or y2 < y1:
            raise wrong(path, at, f"the box {[x1, y1, x2, y2]} ends before it begins", "Exchange its corners.")
        names = _actions(box, label, attributes, () if known is None else known.names)
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
            for inside in _inside(index, then, between):
                share = (inside - index) / (then - index)
                mixed = [a + share * (b - a) for a, b in zip(corners, there, strict=True)]
                out.append((inside, (mixed[0], mixed[1], mixed[2], mixed[3]), names))
    return out


def _inside(first: int, then: int, frames: NDArray[np.int64] | None) -> Iterable[int]:
    """Frames between two key frames."""
    if frames is None:
        return range(first + 1, then)
    return (int(one) for one in frames[np.searchsorted(frames, first + 1) : np.searchsorted(frames, then)])


def _actions(box: Element, label: str, attributes: Sequence[str], known: Collection[str]) -> tuple[str, ...]:
    given = [(one.get("name", ""), (one.text or "").strip()) for one in box.findall("attribute")]
    if not given:
        return (label,) if label else ()
    names: list[str] = []
    for name, text in given:
        if name in attributes:
            names += split_actions(text, known)
        elif text.lower() == "true":
            names.append(name)
    return tuple(dict.fromkeys(names))


def split_actions(text: str, known: Collection[str] = ()) -> list[str]:
    """Names with commas between; a name of `known` may have commas itself, as "talk to (e.g., self, a group)"."""
    parts = text.split(",")
    most = 1 + max((name.count(",") for name in known), default=0)
    names: list[str] = []
    first = 0
    while first < len(parts):
        stops = range(min(len(parts), first + most), first, -1)
        joined = ((stop, ",".join(parts[first:stop]).strip()) for stop in stops)
        stop, name = next(((stop, name) for stop, name in joined if name in known), (first + 1, parts[first].strip()))
        if name in known or name not in _NONE:
            names.append(name)
        first = stop
    return names


def _unread(track: Element, attributes: Sequence[str]) -> Iterable[str]:
    """An attribute's name for each box that has a value in it which no action is made of."""
    for box in track.iter("box"):
        if box.get("outside") != "1":
            for one in box.findall("attribute"):
                text = (one.text or "").strip()
                if one.get("name") not in attributes and text.lower() not in ("true", "false") and text not in _NONE:
                    yield one.get("name", "")
