"""Frames linked to tubes of one action each, for what a detector says of single frames.

Only frames that the labels looked at are linked, in their order: what labels do not tell can be neither right nor
wrong, and with labels of every fourth frame, or one a second, a tube of every frame would overlap the truth in a part
of its frames at most. Where labels have a hole, tubes end, as the labelled ones do (`sampling.label_places`).

From frame to frame the pair of tube and box is joined first that is worth most, IoU + nearness + s_i + s_j +
s_i s_j / 2 (the step of Gkioxari and Malik, arXiv 1411.6031, and nearness, the IoU of grown boxes, for labels so far
apart that an actor leaves its own box). Unlike best paths through a whole video, tubes begin and end where actors do,
and there may be any number of them. Boxes that do not touch even when grown are never joined, nor are two of which one
has a much nearer box in the other's frame, of whatever class: that is the actor, who has stopped or just begun. Nor
does a tube go on with a box of a far lower score: where a detector tells everything, something is always near.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from trifocal.action.evaluation.class_tubes import ClassTube, label_bridge, paired_ious, performed, suppressed
from trifocal.action.evaluation.sampling import label_places, usual_step

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from trifocal.action.evaluation.tables import Detections
    from trifocal.action.labels import Labels, VideoLabels

__all__ = ["link_classes"]

_BRIDGE_S = 0.2
"""An actor or its action may be missed for less than this: four frames of 25 a second."""
_NOTHING = 0.2
"""Part of the higher of two scores; with less, a box is none of that tube, which goes on as if it were not there."""
_GROWN = 0.25
"""Longer sides by which a box is grown on each side for nearness, at least, so that an actor may move by half of one
between labelled frames; where they are far apart, one for each second."""
_NEARER = 0.5
"""Grown boxes that overlap more are one actor's; two that overlap less than this part of that are not joined."""


def link_classes(
    detections: Detections,
    labels: Labels,
    *,
    least_person: float = 0.0,
    overlap: float = 0.3,
    cut: float = 0.5,
) -> list[list[ClassTube]]:
    """Tubes of each class from single frames: what video-mAP is computed from where a detector gives only frames.

    Args:
        detections: of the labels' classes; those on frames that the labels did not look at are left out.
        labels: whose frames count, and which tell how far apart they are.
        least_person: boxes whose actor probability is lower are left out.
        overlap: of two tubes that overlap more, the worse leaves.
        cut: see `class_tubes.performed`.

    Returns:
        Per class, tubes by video in the labels' order; within a tube, labelled frames that the detector missed for less
        than .2 s have a box between its neighbours'.
    """
    found = detections.aligned([one.video for one in labels.videos])
    if found.person is not None:
        found = found.taken(found.person >= least_person)
    tubes: list[list[ClassTube]] = [[] for _ in labels.classes.names]
    for place, one in enumerate(labels.videos):
        rows = np.flatnonzero((found.video == place) & np.isin(found.index, one.looked_at))
        rows = rows[np.argsort(found.index[rows], kind="stable")]
        bridge = label_bridge(one)
        frames = _Frames(one, found.index[rows], found.boxes_xyxy[rows])
        for number, own in enumerate(tubes):
            chains = frames.chains(found.scores[rows, number])
            parts = [part for chain in chains for part in performed(chain, cut=cut, bridge=bridge)]
            own += suppressed(parts, overlap=overlap)
    return tubes


class _Frames:
    """The boxes of one video, and what joining any two of them is worth whatever the class.

    Args:
        one: the labels of the video.
        index: (n,) rising frame numbers, all of them labelled.
        boxes: (n, 4).
    """

    def __init__(self, one: VideoLabels, index: NDArray[np.int64], boxes: NDArray[np.float64]) -> None:
        """Compute nothing yet."""
        self._one, self._index, self._boxes = one, index, boxes
        self._places = label_places(one.looked_at)
        self._at = self._places[np.searchsorted(one.looked_at, index)]
        self._worth: dict[tuple[int, int], NDArray[np.float64]] = {}
        # How many labelled frames on a tube may go on: 1 is the next.
        self.reach = max(1, int(_BRIDGE_S * one.rate / usual_step(one.looked_at) + 1e-6))

    def chains(self, scores: NDArray[np.float64]) -> Iterator[ClassTube]:
        """The boxes that have a score (n,), joined; each is in one chain."""
        usable = np.flatnonzero(~np.isnan(scores))
        member = self._members(usable, scores)
        order = np.argsort(member, kind="stable")
        for picked in np.split(order, np.flatnonzero(np.diff(member[order])) + 1) if len(order) else []:
            rows = usable[picked]
            at = self._at[rows]
            own = slice(np.searchsorted(self._places, at[0]), np.searchsorted(self._places, at[-1], side="right"))
            # Between its boxes a chain moves evenly.
            values = np.hstack([self._boxes[rows], scores[rows, None]])
            full = np.stack([np.interp(self._places[own], at, column) for column in values.T], axis=1)
            yield ClassTube(self._one.video, self._one.looked_at[own], full[:, :4], full[:, 4])

    def _members(self, usable: NDArray[np.int64], scores: NDArray[np.float64]) -> NDArray[np.int64]:
        """Which chain each of these boxes belongs to, from 0: (m,)."""
        member = np.full(len(scores), -1, np.int64)
        ends = np.zeros(0, np.int64)  # the last box of each chain that may go on
        chains = 0
        for rows in np.split(usable, np.flatnonzero(np.diff(self._at[usable])) + 1) if len(usable) else []:
            ends = ends[self._at[rows[0]] - self._at[ends] <= self.reach]
            old, new = _pairs(self._steps(ends, rows, scores))
            member[rows[new]] = member[ends[old]]
            begun = rows[member[rows] < 0]
            member[begun] = chains + np.arange(len(begun))
            chains += len(begun)
            ends = np.concatenate([np.delete(ends, old), rows])
        return member[usable]

    def _steps(
        self, ends: NDArray[np.int64], rows: NDArray[np.int64], scores: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """What joining each end with each box of one later frame is worth (E, R); minus infinity for what cannot be."""
        worth = np.empty((len(ends), len(rows)))
        to = int(self._at[rows[0]])
        for at in np.unique(self._at[ends]).tolist():
            own = np.flatnonzero(self._at[ends] == at)
            first, second = np.searchsorted(self._at, [at, to])
            worth[own] = self._between(at, to)[np.ix_(ends[own] - first, rows - second)]
        before, after = scores[ends][:, None], scores[rows][None]
        alike = np.minimum(before, after) >= _NOTHING * np.maximum(before, after)
        return np.where(alike, worth + before + after + 0.5 * before * after, -np.inf)

    def _between(self, at: int, to: int) -> NDArray[np.float64]:
        """The part of it that no score tells, for all boxes of two frames."""
        if (at, to) not in self._worth:
            first, second = (slice(*np.searchsorted(self._at, [one, one + 1])) for one in (at, to))
            a, b = self._boxes[first], self._boxes[second]
            seconds = float(self._index[second.start] - self._index[first.start]) / self._one.rate
            whole = paired_ious(a[:, None], b[None])
            near = paired_ious(_grown(a, max(_GROWN, seconds))[:, None], _grown(b, max(_GROWN, seconds))[None])
            itself = paired_ious(_grown(a, _GROWN)[:, None], _grown(b, _GROWN)[None])
            rival = np.maximum(itself.max(axis=1, keepdims=True), itself.max(axis=0, keepdims=True))
            may = (near > 0) & ((itself >= _NEARER * rival) | (rival < _NEARER))
            self._worth[at, to] = np.where(may, whole + near, -np.inf)
        return self._worth[at, to]


def _pairs(worth: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns to join, each once, the pair that is worth most first; `worth` (E, R) is used up."""
    none = np.zeros(0, np.int64)
    joined_a, joined_b = [none], [none]
    rows = np.arange(len(worth))
    while len(worth):
        # A pair that is the best of both its boxes is the best of all that could stand in its way.
        best = worth.argmax(axis=1)
        mutual = (worth.argmax(axis=0)[best] == rows) & (worth[rows, best] > -np.inf)
        if not mutual.any():
            break
        joined_a.append(rows[mutual])
        joined_b.append(best[mutual])
        worth[mutual] = -np.inf
        worth[:, best[mutual]] = -np.inf
    return np.concatenate(joined_a), np.concatenate(joined_b)


def _grown(boxes: NDArray[np.float64], sides: float) -> NDArray[np.float64]:
    """(..., 4) with so many of its longer side added on all four sides."""
    more = sides * (boxes[..., 2:] - boxes[..., :2]).max(axis=-1, keepdims=True)
    return np.concatenate([boxes[..., :2] - more, boxes[..., 2:] + more], axis=-1)
