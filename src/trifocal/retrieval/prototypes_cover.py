"""Prototypes that cover, without training: the windows of a video that stand for all its windows best.

The choice is that of the trained default (`retrieval.model.coverage`), on frames as they are: the video is averaged to
uniform runs of frames, every window of runs is a candidate with its mean as vector, and windows are chosen greedily to
make the weighted sum over all windows of the cosine with the most similar chosen one as large as possible, long windows
weighing less. Windows may overlap, so a long one and its parts may both be prototypes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["cover_windows"]

_RUNS = 32
"""Runs a video is averaged to, as in the trained model; k where that is more."""

_MOST_WINDOWS = 1024
"""Candidates at most, unless the runs themselves are more; the longest windows go first."""

# Gains are compared after rounding, so that sums taken in another order do not decide.
_DECIMALS = 9
_NO_DIRECTION = 1e-4

Chosen = tuple["NDArray[np.float64]", "NDArray[np.int64]", "NDArray[np.int64]"]


def cover_windows(rows: NDArray[np.float32], k: int) -> Chosen:
    """At most `k` windows that cover all windows of a video; of equal gains the longest, then the earliest.

    Args:
        rows: (T, D), unit vectors, T above `k`.
        k: how many at most; fewer when all windows are covered already.

    Returns:
        Their vectors (K, D), and the first and the last frame of each, both (K,); by time.
    """
    count = min(len(rows), max(_RUNS, k))
    cuts = np.arange(count + 1) * len(rows) // count  # (M + 1,), the first frame of each run
    spans = _windows(count)  # (V, 2), in runs, longest first
    # Summed by run first: memory grows with the runs and not with the frames.
    runs = np.add.reduceat(rows, cuts[:-1], axis=0, dtype=np.float64)  # (M, D)
    total = np.concatenate([np.zeros((1, rows.shape[1])), np.cumsum(runs, axis=0)])
    begin, end = cuts[spans[:, 0]], cuts[spans[:, 1]]
    means = (total[spans[:, 1]] - total[spans[:, 0]]) / (end - begin)[:, None]
    lengths = np.linalg.norm(means, axis=1)
    lost = lengths < _NO_DIRECTION  # the frames cancel out: the one in the middle stands for them
    means[lost] = rows[(begin + end) // 2][lost]
    lengths[lost] = 1.0
    unit = means / lengths[:, None]
    chosen = np.array(_greedy(unit @ unit.T, 1.0 / (spans[:, 1] - spans[:, 0]), k), dtype=np.int64)
    chosen = chosen[np.lexsort((end[chosen], begin[chosen]))]
    return unit[chosen], begin[chosen], end[chosen] - 1


def _windows(count: int) -> NDArray[np.int64]:
    """First run and end of the windows of 1, 2, 3, 4, 6, 8, 12, ... runs: (V, 2), the longest first, then by time."""
    lengths = [1]
    size, held = 2, count
    while size <= count and held + count - size + 1 <= _MOST_WINDOWS:
        lengths.append(size)
        held += count - size + 1
        size = size * 3 // 2 if size & (size - 1) == 0 and size > 2 else size * 4 // 3 if size > 3 else size + 1
    return np.array([(start, start + size) for size in reversed(lengths) for start in range(count - size + 1)])


def _greedy(alike: NDArray[np.float64], weights: NDArray[np.float64], k: int) -> list[int]:
    """Facility location: places of at most `k` candidates, in the order of choice; `alike` is symmetric.

    A choice changes the gains of others by the candidates that it covers better than before alone, which soon are few.
    """
    share = weights / weights.sum()
    covered = np.full(len(alike), -1.0)
    free = np.ones(len(alike), dtype=bool)
    gains = np.maximum(alike - covered, 0.0) @ share
    chosen: list[int] = []
    while len(chosen) < min(k, len(alike)):
        open_gains = np.where(free, np.round(gains, _DECIMALS), -1.0)
        best = int(np.argmax(open_gains))
        if open_gains[best] <= 0:
            break
        chosen.append(best)
        free[best] = False
        better = np.flatnonzero(alike[best] > covered)
        now = alike[best, better]
        rows = alike[better]  # (changed, V)
        lost = np.maximum(rows - covered[better, None], 0.0) - np.maximum(rows - now[:, None], 0.0)
        gains -= share[better] @ lost
        covered[better] = now
    return chosen
