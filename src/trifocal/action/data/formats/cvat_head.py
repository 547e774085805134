"""The head of a CVAT file: the video, and which of its frames somebody looked at.

CVAT's `<task>` (or `<job>`) says it with `start_frame`, `stop_frame` (the last one) and `frame_filter` ("step=5");
frames keep the numbers that they have in the video. A file that is written here has an element `<trifocal>` too, JSON
that CVAT passes over, for what CVAT has no words for: the rate, the numbers of the classes, frames without a regular
step, excluded frames, boxes that belong to no track. What CVAT exports afterwards has it no more: then every frame of
the task counts as looked at, as somebody went through it.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree.ElementTree import Element, SubElement

import numpy as np

from trifocal.action.data.formats.rows import field, runs, wrong
from trifocal.action.labels import LabelMap
from trifocal.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from trifocal.action.labels import VideoLabels

__all__ = ["MOST_FRAMES", "CvatHead", "add_head", "read_head", "regular", "whole"]

MOST_FRAMES = 100_000_000
"""A frame number beyond it is a mistake: 38 days at 30 a second."""

_OWN = "trifocal"
_VERSION = 1
_STEP = re.compile(r"step\s*=\s*(\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class CvatHead:
    """What the head says.

    Args:
        video: the id; without folder and ending unless the file was written here.
        size: (width, height) in pixels.
        labelled: frames that were looked at; None where nothing tells.
        bounded: whether the task itself told first frame and step, so that no others can be shown between key frames.
        frame_count: of the video; None where unknown.
        rate: frames per second; None where the file does not tell, as CVAT's own never do.
        classes: None where the file does not tell.
        excluded: frames that evaluation leaves out.
        untracked_from: tracks of this number and above are single boxes that follow nobody; None where there are none.
        file: where the pixels are; None where unknown.
    """

    video: str
    size: tuple[int, int]
    labelled: NDArray[np.int64] | None
    bounded: bool
    frame_count: int | None
    rate: float | None = None
    classes: LabelMap | None = None
    excluded: tuple[int, ...] = ()
    untracked_from: int | None = None
    file: str | None = None


def whole(path: Path, where: str, name: str, text: str | None, *, most: int = MOST_FRAMES) -> int:
    """A whole number from 0 to `most`.

    Raises:
        InvalidInput: it is another text or number.
    """
    if text is None or not (text.isascii() and text.isdigit()) or len(text) > 19 or int(text) > most:
        raise wrong(path, where, f"{name} is {text!r}", f"Give a whole number from 0 to {most}.")
    return int(text)


def read_head(path: Path, root: Element) -> CvatHead:
    """The head of a file.

    Raises:
        InvalidInput: there is no size of the picture, or a value is wrong; the message names the element.
    """
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
        whole(path, "<original_size>", "width", found.findtext("width")),
        whole(path, "<original_size>", "height", found.findtext("height")),
    )
    if min(size) < 1:
        raise wrong(path, "<original_size>", f"it is {size[0]} x {size[1]}", "Give width and height in pixels.")
    labelled, bounded, count = _frames(path, task)
    text = root.findtext(f"meta/{_OWN}")
    if text is None:
        return CvatHead(
            video=Path(source).stem, size=size, labelled=labelled, bounded=bounded, frame_count=count
        )  # fmt: skip
    return _own(path, text, size, labelled)


def _frames(path: Path, task: Element | None) -> tuple[NDArray[np.int64] | None, bool, int | None]:
    """Frames looked at, whether the task told first frame and step, and how many frames the video has."""
    if task is None:
        return None, False, None
    first, last, size = ((task.findtext(name) or "").strip() for name in ("start_frame", "stop_frame", "size"))
    asked = (task.findtext("frame_filter") or "").strip()
    told = _STEP.search(asked)
    step = int(told.group(1)) if told else 1
    if (asked and not told) or step < 1:
        raise wrong(path, "<frame_filter>", f"it is {asked!r}", "Give step= and a number of at least 1, or nothing.")
    count = whole(path, "<task>", "size", size) if size else None
    if count == 0:
        return np.zeros(0, np.int64), True, None
    if not first and step == 1 and not last:
        return (None if count is None else np.arange(count)), False, count
    begin = whole(path, "<task>", "start_frame", first) if first else 0
    if last:
        end = whole(path, "<task>", "stop_frame", last)
    elif count is not None:
        end = begin + (count - 1) * step
    else:
        return None, False, None
    if end < begin:
        raise wrong(path, "<task>", f"stop_frame {end} lies before start_frame {begin}", "Export it again.")
    return np.arange(begin, end + 1, step), True, count if begin == 0 and step == 1 else None


def _own(path: Path, text: str, size: tuple[int, int], labelled: NDArray[np.int64] | None) -> CvatHead:
    """The head with what a file that was written here says of itself."""
    where = f"<{_OWN}>"
    try:
        value: Mapping[str, Any] = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise wrong(
            path, where, f"it is no JSON: {error}", "Remove the element, or convert the labels anew."
        ) from error
    if field(path, where, value, "version", int) != _VERSION:
        raise wrong(path, where, f"its version is {value['version']}", f"Only version {_VERSION} is known.")
    optional = {
        "rate": (int, float), "frame_count": (int,), "untracked_from": (int,), "looked_at": (list,), "file": (str,),
    }  # fmt: skip
    told: dict[str, Any] = {
        name: field(path, where, value, name, kinds) for name, kinds in optional.items() if value.get(name) is not None
    }
    entries = field(path, where, value, "classes", list)
    excluded = field(path, where, value, "excluded", list)
    try:
        classes = LabelMap(
            tuple(field(path, where, one, "name", str) for one in entries),
            tuple(field(path, where, one, "id", int) for one in entries),
        )
        if "looked_at" in told:
            labelled = _of_runs(told["looked_at"])
        left_out = tuple(int(one) for one in excluded)
    except InvalidInput as error:
        raise wrong(path, where, error.message, error.remedy) from error
    except (ValueError, TypeError, OverflowError) as error:
        raise wrong(path, where, f"a value cannot be used: {error}", "Convert the labels anew.") from error
    return CvatHead(
        video=field(path, where, value, "video", str),
        size=size,
        labelled=labelled,
        bounded=labelled is not None,
        frame_count=told.get("frame_count"),
        rate=told.get("rate"),
        classes=classes,
        excluded=left_out,
        untracked_from=told.get("untracked_from"),
        file=told.get("file"),
    )


def _of_runs(pairs: list[Any]) -> NDArray[np.int64]:
    """Frames from (first, end) pairs.

    Raises:
        ValueError: they do not rise, or go beyond what a video can have.
        TypeError: they are no pairs of numbers.
    """
    edges = np.array(pairs, np.int64).reshape(-1, 2)
    if (np.diff(edges.ravel(), prepend=0) < 0).any() or edges.max(initial=0) > MOST_FRAMES:
        raise ValueError(f"the frames looked at are no rising runs up to {MOST_FRAMES}")
    return np.concatenate([np.zeros(0, np.int64), *(np.arange(first, end) for first, end in edges)])


def regular(labelled: NDArray[np.int64]) -> int | None:
    """The step from each frame to the next; None where it varies.

    Args:
        labelled: rising frames.
    """
    steps = np.unique(np.diff(labelled))
    return None if len(steps) > 1 else int(steps[0]) if len(steps) else 1


def add_head(root: Element, labels: VideoLabels, *, classes: LabelMap, untracked_from: int | None) -> None:
    """Write the head: a task of the frames that were looked at, a label `actor` with a text attribute `action`.

    Frames without a regular step are written as a task with the largest step that meets them all, and listed in
    `<trifocal>`.
    """
    labelled = np.asarray(labels.labelled)
    step = regular(labelled)
    grid = step if step is not None else int(np.gcd.reduce(np.diff(labelled)))
    meta = SubElement(root, "meta")
    task = SubElement(meta, "task")
    first, last = (int(labelled[0]), int(labelled[-1])) if len(labelled) else (0, 0)
    facts = [("name", labels.video), ("size", str((last - first) // grid + 1 if len(labelled) else 0))]
    facts += [("start_frame", str(first)), ("stop_frame", str(last))] if len(labelled) else []
    facts += [("frame_filter", f"step={grid}" if grid > 1 else "")]
    for name, text in facts:
        SubElement(task, name).text = text
    label = SubElement(SubElement(task, "labels"), "label")
    SubElement(label, "name").text = "actor"
    attribute = SubElement(SubElement(label, "attributes"), "attribute")
    for name, text in (
        ("name", "action"), ("mutable", "True"), ("input_type", "text"), ("default_value", ""),
        ("values", "\n".join(classes.names)),
    ):  # fmt: skip
        SubElement(attribute, name).text = text
    size = SubElement(task, "original_size")
    SubElement(size, "width").text = str(labels.width)
    SubElement(size, "height").text = str(labels.height)
    own: dict[str, Any] = {
        "version": _VERSION,
        "video": labels.video,
        "file": labels.file,
        "rate": labels.rate if labels.rate_told else None,
        "frame_count": labels.frame_count,
        "classes": [{"id": n, "name": name} for n, name in zip(classes.ids, classes.names, strict=True)],
        "excluded": labels.excluded.tolist(),
        "untracked_from": untracked_from,
    }
    if step is None:
        own["looked_at"] = runs(labelled)
    SubElement(meta, _OWN).text = json.dumps(own, ensure_ascii=False)
