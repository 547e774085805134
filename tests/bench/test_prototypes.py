"""Which prototypes by which rule, and clips that are hidden in long videos."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from trifocal.bench.prototypes import default_by_rule, measure, ranks_of, verdict
from trifocal.bench.prototypes_sets import BenchSet, hidden_in


def scenes(lengths: list[int], *, seed: int, name: str = "some") -> BenchSet:
    """Videos of one picture each, a frame a second, and one query a video that is its picture."""
    pictures = np.linalg.qr(np.random.default_rng(seed).normal(size=(16, 16)))[0][: len(lengths)].astype(np.float32)
    return BenchSet(
        name=name,
        rows=[np.repeat(one[None], length, axis=0) for one, length in zip(pictures, lengths, strict=True)],
        times_s=[np.arange(length) + 0.5 for length in lengths],
        ends_s=[float(length) for length in lengths],
        queries=pictures,
        right=np.arange(len(lengths)),
        moments_s=np.array([(0.0, float(length)) for length in lengths]),
    )


def row(method: str, *, sumr: float, iou: float, name: str = "one", k: int = 32) -> dict[str, Any]:
    return {"set": name, "method": method, "k": k, "sumr": sumr, "iou": iou}


def test_a_clip_is_hidden_in_the_middle_with_its_moment() -> None:
    clips, others = scenes([4, 6], seed=0), scenes([10, 20, 30, 40, 50], seed=1)
    hidden = hidden_in(clips, others, around=3)
    assert hidden.ends_s == [10 + 4 + 20 + 30, 50 + 6 + 10 + 20]  # the second begins four further on
    assert hidden.moments_s.tolist() == [[10.0, 14.0], [50.0, 56.0]]
    for rows, times, (start, end), picture in zip(
        hidden.rows, hidden.times_s, hidden.moments_s, clips.queries, strict=True
    ):
        assert len(rows) == len(times)
        assert (np.diff(times) == 1).all()
        inside = (times >= start) & (times <= end)
        assert (rows[inside] == picture).all()
        assert not (rows[~inside] == picture).all(axis=1).any()


def test_a_scene_that_is_short_in_its_video_is_kept_by_merging_and_not_by_runs() -> None:
    """What the hidden sets are for: four frames among 400 are less than one of eight runs."""
    hidden = hidden_in(scenes([4, 6], seed=0), scenes([100, 110, 120, 90, 130], seed=1), around=4)
    merged, covered = (measure(hidden, method=method, k=8) for method in ("adjacent", "coverage"))
    assert (merged["iou"], merged["peak_inside"]) == (1.0, 1.0)
    assert covered["iou"] < 0.5


def test_ranks_count_ties_against() -> None:
    scores: NDArray[np.float64] = np.array([[0.5, 0.5, 0.1], [0.2, 0.3, 0.9]])
    assert ranks_of(scores, np.array([0, 1])).tolist() == [2, 2]


def test_the_verdict_is_the_mean_share_of_the_best() -> None:
    rows = [
        row("adjacent", sumr=100, iou=0.4),
        row("coverage", sumr=200, iou=0.2),
        {"set": "one", "method": "sharpened"},
    ]
    assert verdict(rows) == {"adjacent": 0.75, "coverage": 0.75}


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([row("coverage", sumr=110, iou=0.4)], "coverage"),
        ([row("coverage", sumr=100.5, iou=0.4)], "adjacent"),  # ahead by .0025
        ([row("coverage", sumr=130, iou=0.37)], "coverage"),
        ([row("coverage", sumr=130, iou=0.35)], "adjacent"),  # ahead, and its moments are below nine tenths
        ([row("coverage", sumr=130, iou=0.35), row("uniform", sumr=120, iou=0.39)], "uniform"),  # the next that holds
    ],
)
def test_the_default_by_the_rule(rows: list[dict[str, Any]], expected: str) -> None:
    assert default_by_rule([row("adjacent", sumr=100, iou=0.4), *rows], present="adjacent", k=32) == expected


def test_the_rule_asks_of_every_set_at_the_size_of_libraries() -> None:
    rows = [row("adjacent", sumr=100, iou=0.4), row("coverage", sumr=200, iou=0.8)]
    long = [row("adjacent", sumr=100, iou=0.4, name="long"), row("coverage", sumr=80, iou=0.4, name="long")]
    small = [row("adjacent", sumr=100, iou=0.4, k=8), row("coverage", sumr=80, iou=0.4, k=8)]
    assert default_by_rule([*rows, *long], present="adjacent", k=32) == "adjacent"
    assert default_by_rule([*rows, *small], present="adjacent", k=32) == "coverage"
