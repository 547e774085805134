from __future__ import annotations

import numpy as np
import pytest

from trifocal.errors import InvalidInput
from trifocal.retrieval.evaluation import moment_scores, moment_share, rank_scores, ranks_of


def test_a_rank_counts_what_scores_strictly_more() -> None:
    scores = np.array([[0.9, 0.5, 0.1], [0.2, 0.2, 0.2], [0.3, 0.4, 0.4]])
    ranks, tied = ranks_of(scores, [1, 2, 1])
    assert ranks.tolist() == [2, 1, 1]
    assert tied.tolist() == [False, True, True]


def test_ranks_agree_with_a_stable_sort_where_nothing_ties() -> None:
    rng = np.random.default_rng(0)
    scores, owner = rng.normal(size=(50, 30)), rng.integers(0, 30, 50)
    expected = [1 + list(np.argsort(-row)).index(right) for row, right in zip(scores, owner, strict=True)]
    assert ranks_of(scores, owner)[0].tolist() == expected


def test_recall_and_their_sum() -> None:
    found = rank_scores([1, 2, 5, 6, 10, 11, 100, 101], tied=[True] + [False] * 7)
    assert found.recall == {1: 12.5, 5: 37.5, 10: 62.5, 100: 87.5}
    assert found.sum_r == 200.0
    assert found.median_rank == 8.0
    assert found.tied == 0.125
    assert found.to_dict()["recall"]["R@100"] == 87.5


@pytest.mark.parametrize(
    ("scores", "owner", "message"),
    [
        (np.zeros((2, 3)), [0], "owners"),
        (np.zeros(3), [0], "scores are"),
        (np.zeros((1, 3)), [3], "outside 0..2"),
        (np.zeros((1, 3)), [-1], "outside 0..2"),
        (np.array([[np.nan, 0.0]]), [1], "a score is NaN"),
    ],
)
def test_bad_scores_are_refused(scores: np.ndarray, owner: list[int], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        ranks_of(scores, owner)


def test_no_queries_are_refused() -> None:
    with pytest.raises(InvalidInput, match="there are no queries"):
        rank_scores([])


def test_moments_that_overlap_count_once() -> None:
    assert moment_share([(0, 2), (1, 3), (8, 9)], 10.0) == pytest.approx(0.4)
    assert moment_share([(0, 20)], 10.0) == 1.0
    assert moment_share([(2, 2)], 10.0) == 0.0


def test_moments_by_hand() -> None:
    found = moment_scores(
        peaks_s=[1.0, 5.0, 9.0],
        spans_s=[(0.0, 2.0), (4.0, 6.0), (0.0, 1.0)],
        moments_s=[[(0.0, 4.0)], [(6.0, 8.0), (4.0, 6.0)], [(2.0, 3.0)]],
        durations_s=[10.0, 10.0, 10.0],
    )
    assert found.peak_inside == pytest.approx(200 / 3)
    assert found.mean_iou == pytest.approx((0.5 + 1.0 + 0.0) / 3)
    assert found.iou_at == pytest.approx({0.3: 200 / 3, 0.5: 200 / 3, 0.7: 100 / 3})
    assert found.chance == pytest.approx(100 * (0.4 + 0.4 + 0.1) / 3)


def test_moments_of_nothing() -> None:
    assert moment_scores([], [], [], []).queries == 0
    with pytest.raises(InvalidInput, match="a query without a moment"):
        moment_scores([1.0], [(0, 1)], [[]], [2.0])
    with pytest.raises(InvalidInput, match="peaks, spans"):
        moment_scores([1.0], [(0, 1)], [[(0, 1)]], [])
