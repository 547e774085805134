"""Cutting a video into stretches: where each of at most `k` segments of neighbouring frames starts.

The cost of a segment is the sum of squared distances of its frames to their mean. `merge_neighbours` merges the pair
that adds least to it, again and again (Ward's method under the constraint of time); `best_cuts` finds the least sum
there is, by dynamic programming.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["MAX_MERGED_FRAMES", "MAX_SEGMENTED_FRAMES", "best_cuts", "merge_neighbours"]

MAX_MERGED_FRAMES = 8192
"""Longer videos are first averaged over equal runs of frames, so that time and memory stay bounded."""

MAX_SEGMENTED_FRAMES = 1024
"""The same for `best_cuts`, which takes time and memory by the square."""

# Costs are compared after rounding, so that sums taken in another order do not decide.
_DECIMALS = 9


def best_cuts(rows: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """The frames at which the `k` segments of least cost start, and the number of frames as the last: (k + 1,).

    Among equals the cuts lie as early as can be, the last one first.

    Args:
        rows: (T, D), unit vectors, T above `k`.
        k: how many segments.
    """
    cuts, sums, weights = _runs(rows, MAX_SEGMENTED_FRAMES)
    count = len(sums)
    if count <= k:
        return cuts
    total = np.concatenate([np.zeros((1, sums.shape[1])), np.cumsum(sums, axis=0)])  # (N + 1, D)
    frames = np.concatenate([[0.0], np.cumsum(weights)])
    squares = np.einsum("nd,nd->n", total, total)
    # cost[i, j] of the segment i..j-1 but for its frames' own squares, which are the same however they are cut
    length = frames[None, :] - frames[:, None]
    apart = squares[:, None] + squares[None, :] - 2 * (total @ total.T)
    after = np.triu(np.ones((count + 1, count + 1), dtype=bool), 1)
    cost = np.where(after, -apart / np.where(after, length, 1.0), np.inf)
    least = np.round(cost[0], _DECIMALS)  # (N + 1,): of one segment that ends there
    chosen = np.zeros((k, count + 1), dtype=np.int64)
    for segment in range(1, k):
        ways = np.round(least[:, None] + cost, _DECIMALS)
        chosen[segment] = np.argmin(ways, axis=0)
        least = ways[chosen[segment], np.arange(count + 1)]
    ends = [count]
    for segment in range(k - 1, 0, -1):
        ends.append(int(chosen[segment, ends[-1]]))
    return cuts[[0, *ends[::-1]]]


def merge_neighbours(rows: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """The frames at which the `k` segments start, and the number of frames as the last: (k + 1,)."""
    cuts, sums, weights = _runs(rows, MAX_MERGED_FRAMES)
    if len(sums) <= k:
        return cuts
    step = np.diff(sums / weights[:, None], axis=0)
    first = weights[:-1] * weights[1:] / (weights[:-1] + weights[1:]) * np.einsum("td,td->t", step, step)

    # A linked list of segments, named by their first run. An entry of the heap is stale when its pair's cost has
    # changed since (the version of its left segment has moved on).
    after, before = np.arange(1, len(sums) + 1).tolist(), np.arange(-1, len(sums) - 1).tolist()
    version = [0] * len(sums)
    weight = weights.tolist()
    heap = [(round(cost, _DECIMALS), left, 0) for left, cost in enumerate(first.tolist())]
    heapq.heapify(heap)

    def push(left: int, right: int) -> None:
        gap = sums[left] / weight[left] - sums[right] / weight[right]
        cost = weight[left] * weight[right] / (weight[left] + weight[right]) * float(gap @ gap)
        version[left] += 1
        heapq.heappush(heap, (round(cost, _DECIMALS), left, version[left]))

    alive = len(sums)
    while alive > k:
        _, left, made = heapq.heappop(heap)
        if made != version[left]:
            continue
        right = after[left]
        sums[left] += sums[right]
        weight[left] += weight[right]
        version[right] = version[left] = version[left] + 1
        version[right] = -1
        after[left] = after[right]
        if after[left] < len(sums):
            before[after[left]] = left
            push(left, after[left])
        if before[left] >= 0:
            push(before[left], left)
        alive -= 1
    starts = []
    at = 0
    while at < len(sums):
        starts.append(at)
        at = after[at]
    return np.append(cuts[starts], len(rows))


def _runs(rows: NDArray[np.float32], most: int) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Equal runs of frames, at most so many: their starts and the number of frames, sums (N, D), lengths (N,)."""
    run = -(-len(rows) // most)
    cuts = np.append(np.arange(0, len(rows), run), len(rows)).astype(np.int64)
    return cuts, np.add.reduceat(rows, cuts[:-1], axis=0, dtype=np.float64), np.diff(cuts).astype(np.float64)
