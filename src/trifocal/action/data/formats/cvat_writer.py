"""Labels of a video as CVAT for video 1.1, so that a person can go on from them in CVAT.

Every box is a key frame of its track. `outside` stands at the next frame that was looked at and where the actor is not:
between frames that were looked at CVAT moves the box on a straight line, and never shows that somebody is gone where
nobody looked. After the last frame that was looked at nothing is said.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element, ElementTree, SubElement, indent

import numpy as np

from trifocal.action.data.formats.cvat import CORNERS, split_actions
from trifocal.action.data.formats.cvat_head import add_head
from trifocal.action.data.formats.rows import wrong

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from trifocal.action.labels import LabelMap, VideoLabels

__all__ = ["write_cvat"]


def write_cvat(labels: VideoLabels, path: Path, *, classes: LabelMap) -> None:
    """Write one video: a label `actor` whose attribute `action` holds the actions, with commas between.

    Args:
        labels: with boxes in pixels; rows without a track become tracks of one frame.
        path: where to.
        classes: of the actions.

    Raises:
        InvalidInput: the size of the picture is not known, an actor has two boxes in a frame, or a name cannot be told
            from others in a list with commas.
    """
    if not labels.measured:
        raise wrong(path, labels.video, "the size of its picture is not known", "Call labels.resized(width, height).")
    next_free = int(labels.tracks.max(initial=-1)) + 1
    alone = labels.tracks < 0
    tracks = np.where(alone, np.cumsum(alone) - 1 + next_free, labels.tracks)
    root = Element("annotations")
    SubElement(root, "version").text = "1.1"
    add_head(root, labels, classes=classes, untracked_from=next_free if alone.any() else None)
    looked_at = np.asarray(labels.labelled)
    for number in np.unique(tracks):
        track = SubElement(root, "track", id=str(number), label="actor", source="manual")
        rows = np.flatnonzero(tracks == number)
        frames = labels.indices[rows]
        if (np.diff(frames) == 0).any():
            frame = int(frames[:-1][np.diff(frames) == 0][0])
            raise wrong(
                path, labels.video, f"the actor {number} has two boxes in frame {frame}", "Keep one of them, or give "
                "one another number; `trifocal labels check` lists all.",
            )  # fmt: skip
        for place, row in enumerate(rows):
            text = _text(path, [classes.names[i] for i in np.flatnonzero(labels.actions[row])], classes)
            _add_box(track, int(frames[place]), labels.boxes_xyxy[row], "0", text)
            after = int(np.searchsorted(looked_at, frames[place], side="right"))
            here_then = place + 1 < len(rows) and after < len(looked_at) and frames[place + 1] == looked_at[after]
            if after < len(looked_at) and not here_then:
                _add_box(track, int(looked_at[after]), labels.boxes_xyxy[row], "1", "")
    indent(root)
    ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)


def _text(path: Path, names: Sequence[str], classes: LabelMap) -> str:
    text = ", ".join(names)
    if split_actions(text, classes.names) != list(names):
        raise wrong(path, repr(text), "these actions cannot be told apart in a list", "Rename one of them.")
    return text


def _add_box(track: Element, index: int, corners: np.ndarray, outside: str, actions: str) -> None:
    values = {"frame": str(index), "keyframe": "1", "outside": outside, "occluded": "0", "z_order": "0"}
    values |= {name: f"{value:.2f}" for name, value in zip(CORNERS, corners, strict=True)}
    SubElement(SubElement(track, "box", values), "attribute", name="action").text = actions
