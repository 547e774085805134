"""Moments as values, and the rule that picks them."""

from __future__ import annotations

import itertools
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trifocal.errors import InvalidInput
from trifocal.retrieval import Moment, pick_moments

SPANS = np.array([[0, 2], [2, 4], [4, 6], [6, 8], [8, 10]], dtype=np.float32)


def test_a_moment_survives_json() -> None:
    moment = Moment(video="a/b.mp4", start_s=1.5, end_s=2.25, score=0.125)
    assert Moment.from_dict(json.loads(json.dumps(moment.to_dict()))) == moment


def test_moments_sort_by_score_then_video_then_start() -> None:
    moments = [
        Moment("b", 0.0, 1.0, 0.5),
        Moment("a", 3.0, 4.0, 0.5),
        Moment("a", 1.0, 2.0, 0.5),
        Moment("c", 0.0, 1.0, 0.9),
    ]
    assert [(m.video, m.start_s) for m in sorted(moments, key=Moment.sort_key)] == [
        ("c", 0.0),
        ("a", 1.0),
        ("a", 3.0),
        ("b", 0.0),
    ]


@pytest.mark.parametrize(
    "values",
    [
        {"video": "", "start_s": 0.0, "end_s": 1.0, "score": 0.0},
        {"video": 7, "start_s": 0.0, "end_s": 1.0, "score": 0.0},
        {"video": "a", "start_s": -1.0, "end_s": 1.0, "score": 0.0},
        {"video": "a", "start_s": 2.0, "end_s": 1.0, "score": 0.0},
        {"video": "a", "start_s": 0.0, "end_s": float("inf"), "score": 0.0},
        {"video": "a", "start_s": 0.0, "end_s": 1.0, "score": float("nan")},
        {"video": "a", "start_s": "0", "end_s": 1.0, "score": 0.0},
        {"video": "a", "start_s": 0.0, "end_s": 1.0},
        {"video": "a", "start_s": 0.0, "end_s": 1.0, "score": 0.0, "colour": "red"},
    ],
)
def test_a_moment_refuses_what_cannot_be_one(values: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        Moment.from_dict(values)


@pytest.mark.parametrize(
    ("scores", "options", "expected"),
    [
        ([0.1, 0.2, 0.9, 0.2, 0.1], {}, [(4, 6, 0.9)]),
        ([0.1, 0.89, 0.9, 0.885, 0.1], {}, [(2, 8, 0.9)]),
        # A slope of small steps: compared with the winner, not with the neighbour before.
        ([0.90, 0.885, 0.87, 0.855, 0.84], {}, [(0, 4, 0.9)]),
        ([0.5, 0.1, 0.1, 0.1, 0.5], {"count": 2}, [(0, 2, 0.5), (8, 10, 0.5)]),  # a tie: the earlier first
        ([0.5, 0.1, 0.6, 0.1, 0.4], {"count": 3}, [(4, 6, 0.6), (0, 2, 0.5), (8, 10, 0.4)]),
        ([0.5, 0.5, 0.5, 0.5, 0.5], {"count": 9}, [(0, 10, 0.5)]),
        # Half height: the median is 0.1, so 0.5 and more belongs to 0.9.
        ([0.1, 0.6, 0.9, 0.1, 0.1], {}, [(2, 6, 0.9)]),
        ([0.1, 0.4, 0.9, 0.1, 0.1], {}, [(4, 6, 0.9)]),
        ([0.1, 0.2, 0.3, 0.4, 0.5], {"tolerance": 1.0, "count": 2}, [(0, 10, 0.5)]),
        (
            [0.1, 0.2, 0.3, 0.4, 0.5],
            {"tolerance": 0.0, "share": 0.0, "count": 5},
            [(8, 10, 0.5), (6, 8, 0.4), (4, 6, 0.3), (2, 4, 0.2), (0, 2, 0.1)],
        ),
    ],
)
def test_the_rule_by_example(
    scores: list[float], options: dict[str, Any], expected: list[tuple[float, float, float]]
) -> None:
    assert pick_moments(scores, SPANS, **options) == expected


def test_a_gap_in_time_stops_a_moment() -> None:
    assert pick_moments([0.5, 0.5], [[0, 1], [3, 4]]) == [(0, 1, 0.5)]


def test_a_gap_of_a_rounding_step_stops_nothing() -> None:
    spans = np.array([[0, 1], [1.001, 2], [2.001, 3]])
    assert pick_moments([0.5, 0.5, 0.5], spans) == [(0, 3, 0.5)]
    assert pick_moments([0.5, 0.5, 0.1], spans, share=0.0) == [(0, 2, 0.5)]


@given(
    lengths=st.lists(st.sampled_from([0.5, 1.0, 3.0]), min_size=1, max_size=12),
    data=st.data(),
    count=st.integers(1, 4),
    share=st.sampled_from([0.0, 0.25, 0.5, 1.0]),
)
def test_of_cuts_a_moment_is_a_row_of_prototypes(lengths: list[float], data: Any, count: int, share: float) -> None:
    """The rule in its plain form, for prototypes that do not overlap: neighbours join one by one."""
    gaps = data.draw(st.lists(st.sampled_from([0.0, 0.0, 1.0]), min_size=len(lengths), max_size=len(lengths)))
    scores = data.draw(st.lists(st.integers(-8, 8), min_size=len(lengths), max_size=len(lengths)))
    score = np.array(scores) / 8
    starts = np.cumsum(np.add(gaps, [0.0, *lengths[:-1]]))
    spans = np.stack([starts, starts + lengths], axis=1)
    free = [True] * len(score)
    expected: list[tuple[float, float, float]] = []
    while len(expected) < count and any(free):
        winner = max((i for i in range(len(score)) if free[i]), key=lambda i: (score[i], -i))
        least = score[winner] - max(0.02, share * (score[winner] - float(np.median(score))))
        first = last = winner
        while first > 0 and free[first - 1] and score[first - 1] >= least and spans[first - 1, 1] == spans[first, 0]:
            first -= 1
        while last + 1 < len(score) and free[last + 1] and score[last + 1] >= least:
            if spans[last + 1, 0] != spans[last, 1]:
                break
            last += 1
        free[first : last + 1] = [False] * (last + 1 - first)
        expected.append((spans[first, 0], spans[last, 1], score[winner]))
    assert pick_moments(score, spans, count=count, share=share) == expected


def test_what_overlaps_a_picked_moment_is_struck_out() -> None:
    spans = [[0, 4], [1, 5], [20, 24]]
    assert pick_moments([0.9, 0.6, 0.3], spans, count=3) == [(0, 4, 0.9), (20, 24, 0.3)]
    assert len(pick_moments([0.9, 0.6, 0.3], spans, count=3, max_overlap=1.0)) == 3


@given(
    scores=st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=32),
    count=st.integers(1, 6),
    tolerance=st.floats(0, 0.5),
    shuffle=st.randoms(use_true_random=False),
)
def test_moments_are_disjoint_sorted_and_do_not_depend_on_the_order(
    scores: list[float], count: int, tolerance: float, shuffle: Any
) -> None:
    edges = np.arange(len(scores) + 1)
    spans = np.stack([edges[:-1], edges[1:]], axis=1)
    picked = pick_moments(scores, spans, count=count, tolerance=tolerance)
    assert 1 <= len(picked) <= count
    assert picked[0][2] == max(scores)
    assert [p[2] for p in picked] == sorted((p[2] for p in picked), reverse=True)
    by_time = sorted(picked)
    assert all(left[1] <= right[0] for left, right in itertools.pairwise(by_time))
    order = list(range(len(scores)))
    shuffle.shuffle(order)
    assert picked == pick_moments(np.array(scores)[order], spans[order], count=count, tolerance=tolerance)


@pytest.mark.parametrize(
    ("scores", "spans", "options"),
    [
        ([], np.zeros((0, 2)), {}),
        ([0.1], [[0, 1], [1, 2]], {}),
        ([[0.1]], [[0, 1]], {}),
        ([float("nan")], [[0, 1]], {}),
        ([0.1], [[1, 0]], {}),
        ([0.1], [[0, 1]], {"count": 0}),
        ([0.1], [[0, 1]], {"count": 1.5}),
        ([0.1], [[0, 1]], {"tolerance": -0.1}),
        ([0.1], [[0, 1]], {"share": 1.5}),
        ([0.1], [[0, 1]], {"share": float("nan")}),
        ([0.1], [[0, 1]], {"max_overlap": 2}),
    ],
)
def test_picking_refuses_what_it_cannot_use(scores: Any, spans: Any, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        pick_moments(scores, spans, **options)
