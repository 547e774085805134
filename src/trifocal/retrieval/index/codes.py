"""Coarse codes of vectors: fewer bytes to read in the first pass of a search; the winners are scored again exactly.

    int8     D + 4 bytes a vector: x · 127 / max|x|, rounded, and the scale as a float32 behind it
    binary   D / 8 bytes a vector: the signs, in 64-bit words, stored word by word ((words, N)), so that one word of all
             vectors lies together; the count h of signs that differ gives the cosine as cos(π h / D), the expectation
             for a random direction (Goemans and Williamson 1995; Charikar 2002)

What is lost is measured, not bounded: `ExactIndex.recall` compares with the exact search.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Codes", "coarse_scores", "code_shape", "make_codes"]

Codes = Literal["int8", "binary"]

_LARGEST = 127
_SCALE_BYTES = 4
_WORD = 64
# Vectors handled at a time: their partial sums stay in the first cache level.
_BLOCK = 16384
_BLOCK_NUMBERS = 4096 * 384


def make_codes(kind: Codes, vectors: NDArray[np.float16]) -> NDArray[np.int8] | NDArray[np.uint64]:
    """The codes of vectors (N, D): int8 (N, D + 4) or uint64 (words, N)."""
    count, dim = vectors.shape
    if kind == "binary":
        bits = np.zeros((count, -(-dim // _WORD) * _WORD), dtype=bool)
        bits[:, :dim] = vectors > 0
        words = np.packbits(bits, axis=1).view("<u8")  # (N, words)
        return np.ascontiguousarray(words.T)
    scale = np.abs(vectors).max(axis=1, keepdims=True).astype(np.float32) / _LARGEST  # (N, 1)
    codes = np.empty((count, dim + _SCALE_BYTES), dtype=np.int8)
    codes[:, :dim] = np.round(vectors.astype(np.float32) / scale)
    codes[:, dim:] = scale.astype("<f4").view(np.int8)
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
    import torch  # heavy, and not needed to build an index

    count = len(codes)
    scales = np.ascontiguousarray(codes[:, dim:]).view("<f4")[:, 0]
    matrix, vector = torch.from_numpy(codes)[:, :dim], torch.from_numpy(query)
    rows = max(1, _BLOCK_NUMBERS // dim)
    wide = torch.empty((min(rows, count), dim), dtype=torch.float32)
    products = torch.empty(count, dtype=torch.float32)
    for start in range(0, count, rows):
        part = matrix[start : start + rows]
        products[start : start + rows] = torch.mv(wide[: len(part)].copy_(part), vector)
    product: NDArray[np.float32] = products.numpy() * scales
    return product
