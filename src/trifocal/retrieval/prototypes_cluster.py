"""Prototypes of what is alike wherever it lies in a video: k-means and farthest-point, both without chance.

Both take the frames as a set. A prototype needs one time all the same: of a cluster that lies in several pieces it is
one of them, so the other pieces are found by their video, not by their time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["cluster_frames", "far_frames"]

_MOST_ROUNDS = 50
# Cosines that agree to this many decimals are equal; the earlier frame or the earlier cluster wins.
_DECIMALS = 6
_NO_DIRECTION = 1e-4

Chosen = tuple["NDArray[np.float64]", "NDArray[np.int64]", "NDArray[np.int64]"]


def far_frames(rows: NDArray[np.float32], k: int) -> Chosen:
    """At most `k` frames, each as unlike the others as can be.

    Args:
        rows: (T, D), unit vectors.
        k: how many at most; fewer when there are not so many different frames.

    Returns:
        Their vectors (K, D), and the first and the last frame of the run that each stands for, both (K,); by time.
    """
    picked = np.sort(_far(rows, k))
    nearest = np.argmax(np.round(rows @ rows[picked].T, _DECIMALS), axis=1)
    nearest[picked] = np.arange(len(picked))
    first, last = _bounds(nearest)
    run = np.searchsorted(first, picked, side="right") - 1
    return rows[picked].astype(np.float64), first[run], last[run]


def cluster_frames(rows: NDArray[np.float32], k: int) -> Chosen:
    """At most `k` means of frames that are alike; see `far_frames` for arguments and result."""
    means = rows[_far(rows, k)].astype(np.float32)
    nearest = np.argmax(np.round(rows @ means.T, _DECIMALS), axis=1)
    for _ in range(_MOST_ROUNDS):
        sums = np.zeros((len(means), rows.shape[1]))
        np.add.at(sums, nearest, rows)
        lengths = np.linalg.norm(sums, axis=1)
        counts = np.bincount(nearest, minlength=len(means))
        kept = lengths > _NO_DIRECTION * np.maximum(counts, 1)  # one without frames, or without direction, goes
        means = (sums[kept] / lengths[kept, None]).astype(np.float32)
        again = np.argmax(np.round(rows @ means.T, _DECIMALS), axis=1)
        if kept.all() and (again == nearest).all():
            break
        nearest = again
    first, last = _bounds(nearest)
    owner = nearest[first]
    longest = np.lexsort((first, first - last, owner))  # by cluster, the longest run first, the earliest of equals
    clusters, place = np.unique(owner[longest], return_index=True)
    run = longest[place]
    order = np.argsort(first[run])
    return means[clusters[order]].astype(np.float64), first[run][order], last[run][order]


def _far(rows: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Up to `k` different frames in the order in which they are chosen."""
    mean = rows.mean(axis=0, dtype=np.float64).astype(np.float32)
    picked = [int(np.argmax(np.round(rows @ mean, _DECIMALS)))]
    like = np.round(rows @ rows[picked[0]], _DECIMALS)
    while len(picked) < k:
        farthest = int(np.argmin(like))
        if like[farthest] >= 1 - 10.0**-_DECIMALS:
            break
        picked.append(farthest)
        like = np.maximum(like, np.round(rows @ rows[farthest], _DECIMALS))
    return np.array(picked, dtype=np.int64)


def _bounds(labels: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The first and the last frame of each run of equal labels."""
    first = np.flatnonzero(np.append(True, labels[1:] != labels[:-1]))
    return first, np.append(first[1:], len(labels)) - 1
