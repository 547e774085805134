"""Learning-free figures of the two-annotation set: one annotation's captions against the other's, without time.

A video's units are the captions of val_1, whatever they cover; the queries are the captions of val_2. Two scores: the
highest cosine with a unit, and the cosine with the plain mean of the units. There are no seconds here, no noise and no
silence, so these figures say what the texts alone can do and stand beside `bench.prvr`'s rows as a mark.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from trifocal.retrieval.data.two_annotations import both_annotations
from trifocal.retrieval.evaluation.metrics import rank_scores, ranks_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["reference_rows"]

_AT_ONCE = 512


def reference_rows(
    source: Path | str, encode: Callable[[Sequence[str]], NDArray[np.float32]]
) -> dict[str, dict[str, Any]]:
    """Both scores on all videos and on the test half (every second one by sorted id, from the second).

    Args:
        source: a folder or a zip with val_1.json and val_2.json.
        encode: texts to unit vectors float32 (N, D), or zeros.

    Returns:
        Figures by row: SumR, recall by K, share of ties, and the numbers of videos and queries.

    Raises:
        InvalidInput: a file is missing or broken.
    """
    units, asked = both_annotations(source)
    videos = sorted(asked.videos())
    vectors, queries = (encode([one.text for one in captions]) for captions in (units, asked))
    place = {video: index for index, video in enumerate(videos)}
    of_unit, owner = (np.array([place[one.video] for one in captions]) for captions in (units, asked))
    rows = {}
    for name, chosen in (("test half", range(1, len(videos), 2)), ("all videos", range(len(videos)))):
        for score in ("max", "mean"):
            rows[f"{score} over captions, {name}"] = _row(
                queries, owner, vectors, of_unit, videos=np.array(chosen), mean=score == "mean"
            )
    return rows


def _row(
    queries: NDArray[np.float32],
    owner: NDArray[np.int64],
    vectors: NDArray[np.float32],
    of_unit: NDArray[np.int64],
    *,
    videos: NDArray[np.int64],
    mean: bool,
) -> dict[str, Any]:
    order = np.argsort(of_unit, kind="stable")
    order = order[np.isin(of_unit[order], videos)]
    units, starts = vectors[order], np.searchsorted(of_unit[order], videos)  # a video's units lie together
    if mean:
        sums = np.add.reduceat(units, starts, axis=0)
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        units, starts = (sums / np.where(lengths > 0, lengths, 1)).astype(np.float32), np.arange(len(videos))
    asking = np.flatnonzero(np.isin(owner, videos))
    column = np.searchsorted(videos, owner[asking])
    ranks, ties = [], []
    for start in range(0, len(asking), _AT_ONCE):
        part = asking[start : start + _AT_ONCE]
        scores = np.maximum.reduceat(queries[part] @ units.T, starts, axis=1)  # (N, videos)
        found, tied = ranks_of(scores, column[start : start + _AT_ONCE])
        ranks.append(found)
        ties.append(tied)
    scored = rank_scores(np.concatenate(ranks), tied=np.concatenate(ties))
    return {
        "sum_r": round(scored.sum_r, 2),
        "recall": {str(k): round(value, 2) for k, value in scored.recall.items()},
        "tied": scored.tied,
        "videos": len(videos),
        "queries": len(asking),
    }
