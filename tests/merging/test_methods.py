"""What every method owes its caller, over the table of methods."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from trifocal.errors import InvalidInput
from trifocal.merging import METHODS, DycokeConfig, MergedTokens, PyramidConfig, configure, fastv, merge

Field = Callable[..., torch.Tensor]
every_method = pytest.mark.parametrize("method", sorted(METHODS))


@every_method
@pytest.mark.parametrize("shape", [(8, 14, 14), (5, 13, 20), (17, 7, 9), (4, 8, 8)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_tokens_are_in_order_and_account_for_the_cells(
    field: Field, method: str, shape: tuple[int, int, int], dtype: torch.dtype
) -> None:
    x = field(*shape, 40).to(dtype)
    tokens = merge(x, configure(method, budget=0.5))
    count, (frames, height, width) = len(tokens), shape
    assert isinstance(tokens, MergedTokens)
    assert tokens.method == method
    assert 0 < count <= x[..., 0].numel() // 2
    assert tokens.features.shape == (count, 40)
    assert tokens.features.dtype == dtype
    assert (tokens.flat_index.diff() > 0).all()
    assert tokens.boxes.shape == (count, 5)
    t, y, z, y1, z1 = tokens.boxes.T
    assert torch.equal(tokens.flat_index, (t * height + y) * width + z)
    assert ((y < y1) & (y1 <= height) & (z < z1) & (z1 <= width) & (t < frames)).all()
    assert torch.equal(tokens.assignment[t, y, z], torch.arange(count))
    held = tokens.assignment[tokens.assignment >= 0]
    assert torch.equal(torch.bincount(held, minlength=count), tokens.patch_counts)
    # The features are the weighted means that the result says they are.
    slack = 1e-4 if dtype == torch.float32 else 2e-2
    torch.testing.assert_close(tokens.pool(x).float(), tokens.features.float(), rtol=slack, atol=slack)
    assert tokens.unmerge(tokens.features).shape == x.shape


@every_method
def test_a_batch_gives_what_its_videos_give(field: Field, method: str) -> None:
    videos = [field(8, 8, 8, seed=1), field(12, 8, 8, seed=2)]
    config = configure(method, budget=0.5)
    for one, other in zip(merge(videos, config), videos, strict=True):
        assert torch.equal(one.features, merge(other, config).features)


@every_method
def test_the_same_input_gives_the_same_bits(field: Field, method: str) -> None:
    x, config = field(8, 9, 9), configure(method, budget=0.6)
    assert torch.equal(merge(x, config).features, merge(x, config).features)


@every_method
def test_more_budget_never_means_fewer_tokens(field: Field, method: str) -> None:
    x = field(8, 14, 14)
    counts = [len(merge(x, configure(method, budget=budget))) for budget in (0.3, 0.45, 0.5, 0.8, 1.0)]
    assert counts == sorted(counts)
    if method != "octree":
        assert counts[-1] == x[..., 0].numel()


@every_method
def test_one_frame(field: Field, method: str) -> None:
    x = field(1, 14, 14)
    assert 0 < len(merge(x, configure(method, budget=1.0))) <= 196


@every_method
def test_configurations_survive_json(method: str) -> None:
    config = configure(method, budget=0.25)
    stored = json.loads(config.to_json())
    assert stored["method"] == method
    assert stored["version"]
    assert type(config).from_dict(stored) == config
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.budget = 0.3  # type: ignore[attr-defined]
    with pytest.warns(UserWarning, match="does not know shiny"):
        assert type(config).from_dict({**stored, "shiny": 1}) == config


def test_sizes_and_counts_survive_json() -> None:
    sized = PyramidConfig(size=(4, 6))
    assert PyramidConfig.from_dict(json.loads(sized.to_json())) == sized
    counted = configure("tome", budget=np.int64(30))
    assert len(merge(torch.randn(2, 5, 5, 8), counted)) == 30
    assert json.loads(counted.to_json())["budget"] == 30


@every_method
@pytest.mark.parametrize("budget", [0, 0.0, -1, 1.01, "half", True, float("nan")])
def test_budgets_that_cannot_be_used(method: str, budget: Any) -> None:
    with pytest.raises(InvalidInput, match="budget is"):
        configure(method, budget=budget)


@every_method
def test_videos_that_cannot_be_merged(method: str) -> None:
    for bad in (torch.randn(4, 4, 8), torch.randn(0, 4, 4, 8), torch.ones(2, 4, 4, 8, dtype=torch.long)):
        with pytest.raises(InvalidInput):
            merge(bad, configure(method, budget=0.5))


def test_the_table_is_what_it_says() -> None:
    assert all(config.method == name for name, config in METHODS.items())
    with pytest.raises(InvalidInput, match="sttm, tome, dycoke, octree, pyramid, uniform, random, evs"):
        configure("magic")
    with pytest.raises(InvalidInput, match="tome has no option ratio"):
        configure("tome", ratio=0.5)


@pytest.mark.parametrize(
    ("method", "options", "said"),
    [
        ("dycoke", {}, "prune_ratio or budget"),
        ("dycoke", {"prune_ratio": 1.5}, "prune_ratio is 1.5"),
        ("dycoke", {"budget": 0.5, "compat": "old"}, "default, reference"),
        ("octree", {}, "spatial_threshold or budget"),
        ("octree", {"spatial_threshold": 3}, "between -1 and 1"),
        ("pyramid", {}, "size or budget"),
        ("pyramid", {"size": 0}, "at least 1"),
        ("pyramid", {"size": 4, "mode": "cubic"}, "mean, bilinear, nearest"),
        ("tome", {"budget": 0.5, "compat": "old"}, "default, reference"),
    ],
)
def test_options_that_cannot_be_used(method: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        configure(method, **options)


@pytest.mark.parametrize(
    ("method", "budget", "said"),
    [
        ("dycoke", 0.2, "whole frames"),
        ("evs", 0.1, "first frame"),
        ("uniform", 10, "tokens of one frame"),
        ("pyramid", 3, "less than one token"),
        ("octree", 3, "octree of this video keeps at least"),
    ],
)
def test_budgets_out_of_reach_name_the_smallest(field: Field, method: str, budget: Any, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        merge(field(8, 7, 7), configure(method, budget=budget))


# --- one by one -------------------------------------------------------------------------------------------------------


def test_tome_meets_any_budget_and_keeps_sizes(field: Field) -> None:
    x = field(4, 6, 6)
    for budget in (1, 2, 30, 100, 144):
        tokens = merge(x, configure("tome", budget=budget))
        assert len(tokens) == budget
        assert tokens.patch_counts.sum() == 144
        assert (tokens.flat_index.diff() > 0).all()


def test_dycoke_finishes_every_group(field: Field) -> None:
    x = field(7, 4, 4)
    tokens = merge(x, DycokeConfig(prune_ratio=0.75))
    per_frame = torch.bincount(tokens.boxes[:, 0], minlength=7).tolist()
    assert per_frame == [16, 4, 4, 4, 16, 4, 4]
    assert (tokens.assignment >= 0).all()
    published = merge(x, DycokeConfig(prune_ratio=0.75, compat="reference"))
    assert torch.bincount(published.boxes[:, 0], minlength=7).tolist() == [16, 4, 4, 4, 16, 4, 16]


def test_evs_keeps_what_changes() -> None:
    x = torch.randn(1, 3, 3, 8).expand(3, -1, -1, -1).clone()
    x[2, 1, 1] = torch.randn(8)
    tokens = merge(x, configure("evs", budget=10))
    assert tokens.flat_index.tolist() == [*range(9), 2 * 9 + 4]
    assert torch.equal(tokens.assignment[1], tokens.assignment[0])
    assert tokens.assignment[2, 1, 1] == 9


def test_uniform_keeps_the_middle_of_equal_parts(field: Field) -> None:
    tokens = merge(field(9, 2, 2), configure("uniform", budget=12))
    assert sorted(set(tokens.boxes[:, 0].tolist())) == [1, 4, 7]


def test_random_depends_on_its_seed_alone(field: Field) -> None:
    x = field(4, 6, 6)
    first, second = (merge(x, configure("random", budget=0.3, seed=seed)) for seed in (0, 1))
    assert not torch.equal(first.flat_index, second.flat_index)
    assert torch.equal(first.flat_index, merge(x * 2, configure("random", budget=0.3)).flat_index)


def test_pyramid_modes(field: Field) -> None:
    x = field(2, 8, 8)
    mean = merge(x, configure("pyramid", size=4))
    torch.testing.assert_close(mean.features[0], x[0, :2, :2].mean((0, 1)))
    bilinear = merge(x, configure("pyramid", size=4, mode="bilinear"))
    torch.testing.assert_close(bilinear.features, mean.features)  # halving is the same by both
    nearest = merge(x, configure("pyramid", size=4, mode="nearest"))
    assert torch.equal(nearest.features[0], x[0, 0, 0])
    with pytest.raises(InvalidInput, match="within the grid"):
        merge(x, configure("pyramid", size=9))
    assert merge(field(2, 6, 12), configure("pyramid", budget=0.25)).patch_counts.tolist() == [4] * 36


@pytest.mark.parametrize("reference", [False, True])
@pytest.mark.parametrize("width", [4, 5])
@pytest.mark.parametrize("threshold", [0.3, 0.6])
def test_the_octree_by_plain_recursion(field: Field, reference: bool, width: int, threshold: float) -> None:
    x = field(2 * width + 1, width, width, 16)
    cosine = torch.nn.functional.cosine_similarity
    expected: list[tuple[int, torch.Tensor]] = []
    for cube in range(2):
        levels = [x[cube * width : (cube + 1) * width].double()]
        while 2 not in levels[0].shape[:3]:
            padded = levels[0].movedim(-1, 0)
            pad = [width_ % 2 for width_ in levels[0].shape[2::-1] for _ in range(2)]
            pad[1::2] = [0, 0, 0]
            ones = torch.nn.functional.pad(torch.ones_like(padded), pad)
            sums = torch.nn.functional.avg_pool3d(torch.nn.functional.pad(padded, pad), 2)
            levels.insert(0, (sums / torch.nn.functional.avg_pool3d(ones, 2)).movedim(0, -1))

        def visit(depth: int, at: tuple[int, ...], levels: list[torch.Tensor] = levels, cube: int = cube) -> None:
            if depth < len(levels) - 1:
                finer = levels[depth + 1]
                sides = finer.shape[:3]
                spans = [
                    [p for p in range(n) if (p + n % 2) // 2 == q]
                    for p, (q, n) in enumerate(zip(at, sides, strict=True))
                ]
                children = [(a, b, c) for a in spans[0] for b in spans[1] for c in spans[2]]
                compared = children + ([(0, 0, 0)] if reference and len(children) < 8 else [])
                if not all(cosine(levels[depth][at], finer[child], 0) >= threshold for child in compared):
                    for child in children:
                        visit(depth + 1, child)
                    return
            first = list(at)
            for finer in levels[depth + 1 :]:
                first = [
                    min(p for p in range(n) if (p + n % 2) // 2 == q)
                    for q, n in zip(first, finer.shape[:3], strict=True)
                ]
            flat = ((cube * width + first[0]) * width + first[1]) * width + first[2]
            expected.append((flat, levels[depth][at]))

        for at in torch.cartesian_prod(*(torch.arange(n) for n in levels[0].shape[:3])).tolist():
            visit(0, tuple(at))
    compat = "reference" if reference else "default"
    tokens = merge(x, configure("octree", spatial_threshold=threshold, root_level=0, compat=compat))
    expected.sort(key=lambda token: token[0])
    inside = tokens.flat_index < 2 * width**3
    assert tokens.flat_index[inside].tolist() == [flat for flat, _ in expected]
    values = torch.stack([value for _, value in expected])
    torch.testing.assert_close(tokens.features[inside].double(), values, rtol=1e-5, atol=1e-5)
    last = merge(x[-1:], configure("sttm", spatial_threshold=threshold, root_level=0, compat=compat))
    torch.testing.assert_close(tokens.features[~inside], last.features)
    assert tokens.patch_counts.sum() == tokens.assignment.numel()


def test_fastv_keeps_the_most_attended(field: Field) -> None:
    x = field(2, 3, 3)
    attention = torch.zeros(2, 18)
    attention[:, [4, 17, 9]] = 1.0
    tokens = fastv(x, attention=attention, budget=4)
    assert tokens.flat_index.tolist() == [0, 4, 9, 17]  # the tie goes to the earlier one
    assert torch.equal(tokens.features, x.view(18, -1)[[0, 4, 9, 17]])
    with pytest.raises(InvalidInput, match="attention has shape"):
        fastv(x, attention=attention[:, :5], budget=4)
