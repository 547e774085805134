"""Prototypes: a video of any length as at most `k` unit vectors, each with the time it covers; no training.

Six ways to choose them. Three cut the video into `k` stretches and average each (`prototypes_cut`): `adjacent` merges
neighbours in time, the most similar first (the default: it keeps what stands out however short it is, see
`trifocal.bench.prototypes`), `segments` finds the best cuts of all, `uniform` cuts evenly. Two look for what is alike
wherever it lies (`prototypes_cluster`): `kmeans` and `farthest`. `coverage` chooses stretches that may overlap and
together stand for all stretches best (`prototypes_cover`). The frames' boundaries lie midway between their times, so
cut stretches leave no gaps.
`similarity` scores queries against videos: the maximum over a video's prototypes of the cosine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args, overload

import numpy as np

from trifocal.errors import InvalidInput
from trifocal.retrieval.prototypes_cluster import cluster_frames, far_frames
from trifocal.retrieval.prototypes_cover import cover_windows
from trifocal.retrieval.prototypes_cut import MAX_MERGED_FRAMES, best_cuts, merge_neighbours

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from numpy.typing import ArrayLike, NDArray

__all__ = ["MAX_MERGED_FRAMES", "Method", "Prototypes", "build_prototypes", "similarity"]

Method = Literal["adjacent", "segments", "kmeans", "farthest", "uniform", "coverage"]

_CHOOSE = {"kmeans": cluster_frames, "farthest": far_frames, "coverage": cover_windows}

# The mean of unit vectors that cancel out points nowhere; below this length it is noise.
_NO_DIRECTION = 1e-4


@dataclass(frozen=True, slots=True, eq=False)
class Prototypes:
    """A video's prototypes.

    Args:
        vectors: float16 (K, D), each of unit length (within half precision).
        spans_s: float32 (K, 2), start and end in seconds since the presentation start.

    Raises:
        InvalidInput: wrong shapes or dtypes, no rows, values that are not finite, rows that are not unit vectors,
            spans that end before they start or start before zero.
    """

    vectors: NDArray[np.float16]
    spans_s: NDArray[np.float32]

    def __post_init__(self) -> None:
        """Check the arrays against each other."""
        vectors, spans = self.vectors, self.spans_s
        if vectors.dtype != np.float16 or vectors.ndim != 2 or not vectors.size:
            raise InvalidInput(
                f"vectors are {vectors.dtype} {vectors.shape}", remedy="Give float16 (K, D) with K and D of at least 1."
            )
        if spans.dtype != np.float32 or spans.shape != (len(vectors), 2):
            raise InvalidInput(f"spans_s are {spans.dtype} {spans.shape}", remedy=f"Give float32 ({len(vectors)}, 2).")
        if not np.isfinite(spans).all() or (spans[:, 0] < 0).any() or (spans[:, 0] > spans[:, 1]).any():
            raise InvalidInput("a span is not a stretch of time", remedy="Give 0 <= start <= end, in finite seconds.")
        lengths = np.linalg.norm(vectors.astype(np.float32), axis=1)
        if not (np.abs(lengths - 1) < 5e-3).all():
            raise InvalidInput(
                f"vectors have lengths from {lengths.min():.4g} to {lengths.max():.4g}",
                remedy="Divide each by its length first.",
            )

    def __len__(self) -> int:
        """K, the number of prototypes."""
        return len(self.vectors)

    def __repr__(self) -> str:
        """Shapes, not numbers."""
        return (
            f"Prototypes(vectors=float16 {self.vectors.shape}, "
            f"spans_s={float(self.spans_s[:, 0].min()):.2f}..{float(self.spans_s[:, 1].max()):.2f} s)"
        )

    @property
    def dim(self) -> int:
        """D, the width of the vectors."""
        return int(self.vectors.shape[1])


def build_prototypes(
    features: ArrayLike,
    *,
    times_s: ArrayLike,
    end_s: float,
    start_s: float = 0.0,
    k: int = 32,
    method: Method = "adjacent",
) -> Prototypes:
    """At most `k` prototypes of one video.

    Each frame owns the time from midway to the frame before to midway to the frame after; the first reaches back to
    `start_s`, the last on to `end_s`. A prototype is the mean of its frames' unit vectors, taken in float32 or better,
    brought to unit length and stored in float16. Where a mean points nowhere (its frames cancel out), the frame in the
    middle of the segment stands for it. With no more frames than `k`, every frame is its own prototype.

    `adjacent`: two neighbouring segments with frame counts a, b and means m, n cost ab/(a+b)·‖m−n‖² to merge (Ward's
    cost: the growth of the sum of squared distances to the means). The cheapest pair merges, again and again, until
    `k` are left; of equal costs the earliest. Costs are compared after rounding to nine decimals, so that sums taken
    in another order do not decide. O(T log T). More than `MAX_MERGED_FRAMES` frames are first averaged over runs of
    ⌈T / MAX_MERGED_FRAMES⌉ neighbours (the last run may be shorter; it keeps its own weight).
    `segments`: the cuts into `k` segments with the least sum of squared distances to the means there is, by dynamic
    programming, O(T²k); more than `MAX_SEGMENTED_FRAMES` frames are averaged first in the same way.
    `kmeans`: spherical k-means (Dhillon and Modha 2001) from a start without chance: the `farthest` frames. A cluster
    need not lie in one piece; its prototype's time is that of its longest run of frames (the earliest of equals).
    `farthest`: the frame most like the mean, then again and again the frame least like all chosen (Gonzalez 1985). A
    prototype is that frame itself; its time is the run of frames around it that are more like it than any other.
    `uniform`: segment j takes the frames ⌊jT/k⌋ to ⌊(j+1)T/k⌋ − 1.
    `coverage`: the video is averaged to max(32, k) uniform runs; of their windows, 1, 2, 3, 4, 6, 8, … runs long, those
    are chosen greedily that make Σ_v (1/length of v) · max over chosen s of cos(v, s) large (facility location); of
    equal gains, compared after rounding to nine decimals, the longest window, then the earliest. They may overlap, and
    are fewer than `k` when all windows are covered. The frames are read once, O(T); time and memory of the choice
    depend on `k` alone, by the square of max(1024, k) windows at most. No window is shorter than a run, so a scene that
    is short beside T / max(32, k) frames is averaged with what surrounds it.

    Args:
        features: (T, D), a row per frame, any length but zero; unit vectors are expected, others are normalised.
        times_s: (T,), seconds, never falling.
        end_s: where the video ends, not before the last time.
        start_s: where it starts, not after the first time.
        k: how many at most, at least 1.
        method: one of the six.

    Raises:
        InvalidInput: no frames, shapes that do not fit, values that are not finite, a zero row, times that fall or lie
            outside start and end, an option out of range.
    """
    rows, times = _checked(features, times_s, start_s=start_s, end_s=end_s, k=k, method=method)
    count = len(rows)
    if count > k and method in _CHOOSE:
        vectors, first, last = _CHOOSE[method](rows, k)
        edges = np.concatenate([[start_s], (times[:-1] + times[1:]) / 2, [end_s]])
        return _prototypes(vectors, edges[first], edges[last + 1])
    if count <= k:
        cuts = np.arange(count + 1)
    elif method == "uniform":
        cuts = np.arange(k + 1) * count // k
    else:
        cuts = best_cuts(rows, k) if method == "segments" else merge_neighbours(rows, k)
    sums = np.add.reduceat(rows, cuts[:-1], axis=0, dtype=np.float64)
    lengths = np.linalg.norm(sums, axis=1)
    lost = lengths / np.diff(cuts) < _NO_DIRECTION
    sums[lost] = rows[(cuts[:-1] + cuts[1:]) // 2][lost]
    lengths[lost] = 1.0
    edges = np.concatenate([[start_s], (times[cuts[1:-1] - 1] + times[cuts[1:-1]]) / 2, [end_s]])
    return _prototypes(sums / lengths[:, None], edges[:-1], edges[1:])


def _prototypes(vectors: NDArray[Any], start_s: NDArray[Any], end_s: NDArray[Any]) -> Prototypes:
    spans = np.stack([start_s, end_s], axis=1).astype(np.float32)
    return Prototypes(vectors=vectors.astype(np.float16), spans_s=spans)


def _checked(
    features: ArrayLike, times_s: ArrayLike, *, start_s: float, end_s: float, k: int, method: str
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    rows, times = np.asarray(features, dtype=np.float32), np.asarray(times_s, dtype=np.float64)
    if rows.ndim != 2 or not rows.size:
        raise InvalidInput(f"features have the shape {rows.shape}", remedy="Give (T, D) with at least one frame.")
    if times.shape != (len(rows),):
        raise InvalidInput(f"times_s have the shape {times.shape}", remedy=f"Give one time a frame, ({len(rows)},).")
    if not np.isfinite(rows).all():
        raise InvalidInput("features hold NaN or infinity", remedy="Leave those frames out, or encode them again.")
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    if not (lengths > 0).all():
        bad = int(np.argmin(lengths))
        raise InvalidInput(f"the feature row at index {bad} is all zeros", remedy="Leave that frame out.")
    if not np.isfinite(times).all() or (np.diff(times) < 0).any():
        raise InvalidInput("times_s fall or are not finite", remedy="Sort the frames by time.")
    if not (np.isfinite([start_s, end_s]).all() and 0 <= start_s <= times[0] and times[-1] <= end_s):
        raise InvalidInput(
            f"the frames lie from {times[0]:.3f} s to {times[-1]:.3f} s, the video from {start_s} s to {end_s} s",
            remedy="Give 0 <= start_s <= the first time and end_s >= the last.",
        )
    if type(k) is not int or k < 1:
        raise InvalidInput(f"k is {k!r}", remedy="Give a whole number of at least 1.")
    if method not in get_args(Method):
        raise InvalidInput(f"method is {method!r}", remedy=f"Give one of: {', '.join(get_args(Method))}.")
    return rows / lengths, times


@overload
def similarity(queries: torch.Tensor, prototypes: torch.Tensor) -> torch.Tensor: ...
@overload
def similarity(queries: NDArray[Any], prototypes: NDArray[Any] | Sequence[Prototypes]) -> NDArray[np.float32]: ...
def similarity(queries: Any, prototypes: Any) -> Any:
    """Scores of queries against videos: max over a video's prototypes of the cosine (specs/prvr.md §5).

    Arrays in, array out, in float32; tensors in, tensor out, in their own dtype and differentiable (the gradient flows
    through the winning prototype; equals share it). Both sides must be unit vectors already: only then is the product a
    cosine.

    Args:
        queries: (Nq, D).
        prototypes: (Nv, K, D), or with arrays also a sequence of `Prototypes` whose K may differ.

    Returns:
        (Nq, Nv).

    Raises:
        InvalidInput: shapes that do not fit.
    """
    if not isinstance(prototypes, np.ndarray) and not hasattr(prototypes, "shape"):
        rows = [p.vectors for p in prototypes]
        widths = {r.shape[1] for r in rows} | {queries.shape[-1]}
        if len(widths) != 1 or queries.ndim != 2 or not rows:
            raise InvalidInput(
                f"queries have the shape {queries.shape}, {len(rows)} videos the widths {sorted(widths)}",
                remedy="Give queries (Nq, D) and at least one video of the same width D.",
            )
        starts = np.cumsum([0] + [len(r) for r in rows[:-1]])
        scores = queries.astype(np.float32) @ np.concatenate(rows).astype(np.float32).T
        return np.maximum.reduceat(scores, starts, axis=1)  # (Nq, Nv)
    if queries.ndim != 2 or prototypes.ndim != 3 or queries.shape[1] != prototypes.shape[2] or not prototypes.shape[1]:
        raise InvalidInput(
            f"queries have the shape {tuple(queries.shape)} and prototypes {tuple(prototypes.shape)}",
            remedy="Give queries (Nq, D) and prototypes (Nv, K, D) with K of at least 1.",
        )
    if isinstance(prototypes, np.ndarray):
        queries, prototypes = queries.astype(np.float32), prototypes.astype(np.float32)
    flat = queries @ prototypes.reshape(-1, prototypes.shape[2]).T  # (Nq, Nv*K)
    grid = flat.reshape(len(queries), prototypes.shape[0], prototypes.shape[1])
    return grid.max(axis=-1) if isinstance(grid, np.ndarray) else grid.amax(dim=-1)
