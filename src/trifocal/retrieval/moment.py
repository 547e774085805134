"""Moments: the answer to "where", and how a video's prototype scores become a few of them.

`Moment` is what a search returns and what travels as JSON: the video, seconds, and the score. `pick_moments` turns the
scores of one video's prototypes into at most `count` spans: the best prototype wins, its neighbours in time that score
nearly as well extend it, what overlaps it is struck out, and the next best wins among the rest. `scan_moments` finds
stretches of frames from one score a frame; `temporal_nms` keeps the best of spans that overlap.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from trifocal.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, NDArray

__all__ = ["Moment", "pick_moments", "scan_moments", "temporal_nms", "temporal_overlap"]

_MOST_SCANNED = 512
"""Frames of a longer video are averaged over equal runs first: all stretches are looked at, which is their square."""

# Spans are kept in float32, so two that touch may differ by a rounding step; at four hours that is a millisecond.
_TOUCH_S = 2e-3


@dataclass(frozen=True, slots=True)
class Moment:
    """A part of a video that matches a query.

    Args:
        video: the id of the video.
        start_s: where it starts, in seconds since the presentation start.
        end_s: where it ends; not before `start_s`.
        score: the cosine between the query and the best prototype inside, -1 to 1; comparable within one encoder only.

    Raises:
        InvalidInput: an empty id, a time that is not finite or negative, an end before the start, a score that is not
            finite.
    """

    video: str
    start_s: float
    end_s: float
    score: float

    def __post_init__(self) -> None:
        """Check the values."""
        if type(self.video) is not str or not self.video:
            raise InvalidInput(f"video is {self.video!r}", remedy="Give the video's id, a string that is not empty.")
        for name in ("start_s", "end_s", "score"):
            value = getattr(self, name)
            if type(value) not in (int, float) or not math.isfinite(value):
                raise InvalidInput(f"{name} is {value!r}", remedy="Give a finite number.")
        if not 0 <= self.start_s <= self.end_s:
            raise InvalidInput(
                f"the moment goes from {self.start_s} s to {self.end_s} s",
                remedy="Give a start of at least 0 and an end that is not before it.",
            )

    def to_dict(self) -> dict[str, Any]:
        """The moment as plain values, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Moment:
        """The moment that `to_dict` wrote.

        Raises:
            InvalidInput: a key is missing or unknown, or a value is not valid.
        """
        expected = {"video", "start_s", "end_s", "score"}
        if set(values) != expected:
            raise InvalidInput(
                f"a moment has the keys {sorted(values)}", remedy=f"Give exactly these: {', '.join(sorted(expected))}."
            )
        return cls(**values)

    def sort_key(self) -> tuple[float, str, float]:
        """Best first under `sorted`: higher score, then video id, then start."""
        return (-self.score, self.video, self.start_s)


def pick_moments(
    scores: ArrayLike,
    spans_s: ArrayLike,
    *,
    count: int = 1,
    tolerance: float = 0.02,
    share: float = 0.5,
    max_overlap: float = 0.5,
) -> list[tuple[float, float, float]]:
    """The best spans of one video, best first.

    The rule, repeated until `count` moments are found or no prototype is left:
      1. The prototype with the highest score wins (ties: the earlier start, then the shorter span).
      2. The moment grows to the left and to the right, as long as the next prototype in time is still there, touches
         it and scores at least the winner's score less `share` of its height above the median of the video's scores,
         or less `tolerance` where that is more. The comparison is always with the winner, so that a slow slope cannot
         carry the moment away from it. (Width at half height: what a moment is depends on how far it stands out. On
         the six real clips played one after another, this gave spans of IoU 0.74 with the right clip, against 0.25
         for the tolerance alone.)
      3. The prototypes inside leave; so does every other whose overlap with the moment is more than `max_overlap` of
         its own length. (Prototypes of the adjacent-merge builder never overlap; those of a trained model may.)

    Args:
        scores: (K,), the query's cosine with each prototype.
        spans_s: (K, 2), what each prototype covers, seconds; any order.
        count: how many moments at most, at least 1.
        tolerance: a difference of cosines that is no difference, ≥ 0.
        share: how much of the winner's height above the video's median a neighbour may lack, 0 to 1.
        max_overlap: the share of a remaining prototype that may lie inside a moment already picked, 0 to 1.

    Returns:
        At most `count` triples (start_s, end_s, score of the winner), by falling score.

    Raises:
        InvalidInput: shapes that do not fit, values that are not finite, options out of range.
    """
    score, span = _checked(scores, spans_s, count=count, tolerance=tolerance, share=share, max_overlap=max_overlap)
    order = np.lexsort((span[:, 1], span[:, 0]))
    score, span = score[order], span[order]
    middle = float(np.median(score))
    free = np.ones(len(score), dtype=bool)
    picked: list[tuple[float, float, float]] = []
    while len(picked) < count and free.any():
        winner = int(np.argmax(np.where(free, score, -np.inf)))  # the first of equals: the earliest
        best = float(score[winner])
        least = best - max(tolerance, share * (best - middle))
        start, end = map(float, span[winner])
        inside = [winner]
        for step in (-1, 1):
            at = winner + step
            while 0 <= at < len(score) and free[at] and score[at] >= least:
                if span[at, 0] > end + _TOUCH_S or span[at, 1] < start - _TOUCH_S:
                    break
                start, end = min(start, float(span[at, 0])), max(end, float(span[at, 1]))
                inside.append(at)
                at += step
        free[inside] = False
        overlap = np.minimum(span[:, 1], end) - np.maximum(span[:, 0], start)
        free &= overlap <= np.maximum(max_overlap * (span[:, 1] - span[:, 0]), 0)
        picked.append((start, end, best))
    return picked


def scan_moments(
    scores: ArrayLike, edges_s: ArrayLike, *, count: int = 1, max_overlap: float = 0.3, longest_share: float = 1.0
) -> list[tuple[float, float, float]]:
    """The stretches of frames whose scores stand out most, best first: the scan statistic of a shifted mean.

    A stretch of n frames with the mean m stands out by (m - b)·√n, where b is the median of all frames' scores: by how
    much it is above the rest, times how sure that is (the likelihood ratio for a raised mean in white noise; Siegmund
    and Venkatraman 1995). All stretches are looked at, by prefix sums; then `temporal_nms` leaves `count` of them.

    Args:
        scores: (T,), the query's cosine with each frame.
        edges_s: (T + 1,), where each frame's time starts, and the last one's ends; seconds, never falling.
        count: how many at most.
        max_overlap: the share of the shorter of two that may lie in the other.
        longest_share: of all frames that a stretch may take, above 0 and at most 1.

    Returns:
        At most `count` triples (start_s, end_s, how far it stands out), by falling third; equals by start.

    Raises:
        InvalidInput: shapes that do not fit, values that are not finite, options out of range.
    """
    score, edges = np.asarray(scores, dtype=np.float64), np.asarray(edges_s, dtype=np.float64)
    if score.ndim != 1 or not score.size or edges.shape != (len(score) + 1,):
        raise InvalidInput(
            f"scores have the shape {score.shape} and edges_s {edges.shape}", remedy="Give (T,) and (T + 1,)."
        )
    if not np.isfinite(score).all() or not np.isfinite(edges).all() or (np.diff(edges) < 0).any():
        raise InvalidInput("scores or edges are not finite, or edges fall", remedy="Encode the video anew.")
    if not 0 < longest_share <= 1:
        raise InvalidInput(f"longest_share is {longest_share}", remedy="Give a part above 0 and at most 1.")
    run = -(-len(score) // _MOST_SCANNED)
    starts = np.arange(0, len(score), run)
    frames = np.diff(np.append(starts, len(score)))
    sums = np.add.reduceat(score - np.median(score), starts)
    bounds = edges[np.append(starts, len(score))]
    total, length = np.append(0.0, np.cumsum(sums)), np.append(0, np.cumsum(frames))  # (N + 1,)
    first, last = np.triu_indices(len(total), 1)
    taken = length[last] - length[first]
    fits = taken <= max(run, longest_share * len(score))
    first, last, taken = first[fits], last[fits], taken[fits]
    strength = np.round((total[last] - total[first]) / np.sqrt(taken), 9)
    spans = np.stack([bounds[first], bounds[last]], axis=1)
    # By start, then length: of equals the earliest and shortest wins.
    kept = temporal_nms(spans, strength, max_overlap=max_overlap, of="shorter", count=count)
    return [(float(spans[i, 0]), float(spans[i, 1]), float(strength[i])) for i in kept]


def temporal_nms(
    spans_s: ArrayLike,
    scores: ArrayLike,
    *,
    max_overlap: float = 0.5,
    of: Literal["union", "shorter"] = "union",
    count: int | None = None,
) -> list[int]:
    """Non-maximum suppression in time: of spans that overlap, the one that scores best.

    Args:
        spans_s: (N, 2), start and end in seconds.
        scores: (N,).
        max_overlap: a span that overlaps a better one by more than this goes.
        of: what the overlap is a share of: the union of both (IoU) or the shorter one, so that neither holds the other.
        count: how many to keep at most; None for all.

    Returns:
        The places of those that stay, by falling score; equals in their order.

    Raises:
        InvalidInput: shapes that do not fit, values that are not finite, options out of range.
    """
    score, span = _checked(scores, spans_s, count=1 if count is None else count, max_overlap=max_overlap)
    if of not in ("union", "shorter"):
        raise InvalidInput(f"of is {of!r}", remedy="Give union or shorter.")
    left = score.copy()
    kept: list[int] = []
    while count is None or len(kept) < count:
        best = int(np.argmax(left))
        if left[best] == -np.inf:
            break
        kept.append(best)
        left[temporal_overlap(span[best], span, of=of) > max_overlap] = -np.inf
        left[best] = -np.inf
    return kept


def temporal_overlap(
    one: ArrayLike, others: ArrayLike, *, of: Literal["union", "shorter"] = "union"
) -> NDArray[np.float64]:
    """How much a span (2,) overlaps others (N, 2), as a share of the union or of the shorter: (N,); 0 of nothing."""
    single, many = np.asarray(one, dtype=np.float64), np.asarray(others, dtype=np.float64).reshape(-1, 2)
    inside = np.maximum(np.minimum(single[1], many[:, 1]) - np.maximum(single[0], many[:, 0]), 0.0)
    lengths = many[:, 1] - many[:, 0]
    whole = (single[1] - single[0]) + lengths - inside if of == "union" else np.minimum(single[1] - single[0], lengths)
    share: NDArray[np.float64] = np.divide(inside, whole, out=np.zeros_like(inside), where=whole > 0)
    return share


def _checked(
    scores: ArrayLike,
    spans_s: ArrayLike,
    *,
    count: int,
    tolerance: float = 0.0,
    share: float = 0.0,
    max_overlap: float,
) -> tuple[np.ndarray, np.ndarray]:
    score, span = np.asarray(scores, dtype=np.float64), np.asarray(spans_s, dtype=np.float64)
    if score.ndim != 1 or not score.size or span.shape != (len(score), 2):
        raise InvalidInput(
            f"scores have the shape {score.shape} and spans {span.shape}",
            remedy="Give scores (K,) and spans (K, 2) with K of at least 1.",
        )
    if not np.isfinite(score).all() or not np.isfinite(span).all() or (span[:, 0] > span[:, 1]).any():
        raise InvalidInput(
            "scores or spans are not finite, or a span ends before it starts", remedy="Build the prototypes anew."
        )
    if type(count) is not int or count < 1:
        raise InvalidInput(f"count is {count!r}", remedy="Give a whole number of at least 1.")
    if not (math.isfinite(tolerance) and tolerance >= 0):
        raise InvalidInput(f"tolerance is {tolerance}", remedy="Give a finite number of at least 0.")
    for name, part in (("share", share), ("max_overlap", max_overlap)):
        if not 0 <= part <= 1:
            raise InvalidInput(f"{name} is {part}", remedy="Give a part between 0 and 1.")
    return score, span
