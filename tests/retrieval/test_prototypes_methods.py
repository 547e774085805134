"""The ways to choose prototypes, each against its definition done the plain way."""

from __future__ import annotations

import itertools
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from trifocal.retrieval import build_prototypes
from trifocal.retrieval import prototypes_cut as cut_module
from trifocal.retrieval.prototypes import Method
from trifocal.retrieval.prototypes_cluster import cluster_frames, far_frames
from trifocal.retrieval.prototypes_cover import cover_windows
from trifocal.retrieval.prototypes_cut import best_cuts, merge_neighbours


def unit(rows: NDArray[np.float64]) -> NDArray[np.float32]:
    out: NDArray[np.float32] = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return out


def scatter(rows: NDArray[np.float32], cuts: NDArray[np.int64]) -> float:
    """The sum of squared distances to the means of the segments."""
    parts = [rows[a:b].astype(np.float64) for a, b in itertools.pairwise(cuts)]
    return float(sum(((part - part.mean(axis=0)) ** 2).sum() for part in parts))


@settings(max_examples=60, deadline=None)
@given(count=st.integers(3, 12), k=st.integers(1, 6), seed=st.integers(0, 10_000))
def test_the_best_cuts_are_the_best(count: int, k: int, seed: int) -> None:
    k = min(k, count - 1)
    rows = unit(np.random.default_rng(seed).normal(size=(count, 3)))
    cuts = best_cuts(rows, k)
    assert (len(cuts), cuts[0], cuts[-1]) == (k + 1, 0, count)
    every = (np.array([0, *inner, count]) for inner in itertools.combinations(range(1, count), k - 1))
    assert scatter(rows, cuts) <= min(scatter(rows, one) for one in every) + 1e-6
    assert scatter(rows, cuts) <= scatter(rows, merge_neighbours(rows, k)) + 1e-6


def test_long_videos_are_averaged_first(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = unit(np.repeat(np.random.default_rng(0).normal(size=(4, 6)), [30, 50, 40, 41], axis=0))
    assert best_cuts(rows, 4).tolist() == [0, 30, 80, 120, 161]
    monkeypatch.setattr(cut_module, "MAX_SEGMENTED_FRAMES", 20)
    assert np.abs(best_cuts(rows, 4) - [0, 30, 80, 120, 161]).max() <= 9
    assert best_cuts(rows, 30).tolist()[-1] == 161


METHODS: list[Method] = ["kmeans", "farthest"]


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=60, deadline=None)
@given(count=st.integers(1, 50), k=st.integers(1, 12), seed=st.integers(0, 10_000), repeats=st.booleans())
def test_clusters_are_sound(method: Method, count: int, k: int, seed: int, repeats: bool) -> None:
    rng = np.random.default_rng(seed)
    rows = unit(rng.normal(size=(count, 5)))
    if repeats:
        rows = rows[rng.integers(0, count, count)]
    times = np.arange(count) + 0.5
    built = build_prototypes(rows, times_s=times, end_s=float(count), k=k, method=method)
    assert 1 <= len(built) <= min(count, k)
    if count > k:
        assert len(built) == min(k, len(np.unique(rows, axis=0))) or (method == "kmeans" and len(built) < k)
    assert (np.diff(built.spans_s[:, 0]) > 0).all()
    assert (built.spans_s[1:, 0] >= built.spans_s[:-1, 1]).all()  # runs of different clusters do not overlap
    again = build_prototypes(rows, times_s=times, end_s=float(count), k=k, method=method)
    assert (again.vectors == built.vectors).all()


def test_farthest_takes_frames_as_the_plain_rule_says() -> None:
    rows = unit(np.random.default_rng(4).normal(size=(40, 4)))
    vectors, first, last = far_frames(rows, 6)
    picked = [int(np.argmax(rows @ rows.mean(axis=0)))]
    while len(picked) < 6:
        picked.append(int(np.argmin((rows @ rows[picked].T).max(axis=1))))
    assert (vectors.astype(np.float32) == rows[sorted(picked)]).all()
    nearest = np.array(sorted(picked))[np.argmax(rows @ rows[sorted(picked)].T, axis=1)]
    for frame, start, end in zip(sorted(picked), first, last, strict=True):
        assert start <= frame <= end
        assert (nearest[start : end + 1] == frame).all()
        assert start == 0 or nearest[start - 1] != frame


def test_kmeans_finds_planted_scenes_that_return() -> None:
    rng = np.random.default_rng(1)
    scenes = unit(rng.normal(size=(3, 16)))
    order = np.repeat([0, 1, 0, 2, 1], [10, 20, 30, 15, 5])
    rows = unit(scenes[order] + rng.normal(scale=0.05, size=(80, 16)))
    vectors, first, last = cluster_frames(rows, 3)
    assert np.argmax(vectors @ scenes.T, axis=1).tolist() == [1, 0, 2]
    assert list(zip(first.tolist(), last.tolist(), strict=True)) == [(10, 29), (30, 59), (60, 74)]


def plain_coverage(rows: NDArray[np.float32], k: int) -> list[tuple[int, int]]:
    """Greedy facility location over all windows, by loops: first frame and end of each chosen one, by time."""
    count = min(len(rows), 32)
    cuts = [place * len(rows) // count for place in range(count + 1)]
    sizes = [size for size in (32, 24, 16, 12, 8, 6, 4, 3, 2, 1) if size <= count]
    windows = [(start, start + size) for size in sizes for start in range(count - size + 1)]
    means = [rows[cuts[a] : cuts[b]].astype(np.float64).mean(axis=0) for a, b in windows]
    means = [one / np.linalg.norm(one) for one in means]
    chosen: list[int] = []
    covered = [-1.0] * len(windows)
    while len(chosen) < k:
        gains = []
        for one in range(len(windows)):
            gain = 0.0
            for other, (a, b) in enumerate(windows):
                gain += max(0.0, float(means[one] @ means[other]) - covered[other]) / (b - a)
            gains.append(-1.0 if one in chosen else round(gain, 6))
        best = gains.index(max(gains))
        if gains[best] <= 0:
            break
        chosen.append(best)
        covered = [max(old, float(means[best] @ mean)) for old, mean in zip(covered, means, strict=True)]
    return sorted((cuts[windows[one][0]], cuts[windows[one][1]]) for one in chosen)


@pytest.mark.parametrize(("count", "k"), [(7, 3), (12, 5), (40, 4)])
def test_coverage_chooses_the_windows_that_the_plain_rule_does(count: int, k: int) -> None:
    rows = unit(np.random.default_rng(count).normal(size=(count, 4)))
    vectors, first, last = cover_windows(rows, k)
    assert list(zip(first.tolist(), (last + 1).tolist(), strict=True)) == plain_coverage(rows, k)
    for vector, start, end in zip(vectors, first, last, strict=True):
        mean = rows[start : end + 1].astype(np.float64).mean(axis=0)
        np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(count=st.integers(1, 60), k=st.integers(1, 40), seed=st.integers(0, 10_000), repeats=st.booleans())
def test_coverage_is_sound(count: int, k: int, seed: int, repeats: bool) -> None:
    rng = np.random.default_rng(seed)
    rows = unit(rng.normal(size=(count, 5)))
    if repeats:
        rows = rows[rng.integers(0, count, count)]
    times = np.arange(count) + 0.5
    built = build_prototypes(rows, times_s=times, end_s=float(count), k=k, method="coverage")
    assert 1 <= len(built) <= min(count, k)
    assert (built.spans_s[:, 1] > built.spans_s[:, 0]).all()
    assert len({tuple(span) for span in built.spans_s.tolist()}) == len(built)
    again = build_prototypes(rows, times_s=times, end_s=float(count), k=k, method="coverage")
    assert (again.vectors == built.vectors).all()


def test_coverage_of_what_stands_still_or_cancels_out() -> None:
    still = build_prototypes(np.ones((90, 4)), times_s=np.arange(90) / 2, end_s=45.0, k=8, method="coverage")
    assert still.spans_s.tolist() == [[0.0, 45.0]]  # one prototype says it all
    rows = np.tile(np.array([[1.0, 0.0], [-1.0, 0.0]]), (64, 1))
    swinging = build_prototypes(rows, times_s=np.arange(128) / 2, end_s=64.0, k=4, method="coverage")
    assert np.isfinite(swinging.vectors).all()
    assert (
        len(
            build_prototypes(
                unit(np.random.default_rng(0).normal(size=(1100, 3))),
                times_s=np.arange(1100),
                end_s=1100.0,
                k=600,
                method="coverage",
            )
        )
        <= 600
    )


def test_coverage_takes_the_longest_of_equals_then_the_earliest() -> None:
    """Two scenes of one picture each: after the whole, any window within either scene gains the same."""
    rows = unit(np.repeat(np.eye(2), 16, axis=0))
    for k, expected in ((1, [(0, 31)]), (2, [(0, 15), (0, 31)]), (3, [(0, 15), (0, 31), (16, 31)])):
        _, first, last = cover_windows(rows, k)
        assert list(zip(first.tolist(), last.tolist(), strict=True)) == expected


def test_coverage_of_a_few_frames_keeps_them(units: Callable[..., NDArray[np.float32]]) -> None:
    for count in (1, 2, 3):
        rows = units(count, 8)
        built = build_prototypes(rows, times_s=np.arange(count) + 0.5, end_s=float(count), k=32, method="coverage")
        np.testing.assert_allclose(built.vectors.astype(np.float32), rows, atol=1e-3)
        assert built.spans_s.tolist() == [[float(i), i + 1.0] for i in range(count)]
        one = build_prototypes(rows, times_s=np.arange(count) + 0.5, end_s=float(count), k=1, method="coverage")
        assert len(one) == 1


def test_coverage_of_a_long_video_takes_memory_by_its_frames_alone() -> None:
    """Once over the frames: 20,000 frames of their own similarities would be 3.2 GB."""
    rows = unit(np.random.default_rng(0).normal(size=(20_000, 16)))
    tracemalloc.start()
    try:
        vectors, first, last = cover_windows(rows, 32)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2 * rows.nbytes + 4e6
    assert vectors.shape == (32, 16)
    assert (first < last).all()
    assert last.max() < 20_000
