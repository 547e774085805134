"""The fast products are as near as they say, and what they rule out never changes what a search finds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from trifocal.errors import LibraryDamaged
from trifocal.retrieval import ExactIndex, IndexItem, Moment, Prototypes
from trifocal.retrieval.index import changes as changes_module
from trifocal.retrieval.index import scoring as scoring_module
from trifocal.retrieval.index import snapshot as snapshot_module
from trifocal.retrieval.index.scoring import exact_scores, half_error, half_scores, wide_error, wide_scores

DIM = 48
Rows = NDArray[np.float32]


def units(count: int, dim: int = DIM, *, seed: int = 0) -> Rows:
    rows = np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)
    unit: Rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


def video(name: str, rows: NDArray[Any]) -> IndexItem:
    edges = np.arange(len(rows) + 1, dtype=np.float32)
    spans = np.stack([edges[:-1], edges[1:]], axis=1)
    return IndexItem(name, Prototypes(vectors=rows.astype(np.float16), spans_s=spans))


def by_hand(query: Rows, items: list[IndexItem], *, top: int) -> list[tuple[str, float]]:
    """The best videos and their scores: float64, six decimals, ties by id."""
    wide = query.astype(np.float64)
    found = [(one.video, round(float((one.prototypes.vectors.astype(np.float64) @ wide).max()), 6)) for one in items]
    return sorted(found, key=lambda one: (-one[1], one[0]))[:top]


def short(moments: list[Moment]) -> list[tuple[str, float]]:
    return [(moment.video, moment.score) for moment in moments]


CENTRE = units(1)[0]
EVEN = np.full(DIM, DIM**-0.5, dtype=np.float32)


def near_ties(count: int) -> list[IndexItem]:
    """All score about 0.01 at the centre; how far rounding the centre moves each differs more than the scores do."""
    lost = CENTRE - CENTRE.astype(np.float16)
    lost -= (lost @ CENTRE) * CENTRE
    lost /= np.linalg.norm(lost)
    rows = 0.01 * CENTRE + np.linspace(-0.9, 0.9, count)[:, None] * lost
    rest = units(count, seed=3)
    rest -= np.outer(rest @ CENTRE, CENTRE) + np.outer(rest @ lost, lost)
    rest *= np.sqrt(1 - (rows**2).sum(axis=1, keepdims=True)) / np.linalg.norm(rest, axis=1, keepdims=True)
    order = np.random.default_rng(1).permutation(count)
    return [video(f"{place:04d}", (rows + rest)[[row]]) for place, row in enumerate(order)]


def on_the_edge(count: int) -> list[IndexItem]:
    """One vector in many orders, which an even query cannot tell apart, its score at the edge of the sixth decimal.

    In float32, half of them fall on the one side and half on the other.
    """
    rows = units(20_000, seed=4).astype(np.float16)
    steps = 1e6 * (rows.astype(np.float64) @ EVEN.astype(np.float64))
    row = rows[np.argmin(np.abs(steps - np.floor(steps) - 0.5))]
    shuffled = np.random.default_rng(5).permuted(np.tile(row, (count, 1)), axis=1)
    return [video(f"{place:04d}", one[None]) for place, one in enumerate(shuffled)]


def copies(count: int) -> list[IndexItem]:
    """Each of a few videos many times under other ids, beside videos of another length, so that rows shift."""
    kinds = [units(4 + kind, seed=kind) for kind in range(7)]
    return [video(f"{(place * 37) % count:04d}", kinds[place % 7]) for place in range(count)]


def long_and_short(count: int) -> list[IndexItem]:
    """The longest and the shortest vectors that are let through, so that length decides between directions."""
    rows = CENTRE + 2e-3 * np.random.default_rng(2).normal(size=(count, 2, DIM))
    rows /= np.linalg.norm(rows, axis=2, keepdims=True)
    lengths = np.where(np.arange(count) % 2, 1.0045, 0.9955)
    return [video(f"{place:04d}", row * length) for place, (row, length) in enumerate(zip(rows, lengths, strict=True))]


def lone_peaks(count: int) -> list[IndexItem]:
    """Nearly all of a vector's length in one number: the others are subnormal in half precision, or nought."""
    rows = np.full((count, 1, DIM), 3e-6)
    rows[np.arange(count), 0, np.arange(count) % 5] = 1
    rows[::3, 0, 7] = 1e-3
    return [video(f"{place:04d}", row) for place, row in enumerate(rows)]


@pytest.mark.parametrize("halves", [True, False], ids=["onednn", "own"])
@pytest.mark.parametrize("make", [near_ties, on_the_edge, copies, long_and_short, lone_peaks])
def test_a_search_is_what_comparing_everything_in_float64_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Any, halves: bool
) -> None:
    monkeypatch.setattr(scoring_module, "_multiplies_halves", lambda: halves)
    monkeypatch.setattr(changes_module, "_SEGMENT_NUMBERS", 90 * DIM)  # equals lie in several segments
    items = sorted(make(200), key=lambda one: one.video)
    index = ExactIndex.build(tmp_path, items, encoder="e", dim=DIM, codes=["int8"])
    assert len(index.manifest.segments) > 1
    peak = np.full(DIM, 1e-4, dtype=np.float32)
    peak[2] = 1
    queries = np.stack([CENTRE, CENTRE * 1.0009, EVEN, peak, -CENTRE, *units(2, seed=9)])
    few = [one.video for one in items[::9]]  # below an eighth: copied together
    for top in (1, 7, 50):
        many = index.search_many(queries, top=top)
        for query, together in zip(queries, many, strict=True):
            right = by_hand(query, items, top=top)
            found = index.search(query, top=top)
            assert short(found) == right
            assert found == together
            assert found == index.search(query, top=top, codes="int8", shortlist=200)
            assert short(index.search(query, top=top, videos=few)) == by_hand(query, items[::9], top=top)


def test_without_its_bound_each_first_pass_would_lose_some(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The videos above are as hard as they are meant to be."""
    near, edge = near_ties(200), on_the_edge(200)
    ExactIndex.build(tmp_path / "near", near, encoder="e", dim=DIM)
    ExactIndex.build(tmp_path / "edge", edge, encoder="e", dim=DIM)
    monkeypatch.setattr(snapshot_module, "half_error", lambda _: 0.0)
    monkeypatch.setattr(snapshot_module, "wide_error", lambda _: 0.0)
    found = ExactIndex.open(tmp_path / "near").search(CENTRE, top=7)
    assert short(found) != by_hand(CENTRE, near, top=7)
    (found,) = ExactIndex.open(tmp_path / "edge").search_many(EVEN[None], top=7)
    assert short(found) != by_hand(EVEN, edge, top=7)


@pytest.mark.parametrize("dim", [1, 2, 16, 384, 4096])
def test_each_product_is_as_near_as_it_says(monkeypatch: pytest.MonkeyPatch, dim: int) -> None:
    rows = (units(1000, dim, seed=dim) * 1.004).astype(np.float16)
    for query in (rows[0].astype(np.float32), units(1, dim, seed=1)[0], np.eye(1, dim, dtype=np.float32)[0]):
        unit = query / np.linalg.norm(query)
        exact = exact_scores(unit, rows, folder="f")
        assert exact.dtype == np.float64
        assert np.abs(exact - rows.astype(np.float64) @ unit.astype(np.float64)).max() < 0.6e-6
        for halves in (True, False):
            monkeypatch.setattr(scoring_module, "_multiplies_halves", lambda halves=halves: halves)
            assert np.abs(half_scores(unit, rows) - exact).max() <= half_error(unit)
        wide = wide_scores(unit[None], rows, folder="f")
        assert wide.shape == (1, 1000)
        assert np.abs(wide[0] - exact).max() <= wide_error(dim)
    assert half_error(unit) < 4e-3
    assert wide_error(dim) < 3e-4


def test_scores_that_are_not_finite_are_refused() -> None:
    rows = np.full((2, 4), np.inf, dtype=np.float16)
    with pytest.raises(LibraryDamaged, match="vectors in here"):
        exact_scores(units(1, 4)[0], rows, folder="here")
    with pytest.raises(LibraryDamaged, match="vectors in here"):
        wide_scores(units(1, 4), rows, folder="here")
