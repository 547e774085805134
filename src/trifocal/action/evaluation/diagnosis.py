"""What goes wrong: the place or the class.

`oracles` asks what the same detections would score with the labelled boxes in place of theirs, and with the labelled
actions in place of theirs (the paper's own diagnosis). `error_kinds` sorts each class's best detections, as many as it
has actors, into right, second, misplaced, misclassified and stray (after Hoiem et al. 2012).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import linear_sum_assignment

from trifocal.action.evaluation.class_tubes import paired_ious
from trifocal.action.evaluation.frame_map import frame_map

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from trifocal.action.evaluation.tables import Detections, FrameTruth

__all__ = ["KINDS", "Oracles", "error_kinds", "oracles"]

KINDS = ("right", "second", "misplaced", "misclassified", "stray")
"""Right; a second box on an actor already found; the class is right but the box too far off; on an actor who does not
do that; on nobody."""

_NEAR = 0.1
"""A box that overlaps an actor less than this is on nobody."""


@dataclass(frozen=True, slots=True)
class Oracles:
    """Frame-mAP at one threshold: as detected, and with one half of the truth given.

    Args:
        threshold: IoU.
        detected: as it is.
        with_true_boxes: boxes that overlap an actor at all replaced by the actor's; what is lost is lost by class.
        with_true_classes: boxes that are right by the threshold get the actor's actions; what is lost is lost by place.
    """

    threshold: float
    detected: float
    with_true_boxes: float
    with_true_classes: float


def oracles(truth: FrameTruth, detections: Detections, *, threshold: float = 0.5) -> Oracles:
    """Frame-mAP with the labelled boxes, and with the labelled actions.

    Each actor is given to one detection at most, so that the sum of overlaps in a frame is the largest.

    Args:
        truth: the labelled actors.
        detections: of the same classes.
        threshold: IoU that counts as right.
    """
    found = detections.aligned(truth.videos)
    boxes = found.boxes_xyxy.copy()
    scores = np.where(np.isnan(found.scores), np.nan, 0.0)
    for rows, actors, overlap in _frames(truth, found):
        mine, theirs = linear_sum_assignment(-overlap)
        for row, actor in zip(mine, theirs, strict=True):
            if overlap[row, actor] > 0:
                boxes[rows[row]] = truth.boxes_xyxy[actors[actor]]
            if overlap[row, actor] >= threshold:
                scores[rows[row]] = truth.actions[actors[actor]]

    def mean(changed: Detections) -> float:
        return float(frame_map(truth, changed, thresholds=(threshold,)).mean[0])

    return Oracles(threshold, mean(found), mean(replace(found, boxes_xyxy=boxes)), mean(replace(found, scores=scores)))


def _frames(
    truth: FrameTruth, found: Detections
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]]:
    """Rows of detections and of actors of each frame that has both, and their IoU (n, m)."""
    width = int(max(truth.index.max(initial=0), found.index.max(initial=0))) + 1
    own, theirs = found.video * width + found.index, truth.video * width + truth.index
    by_own, by_theirs = np.argsort(own, kind="stable"), np.argsort(theirs, kind="stable")
    for key in np.intersect1d(own, theirs):
        rows = by_own[np.searchsorted(own[by_own], key) : np.searchsorted(own[by_own], key, side="right")]
        actors = by_theirs[
            np.searchsorted(theirs[by_theirs], key) : np.searchsorted(theirs[by_theirs], key, side="right")
        ]
        yield rows, actors, paired_ious(found.boxes_xyxy[rows][:, None], truth.boxes_xyxy[actors][None])


def error_kinds(truth: FrameTruth, detections: Detections, *, threshold: float = 0.5) -> NDArray[np.int64]:
    """How many of each class's best detections are of each kind.

    Args:
        truth: the labelled actors.
        detections: of the same classes.
        threshold: IoU that counts as right.

    Returns:
        int64 (A, 5), columns as in `KINDS`; each row sums to the class's actors, or to its detections if fewer. Those
        on frames that were not looked at do not count.
    """
    found = detections.on(truth)
    counts = np.zeros((len(truth.classes), len(KINDS)), np.int64)
    by_row: dict[int, tuple[NDArray[np.int64], NDArray[np.float64]]] = {}
    for rows, actors, overlap in _frames(truth, found):
        by_row |= {int(row): (actors, overlap[place]) for place, row in enumerate(rows)}
    for number in range(len(truth.classes)):
        own = np.flatnonzero(~np.isnan(found.scores[:, number]))
        order = own[np.argsort(-found.scores[own, number], kind="stable")][: int(truth.actions[:, number].sum())]
        taken: set[int] = set()
        for row in order:
            actors, overlap = by_row.get(int(row), (np.zeros(0, np.int64), np.zeros(0)))
            counts[number, _kind(truth.actions[actors, number], overlap, actors, taken, threshold)] += 1
    return counts


def _kind(
    doing: NDArray[np.bool_], overlap: NDArray[np.float64], actors: NDArray[np.int64], taken: set[int], threshold: float
) -> int:
    """Place in `KINDS` of one detection; remembers the actor it found."""
    best = int(np.where(doing, overlap, -1.0).argmax()) if doing.any() else -1
    if best >= 0 and overlap[best] >= threshold:
        if int(actors[best]) in taken:
            return 1
        taken.add(int(actors[best]))
        return 0
    if len(overlap) and overlap.max() >= threshold:
        return 3
    if best >= 0 and overlap[best] >= _NEAR:
        return 2
    return 3 if len(overlap) and overlap.max() >= _NEAR else 4
