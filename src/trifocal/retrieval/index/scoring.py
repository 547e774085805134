"""Three ways to multiply half-precision vectors with a query, from fast and bounded to exact.

    half_scores    as the vectors lie there; within `half_error` of the exact score
    wide_scores    several queries at once, in float32; within `wide_error`
    exact_scores   in float64: what a score is, to six decimals, in whatever order a sum is taken

The first two read much and only rule out; what they leave, a handful of videos, the third decides. It runs on one
thread: on so few rows, waiting for others costs more than they give, on a busy machine some 15 ms for each meeting.
Torch is imported with the first product, not with the module.
"""

from __future__ import annotations

import platform
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from trifocal.errors import LibraryDamaged
from trifocal.retrieval.index.files import REBUILD

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["DECIMALS", "check_finite", "exact_scores", "half_error", "half_scores", "wide_error", "wide_scores"]

DECIMALS = 6
"""Scores that agree to this many decimals are ties."""

# Rows widened at a time: 4096 x 384 x 4 bytes fit the second-level cache's order of size, and were fastest of 256 to
# 16384 for several queries. Wider vectors get fewer rows, so that the buffer stays at about 6 MB.
_BLOCK_NUMBERS = 4096 * 384
# The longest vector that `Prototypes` lets through, times the longest query that `check_queries` does.
_LONGEST = 1.005 * 1.001


def half_scores(query: NDArray[np.float32], vectors: NDArray[np.float16]) -> NDArray[np.float32]:
    """(N,): the product of each vector (N, D) with the query rounded to half precision, summed in float32.

    One product over the whole matrix: threads meet once, however busy the machine is.
    """
    import torch

    half, matrix = torch.from_numpy(query.astype(np.float16)), torch.from_numpy(vectors)
    # Torch's own product widens with AVX2 whatever the processor has; oneDNN's took a fifth to almost a half less.
    rough = torch.nn.functional.linear(half[None], matrix)[0] if _multiplies_halves() else torch.mv(matrix, half)
    scores: NDArray[np.float32] = rough.numpy().astype(np.float32)
    return scores


def half_error(query: NDArray[np.float32]) -> float:
    """How far a score of `half_scores` may lie from the exact one.

    The query's own rounding, times the longest vector there is; the sum in float32 (D × 2⁻²⁴); the result's rounding to
    half precision below 2 (2⁻¹¹); and the six decimals of the exact score.
    """
    lost = float(np.linalg.norm(query.astype(np.float64) - query.astype(np.float16)))
    return _LONGEST * (lost + len(query) * 2.0**-24) + 2.0**-11 + 10.0**-DECIMALS


def wide_scores(queries: NDArray[np.float32], vectors: NDArray[np.float16], *, folder: object) -> NDArray[np.float32]:
    """(Nq, N): the product of each query (Nq, D) with each vector (N, D) in float32, rounded to `DECIMALS`.

    Raises:
        LibraryDamaged: a score is not finite; `folder` is named.
    """
    import torch

    scores = np.empty((len(queries), len(vectors)), dtype=np.float32)
    matrix, query = torch.from_numpy(vectors), torch.from_numpy(queries)
    block = max(1, _BLOCK_NUMBERS // vectors.shape[1])
    wide = torch.empty((min(block, len(matrix)), vectors.shape[1]), dtype=torch.float32)
    for start in range(0, len(matrix), block):
        rows = matrix[start : start + block]
        part = wide[: len(rows)].copy_(rows)
        scores[:, start : start + len(rows)] = (query @ part.T).numpy()
    check_finite(scores, folder=folder)
    return np.round(scores, DECIMALS)


def wide_error(dim: int) -> float:
    """How far a score of `wide_scores` may lie from the exact one: the sum, the rounding of both, float32's own."""
    return _LONGEST * dim * 2.0**-24 + 10.0**-DECIMALS + 2.0**-23


def exact_scores(query: NDArray[np.float32], vectors: NDArray[np.float16], *, folder: object) -> NDArray[np.float64]:
    """(N,): the product of each vector (N, D) with the query (D,) in float64, rounded to `DECIMALS`.

    Raises:
        LibraryDamaged: a score is not finite; `folder` is named.
    """
    scores = np.einsum("nd,d->n", vectors, query.astype(np.float64), dtype=np.float64)
    check_finite(scores, folder=folder)
    rounded: NDArray[np.float64] = np.round(scores, DECIMALS)
    return rounded


def check_finite(scores: NDArray[np.floating], *, folder: object) -> None:
    """Refuse scores that no vectors of unit length give.

    Raises:
        LibraryDamaged: one is not finite; `folder` is named.
    """
    if not np.isfinite(scores).all():
        raise LibraryDamaged(f"the vectors in {folder} are not finite", remedy=REBUILD)


@cache
def _multiplies_halves() -> bool:
    """Whether oneDNN has instructions for half precision here (AVX512-FP16 or newer), which sum in float32.

    On other families of processors it may sum in half precision, and the bound would not hold.
    """
    import torch

    if platform.machine() not in ("x86_64", "AMD64"):
        return False
    try:
        return bool(torch.ops.mkldnn._is_mkldnn_fp16_supported())  # noqa: SLF001 - nothing public tells
    except (AttributeError, RuntimeError):
        return False
