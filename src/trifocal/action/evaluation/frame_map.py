"""Frame-mAP: how well boxes and classes of single frames are found (AVA, UCF101-24, JHMDB).

The PASCAL measure as the TensorFlow object detection API computes it: in falling score, a detection counts where the
actor of its class that it overlaps most does so by at least the threshold and is not taken yet; a second one, or one
whose best actor is taken, is false. All points of the precision-recall curve are integrated; the mean is over classes
that have a labelled actor.

`policy="reference"` orders equal scores as the released evaluator does with a stable sort; `fixed` keeps the
detector's order, and drops labelled boxes without area.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from trifocal.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from trifocal.action.evaluation.tables import Detections, FrameTruth

__all__ = ["FrameScores", "Policy", "average_precision", "frame_map"]

Policy = Literal["fixed", "reference"]

_NO_ACTOR = -1.0
"""Stands for the overlap with an actor that is not there; below every overlap."""


@dataclass(frozen=True, slots=True, eq=False)
class FrameScores:
    """Frame-AP per threshold and class; S thresholds, A classes.

    Args:
        thresholds: IoU.
        names: of the classes.
        ap: float64 (S, A); NaN for a class without a labelled actor.
        actors: int64 (A,), labelled actors of each class.
        detections: int64 (A,), detections of each class that entered.
    """

    thresholds: tuple[float, ...]
    names: tuple[str, ...]
    ap: NDArray[np.float64]
    actors: NDArray[np.int64]
    detections: NDArray[np.int64]

    @property
    def mean(self) -> NDArray[np.float64]:
        """(S,) mean over the classes that have a labelled actor; NaN where none has."""
        present = self.actors > 0
        return self.ap[:, present].mean(axis=1) if present.any() else np.full(len(self.thresholds), np.nan)


def frame_map(
    truth: FrameTruth,
    detections: Detections,
    *,
    thresholds: Sequence[float] = (0.5,),
    policy: Policy = "fixed",
) -> FrameScores:
    """Frame-AP of every class.

    Args:
        truth: the labelled actors; detections on frames that were not looked at do not count.
        detections: of the same classes.
        thresholds: least IoU with the labelled box.
        policy: of equal scores and of labelled boxes without area.

    Raises:
        InvalidInput: other classes, a threshold out of range, an unknown policy.
    """
    check_comparable(truth, detections, thresholds, policy)
    found = detections.on(truth)
    found = found.taken(_has_area(found.boxes_xyxy))
    counted = _has_area(truth.boxes_xyxy) if policy == "fixed" else np.ones(len(truth), np.bool_)
    overlap, actor = _overlaps(truth, found)  # (N, M) with the actors of the same frame, and their rows
    classes = len(truth.classes)
    ap = np.full((len(thresholds), classes), np.nan)
    actors = (truth.actions & counted[:, None]).sum(axis=0)
    entered = (~np.isnan(found.scores)).sum(axis=0)
    for number in range(classes):
        if not actors[number]:
            continue
        own = np.flatnonzero(~np.isnan(found.scores[:, number]))
        wanted = truth.actions[:, number] & counted
        best = np.where(wanted[actor[own]], overlap[own], _NO_ACTOR)
        which = best.argmax(axis=1) if best.shape[1] else np.zeros(len(own), np.int64)
        at = np.arange(len(own))
        height = best[at, which] if best.shape[1] else np.full(len(own), _NO_ACTOR)
        target = actor[own][at, which] if best.shape[1] else np.zeros(len(own), np.int64)
        frame = found.video[own] * (found.index[own].max(initial=0) + 1) + found.index[own]
        claim, rank = _orders(found.scores[own, number], frame, policy)
        for row, threshold in enumerate(thresholds):
            hit = _first_of_each(np.where(height >= threshold, target, -1), claim)
            ap[row, number] = average_precision(hit[rank], int(actors[number]))
    return FrameScores(tuple(map(float, thresholds)), truth.classes.names, ap, actors, entered)


def check_comparable(truth: FrameTruth, detections: Detections, thresholds: Sequence[float], policy: str) -> None:
    """Refuse what no evaluator can compare.

    Raises:
        InvalidInput: other classes, a threshold out of range, an unknown policy.
    """
    if truth.classes.names != detections.classes.names:
        raise InvalidInput("truth and detections have other classes", remedy="Read both with one label map.")
    if policy not in get_args(Policy):
        raise InvalidInput(f"policy is {policy!r}", remedy=f"Give one of {', '.join(get_args(Policy))}.")
    if not thresholds or not all(0 < threshold <= 1 for threshold in thresholds):
        raise InvalidInput(f"thresholds are {list(thresholds)}", remedy="Give numbers above 0, at most 1.")


def average_precision(hits: NDArray[np.bool_], actors: int) -> float:
    """Area under the precision-recall curve, every point counted.

    Args:
        hits: (N,), whether each detection counts, by falling score.
        actors: how many there are to be found.
    """
    if not actors:
        return float("nan")
    true = np.cumsum(hits)
    precision = true / np.arange(1, len(hits) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(envelope[hits].sum() / actors)  # recall rises by 1 / actors at every hit


def _has_area(boxes: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.asarray((boxes[:, 2:] > boxes[:, :2]).all(axis=1))


def _keys(video: NDArray[np.int64], index: NDArray[np.int64], width: int) -> NDArray[np.int64]:
    return video * width + index


def _overlaps(truth: FrameTruth, found: Detections) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """IoU of each detection with the actors of its frame, and the actors' rows: both (N, M), M the most in a frame."""
    width = int(max(truth.index.max(initial=0), found.index.max(initial=0))) + 1
    keys = _keys(truth.video, truth.index, width)
    order = np.argsort(keys, kind="stable")
    wanted = _keys(found.video, found.index, width)
    low = np.searchsorted(keys[order], wanted, side="left")
    high = np.searchsorted(keys[order], wanted, side="right")
    most = int((high - low).max(initial=0))
    at = low[:, None] + np.arange(most)
    there = at < high[:, None]
    actor = np.where(there, order[np.minimum(at, max(len(order) - 1, 0))], 0) if len(order) else np.zeros_like(at)
    if not len(truth):
        return np.full(at.shape, _NO_ACTOR), actor
    a, b = found.boxes_xyxy[:, None], truth.boxes_xyxy[actor]
    shared = np.prod((np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])).clip(0), axis=-1)
    union = np.prod(a[..., 2:] - a[..., :2], axis=-1) + np.prod(b[..., 2:] - b[..., :2], axis=-1) - shared
    overlap = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return np.where(there, overlap, _NO_ACTOR), actor


def _orders(
    scores: NDArray[np.float64], frame: NDArray[np.int64], policy: Policy
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """In which order detections claim actors, and in which they enter the curve."""
    place = np.arange(len(scores))
    if policy == "fixed":
        order = np.lexsort((place, -scores))
        return order, order
    # Both of the released sorts are ascending and read backwards: in a frame the later of two equals claims first,
    # and along the curve equals of later frames come first, those of one frame in their own order.
    _, began, member = np.unique(frame, return_index=True, return_inverse=True)
    arrival = began[member.reshape(-1)] if len(scores) else place
    return np.lexsort((-place, -scores)), np.lexsort((place, -arrival, -scores))


def _first_of_each(target: NDArray[np.int64], order: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which detections are the first in `order` to claim their target; -1 claims nothing."""
    claimed = target[order]
    _, first = np.unique(claimed, return_index=True)
    hit = np.zeros(len(target), np.bool_)
    hit[order[first[claimed[first] >= 0]]] = True
    return hit
