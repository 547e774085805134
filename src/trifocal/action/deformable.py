"""Multi-scale deformable attention over space and time (arXiv 2010.04159 in three dimensions), in plain PyTorch.

Every query looks at a few points per head and level; a point's value is trilinear between eight cells, and outside the
grid there is nothing. Three ways to gather give the same numbers and exact gradients: "bag" (`embedding_bag`, fastest
on a CPU) and "gather" (plain indexing, which every device and exporter knows) read an `Atlas`, "grid" samples level by
level with 5-D `grid_sample`. The projection gives places in cells at once: the published normaliser, the level's size
and the query's own place are part of its weights.
"""

# Torch leaves the results of modules and `Tensor.unflatten` without types.
# mypy: allow-untyped-calls, disable-error-code="no-any-return"

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trifocal.action.atlas import Atlas, LevelShape

__all__ = ["DeformableAttention", "Prepared", "Sampling", "resolve"]

Sampling = Literal["auto", "bag", "grid", "gather"]


def resolve(sampling: Sampling, device: torch.device) -> Sampling:
    """What "auto" means: "bag" on a CPU without gradients, "gather" where 5-D `grid_sample` is missing, else "grid"."""
    if sampling != "auto":
        return sampling
    # The gradients of a bag are slower than those of a grid; its forward is several times faster.
    if device.type == "cpu" and not torch.is_grad_enabled():
        return "bag"
    return "gather" if device.type == "mps" else "grid"


@dataclass(frozen=True, slots=True)
class Prepared:
    """One clip's values, and the projection from queries to places among them.

    Args:
        shapes: (T, H, W) of each level.
        values: (N, M, D/M), for "grid".
        atlas: the same values, for "bag" and "gather".
        weight: (3 * M * L * P, D + 3 L), of queries and their own places, to places in x, then y, then t.
        bias: (3 * M * L * P,).
        sampling: resolved.
    """

    shapes: list[LevelShape]
    values: Tensor
    atlas: Atlas | None
    weight: Tensor
    bias: Tensor
    sampling: Sampling


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

    def prepare(
        self, tokens: Tensor, shapes: list[LevelShape], *, padding: Tensor | None, sampling: Sampling
    ) -> Prepared:
        """Project the values of one clip, and make the projection to places among them.

        Args:
            tokens: (N, D), level after level.
            shapes: (T, H, W) of each level; their products sum to N.
            padding: bool (N,), True for tokens that count as nothing; `None` for none.
            sampling: how to gather.
        """
        values = self.value(tokens)
        if padding is not None:
            values = values.masked_fill(padding[:, None], 0.0)
        values = values.unflatten(-1, (self.heads, -1))  # (N, M, D/M)
        sampling = resolve(sampling, tokens.device)
        atlas = None if sampling == "grid" else Atlas.of(values, shapes)
        weight, bias = self._to_places(shapes, atlas)
        return Prepared(shapes, values if atlas is None else values[:0], atlas, weight, bias, sampling)

    def _to_places(self, shapes: list[LevelShape], atlas: Atlas | None) -> tuple[Tensor, Tensor]:
        size = side_table(shapes, self.offsets.weight)  # (L, 3): t, y, x
        # Offsets in x, y, t are shares of W, H, T after division by the published T, W, H.
        scale = torch.ones_like(size) if self.correct_offsets else size.flip(-1) / size[:, [0, 2, 1]]  # (L, 3): x, y, t
        scale = scale.t()[:, None, :, None]  # (3, 1, L, 1)
        by_axis = (3, self.heads, self.levels, self.points)
        # The projection's rows are points first and axes last; by axis they are faster to work with.
        weight = self.offsets.weight.unflatten(0, (*by_axis[1:], 3)).movedim(3, 0) * scale[..., None]
        bias = self.offsets.bias.unflatten(0, (*by_axis[1:], 3)).movedim(3, 0) * scale
        if atlas is not None:
            bias = bias + atlas.origin[:, None, :, None]
        axis, level = torch.eye(3, device=size.device), torch.eye(self.levels, device=size.device)
        own = (axis[:, None, None, None, None, :] * level[None, None, :, None, :, None]).flatten(
            -2
        )  # (3, 1, L, 1, 3 L)
        weight = torch.cat((weight, own.to(weight.dtype).expand(*by_axis, -1)), -1)
        return weight.flatten(0, 3), bias.flatten()

    def forward(self, queries: Tensor, centres: Tensor, prepared: Prepared) -> Tensor:
        """Attend for some queries of one clip.

        Args:
            queries: (C, D), content plus position.
            centres: (C, 3 L) where each query stands in each level: x, y, t in cells, the first cell's centre at 0.
            prepared: of the clip.

        Returns:
            (C, D), through the output projection.
        """
        count, looks = queries.shape[0], self.levels * self.points
        # Places need all the digits of float32, also where the rest runs in half precision.
        with torch.autocast(queries.device.type, enabled=False):
            exact = torch.cat((queries.float(), centres), -1)
            places = F.linear(exact, prepared.weight.float(), prepared.bias.float()).unflatten(-1, (3, -1))
            weights = F.linear(queries.float(), self.weights.weight.float(), self.weights.bias.float())
            weights = weights.view(count * self.heads, looks).softmax(-1)
        x, y, t = places.unbind(1)  # (C, M * L * P) each
        if prepared.atlas is not None:
            sampled = prepared.atlas.sample(x, y, t, weights, bags=prepared.sampling == "bag")
        else:
            sampled = _sample_grid(prepared.values, prepared.shapes, (x, y, t), weights)
        out: Tensor = self.output(sampled.view(count, -1))
        return out


def side_table(shapes: list[LevelShape], like: Tensor) -> Tensor:
    """(T, H, W) of each level as a tensor (L, 3), also while an export leaves sizes open."""
    if not torch.compiler.is_exporting():
        return torch.tensor(shapes, dtype=torch.float32, device=like.device)
    return torch.stack([torch.stack([torch.full((), side, dtype=torch.float32) for side in shape]) for shape in shapes])


def _sample_grid(
    values: Tensor, shapes: list[LevelShape], places: tuple[Tensor, Tensor, Tensor], weights: Tensor
) -> Tensor:
    """Weighted sums of trilinear samples, (C, M, D/M): one `grid_sample` per level, heads as the batch."""
    heads, levels = values.shape[1], len(shapes)
    split = [place.unflatten(-1, (heads, levels, -1)) for place in places]  # (C, M, L, P) each
    share = weights.view_as(split[0])
    summed: Tensor | None = None
    start = 0
    for level, (frames, height, width) in enumerate(shapes):
        stop = start + frames * height * width
        volume = values[start:stop].permute(1, 2, 0).unflatten(-1, (frames, height, width))  # (M, D/M, T, H, W)
        at = [place[:, :, level].transpose(0, 1) for place in split]  # (M, C, P) each
        sides = (width, height, frames)
        grid = torch.stack([(place + 0.5) * (2 / side) - 1 for place, side in zip(at, sides, strict=True)], -1)
        # Sampled in float32 whatever the values are: half precision knows places to a few cells only.
        found = F.grid_sample(volume.float(), grid[:, :, :, None], align_corners=False)[..., 0]
        part = (found * share[:, :, level].transpose(0, 1)[:, None]).sum(-1)  # (M, D/M, C)
        summed = part if summed is None else summed + part
        start = stop
    assert summed is not None
    return summed.permute(2, 0, 1).to(values.dtype).contiguous()
