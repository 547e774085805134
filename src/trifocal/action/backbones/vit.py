"""VideoMAE's vision transformer (arXiv 2203.12602) and the spatial pyramid that makes four levels of its one map.

A token is two frames of 16×16 pixels; all tokens of a clip see one another. The pyramid is that of ViTDet (arXiv
2203.16527): strides 4 and 8 by transposed convolution, 16 as it is, 32 by pooling. Maps keep their channels last, so a
transposed convolution whose kernel is its stride, and a 1×1 convolution, are plain matrix products.
"""

# Torch leaves the results of modules and `Tensor.unflatten` without types.
# mypy: allow-untyped-calls, disable-error-code="no-any-return"

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trifocal.action.backbones.pixels import normalize_clip
from trifocal.action.layers import lean, widened
from trifocal.action.winograd import convolution
from trifocal.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trifocal.action.config import VitConfig

__all__ = ["PATCH", "TUBELET", "SpatialPyramid", "VitBody"]

PATCH, TUBELET = 16, 2
EPSILON = 1e-6


class Attention(nn.Module):
    """All tokens see one another; keys have no bias."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(width))
        self.v_bias = nn.Parameter(torch.zeros(width))
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) → (B, N, C)."""
        bias = torch.cat((self.q_bias, torch.zeros_like(self.q_bias), self.v_bias))
        # A layer that carries low-rank updates is called, so that they count; a plain one adds the bias on the way.
        plain = type(self.qkv) is nn.Linear
        qkv = F.linear(x, self.qkv.weight, bias) if plain else self.qkv(x) + bias
        qkv = qkv.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        if lean() and x.device.type == "cpu":
            # Copied, a head's rows lie one after another, which a CPU's attention reads faster than rows a token apart.
            qkv = qkv.contiguous()
        query, key, value = qkv.unbind(0)  # (B, heads, N, d)
        seen = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        out: Tensor = self.proj(seen)
        return out


class Block(nn.Module):
    """Attention and two linear layers, each normalised before and added."""

    def __init__(self, width: int, heads: int, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=EPSILON)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=EPSILON)
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)
        self.drop_path = drop_path

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) → (B, N, C)."""
        x = x + self._maybe(self.attn(self.norm1(x)))
        return x + self._maybe(widened(x, self.fc1, self.fc2, norm=self.norm2))

    def _maybe(self, branch: Tensor) -> Tensor:
        """Leave the branch out of some clips, in training."""
        if not self.training or self.drop_path == 0.0:
            return branch
        kept = torch.rand(len(branch), 1, 1, device=branch.device) >= self.drop_path
        return branch * kept / (1 - self.drop_path)


class VitBody(nn.Module):
    """The transformer: one map at stride 16 in space and 2 in time.

    Args:
        config: its sizes.
        frames: T, which the position table is made for.
    """

    per_frame = False
    preprocess = staticmethod(normalize_clip)

    def __init__(self, config: VitConfig, *, frames: int) -> None:
        super().__init__()
        if config.width % config.heads:
            raise InvalidInput(
                f"a transformer of width {config.width} with {config.heads} heads",
                remedy="The heads must divide the width.",
            )
        self.grid = config.grid
        self.patch = nn.Conv3d(3, config.width, (TUBELET, PATCH, PATCH), (TUBELET, PATCH, PATCH))
        rates = [config.drop_path * number / max(1, config.depth - 1) for number in range(config.depth)]
        self.blocks = nn.ModuleList(Block(config.width, config.heads, rate) for rate in rates)
        self.norm = nn.LayerNorm(config.width, eps=EPSILON)
        table = _position_table(frames // TUBELET * config.grid**2, config.width)
        self.register_buffer("positions", table.unflatten(0, (-1, config.grid, config.grid)), persistent=False)

    def forward(self, clips: Tensor) -> tuple[Tensor]:
        """(B, 3, T, H, W) → one map (B, T/2, H // 16, W // 16, C)."""
        if min(clips.shape[-2:]) < PATCH:
            raise InvalidInput(f"clips are {tuple(clips.shape)}", remedy=f"Give at least {PATCH}×{PATCH} pixels.")
        patches = self.patch(clips)  # (B, C, T/2, H', W')
        shape = patches.shape[2:]
        x = patches.flatten(2).transpose(1, 2) + self._resized(shape[1], shape[2]).flatten(0, 2)
        for block in self.blocks:
            x = block(x)
        return (cast("Tensor", self.norm(x)).unflatten(1, shape),)

    def _resized(self, height: int, width: int) -> Tensor:
        table = cast("Tensor", self.positions).permute(0, 3, 1, 2)  # (T/2, C, grid, grid)
        if torch.compiler.is_exporting() or (height, width) != (self.grid, self.grid):
            table = F.interpolate(table, size=(height, width), mode="bicubic", align_corners=False)
        return table.permute(0, 2, 3, 1)


def _position_table(count: int, width: int) -> Tensor:
    """Sines of a token's number, (count, width), made in double as the published table is."""
    channel = torch.arange(width, dtype=torch.float64)
    angle = torch.arange(count, dtype=torch.float64)[:, None] / 10000 ** (2 * (channel // 2) / width)
    angle[:, 0::2] = angle[:, 0::2].sin()
    angle[:, 1::2] = angle[:, 1::2].cos()
    return angle.float()


class Level(nn.Module):
    """1×1 convolution, norm, 3×3×3 convolution."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.project = nn.Linear(inputs, width, bias=False)
        self.norm = nn.LayerNorm(width, eps=EPSILON)
        self.conv = nn.Conv3d(width, width, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, H, W, C) → (B, T, H, W, D)."""
        x = self.norm(self.project(x))
        return convolution(self.conv, x)(x)


class Enlarge(nn.Module):
    """Transposed convolution over 2×2 pixels with stride 2: every cell becomes four."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(inputs, outputs, 2, 2))
        self.bias = nn.Parameter(torch.zeros(outputs))
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, H, W, C) → (B, T, 2H, 2W, C')."""
        x = torch.einsum("bthwc,cdij->bthiwjd", x, self.weight)
        return x.flatten(4, 5).flatten(2, 3) + self.bias


class SpatialPyramid(nn.Module):
    """Four levels of strides 4, 8, 16 and 32 out of one of stride 16.

    Args:
        inputs: channels of the map.
        width: D.
    """

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        half, quarter = inputs // 2, inputs // 4
        self.enlarge_four = nn.ModuleList(
            (Enlarge(inputs, half), nn.LayerNorm(half, eps=EPSILON), Enlarge(half, quarter))
        )
        self.enlarge_two = Enlarge(inputs, half)
        self.levels = nn.ModuleList(Level(channels, width) for channels in (quarter, half, inputs, inputs))

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """One map (B, T, H, W, C) → four of (B, T, H', W', D)."""
        (x,) = features
        first, norm, second = self.enlarge_four
        pooled = F.max_pool3d(x.permute(0, 4, 1, 2, 3), (1, 2, 2)).permute(0, 2, 3, 4, 1)
        levels = [self.levels[0](second(F.gelu(norm(first(x)))))]
        levels.append(self.levels[1](self.enlarge_two(x)))
        levels.append(self.levels[2](x))
        levels.append(self.levels[3](pooled))
        return levels
