"""Clip tokens against plain loops: every window, its mean, its gradient; merging and covering against search."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from trifocal.errors import InvalidInput
from trifocal.retrieval.model import clip_edges, span_means, uniform_clips, window_spans
from trifocal.retrieval.model.coverage import choose_covering
from trifocal.retrieval.model.merged import adjacent_segments
from trifocal.retrieval.model.timing import clip_times, shortest_spans
from trifocal.retrieval.prototypes import build_prototypes


def test_all_windows_of_32_clips_are_528_and_of_at_most_8_are_228() -> None:
    assert len(window_spans(32, longest=32)) == 528
    assert len(window_spans(32, longest=8)) == 228
    lengths = torch.unique(window_spans(32, longest=32, lengths="geometric").diff(dim=1)).tolist()
    assert lengths == [1, 2, 3, 4, 6, 8, 12, 16, 24, 32]


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 12), st.data())
def test_windows_are_every_run_once_shortest_first(clips: int, data: st.DataObject) -> None:
    longest = data.draw(st.integers(1, clips))
    expected = [[s, s + w] for w in range(1, longest + 1) for s in range(clips - w + 1)]
    assert window_spans(clips, longest=longest).tolist() == expected


def test_means_by_prefix_sums_are_the_means() -> None:
    clips = torch.randn(2, 7, 3, dtype=torch.float64)
    spans = window_spans(7, longest=7)
    expected = torch.stack([clips[:, s:e].mean(dim=1) for s, e in spans.tolist()], dim=1)
    torch.testing.assert_close(span_means(clips, spans), expected)
    own = torch.stack([spans[:4], spans[4:8]])
    torch.testing.assert_close(
        span_means(clips, own), torch.stack([expected[0, :4], expected[1, 4:8]]), rtol=1e-9, atol=1e-9
    )
    assert span_means(clips.bfloat16(), spans).dtype == torch.bfloat16


def test_means_are_differentiable() -> None:
    clips = torch.randn(1, 4, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda c: span_means(c, window_spans(4, longest=4)), (clips,))


@pytest.mark.parametrize("longest", [0, 5])
def test_windows_longer_than_the_video_are_refused(longest: int) -> None:
    with pytest.raises(InvalidInput, match="longest"):
        window_spans(4, longest=longest)


@pytest.mark.parametrize("frames", [1, 5, 31, 32, 33, 70, 500])
def test_uniform_clips_are_the_fields(frames: int) -> None:
    rows = np.random.default_rng(frames).normal(size=(frames, 3)).astype(np.float32)
    edges = np.round(np.arange(33) / 32 * frames).astype(int).clip(0, frames - 1)
    expected = [rows[a:b].mean(0) if a < b else rows[a] for a, b in itertools.pairwise(edges)]
    np.testing.assert_allclose(uniform_clips(rows), expected, rtol=1e-5, atol=1e-6)
    assert clip_edges(frames).tolist() == edges.tolist()


@pytest.mark.parametrize("rows", [np.zeros((0, 3)), np.zeros(3), np.full((2, 2), np.nan)])
def test_clips_of_nothing_are_refused(rows: np.ndarray) -> None:
    with pytest.raises(InvalidInput):
        uniform_clips(rows)


@pytest.mark.parametrize("k", [1, 3, 8, 16])
def test_batched_merging_is_the_merging_of_one_video(k: int) -> None:
    clips = torch.randn(3, 16, 5, generator=torch.Generator().manual_seed(k))
    segments = adjacent_segments(clips, k=k)
    for rows, found in zip(clips, segments, strict=True):
        alone = build_prototypes(rows.numpy(), times_s=np.arange(16) + 0.5, end_s=16.0, k=k)
        np.testing.assert_allclose(alone.spans_s, found.numpy(), atol=1e-6)


def test_covering_is_greedy_facility_location() -> None:
    tokens = torch.randn(2, 9, 4, generator=torch.Generator().manual_seed(5))
    weights = torch.rand(9, generator=torch.Generator().manual_seed(6))
    chosen = choose_covering(tokens, k=4, weights=weights)
    for rows, found in zip(F.normalize(tokens, dim=-1), chosen.tolist(), strict=True):
        alike = rows @ rows.T
        have: list[int] = []
        for pick in found:
            value = [float((weights * alike[:, [*have, j]].amax(dim=1)).sum()) for j in range(9)]
            assert value[pick] == pytest.approx(max(value), abs=1e-5)
            have.append(pick)


def test_covering_takes_one_of_each_kind_and_never_one_twice() -> None:
    kinds = torch.eye(3).repeat_interleave(4, dim=0)[None]  # 12 tokens of three kinds
    chosen = choose_covering(kinds, k=12, weights=torch.ones(12))
    assert {i // 4 for i in chosen[0, :3].tolist()} == {0, 1, 2}
    assert sorted(chosen[0].tolist()) == list(range(12))


def test_shortest_span_holds_half_of_the_weight() -> None:
    shares = torch.tensor([[0.1, 0.3, 0.3, 0.3], [0.6, 0.2, 0.1, 0.1], [0.25, 0.25, 0.25, 0.25]])
    assert shortest_spans(shares).tolist() == [[1, 3], [0, 1], [0, 2]]


def test_clip_times_cover_the_video() -> None:
    edges = clip_times(np.arange(64) + 0.5, count=32, start_s=0.0, end_s=64.0)
    assert edges[0] == 0.0
    assert edges[-1] == 64.0
    assert (np.diff(edges) > 0).all()
    with pytest.raises(InvalidInput, match="rising"):
        clip_times([2.0, 1.0], count=4, start_s=0, end_s=3)
    with pytest.raises(InvalidInput, match="start_s"):
        clip_times([1.0, 2.0], count=4, start_s=0, end_s=1.5)


@pytest.mark.parametrize("frames", range(1, 41))
def test_no_clip_of_a_short_video_is_empty(frames: int) -> None:
    edges = clip_times(np.arange(frames) / 2, count=32, start_s=0.0, end_s=frames / 2)
    assert (edges[0], edges[-1]) == (0.0, frames / 2)
    assert (np.diff(edges) > 0).all()
    first = clip_edges(frames, count=32)[:-1]
    opening = np.concatenate([[0.0], (np.arange(1, frames) - 0.5) / 2])
    begins = np.append(True, first[1:] != first[:-1])
    np.testing.assert_allclose(edges[:-1][begins], opening[first[begins]])  # a frame's first clip begins with it
