"""Training-free prototypes: coverage, order, planted segments, determinism, and the score over them."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from trifocal.errors import InvalidInput
from trifocal.retrieval import Prototypes, build_prototypes, similarity
from trifocal.retrieval import prototypes_cut as module

Units = Callable[..., NDArray[np.float32]]
MakePrototypes = Callable[..., Prototypes]


def reference_cuts(rows: NDArray[np.float32], k: int) -> list[int]:
    """The rule written down without a heap: at each step look at every pair."""
    segments = [[i, i + 1] for i in range(len(rows))]
    while len(segments) > k:
        costs = []
        for (a, b), (_, d) in itertools.pairwise(segments):
            left, right = rows[a:b].astype(np.float64), rows[b:d].astype(np.float64)
            gap = left.mean(axis=0) - right.mean(axis=0)
            costs.append(round(len(left) * len(right) / (len(left) + len(right)) * float(gap @ gap), 9))
        at = int(np.argmin(costs))
        segments[at : at + 2] = [[segments[at][0], segments[at + 1][1]]]
    return [a for a, _ in segments]


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(1, 60),
    k=st.integers(1, 12),
    seed=st.integers(0, 10_000),
    method=st.sampled_from(["adjacent", "segments", "uniform"]),
    smooth=st.booleans(),
)
def test_any_video_is_covered_without_gaps_by_unit_vectors(
    count: int, k: int, seed: int, method: Any, smooth: bool
) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(count, 8)).astype(np.float32) * 3
    if smooth:
        rows = np.cumsum(rows, axis=0)
    times = np.sort(rng.uniform(0, 100, count))
    built = build_prototypes(rows, times_s=times, end_s=101.0, k=k, method=method)
    assert built.vectors.shape == (min(count, k), 8)
    assert built.vectors.dtype == np.float16
    assert built.spans_s.dtype == np.float32
    assert built.spans_s[0, 0] == 0
    assert built.spans_s[-1, 1] == 101
    assert (built.spans_s[1:, 0] == built.spans_s[:-1, 1]).all()
    assert np.abs(np.linalg.norm(built.vectors.astype(np.float32), axis=1) - 1).max() < 2e-3
    again = build_prototypes(rows, times_s=times, end_s=101.0, k=k, method=method)
    assert (again.vectors == built.vectors).all()
    assert (again.spans_s == built.spans_s).all()


@settings(max_examples=30, deadline=None)
@given(count=st.integers(2, 40), k=st.integers(1, 8), seed=st.integers(0, 10_000), repeats=st.booleans())
def test_the_heap_merges_as_the_plain_rule_says(count: int, k: int, seed: int, repeats: bool) -> None:
    rows = np.random.default_rng(seed).normal(size=(count, 4)).astype(np.float32)
    if repeats:  # equal neighbours: ties at cost zero
        rows = np.repeat(rows, 3, axis=0)[:count]
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    expected = reference_cuts(rows, k)
    times = np.arange(len(rows)) + 0.5
    built = build_prototypes(rows, times_s=times, end_s=float(len(rows)), k=k)
    assert built.spans_s[:, 0].tolist() == [float(a) for a in expected]


def test_planted_segments_come_back_with_their_times(units: Units) -> None:
    rng = np.random.default_rng(3)
    lengths = [40, 3, 25, 60, 12, 2, 58]
    rows = np.repeat(units(len(lengths), 64, seed=1), lengths, axis=0)
    rows += rng.normal(scale=0.02, size=rows.shape).astype(np.float32)
    times = np.arange(len(rows)) / 2
    built = build_prototypes(rows, times_s=times, end_s=len(rows) / 2, k=len(lengths))
    edges = np.concatenate([[0], np.cumsum(lengths)[:-1] / 2 - 0.25, [len(rows) / 2]])
    assert np.allclose(built.spans_s, np.stack([edges[:-1], edges[1:]], axis=1))
    assert (np.einsum("kd,kd->k", built.vectors.astype(np.float32), units(len(lengths), 64, seed=1)) > 0.98).all()
    uniform = build_prototypes(rows, times_s=times, end_s=len(rows) / 2, k=len(lengths), method="uniform")
    assert not np.allclose(uniform.spans_s, built.spans_s)


def test_few_frames_stay_as_they_are(units: Units) -> None:
    rows = units(3, 8)
    built = build_prototypes(rows * 7, times_s=[0.0, 1.0, 4.0], end_s=5.0, k=32)
    assert np.allclose(built.vectors, rows, atol=1e-3)
    assert built.spans_s.tolist() == [[0, 0.5], [0.5, 2.5], [2.5, 5]]


def test_uniform_cuts_equal_runs(units: Units) -> None:
    built = build_prototypes(units(10, 8), times_s=np.arange(10.0), end_s=10.0, k=4, method="uniform")
    assert built.spans_s[:, 0].tolist() == [0, 1.5, 4.5, 6.5]


def test_reversing_time_reverses_the_prototypes(units: Units) -> None:
    rows, times = units(50, 16, seed=5), np.sort(np.random.default_rng(5).uniform(1, 49, 50))
    forward = build_prototypes(rows, times_s=times, end_s=50.0, k=6)
    back = build_prototypes(rows[::-1], times_s=50.0 - times[::-1], end_s=50.0, k=6)
    assert np.allclose(forward.spans_s, 50.0 - back.spans_s[::-1, ::-1], atol=1e-4)
    assert np.allclose(forward.vectors.astype(np.float32), back.vectors[::-1].astype(np.float32), atol=2e-3)


def test_frames_that_cancel_out_give_the_middle_one() -> None:
    rows = np.array([[1, 0], [-1, 0], [0, 1], [0, -1]], dtype=np.float32)
    built = build_prototypes(rows, times_s=[0, 1, 2, 3], end_s=4.0, k=1)
    assert built.vectors.tolist() == [[0, 1]]


def test_a_long_video_is_pooled_first(units: Units) -> None:
    count = 30_000
    rows = np.repeat(units(20, 384, seed=2), count // 20, axis=0) + units(count, 384, seed=3) * 0.5
    built = build_prototypes(rows, times_s=np.arange(count) / 2, end_s=count / 2, k=20)
    run_s = -(-count // module.MAX_MERGED_FRAMES) / 2
    assert np.abs(built.spans_s[1:, 0] - np.arange(1, 20) * count / 40).max() <= run_s


def test_pooling_keeps_a_short_last_run(units: Units, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_MERGED_FRAMES", 4)  # 10 frames: runs of 3, 3, 3 and 1
    built = build_prototypes(units(10, 8), times_s=np.arange(10.0), end_s=10.0, k=4)
    assert built.spans_s[:, 0].tolist() == [0, 2.5, 5.5, 8.5]
    assert np.allclose(built.vectors[3].astype(np.float32), units(10, 8)[9], atol=1e-3)


@pytest.mark.parametrize(
    ("features", "options"),
    [
        (np.zeros((0, 4)), {"times_s": []}),
        (np.ones(4), {"times_s": [0]}),
        (np.ones((2, 4, 1)), {"times_s": [0, 1]}),
        (np.ones((2, 4)), {"times_s": [0]}),
        (np.ones((2, 4)), {"times_s": [1, 0]}),
        (np.ones((2, 4)), {"times_s": [0, np.nan]}),
        (np.ones((2, 4)), {"times_s": [0, 11]}),
        (np.ones((2, 4)), {"times_s": [-1, 0]}),
        (np.ones((2, 4)), {"times_s": [0, 1], "start_s": 0.5}),
        (np.array([[1.0, np.nan]]), {"times_s": [0]}),
        (np.array([[1.0, 0.0], [0.0, 0.0]]), {"times_s": [0, 1]}),
        (np.ones((2, 4)), {"times_s": [0, 1], "k": 0}),
        (np.ones((2, 4)), {"times_s": [0, 1], "k": True}),
        (np.ones((2, 4)), {"times_s": [0, 1], "method": "ward"}),
    ],
)
def test_building_refuses_what_it_cannot_use(features: Any, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        build_prototypes(features, end_s=10.0, **options)


@pytest.mark.parametrize(
    ("vectors", "spans"),
    [
        (np.ones((1, 4), np.float32), np.zeros((1, 2), np.float32)),
        (np.zeros((0, 4), np.float16), np.zeros((0, 2), np.float32)),
        (np.array([[1, 0]], np.float16), np.zeros((2, 2), np.float32)),
        (np.array([[1, 0]], np.float16), np.zeros((1, 2), np.float64)),
        (np.array([[1, 0]], np.float16), np.array([[2, 1]], np.float32)),
        (np.array([[1, 0]], np.float16), np.array([[-1, 1]], np.float32)),
        (np.array([[1, 0]], np.float16), np.array([[0, np.inf]], np.float32)),
        (np.array([[1, 1]], np.float16), np.array([[0, 1]], np.float32)),
        (np.array([[np.nan, 1]], np.float16), np.array([[0, 1]], np.float32)),
    ],
)
def test_prototypes_refuse_what_cannot_be_ones(vectors: Any, spans: Any) -> None:
    with pytest.raises(InvalidInput):
        Prototypes(vectors=vectors, spans_s=spans)


def test_prototypes_print_shapes(make_prototypes: MakePrototypes) -> None:
    built = make_prototypes(3, 5)
    assert repr(built) == "Prototypes(vectors=float16 (3, 5), spans_s=0.00..6.00 s)"
    assert (len(built), built.dim) == (3, 5)


def test_similarity_is_the_best_prototype_for_arrays_tensors_and_ragged_videos(
    units: Units, make_prototypes: MakePrototypes
) -> None:
    queries, videos = units(5, 16, seed=7), np.stack([units(4, 16, seed=s) for s in range(3)])
    expected = np.array([[max(float(q @ p) for p in v) for v in videos] for q in queries])
    assert np.allclose(similarity(queries, videos), expected, atol=1e-6)
    given_tensor = torch.from_numpy(queries).requires_grad_()
    scores = similarity(given_tensor, torch.from_numpy(videos))
    assert np.allclose(scores.detach().numpy(), expected, atol=1e-6)
    torch.autograd.backward(scores.sum())
    winners = [v[np.argmax(v @ queries[0])] for v in videos]
    assert given_tensor.grad is not None
    assert np.allclose(given_tensor.grad[0].numpy(), np.sum(winners, axis=0), atol=1e-5)
    ragged = [make_prototypes(k, 16, seed=k) for k in (1, 5, 2)]
    by_hand = np.stack([(queries @ p.vectors.astype(np.float32).T).max(axis=1) for p in ragged], axis=1)
    assert np.allclose(similarity(queries, ragged), by_hand, atol=1e-6)


def test_similarity_refuses_shapes_that_do_not_fit(units: Units, make_prototypes: MakePrototypes) -> None:
    for queries, videos in (
        (units(2, 8), units(6, 16).reshape(2, 3, 16)),
        (units(2, 8)[0], units(6, 8).reshape(2, 3, 8)),
        (units(2, 8), units(6, 8)),
    ):
        with pytest.raises(InvalidInput):
            similarity(queries, videos)
    with pytest.raises(InvalidInput):
        similarity(units(2, 8), [make_prototypes(3, 16)])
    with pytest.raises(InvalidInput):
        similarity(units(2, 8), [])
