"""From labels to targets: what is true of a clip's key frame, or of every frame of a window.

Boxes are clipped to the picture. One that is left without area, or with less than `least_share` of it after a crop,
is no target (the released code keeps them as boxes of zero area). `compat="reference"` cuts the corners down to whole
pixels of the resized picture, as released.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from trifocal.action.data.targets import ClipTargets

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from trifocal.action.data.windows import Window
    from trifocal.action.labels import VideoLabels

__all__ = ["LEAST_SIDE", "keyframe_targets", "quantised", "tube_targets"]

LEAST_SIDE = 1e-4
"""A box narrower than this part of the picture is no target."""


def quantised(unit_boxes: NDArray[np.float32], *, height: int, width: int) -> NDArray[np.float32]:
    """Corners cut down to whole pixels of a picture of this size, in parts of it again."""
    size = np.array([width, height] * 2, np.float64)
    return (np.trunc(unit_boxes.astype(np.float64) * size) / size).astype(np.float32)


def keyframe_targets(labels: VideoLabels, index: int, *, quantised_to: tuple[int, int] | None = None) -> ClipTargets:
    """The actors of one frame.

    Args:
        labels: of the video.
        index: frame number of the key frame, on the labels' grid.
        quantised_to: (height, width) of the resized picture, to cut corners to whole pixels as released.
    """
    rows = labels.at(index)
    return _targets(
        _unit(labels, rows, quantised_to),
        labels.actions[rows],
        frame=np.zeros(len(rows), np.int64),
        slot=np.arange(len(rows)),
        padded=np.zeros(1, np.bool_),
    )


def tube_targets(labels: VideoLabels, window: Window, *, quantised_to: tuple[int, int] | None = None) -> ClipTargets:
    """The actors of every frame of a window, one slot per track that appears in it.

    Args:
        labels: of the video; rows without a track get a slot each.
        window: the clip's frames, on the labels' grid.
        quantised_to: as for `keyframe_targets`.
    """
    inside = (labels.indices >= max(window.first, 0)) & (labels.indices < window.first + window.length)
    rows = np.flatnonzero(inside)
    tracks = labels.tracks[rows]
    lone = np.where(tracks < 0, -1 - np.arange(len(rows)), tracks)
    slot = np.unique(lone, return_inverse=True)[1].reshape(-1)
    return _targets(
        _unit(labels, rows, quantised_to),
        labels.actions[rows],
        frame=labels.indices[rows] - window.first,
        slot=slot,
        padded=window.padded,
    )


def _unit(labels: VideoLabels, rows: NDArray[np.int64], quantised_to: tuple[int, int] | None) -> NDArray[np.float32]:
    unit = labels.unit_boxes[rows]
    return unit if quantised_to is None else quantised(unit, height=quantised_to[0], width=quantised_to[1])


def _targets(
    unit: NDArray[np.float32],
    actions: NDArray[np.bool_],
    *,
    frame: NDArray[np.int64],
    slot: NDArray[np.int64],
    padded: NDArray[np.bool_],
) -> ClipTargets:
    clipped = unit.clip(0, 1)
    kept = ((clipped[:, 2:] - clipped[:, :2]) > LEAST_SIDE).all(axis=1)
    frame, slot = frame[kept], np.unique(slot[kept], return_inverse=True)[1].reshape(-1)
    shape = (len(padded), int(slot.max(initial=-1)) + 1)
    boxes = np.zeros((*shape, 4), np.float32)
    valid = np.zeros(shape, np.bool_)
    labels = np.zeros((*shape, actions.shape[1]), np.float32)
    corners = clipped[kept]
    boxes[frame, slot] = np.concatenate(
        [(corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]], axis=1
    )
    valid[frame, slot] = True
    labels[frame, slot] = actions[kept]
    arrays = (boxes, valid, labels, padded)
    return ClipTargets(*(torch.from_numpy(array) for array in arrays))
