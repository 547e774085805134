"""What is lost when labels are written in a format: nothing goes silently.

The project's own JSON keeps everything. For the others each sentence names what they cannot hold of these very labels;
where there is none, reading gives back the same frames, boxes, tracks and actions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from trifocal.action.data.formats.cvat_head import regular

if TYPE_CHECKING:
    from trifocal.action.labels import Labels, VideoLabels

__all__ = ["losses"]


def losses(labels: Labels, kind: str) -> tuple[str, ...]:
    """What a format cannot hold of labels, a sentence each.

    Args:
        labels: to be written.
        kind: `trifocal`, `ava`, `cvat` or `coco`.
    """
    if kind == "trifocal":
        return ()
    said = []
    if labels.splits:
        said.append(f"splits are not kept: {', '.join(labels.splits)}")
    if kind == "cvat":
        uneven = [one.video for one in labels.videos if regular(np.asarray(one.labelled)) is None]
        if uneven:
            said.append(
                f"the frames of {_some(uneven)} have no regular step: CVAT will show boxes between them, and exports "
                "every frame of the task as looked at"
            )
        return tuple(said)
    excluded = sum(len(one.excluded) for one in labels.videos)
    if excluded:
        said.append(f"excluded frames are left out with their boxes: {excluded}")
    return (*said, *(_of_ava(labels) if kind == "ava" else ()))


def _of_ava(labels: Labels) -> list[str]:
    said = []
    silent = sum(int(_silent(one).sum()) for one in labels.videos)
    if silent:
        frames = sum(len(np.setdiff1d(one.indices[_silent(one)], _told(one))) for one in labels.videos)
        said.append(f"boxes without an action are left out: {silent}, and frames that have no others: {frames}")
    beyond = sum(int(((one.unit_boxes < 0) | (one.unit_boxes > 1)).any(axis=1).sum()) for one in labels.videos)
    if beyond:
        said.append(f"boxes that reach beyond the picture are cut at its edge: {beyond}")
    unseen = [one.video for one in labels.videos if not (len(_told(one)) or _is_looked_at_without_boxes(one))]
    if unseen:
        said.append(f"nothing is left of {_some(unseen)}")
    rates = sorted({one.rate for one in labels.videos} - {1.0})
    if rates:
        said.append(f"frames become seconds; they were counted at {', '.join(f'{rate:g}' for rate in rates)} a second")
    if any(one.measured for one in labels.videos):
        said.append("pixels become parts of the frame")
    return said


def _silent(one: VideoLabels) -> np.ndarray:
    """Rows that count and have no action."""
    return np.isin(one.indices, one.looked_at) & ~one.actions.any(axis=1)


def _told(one: VideoLabels) -> np.ndarray:
    """Frames with a box that does something."""
    return np.unique(one.indices[np.isin(one.indices, one.looked_at) & one.actions.any(axis=1)])


def _is_looked_at_without_boxes(one: VideoLabels) -> bool:
    return len(np.setdiff1d(one.looked_at, one.indices)) > 0


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
