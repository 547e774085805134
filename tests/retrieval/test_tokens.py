"""Clip tokens: packed and unpacked, and moments placed to the frame; the scan and the suppression behind it."""

from __future__ import annotations

import itertools
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from trifocal.errors import InvalidInput
from trifocal.retrieval import ClipTokens, scan_moments, temporal_nms
from trifocal.retrieval import moment as module
from trifocal.retrieval.moment import temporal_overlap
from trifocal.retrieval.tokens import TokenKind


def planted(count: int = 60, *, dim: int = 32) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Frames of noise with a direction planted in 20..29 and, weaker, in 45..54; and that direction."""
    rng = np.random.default_rng(2)
    wanted = rng.normal(size=dim)
    wanted /= np.linalg.norm(wanted)
    rows = rng.normal(size=(count, dim)) / np.sqrt(dim)
    rows[20:30] += 1.5 * wanted
    rows[45:55] += 0.8 * wanted
    return rows.astype(np.float32), wanted.astype(np.float32)


@pytest.mark.parametrize("kind", ["half", "int8"])
def test_tokens_come_back(kind: TokenKind) -> None:
    rows, _ = planted()
    tokens = ClipTokens.pack(rows * 3, times_s=np.arange(60) / 2, end_s=30.0, kind=kind)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    assert np.abs(tokens.vectors() - unit).max() < (5e-4 if kind == "half" else 3e-3)
    assert tokens.rows.nbytes == rows.size * (2 if kind == "half" else 1)
    again = ClipTokens.from_bytes(tokens.to_bytes())
    assert again.to_bytes() == tokens.to_bytes()
    assert (again.rows == tokens.rows).all()
    assert (len(again), again.end_s) == (60, 30.0)
    assert "60" in repr(tokens)


def test_moments_are_placed_to_the_frame() -> None:
    rows, wanted = planted()
    tokens = ClipTokens.pack(rows, times_s=np.arange(60) / 2 + 0.25, end_s=30.0)
    first, second = tokens.sharpen(wanted, count=2)
    assert first == pytest.approx((10.0, 15.0), abs=0.51)
    assert second == pytest.approx((22.5, 27.5), abs=1.01)
    assert tokens.sharpen(wanted, count=1) == [first]


@settings(max_examples=60, deadline=None)
@given(scores=st.lists(st.integers(-20, 20), min_size=1, max_size=14), share=st.sampled_from([1.0, 0.5]))
def test_the_scan_looks_at_every_stretch(scores: list[int], share: float) -> None:
    values = np.array(scores, dtype=np.float64)
    edges = np.arange(len(values) + 1, dtype=np.float64)
    ((start, end, strength),) = scan_moments(values, edges, longest_share=share)
    middle = np.median(values)
    best = max(
        round(float((values[i:j] - middle).sum() / np.sqrt(j - i)), 9)
        for i, j in itertools.combinations(range(len(values) + 1), 2)
        if j - i <= max(1, share * len(values))
    )
    assert strength == best
    assert round(float((values[int(start) : int(end)] - middle).sum() / np.sqrt(end - start)), 9) == best


def test_a_long_video_is_scanned_in_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = np.zeros(2000)
    scores[600:900] = 1
    ((start, end, _),) = scan_moments(scores, np.arange(2001.0))
    assert (start, end) == pytest.approx((600, 900), abs=4)
    monkeypatch.setattr(module, "_MOST_SCANNED", 3)
    assert len(scan_moments(scores[:10], np.arange(11.0), count=5)) >= 1


@settings(max_examples=60, deadline=None)
@given(
    spans=st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), min_size=1, max_size=12),
    max_overlap=st.sampled_from([0.0, 0.3, 0.5, 1.0]),
    seed=st.integers(0, 100),
)
def test_suppression_keeps_the_best_of_what_overlaps(
    spans: list[tuple[int, int]], max_overlap: float, seed: int
) -> None:
    times = np.array([sorted(one) for one in spans], dtype=np.float64)
    scores = np.random.default_rng(seed).integers(0, 4, len(times)).astype(np.float64)
    kept = temporal_nms(times, scores, max_overlap=max_overlap)
    assert [scores[i] for i in kept] == sorted((scores[i] for i in kept), reverse=True)
    for a, b in itertools.combinations(kept, 2):
        assert temporal_overlap(times[a], times[[b]])[0] <= max_overlap
    for gone in set(range(len(times))) - set(kept):
        assert any(
            scores[i] >= scores[gone] and temporal_overlap(times[i], times[[gone]])[0] > max_overlap for i in kept
        )
    assert temporal_nms(times, scores, max_overlap=max_overlap, count=2) == kept[:2]


WRONG: list[Any] = [
    lambda: ClipTokens.pack(np.zeros((3, 4)), times_s=[0, 1, 2], end_s=3.0),
    lambda: ClipTokens.pack(np.ones((3, 4)), times_s=[0, 2, 1], end_s=3.0),
    lambda: ClipTokens.pack(np.ones((3, 4)), times_s=[0, 1, 2], end_s=1.0),
    lambda: ClipTokens.pack(np.ones((3, 4)), times_s=[0, 1], end_s=3.0),
    lambda: ClipTokens.pack(np.full((3, 4), np.nan), times_s=[0, 1, 2], end_s=3.0),
    lambda: ClipTokens.pack(np.ones((3, 4)), times_s=[0, 1, 2], end_s=3.0, kind="int4"),  # type: ignore[arg-type]
    lambda: ClipTokens.pack(np.ones((3, 4)), times_s=[0, 1, 2], end_s=3.0).sharpen(np.ones(5, np.float32)),
    lambda: ClipTokens.from_bytes(b"nothing"),
    lambda: ClipTokens.from_bytes(b"PK\x03\x04 damaged"),
    lambda: ClipTokens.from_bytes(b""),
    lambda: scan_moments([], [0.0]),
    lambda: scan_moments([1.0, 2.0], [0.0, 1.0]),
    lambda: scan_moments([1.0], [1.0, 0.0]),
    lambda: scan_moments([float("nan")], [0.0, 1.0]),
    lambda: scan_moments([1.0], [0.0, 1.0], longest_share=0.0),
    lambda: scan_moments([1.0], [0.0, 1.0], count=0),
    lambda: temporal_nms([[0, 1]], [1.0], max_overlap=2.0),
    lambda: temporal_nms([[0, 1]], [1.0, 2.0]),
]


@pytest.mark.parametrize("wrong", WRONG)
def test_what_cannot_be_is_refused(wrong: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        wrong()
    assert caught.value.remedy


def test_damaged_bytes_are_told() -> None:
    whole = ClipTokens.pack(planted()[0], times_s=np.arange(60) / 2, end_s=30.0).to_bytes()
    draw = np.random.default_rng(0)
    for _ in range(200):
        data = bytearray(whole)
        data[int(draw.integers(len(data)))] ^= 1 << int(draw.integers(8))
        with suppress(InvalidInput):  # anything else that comes up fails the test
            ClipTokens.from_bytes(bytes(data[: int(draw.integers(len(data) + 1))]))
