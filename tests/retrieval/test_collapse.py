"""The figures of collapse on cases small enough to count by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from trifocal.errors import InvalidInput
from trifocal.retrieval.collapse import collapse_figures

EYE = np.eye(4, dtype=np.float32)


def test_one_vector_a_video_shows_as_collapse() -> None:
    vectors = np.repeat(EYE[:2, None], 3, axis=1)  # two videos, three equal prototypes
    found = collapse_figures(EYE[[0, 0, 1, 1]], vectors, [0, 0, 1, 1], attention=np.full((2, 3, 8), 1 / 8))
    assert found.mean_cosine == pytest.approx(1.0)
    assert (found.winners_per_video, found.queries_per_video) == (1.0, 2.0)
    assert (found.winners_corpus, found.prototypes, found.top_winner_share) == (1, 3, 1.0)
    assert found.attention_entropy == pytest.approx(math.log(8))
    assert found.peak_inside is None


def test_prototypes_that_share_the_work() -> None:
    vectors = np.stack([EYE[[0, 1]], EYE[[2, 3]]])
    found = collapse_figures(
        EYE,
        vectors,
        [0, 0, 1, 1],
        attention=EYE[None, :2].repeat(2, axis=0),
        peaks=[[0.1, 0.9], [0.5, 0.5]],
        moments=[[0.0, 0.2], [0.0, 0.2], [0.4, 0.6], [0.0, 1.0]],
    )
    assert found.mean_cosine == pytest.approx(0.0)
    assert (found.winners_per_video, found.winners_corpus, found.top_winner_share) == (2.0, 2, 0.5)
    assert found.attention_entropy == pytest.approx(0.0)
    assert found.peak_inside == 0.75
    assert found.peak_chance == pytest.approx(0.4)


def test_any_of_several_moments_counts_and_none_is_left_out() -> None:
    vectors = np.stack([EYE[[0, 1]], EYE[[2, 3]]])
    found = collapse_figures(
        EYE,
        vectors,
        [0, 0, 1, 1],
        peaks=[[0.1, 0.9], [0.5, 0.5]],
        moments=[[[0.6, 0.8], [0.0, 0.2]], np.zeros((0, 2)), [[0.0, 0.1], [0.9, 1.0]], [0.4, 0.6]],
    )
    assert found.peak_inside == pytest.approx(2 / 3)
    assert found.peak_chance == pytest.approx((0.4 + 0.2 + 0.2) / 3)
    unknown = collapse_figures(EYE, vectors, [0, 0, 1, 1], peaks=[[0.1, 0.9]] * 2, moments=[np.zeros((0, 2))] * 4)
    assert (unknown.peak_inside, unknown.peak_chance) == (None, None)


@pytest.mark.parametrize(
    ("queries", "owner", "moments", "words"),
    [
        (EYE[:0], [], None, "at least one query"),
        (EYE[:, :3], [0, 0, 1, 1], None, "do not fit"),
        (EYE, [0, 0, 1, 2], None, "outside 0..1"),
        (EYE, [0, 0, 1, 1], [[0.0, 1.0]] * 4, "no peaks"),
        (EYE, [0, 0, 1, 1], [[0.0, 1.0]] * 3, "3 moments of 4 queries"),
    ],
)
def test_what_does_not_fit_is_refused(queries: np.ndarray, owner: list[int], moments: object, words: str) -> None:
    peaks = np.zeros((2, 2)) if "queries" in words else None
    with pytest.raises(InvalidInput, match=words):
        collapse_figures(queries, np.stack([EYE[:2], EYE[2:]]), owner, peaks=peaks, moments=moments)  # type: ignore[arg-type]
