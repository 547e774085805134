"""Multi-scale deformable attention over space and time (arXiv 2010.04159 in three dimensions), in plain PyTorch.

Every query looks at a few points per head and level; a point's value is trilinear between eight cells, and outside the
grid there is nothing. Three ways to gather give the same numbers and exact gradients: "bag" sums a query's weighted
corners in one pass (`embedding_bag`; the fastest on a CPU), "grid" samples with 5-D `grid_sample`, "gather" uses plain
indexing, which every device and exporter knows. Queries go through in chunks, so memory stays bounded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["DeformableAttention", "LevelShape", "Sampling", "sample_points"]

Sampling = Literal["auto", "bag", "grid", "gather"]

LevelShape = tuple[int, int, int]
"""Frames, height and width of a level."""


@dataclass(frozen=True, slots=True)
class _Points:
    """Where and how much: `x`, `y`, `t` in cells and `weights`, each (C, M, L, P)."""

    x: Tensor
    y: Tensor
    t: Tensor
    weights: Tensor


class DeformableAttention(nn.Module):
    """Look at a few points of every level.

    Args:
        width: D.
        levels: L.
        heads: M.
        points: P.
        correct_offsets: divide offsets in (x, y, t) by (W, H, T) of a level instead of the published (T, W, H).
    """

    def __init__(self, width: int, *, levels: int, heads: int, points: int, correct_offsets: bool) -> None:
        super().__init__()
        self.levels, self.heads, self.points, self.correct_offsets = levels, heads, points, correct_offsets
        self.offsets = nn.Linear(width, heads * levels * points * 3)
        self.weights = nn.Linear(width, heads * levels * points)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Points start on rays, one direction per head, farther with each point; all weigh the same."""
        angle = torch.arange(self.heads) % (self.heads // 2) * (2 * math.pi / (self.heads // 2))
        forward = (torch.arange(self.heads) < self.heads // 2).float()
        ray = torch.stack((angle.cos(), angle.sin(), forward), -1)
        ray = ray / ray.abs().amax(-1, keepdim=True)
        steps = torch.arange(1, self.points + 1).view(1, 1, -1, 1)
        bias = ray.view(self.heads, 1, 1, 3) * steps.expand(-1, self.levels, -1, -1)  # (M, L, P, 3)
        nn.init.zeros_(self.offsets.weight)
        self.offsets.bias.copy_(bias.flatten())
        nn.init.zeros_(self.weights.weight)
        nn.init.zeros_(self.weights.bias)
        for layer in (self.value, self.output):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(
        self, queries: Tensor, *, centres: Tensor, values: Tensor, shapes: list[LevelShape], sampling: Sampling
    ) -> Tensor:
        """Attend for some queries of one clip.

        Args:
            queries: (C, D), content plus position.
            centres: (C, L, 3) where each query stands in each level, in cells (x, y, t), the first cell's centre at 0.
            values: (N, D), what `value` made of all tokens; zero where there is padding.
            shapes: (T, H, W) of each level; their products sum to N.
            sampling: how to gather.

        Returns:
            (C, D), through the output projection.
        """
        count = len(queries)
        shape = (count, self.heads, self.levels, self.points)
        size = queries.new_tensor(shapes) if not torch.compiler.is_exporting() else _as_tensor(shapes, queries)
        scale = torch.ones_like(size) if self.correct_offsets else size.flip(-1) / size[:, [0, 2, 1]]
        # Offsets of x, y and t come out of the projection interleaved; by axis they are faster to work with.
        axis_weight = self.offsets.weight.unflatten(0, (-1, 3)).transpose(0, 1).flatten(0, 1)
        axis_bias = self.offsets.bias.unflatten(0, (-1, 3)).transpose(0, 1).flatten()
        offsets = F.linear(queries, axis_weight, axis_bias).view(count, 3, *shape[1:])
        place = (
            torch.addcmul(centres[:, None, :, axis, None], offsets[:, axis], scale[:, axis].view(1, 1, -1, 1))
            for axis in range(3)
        )
        weights = self.weights(queries).view(count, self.heads, -1).softmax(-1).view(shape)
        sampled = sample_points(values.view(len(values), self.heads, -1), shapes, _Points(*place, weights), sampling)
        out: Tensor = self.output(sampled.reshape(count, -1))
        return out


def _as_tensor(shapes: list[LevelShape], like: Tensor) -> Tensor:
    """Sizes as a tensor without fixing those that an export leaves open."""
    rows = [torch.stack([like.new_full((), side) for side in shape]) for shape in shapes]
    return torch.stack(rows)


def sample_points(values: Tensor, shapes: list[LevelShape], points: _Points, sampling: Sampling) -> Tensor:
    """Weighted sums of trilinear samples.

    Args:
        values: (N, M, D/M).
        shapes: (T, H, W) of each level.
        points: places and weights, each (C, M, L, P).
        sampling: "auto" takes "bag" on a CPU while gradients are off, "gather" where 5-D `grid_sample` is missing, and
            "grid" elsewhere.

    Returns:
        (C, M, D/M).
    """
    if sampling == "auto":
        device = values.device.type
        # The gradients of a bag are slower than those of a grid, its forward is five times faster.
        sampling = "bag" if device == "cpu" and not torch.is_grad_enabled() else "gather" if device == "mps" else "grid"
    if sampling == "grid":
        return _sample_grid(values, shapes, points)
    index, weight = _corners(shapes, points, heads=values.shape[1])
    table = values.flatten(0, 1)  # (N * M, D/M)
    if sampling == "bag":
        summed = F.embedding_bag(index, table, mode="sum", per_sample_weights=weight.to(table.dtype))
    else:
        rows = table.index_select(0, index.flatten()).unflatten(0, index.shape)  # (C * M, K, D/M)
        summed = torch.bmm(weight.to(table.dtype)[:, None], rows)[:, 0]
    return summed.unflatten(0, (-1, values.shape[1]))


def _corners(shapes: list[LevelShape], points: _Points, *, heads: int) -> tuple[Tensor, Tensor]:
    """Rows of the table and their weights: both (C * M, L * P * 8), int32 and float."""
    device = points.x.device
    counts = [frames * height * width for frames, height, width in shapes]
    starts = [sum(counts[:level]) for level in range(len(counts))]
    exporting = torch.compiler.is_exporting()

    def per_level(numbers: list[int]) -> Tensor:
        if exporting:
            return torch.stack([torch.full((), number, dtype=torch.int32) for number in numbers]).view(1, 1, -1, 1)
        return torch.tensor(numbers, dtype=torch.int32, device=device).view(1, 1, -1, 1)

    def taps(place: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
        low = place.floor()
        share = place - low
        # A place far outside would not fit an int32; one cell outside already counts as nothing.
        first = low.clamp(-2, None).minimum(size + 1).to(torch.int32)
        index = torch.stack((first, first + 1), -1)
        inside = (index >= 0) & (index < size[..., None])
        weight = torch.stack((1 - share, share), -1) * inside
        return torch.minimum(index.clamp(min=0), size[..., None] - 1), weight

    frames, height, width = (per_level([shape[axis] for shape in shapes]) for axis in range(3))
    x, x_weight = taps(points.x, width)
    y, y_weight = taps(points.y, height)
    t, t_weight = taps(points.t, frames)
    head = torch.arange(heads, dtype=torch.int32, device=device).view(1, -1, 1, 1)
    base = per_level(starts) * heads + head
    x = x * heads + base[..., None]
    y, t = y * (width * heads)[..., None], t * (height * width * heads)[..., None]
    t_weight = t_weight * points.weights[..., None]
    index = (t[..., :, None] + y[..., None, :])[..., None] + x[..., None, None, :]  # (C, M, L, P, 2, 2, 2)
    weight = (t_weight[..., :, None] * y_weight[..., None, :])[..., None] * x_weight[..., None, None, :]
    return index.flatten(2).flatten(0, 1), weight.flatten(2).flatten(0, 1)


def _sample_grid(values: Tensor, shapes: list[LevelShape], points: _Points) -> Tensor:
    """The same with `grid_sample`: one call per level, heads as the batch."""
    summed: Tensor | None = None
    start = 0
    for level, (frames, height, width) in enumerate(shapes):
        stop = start + frames * height * width
        volume = values[start:stop].permute(1, 2, 0).unflatten(-1, (frames, height, width))  # (M, D/M, T, H, W)
        at = [place[:, :, level].transpose(0, 1) for place in (points.x, points.y, points.t)]  # (M, C, P) each
        sides = (width, height, frames)
        grid = torch.stack([(place + 0.5) * (2 / side) - 1 for place, side in zip(at, sides, strict=True)], -1)
        found = F.grid_sample(volume, grid[:, :, :, None].to(volume.dtype), align_corners=False)[..., 0]
        weight = points.weights[:, :, level].transpose(0, 1)[:, None]  # (M, 1, C, P)
        part = (found * weight).sum(-1)  # (M, D/M, C)
        summed = part if summed is None else summed + part
        start = stop
    assert summed is not None
    return summed.permute(2, 0, 1)
