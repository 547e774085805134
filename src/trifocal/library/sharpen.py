"""Moments found by prototypes, placed to the frame where a library keeps clip tokens.

A video's moments are found again among all of its frames (`ClipTokens.sharpen`). Each found stretch takes the place of
the moment that it overlaps most; a moment that none overlaps stays as it was. Scores and order stay those of the
prototypes, so that videos compare as they did.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from trifocal.retrieval.moment import temporal_overlap

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from trifocal.retrieval import ClipTokens, Moment

__all__ = ["sharpened"]


def sharpened(
    moments: list[Moment], query: NDArray[np.float32], *, read: Callable[[str], ClipTokens | None]
) -> list[Moment]:
    """The same moments with the times of the frames that stand out.

    Args:
        moments: of one query, best first.
        query: (D,), what was searched with.
        read: a video's clip tokens, None where there are none.
    """
    places: dict[str, list[int]] = {}
    for place, moment in enumerate(moments):
        places.setdefault(moment.video, []).append(place)
    out = list(moments)
    for video, own in places.items():
        tokens = read(video)
        if tokens is None:
            continue
        left = list(own)
        for start_s, end_s in tokens.sharpen(query, count=len(own)):
            spans = np.array([(moments[place].start_s, moments[place].end_s) for place in left])
            overlap = temporal_overlap((start_s, end_s), spans, of="shorter")
            best = int(np.argmax(overlap))
            if overlap[best] > 0:
                place = left.pop(best)
                out[place] = replace(moments[place], start_s=round(start_s, 3), end_s=round(end_s, 3))
            if not left:
                break
    return out
