"""Budgets: within one token per frame, exact on request, monotone, and refused where they cannot be met."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from trifocal.errors import InvalidInput
from trifocal.merging import SttmConfig, calibrate, sttm
from trifocal.merging.budget import count_at, temporal_on_path, trace

Field = Callable[..., torch.Tensor]


def still(frames: int, height: int, width: int) -> torch.Tensor:
    """Nothing changes anywhere: every similarity is a tie."""
    return torch.ones(frames, height, width, 8)


def noise(frames: int, height: int, width: int) -> torch.Tensor:
    return torch.randn(frames, height, width, 64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("path", ["both", "spatial"])
@pytest.mark.parametrize("shape", [(6, 9, 7), (1, 8, 8), (4, 3, 3), (5, 1, 1)])
@pytest.mark.parametrize("kind", ["field", "still", "noise"])
def test_the_curve_counts_what_merging_keeps(field: Field, path: Any, shape: tuple[int, int, int], kind: str) -> None:
    x = {"field": field, "still": still, "noise": noise}[kind](*shape)
    similar, support = SttmConfig(budget=0.5, path=path, root_level=0).measure(x)
    curve = trace(similar, support, path=path)
    assert (np.diff(curve.points) < 0).all()
    assert curve.counts[0] == x[..., 0].numel()
    for point in np.concatenate([curve.points[:: max(1, len(curve.points) // 60)], curve.points[-1:], [-1.0, 0.3]]):
        counted = count_at(similar, support, float(point), path=path, rule="directed")
        assert curve.at(np.array([point]))[0] == counted


@pytest.mark.parametrize("shape", [(6, 9, 7), (1, 8, 8), (12, 14, 14), (3, 2, 2)])
@pytest.mark.parametrize("kind", ["field", "still", "noise"])
@pytest.mark.parametrize("grouping", [None, "components", "reference"])
def test_budgets_are_met_and_monotone(field: Field, shape: tuple[int, int, int], kind: str, grouping: Any) -> None:
    x = {"field": field, "still": still, "noise": noise}[kind](*shape)
    cells, frames = x[..., 0].numel(), len(x)
    options: dict[str, Any] = {"root_level": 0, "grouping": grouping}
    fewest = len(sttm(x, spatial_threshold=-1, temporal_threshold=-1, root_level=0))
    budgets = sorted({*np.linspace(fewest, cells, 6 if grouping else 12).astype(int).tolist(), fewest + 1, cells})
    before = 0
    for budget in budgets:
        tokens = sttm(x, budget=budget, **options)
        assert budget - frames <= len(tokens) <= budget
        assert len(tokens) >= before
        before = len(tokens)
        assert len(sttm(x, budget=budget, exact=True, **options)) == min(budget, cells)


def test_the_thresholds_that_are_reported_do_the_same_merge(field: Field) -> None:
    x = field(16, 14, 14)
    for budget in (0.1, 0.3, 0.5, 0.9, 1.0):
        found = sttm(x, budget=budget)
        assert found.extra_merges == 0
        assert found.temporal_threshold == temporal_on_path(found.spatial_threshold or 0.0)
        again = sttm(x, spatial_threshold=found.spatial_threshold, temporal_threshold=found.temporal_threshold)
        assert torch.equal(again.assignment, found.assignment)
        assert torch.equal(again.features, found.features)


def test_an_exact_budget_only_adds_joins(field: Field) -> None:
    x = field(16, 14, 14)
    exact = sttm(x, budget=0.3, exact=True)
    assert len(exact) == int(0.3 * 16 * 196)
    plain = sttm(x, spatial_threshold=exact.spatial_threshold, temporal_threshold=exact.temporal_threshold)
    assert len(plain) == len(exact) + exact.extra_merges
    # Every token of the plain merge lies in one token of the exact one.
    pairs = set(zip(plain.assignment.flatten().tolist(), exact.assignment.flatten().tolist(), strict=True))
    assert len(pairs) == len(plain)


def test_a_share_is_rounded_down_and_a_count_is_a_count(field: Field) -> None:
    x = field(3, 6, 6)
    assert len(sttm(x, budget=0.5, exact=True)) == 54
    assert len(sttm(x, budget=0.999, exact=True)) == 107
    assert len(sttm(x, budget=1.0)) == len(sttm(x, budget=108)) == len(sttm(x, budget=10**6)) == 108
    assert len(sttm(x, budget=54, exact=True)) == 54


def test_the_spatial_path_joins_nothing_across_frames(field: Field) -> None:
    x = field(4, 9, 9)
    for exact in (False, True):
        tokens = sttm(x, budget=0.4, path="spatial", exact=exact)
        assert tokens.temporal_threshold is None
        frame = torch.arange(4)[:, None, None].expand_as(tokens.assignment)
        assert torch.equal(tokens.boxes[tokens.assignment, 0], frame)


@pytest.mark.parametrize(
    ("options", "fewest", "remedy"),
    [
        ({}, 16, "Give at least 16, or start from a coarser level with root_level=0."),
        ({"root_level": 0}, 4, "Give at least 4; the root level is the coarsest of this grid already."),
        ({"path": "spatial"}, 96, 'with root_level=0 or join frames too with path="both".'),
        ({"path": "spatial", "root_level": 0}, 24, 'Give at least 24, or join frames too with path="both".'),
        ({"root_level": -1}, 196, "with root_level=0."),
    ],
)
def test_a_budget_out_of_reach_names_the_smallest(
    field: Field, options: dict[str, Any], fewest: int, remedy: str
) -> None:
    x = field(6, 14, 14)
    with pytest.raises(InvalidInput, match=rf"at least {fewest} remain") as refused:
        sttm(x, budget=fewest - 1, **options)
    assert remedy in str(refused.value)
    assert len(sttm(x, budget=fewest, exact=True, **options)) == fewest


def test_a_still_video_is_cut_where_the_tie_is() -> None:
    """All similarities are equal, so thresholds know only two counts; ties go by position."""
    x = still(5, 14, 14)
    tokens = sttm(x, budget=200, exact=True)
    assert len(tokens) == 200
    assert tokens.extra_merges > 0
    assert torch.equal(tokens.features, sttm(x, budget=200, exact=True).features)


def test_nan_does_not_keep_a_budget_from_being_met(field: Field) -> None:
    x = field(4, 8, 8)
    x[1, 2, 2, 0] = torch.nan
    for budget in (16, 40, 200):
        assert len(sttm(x, budget=budget, exact=True, root_level=0)) == budget


@pytest.mark.parametrize("grouping", [None, "components"])
def test_calibration_meets_the_mean(field: Field, grouping: Any) -> None:
    videos = [field(6, 9, 7, seed=1), field(9, 8, 8, seed=2), field(4, 6, 6, seed=3)]
    config = SttmConfig(budget=0.5, grouping=grouping, root_level=0)
    for budget in (0.2, 0.45, 0.8):
        found = calibrate(iter(videos), budget=budget, config=config)
        shares = tuple(
            sttm(
                video,
                spatial_threshold=found.spatial_threshold,
                temporal_threshold=found.temporal_threshold,
                grouping=grouping,
                root_level=0,
            ).share
            for video in videos
        )
        assert shares == found.shares
        assert budget - 0.03 < found.mean_share <= budget


def test_calibration_refuses_what_it_cannot_do(field: Field) -> None:
    with pytest.raises(InvalidInput, match="no video"):
        calibrate([], budget=0.5)
    with pytest.raises(InvalidInput, match="budget is 30"):
        calibrate([field(2, 6, 6)], budget=30)
    with pytest.raises(InvalidInput, match="root_level=0"):
        calibrate([field(2, 14, 14)], budget=0.01)
    with pytest.raises(InvalidInput, match="Give more; the root level is the coarsest"):
        calibrate([field(2, 14, 14)], budget=0.005, config=SttmConfig(budget=1.0, root_level=0))
