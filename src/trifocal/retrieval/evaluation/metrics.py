"""The field's figures: recall by rank, their sum, groups by how much of the video a moment fills, and where it was.

A query's rank is 1 + the number of videos that score strictly more than the right one: ties never decide by order, and
a model that gives every video the same score is first everywhere, which `tied` tells. R@K is the percentage of queries
of rank K or better; SumR = R@1 + R@5 + R@10 + R@100 (specs/prvr.md §12).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from trifocal.errors import InvalidInput

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["GROUPS", "MomentScores", "RankScores", "moment_scores", "moment_share", "rank_scores", "ranks_of"]

RANKS = (1, 5, 10, 100)
GROUPS = ((0.0, 0.2), (0.2, 0.4), (0.4, 1.0))
"""Bins of moment length by video length, open below and closed above: short, middle, long (Dong et al. 2022)."""
IOU_THRESHOLDS = (0.3, 0.5, 0.7)


@dataclass(frozen=True, slots=True)
class RankScores:
    """Recall over some queries, in percent.

    Args:
        queries: how many.
        recall: by K.
        sum_r: their sum, at most 400.
        median_rank: of the right videos.
        tied: share of queries (0 to 1) that some wrong video ties with.
    """

    queries: int
    recall: dict[int, float]
    sum_r: float
    median_rank: float
    tied: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "recall": {f"R@{k}": value for k, value in self.recall.items()}}


@dataclass(frozen=True, slots=True)
class MomentScores:
    """How well the best span of the right video fits the true moment, over queries that have one.

    Args:
        queries: how many have a moment.
        peak_inside: percentage whose winner's peak lies inside the moment (the pointing game).
        mean_iou: mean of intersection over union with the true moment, 0 to 1.
        iou_at: percentage of an IoU of at least the threshold.
        chance: percentage of a peak drawn evenly over the video; what `peak_inside` must beat.
    """

    queries: int
    peak_inside: float
    mean_iou: float
    iou_at: dict[float, float] = field(default_factory=dict)
    chance: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "iou_at": {f"IoU>={at:g}": value for at, value in self.iou_at.items()}}


def ranks_of(scores: ArrayLike, owner: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The rank of each query's video, 1 + the number that score strictly more, and whether another ties with it.

    Args:
        scores: (Nq, Nv), higher is better.
        owner: (Nq,), the column of the right video.

    Returns:
        int64 (Nq,) from 1, and bool (Nq,).

    Raises:
        InvalidInput: shapes that do not fit, an owner outside the columns, scores that are not numbers.
    """
    table, right = np.asarray(scores), np.asarray(owner)
    if table.ndim != 2 or right.shape != (len(table),):
        raise InvalidInput(
            f"scores are {table.shape} and owners {right.shape}", remedy="Give (Nq, Nv) and the column of each query."
        )
    if len(right) and not (right.min() >= 0 and right.max() < table.shape[1]):
        raise InvalidInput(f"an owner is outside 0..{table.shape[1] - 1}", remedy="Give the right video's column.")
    if np.isnan(table).any():
        raise InvalidInput("a score is NaN", remedy="Look for NaN in the features or the model.")
    own = table[np.arange(len(table)), right][:, None]  # (Nq, 1)
    return 1 + (table > own).sum(axis=1), (table == own).sum(axis=1) > 1


def rank_scores(ranks: ArrayLike, *, tied: ArrayLike | None = None) -> RankScores:
    """Recall over ranks from 1.

    Raises:
        InvalidInput: no ranks.
    """
    found = np.asarray(ranks)
    if not found.size:
        raise InvalidInput("there are no queries", remedy="Give at least one.")
    recall = {k: 100.0 * float((found <= k).mean()) for k in RANKS}
    ties = 0.0 if tied is None else float(np.asarray(tied, dtype=np.float64).mean())
    return RankScores(len(found), recall, sum(recall.values()), float(np.median(found)), ties)


def moment_share(moments_s: Iterable[Sequence[float]], duration_s: float) -> float:
    """How much of a video its moments fill together, above 0 to 1; parts that overlap count once."""
    covered, reached = 0.0, 0.0
    for start, end in sorted((float(one[0]), float(one[1])) for one in moments_s):
        covered += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return min(1.0, round(covered / duration_s, 9))  # rounding error must not move a query to the next group


def moment_scores(
    peaks_s: Sequence[float],
    spans_s: Sequence[Sequence[float]],
    moments_s: Sequence[Sequence[Sequence[float]]],
    durations_s: Sequence[float],
) -> MomentScores:
    """Peaks and spans against the true moments; of several true moments the best counts.

    Args:
        peaks_s: where each query's winner peaks in its right video.
        spans_s: (start, end) of the best span there.
        moments_s: the true (start, end) of each query, one or more.
        durations_s: of the right videos.

    Raises:
        InvalidInput: lengths that differ, or a query without a moment.
    """
    counts = {len(peaks_s), len(spans_s), len(moments_s), len(durations_s)}
    if counts == {0}:
        return MomentScores(0, 0.0, 0.0, dict.fromkeys(IOU_THRESHOLDS, 0.0))
    if len(counts) != 1 or not all(moments_s):
        raise InvalidInput(
            f"there are {sorted(counts)} peaks, spans, moments and durations, or a query without a moment",
            remedy="Give one of each for every query.",
        )
    inside = [
        any(start <= peak <= end for start, end in moments) for peak, moments in zip(peaks_s, moments_s, strict=True)
    ]
    ious = np.array(
        [max(_iou(span, moment) for moment in moments) for span, moments in zip(spans_s, moments_s, strict=True)]
    )
    shares = [moment_share(moments, length) for moments, length in zip(moments_s, durations_s, strict=True)]
    return MomentScores(
        len(ious),
        100.0 * float(np.mean(inside)),
        float(ious.mean()),
        {at: 100.0 * float((ious >= at).mean()) for at in IOU_THRESHOLDS},
        100.0 * float(np.mean(shares)),
    )


def _iou(one: Sequence[float], other: Sequence[float]) -> float:
    common = min(one[1], other[1]) - max(one[0], other[0])
    union = max(one[1], other[1]) - min(one[0], other[0])
    if union <= 0:
        return 1.0  # the same instant
    return max(0.0, common) / union
