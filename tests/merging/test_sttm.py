"""STTM against a slow restatement, and what must hold whatever the video."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from trifocal.bench.merge import Accountant
from trifocal.errors import InvalidInput
from trifocal.merging import MergedTokens, SttmConfig, merge, sttm

Field = Callable[..., torch.Tensor]
Box = tuple[int, int, int, int, int]


# --- the method in plain loops, from the specification and the stated changes -----------------------------------------


def slow_levels(frame: torch.Tensor) -> list[dict[tuple[int, int], tuple[torch.Tensor, Box, list[tuple[int, int]]]]]:
    """Coarsest first: position to (mean of means, box, children), of one frame `(H, W, C)` in float64."""
    height, width, _ = frame.shape
    level: Any = {(y, x): (frame[y, x], (0, y, x, y + 1, x + 1), []) for y in range(height) for x in range(width)}
    levels: list[Any] = [level]
    while 2 not in (height, width) and (height, width) != (1, 1):
        above: dict[tuple[int, int], list[tuple[int, int]]] = {}
        for y, x in level:
            above.setdefault(((y + height % 2) // 2, (x + width % 2) // 2), []).append((y, x))
        height, width = (height + 1) // 2, (width + 1) // 2
        coarser = {}
        for at, children in above.items():
            boxes = [level[child][1] for child in children]
            box = (0, *(min(b[k] for b in boxes) for k in (1, 2)), *(max(b[k] for b in boxes) for k in (3, 4)))
            coarser[at] = (torch.stack([level[child][0] for child in children]).mean(0), box, children)
        level = coarser
        levels.insert(0, level)
    return levels


def slow_sttm(x: torch.Tensor, spatial: float, temporal: float | None, root: int, rule: str) -> list[Any]:
    """Tokens as (box of the representative, mean, set of cells), sorted."""
    nodes: list[tuple[Box, torch.Tensor]] = []
    for t, frame in enumerate(x.double()):
        levels = slow_levels(frame)
        levels = levels[min(root, len(levels) - 1) if root >= 0 else max(root, -len(levels)) :]
        active = list(levels[0])
        for depth, level in enumerate(levels):
            below = []
            for at in active:
                value, box, children = level[at]
                last = depth == len(levels) - 1
                if last or all(F.cosine_similarity(value, levels[depth + 1][c][0], 0) >= spatial for c in children):
                    nodes.append(((t, *box[1:]), value))
                else:
                    below += children
            active = below
    nodes.sort(key=lambda node: node[0][:3])
    lead = list(range(len(nodes)))

    def inside(a: Box, b: Box) -> bool:
        return b[1] <= a[1] and b[2] <= a[2] and a[3] <= b[3] and a[4] <= b[4]

    if temporal is not None:
        edges = [
            (i, j)
            for i, (a, va) in enumerate(nodes)
            for j, (b, vb) in enumerate(nodes)
            if b[0] == a[0] + 1 and (inside(a, b) or inside(b, a)) and F.cosine_similarity(va, vb, 0) >= temporal
        ]
        if rule == "directed":
            for i, j in edges:
                lead[j] = min(lead[j], i)
            for j in range(len(nodes)):
                lead[j] = lead[lead[j]] if lead[j] < j else j
        else:
            for _ in nodes:
                for i, j in edges:
                    lead[i] = lead[j] = min(lead[i], lead[j])
    tokens = []
    for head in sorted(set(lead)):
        members = [node for node, of in zip(nodes, lead, strict=True) if of == head]
        cells = {(b[0], y, z) for b, _ in members for y in range(b[1], b[3]) for z in range(b[2], b[4])}
        tokens.append((nodes[head][0], torch.stack([value for _, value in members]).mean(0), cells))
    return tokens


@pytest.mark.parametrize("grid", [(6, 6), (5, 6), (7, 4), (3, 3), (1, 4), (3, 1), (1, 1), (2, 3)])
@pytest.mark.parametrize("frames", [1, 4])
@pytest.mark.parametrize("rule", ["directed", "components"])
@pytest.mark.parametrize(
    ("spatial", "temporal", "root"), [(0.6, 0.5, 0), (0.7, 0.4, 1), (0.8, None, 0), (0.5, 0.3, -1)]
)
def test_the_slow_restatement(
    field: Field, grid: tuple[int, int], frames: int, rule: Any, spatial: float, temporal: float | None, root: int
) -> None:
    x = field(frames, *grid, 16, seed=frames)
    found = sttm(x, spatial_threshold=spatial, temporal_threshold=temporal, root_level=root, grouping=rule)
    expected = slow_sttm(x, spatial, temporal, root, rule)
    assert [tuple(box) for box in found.boxes.tolist()] == [box for box, _, _ in expected]
    assert found.patch_counts.tolist() == [len(cells) for _, _, cells in expected]
    for token, (_, value, cells) in enumerate(expected):
        assert {tuple(cell) for cell in (found.assignment == token).nonzero().tolist()} == cells
        torch.testing.assert_close(found.features[token].double(), value, rtol=1e-5, atol=1e-5)


# --- what must hold ---------------------------------------------------------------------------------------------------


def check(tokens: MergedTokens, x: torch.Tensor) -> None:
    """Order, counts, and the way back from tokens to cells."""
    frames, height, width, _ = x.shape
    count = len(tokens)
    assert tokens.features.shape == (count, x.shape[-1])
    assert tokens.features.dtype == x.dtype
    assert tokens.boxes.shape == (count, 5)
    assert tokens.grid == (frames, height, width)
    assert (tokens.flat_index.diff() > 0).all()
    t, y, z = tokens.boxes[:, 0], tokens.boxes[:, 1], tokens.boxes[:, 2]
    assert torch.equal(tokens.flat_index, (t * height + y) * width + z)
    assert torch.equal(tokens.assignment[t, y, z], torch.arange(count))
    assert tokens.patch_counts.sum() == frames * height * width
    assert torch.equal(torch.bincount(tokens.assignment.flatten(), minlength=count), tokens.patch_counts)
    weights = torch.zeros(count).index_add_(0, tokens.assignment.flatten(), tokens.cell_weights.flatten())
    torch.testing.assert_close(weights, torch.ones(count), rtol=1e-4, atol=1e-4)
    assert tokens.unmerge(tokens.features).shape == x.shape
    means = torch.zeros(count, x.shape[-1], dtype=torch.float64)
    means.index_add_(0, tokens.assignment.flatten(), (x.double() * tokens.cell_weights[..., None]).flatten(0, 2))
    slack = {torch.bfloat16: 8e-3, torch.float16: 1e-3}.get(x.dtype, 2e-5)
    torch.testing.assert_close(tokens.features.double(), means, rtol=slack, atol=slack)
    torch.testing.assert_close(tokens.pool(x), tokens.features, rtol=slack, atol=slack)


@pytest.mark.parametrize(
    "grid", [(1, 1), (1, 2), (2, 1), (1, 9), (3, 1), (2, 2), (3, 3), (2, 7), (13, 20), (22, 26), (7, 7)]
)
@pytest.mark.parametrize("frames", [1, 6])
@pytest.mark.parametrize("options", [{}, {"patch_weighting": True}, {"compat": "reference"}, {"head_dim": 8}])
def test_every_grid(field: Field, grid: tuple[int, int], frames: int, options: dict[str, Any]) -> None:
    x = field(frames, *grid, 16)
    check(sttm(x, spatial_threshold=0.7, temporal_threshold=0.5, **options), x)
    check(sttm(x, spatial_threshold=0.7, **options), x)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("frames", [1, 3, 12])
def test_every_type(field: Field, dtype: torch.dtype, frames: int) -> None:
    x = field(frames, 9, 7, 160).to(dtype)
    tokens = sttm(x, spatial_threshold=0.75, temporal_threshold=0.55)
    check(tokens, x)
    # Decisions are taken in float32 or better, so the same numbers in a wider type decide alike.
    wide = sttm(x.double(), spatial_threshold=0.75, temporal_threshold=0.55)
    assert torch.equal(tokens.assignment, wide.assignment)


def test_patch_weighting_is_the_plain_mean_of_cells(field: Field) -> None:
    x = field(5, 7, 9, 16)
    tokens = sttm(x, spatial_threshold=0.6, temporal_threshold=0.4, patch_weighting=True)
    torch.testing.assert_close(tokens.pool(x, weighting="patches"), tokens.features)


def test_a_constant_video_becomes_its_first_root_cells() -> None:
    x = torch.randn(16).expand(6, 14, 14, 16)
    tokens = sttm(x, spatial_threshold=0.9, temporal_threshold=0.9)
    assert len(tokens) == 16
    assert not tokens.boxes[:, 0].any()
    torch.testing.assert_close(tokens.features, x[0, 0, :1].expand(16, -1), rtol=1e-4, atol=1e-4)


def test_only_the_changed_corner_is_split() -> None:
    """A constant frame with its top-left block changed: 16 tokens with absent children masked, 22 in published code."""
    x = torch.ones(1, 14, 14, 8)
    x[:, :2, :2] = torch.tensor([1.0, -1.0] * 4)
    assert len(sttm(x, spatial_threshold=0.8)) == 16
    assert len(sttm(x, spatial_threshold=0.8, compat="reference")) == 22


def test_equal_frames_may_be_exchanged(field: Field) -> None:
    x = field(1, 9, 9, 16).expand(5, -1, -1, -1).contiguous()
    tokens = sttm(x, spatial_threshold=0.7, temporal_threshold=0.6)
    again = sttm(x[torch.tensor([3, 1, 4, 0, 2])], spatial_threshold=0.7, temporal_threshold=0.6)
    assert torch.equal(tokens.assignment, again.assignment)
    assert torch.equal(tokens.features, again.features)


def test_zero_vectors_and_nan_stay_where_they_are(field: Field) -> None:
    x = field(4, 8, 8, 16)
    x[:, 3, 3] = 0
    x[1, 6, 6, 2] = torch.nan
    tokens = sttm(x, spatial_threshold=0.5, temporal_threshold=0.5)
    spoiled = tokens.features.isnan().any(dim=1).nonzero().flatten()
    assert spoiled.tolist() == [int(tokens.assignment[1, 6, 6])]
    assert tokens.patch_counts[spoiled].tolist() == [1]
    assert (tokens.patch_counts[tokens.assignment[:, 3, 3]] == 1).all()


def test_the_same_input_gives_the_same_bits(field: Field) -> None:
    x = field(9, 14, 14, 64)
    first, second = (sttm(x, spatial_threshold=0.7, temporal_threshold=0.5) for _ in range(2))
    assert torch.equal(first.features, second.features)


def test_a_batch_gives_what_its_videos_give(field: Field) -> None:
    videos = [field(5, 6, 7, 16, seed=1), field(3, 6, 7, 16, seed=2)]
    padded = torch.full((2, 5, 6, 7, 16), torch.nan)
    for row, video in zip(padded, videos, strict=True):
        row[: len(video)] = video
    config = SttmConfig(spatial_threshold=0.7, temporal_threshold=0.5)
    alone = [merge(video, config) for video in videos]
    for batch in (merge(videos, config), merge(padded, config, lengths=[5, 3])):
        assert len(batch) == 2
        for one, other in zip(alone, batch, strict=True):
            assert torch.equal(one.features, other.features)
            assert torch.equal(one.assignment, other.assignment)


def test_features_carry_gradients(field: Field) -> None:
    x = field(3, 6, 6, 16).requires_grad_()
    tokens = sttm(x, spatial_threshold=0.6, temporal_threshold=0.5)
    tokens.features.sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    torch.testing.assert_close(x.grad[..., 0], tokens.cell_weights)


def test_it_works_inside_a_compiled_function(field: Field) -> None:
    x = field(3, 6, 6, 16)

    def model(x: torch.Tensor) -> torch.Tensor:
        merged = sttm(x * 2, spatial_threshold=0.6, temporal_threshold=0.5)
        assert isinstance(merged, MergedTokens)
        return merged.features + 1

    compiled: Callable[[torch.Tensor], torch.Tensor] = torch.compile(model, backend="eager")
    assert torch.equal(compiled(x), model(x))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # the compiler's own
def test_it_works_in_a_function_compiled_for_speed(field: Field) -> None:
    """With code that is generated for what stands around it; the merge itself is a break in the graph."""
    x = field(3, 6, 6, 16)

    def model(x: torch.Tensor) -> torch.Tensor:
        merged = sttm(x * 2, spatial_threshold=0.6, temporal_threshold=0.5)
        assert isinstance(merged, MergedTokens)
        return merged.features.sin() + 1

    compiled: Callable[[torch.Tensor], torch.Tensor] = torch.compile(model, backend="inductor")
    for again in (x, field(3, 6, 6, 16, seed=4)):  # as many frames, another number of tokens
        torch.testing.assert_close(compiled(again), model(again))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    "options",
    [
        {"spatial_threshold": 0.8, "temporal_threshold": 0.6},
        {"budget": 0.3, "exact": True},
        {"spatial_threshold": 0.8, "compat": "reference"},
    ],
)
def test_a_gpu_decides_as_the_processor(field: Field, dtype: torch.dtype, options: dict[str, Any]) -> None:
    x = field(16, 14, 14, 256).to(dtype)
    here, there = sttm(x, **options), sttm(x.cuda(), **options)
    assert isinstance(here, MergedTokens)
    assert isinstance(there, MergedTokens)
    assert there.features.is_cuda
    back = there.to("cpu")
    # Sums in another order may decide a close call otherwise.
    assert abs(len(back) - len(here)) <= 2
    assert (back.assignment == here.assignment).float().mean() > 0.5
    if len(back) == len(here) and torch.equal(back.assignment, here.assignment):
        slack = 1e-5 if dtype == torch.float32 else 1e-2
        torch.testing.assert_close(back.features, here.features, rtol=slack, atol=slack)
    check(back, x)


# --- what it costs ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize(
    ("frames", "height", "width"),
    [(1, 14, 14), (2, 14, 14), (3, 7, 9), (4, 22, 26), (9, 14, 14), (130, 3, 3), (2, 128, 96)],
)
def test_few_operators_two_waits_little_memory(dtype: torch.dtype, frames: int, height: int, width: int) -> None:
    x = torch.randn(frames, height, width, 768, dtype=dtype) + 1.5
    config = SttmConfig(spatial_threshold=0.8, temporal_threshold=0.6)
    merge(x, config)  # builds the tables of the grid
    with Accountant(x) as account:
        tokens = merge(x, config)
    assert account.calls <= 120, account.operators
    assert 1 <= account.synchronisations <= 2, account.operators
    beyond = account.peak_bytes - tokens.features.numel() * x.element_size()
    assert beyond <= 1.5 * x.numel() * x.element_size(), beyond / x.numel() / x.element_size()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("root", [0, 1])
@pytest.mark.parametrize(
    ("frames", "height", "width"),
    [(2, 256, 256), (5, 128, 96), (16, 66, 66), (16, 40, 40), (5, 33, 257), (1, 256, 255), (40, 14, 14)],
)
def test_operators_stay_few_on_large_grids(dtype: torch.dtype, root: int, frames: int, height: int, width: int) -> None:
    """Deeper trees have more levels to pool; the count must not follow them over the bound."""
    x = (torch.randn(frames, height, width, 8) + 1.5).to(dtype)
    config = SttmConfig(spatial_threshold=0.8, temporal_threshold=0.6, root_level=root)
    with Accountant() as account:
        merge(x, config)
    assert account.calls <= 115, account.operators
    assert 1 <= account.synchronisations <= 2, account.operators


@pytest.mark.parametrize(
    ("dtype", "shape"),
    [
        (torch.float32, (64, 14, 14, 32)),
        (torch.bfloat16, (64, 14, 14, 128)),
        (torch.float16, (64, 14, 14, 128)),
        (torch.float32, (5, 128, 96, 96)),
        (torch.bfloat16, (5, 128, 96, 512)),
        (torch.float16, (16, 66, 66, 512)),
    ],
)
@pytest.mark.parametrize("root", [0, 1])
def test_little_memory_from_so_many_channels_on(dtype: torch.dtype, shape: tuple[int, ...], root: int) -> None:
    """The bound that `sttm` states, at the fewest channels that it states it for."""
    x = torch.randn(shape, dtype=dtype) + 1.5
    config = SttmConfig(spatial_threshold=0.8, temporal_threshold=0.6, root_level=root)
    merge(x[:1], config)  # builds the tables of the grid
    with Accountant(x) as account:
        tokens = merge(x, config)
    beyond = account.peak_bytes - tokens.features.numel() * x.element_size()
    assert beyond <= 1.5 * x.numel() * x.element_size(), beyond / x.numel() / x.element_size()


def test_the_accountant_counts() -> None:
    x = torch.randn(1000)
    with Accountant(x) as account:
        y = x + 1
        del y
        z = x * 2
        assert z.sum().item() != 0
        z[z > 0]
    assert account.synchronisations >= 2
    assert 4000 <= account._tensor_peak < 12000
    assert account.calls >= 5


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "neither of spatial_threshold and budget"),
        ({"spatial_threshold": 0.8, "budget": 0.3}, "both of spatial_threshold and budget"),
        ({"spatial_threshold": 1.2}, "between -1 and 1"),
        ({"spatial_threshold": float("nan")}, "between -1 and 1"),
        ({"spatial_threshold": "0.8"}, "between -1 and 1"),
        ({"spatial_threshold": True}, "between -1 and 1"),
        ({"spatial_threshold": 0.8, "temporal_threshold": 65}, "temporal_threshold is 65"),
        ({"budget": 0.3, "temporal_threshold": 0.6}, "beside a budget"),
        ({"budget": 0}, "budget is 0"),
        ({"budget": 1.5}, "budget is 1.5"),
        ({"budget": -3}, "budget is -3"),
        ({"budget": "30%"}, "whole number of tokens"),
        ({"spatial_threshold": 0.8, "exact": True}, "without a budget"),
        ({"spatial_threshold": 0.8, "compat": "paper"}, "default, reference"),
        ({"spatial_threshold": 0.8, "grouping": "best"}, "reference, components, directed"),
        ({"budget": 0.3, "path": "temporal"}, "both, spatial"),
        ({"spatial_threshold": 0.8, "root_level": 1.0}, "whole number"),
        ({"spatial_threshold": 0.8, "head_dim": 0}, "at least 1"),
        ({"spatial_threshold": 0.8, "head_dim": 5}, "divisor"),
    ],
)
def test_options_that_cannot_be_used(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        sttm(torch.randn(2, 4, 4, 8), **options)


@pytest.mark.parametrize(
    ("x", "options", "said"),
    [
        (torch.randn(4, 4, 8), {}, "channels last"),
        (torch.randn(0, 4, 4, 8), {}, "at least one frame"),
        (torch.randn(2, 4, 4, 0), {}, "at least one frame"),
        (torch.ones(2, 4, 4, 8, dtype=torch.int32), {}, "floating"),
        (torch.randn(2, 2, 4, 4, 8), {}, "lengths="),
        (torch.randn(2, 2, 4, 4, 8), {"lengths": [1]}, "length between 1 and T"),
        (torch.randn(2, 2, 4, 4, 8), {"lengths": [1, 3]}, "length between 1 and T"),
        (torch.randn(2, 4, 4, 8), {"lengths": [1, 1]}, "length between 1 and T"),
    ],
)
def test_videos_that_cannot_be_merged(x: torch.Tensor, options: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        sttm(x, spatial_threshold=0.8, **options)


def test_values_that_do_not_fit_the_result(field: Field) -> None:
    tokens = sttm(field(2, 4, 4, 8), spatial_threshold=0.8)
    with pytest.raises(InvalidInput, match="one value per cell"):
        tokens.pool(torch.randn(2, 4, 5, 8))
    with pytest.raises(InvalidInput, match="features or patches"):
        tokens.pool(torch.randn(2, 4, 4, 8), weighting="cells")  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="each of the"):
        tokens.unmerge(torch.randn(len(tokens) + 1, 3))


def test_the_repr_shows_sizes(field: Field) -> None:
    shown = repr(sttm(field(2, 4, 4, 8), spatial_threshold=-1))
    assert shown == "MergedTokens(sttm: 32 of 2×4×4 cells, 100.0%, C=8)"
    shown = repr(sttm(field(2, 4, 4, 8), spatial_threshold=-1, root_level=0))
    assert shown == "MergedTokens(sttm: 8 of 2×4×4 cells, 25.0%, C=8)"


def test_moving_to_a_device(field: Field) -> None:
    tokens = sttm(field(2, 4, 4, 8), spatial_threshold=0.8)
    assert tokens.to("meta").features.is_meta
