"""Coarse codes of vectors: fewer bytes to read in the first pass of a search; the winners are scored again exactly.

    int8     D + 4 bytes a vector: x · 127 / max|x|, rounded, and the scale as a float32 behind it
    binary   D / 8 bytes a vector: the signs, in 64-bit words, stored word by word ((words, N)), so that one word of all
             vectors lies together; the count h of signs that differ gives the cosine as cos(π h / D), the expectation
             for a random direction (Goemans and Williamson 1995; Charikar 2002)

int8 codes are multiplied as whole numbers: the query is written as two layers of int8, the second for what the first
loses, so that only the vectors' own rounding is lost. Widening the codes to float32 instead costs more than the exact
search does; processors whose integer product is not exact have no other way (`_multiplies_integers`).

What is lost is measured, not bounded: `ExactIndex.recall` compares with the exact search.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Codes", "coarse_scores", "code_shape", "default_shortlist", "make_codes"]

Codes = Literal["int8", "binary"]

_LARGEST = 127
_SCALE_BYTES = 4
_WORD = 64
# Vectors handled at a time: their partial sums stay in the first cache level.
_BLOCK = 16384
# Numbers encoded, or widened, at a time: some 6 MB of float32.
_BLOCK_NUMBERS = 4096 * 384


def default_shortlist(kind: Codes, videos: int) -> int:
    """How many of `videos` videos the first pass leaves unless the caller says otherwise.

    int8 hardly errs: 200. Signs alone need 1000, or a hundredth of the videos when that is more.
    """
    return 200 if kind == "int8" else max(1000, videos // 100)


def make_codes(kind: Codes, vectors: NDArray[np.float16]) -> NDArray[np.int8] | NDArray[np.uint64]:
    """The codes of vectors (N, D): int8 (N, D + 4) or uint64 (words, N)."""
    count, dim = vectors.shape
    if kind == "binary":
        bits = np.zeros((count, -(-dim // _WORD) * _WORD), dtype=bool)
        bits[:, :dim] = vectors > 0
        words = np.packbits(bits, axis=1).view("<u8")  # (N, words)
        return np.ascontiguousarray(words.T)
    codes = np.empty((count, dim + _SCALE_BYTES), dtype=np.int8)
    rows = max(1, _BLOCK_NUMBERS // dim)
    for start in range(0, count, rows):  # not at once: a full segment would take half a gigabyte in float32
        part = vectors[start : start + rows].astype(np.float32)
        scale = np.abs(part).max(axis=1, keepdims=True) / _LARGEST  # (rows, 1)
        codes[start : start + rows, :dim] = np.round(part / scale)
        codes[start : start + rows, dim:] = scale.astype("<f4").view(np.int8)
    return codes


def code_shape(kind: Codes, count: int, dim: int) -> tuple[tuple[int, int], np.dtype[np.generic]]:
    """Shape and dtype of the codes of `count` vectors of width `dim`."""
    if kind == "binary":
        return (-(-dim // _WORD), count), np.dtype(np.uint64)
    return (count, dim + _SCALE_BYTES), np.dtype(np.int8)


def coarse_scores(
    kind: Codes, codes: NDArray[np.int8] | NDArray[np.uint64], query: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Estimated cosines of one query (D,) with all vectors, float32 (N,)."""
    dim = len(query)
    if kind == "binary":
        asked = make_codes("binary", query[None].astype(np.float16))[:, 0]
        cosines = np.cos(np.pi * np.arange(dim + 1) / dim).astype(np.float32)
        count = codes.shape[1]
        scores = np.empty(count, dtype=np.float32)
        for start in range(0, count, _BLOCK):
            block = codes[:, start : start + _BLOCK]
            differ = np.zeros(block.shape[1], dtype=np.uint16)
            for word, wanted in zip(block, asked, strict=True):
                differ += np.bitwise_count(word ^ wanted)
            scores[start : start + _BLOCK] = cosines[differ]
        return scores
    scales = np.ascontiguousarray(codes[:, dim:]).view("<f4")[:, 0]
    products = _integer_products(codes, query) if _multiplies_integers() else _widened_products(codes, query)
    product: NDArray[np.float32] = products * scales
    return product


def _integer_products(codes: Any, query: NDArray[np.float32]) -> NDArray[np.float32]:
    """Codes (N, D + 4) times a query (D,), in whole numbers as far as possible: float32 (N,)."""
    import torch  # heavy, and not needed to build an index

    dim = len(query)
    fine = float(np.abs(query).max()) / _LARGEST or 1.0
    first = np.round(query / fine)
    finer = 0.5 / _LARGEST  # what rounding leaves is at most half a step
    second = np.round((query / fine - first) / finer)
    layers = torch.from_numpy(np.stack([first, second], axis=1).astype(np.int8))  # (D, 2)
    sums = _int_mm(torch.from_numpy(codes)[:, :dim], layers).numpy()  # int32 (N, 2)
    scores: NDArray[np.float32] = (sums[:, 0] + np.float32(finer) * sums[:, 1]).astype(np.float32) * np.float32(fine)
    return scores


def _widened_products(codes: Any, query: NDArray[np.float32]) -> NDArray[np.float32]:
    """The same in float32, block by block."""
    import torch

    dim, count = len(query), len(codes)
    matrix, vector = torch.from_numpy(codes)[:, :dim], torch.from_numpy(query)
    rows = max(1, _BLOCK_NUMBERS // dim)
    wide = torch.empty((min(rows, count), dim), dtype=torch.float32)
    products = torch.empty(count, dtype=torch.float32)
    for start in range(0, count, rows):
        part = matrix[start : start + rows]
        products[start : start + rows] = torch.mv(wide[: len(part)].copy_(part), vector)
    scores: NDArray[np.float32] = products.numpy()
    return scores


def _int_mm(left: Any, right: Any) -> Any:
    import torch

    return torch._int_mm(left, right)  # noqa: SLF001 - no public product of int8 matrices runs on a CPU


@cache
def _multiplies_integers() -> bool:
    """Whether torch multiplies int8 exactly here: without VNNI, some processors' sums of two products overflow."""
    import torch

    largest = torch.full((64, 64 + _SCALE_BYTES), _LARGEST, dtype=torch.int8)
    try:
        return bool((_int_mm(largest[:, :64], largest[:64, :2].contiguous()) == 64 * _LARGEST**2).all())
    except (AttributeError, RuntimeError, NotImplementedError):
        return False
