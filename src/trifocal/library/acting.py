"""Moments in which somebody does something: what `find` found, held against the spans of stored tubes.

Searching knows nothing of actions. It gives its moments best first, more of them until enough lie where the action is,
so what remains is in the order, and has the scores, that it has without the filter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from numpy.typing import NDArray

    from trifocal.library.records import ActionSpan
    from trifocal.retrieval import Moment, PrototypeIndex

__all__ = ["acting_moments", "by_video", "kept_acting", "overlaps"]

_MORE = 8  # how many times as many moments are asked for at each try as the last one


def by_video(spans: Iterable[ActionSpan]) -> dict[str, NDArray[np.float64]]:
    """Start and end of the spans of each video: float64 (N, 2)."""
    found: dict[str, list[tuple[float, float]]] = {}
    for span in spans:
        found.setdefault(span.video, []).append((span.start_s, span.end_s))
    return {video: np.array(rows, dtype=np.float64) for video, rows in found.items()}


def overlaps(moment: Moment, spans: Mapping[str, NDArray[np.float64]]) -> bool:
    """Whether a moment shares time with one of its video's spans; one of no length, whether it lies in one."""
    own = spans.get(moment.video)
    if own is None:
        return False
    first, last = np.maximum(own[:, 0], moment.start_s), np.minimum(own[:, 1], moment.end_s)
    if moment.start_s == moment.end_s:
        return bool((first <= last).any())
    return bool((first < last).any())


def acting_moments(
    index: PrototypeIndex,
    query: NDArray[np.float32],
    *,
    top: int,
    moments_per_video: int,
    videos: Collection[str],
    spans: Mapping[str, NDArray[np.float64]],
    most: int,
) -> list[Moment]:
    """The best moments that overlap a span.

    Args:
        index: what is searched.
        query: (D,), a unit vector.
        top: how many moments at most.
        moments_per_video: how many of them from one video.
        videos: look in these alone; each has a span.
        spans: see `by_video`.
        most: more moments than this no video has.
    """
    asked = top
    while True:
        asked *= _MORE
        found = index.search(query, top=asked, moments_per_video=most, videos=videos)
        kept: list[Moment] = []
        counts: dict[str, int] = {}
        for moment in found:
            if counts.get(moment.video, 0) < moments_per_video and overlaps(moment, spans):
                counts[moment.video] = counts.get(moment.video, 0) + 1
                kept.append(moment)
        if len(kept) >= top or len(found) < asked:
            return kept[:top]


def kept_acting(placed: list[Moment], moments: list[Moment], spans: Mapping[str, NDArray[np.float64]]) -> list[Moment]:
    """Moments placed anew, except where that would take them away from the action: those stay as they were."""
    return [new if overlaps(new, spans) else old for new, old in zip(placed, moments, strict=True)]
