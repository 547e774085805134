"""The 3×3 convolution with fewer multiplications: Winograd's minimal filtering (Lavin and Gray, arXiv 1509.09308).

A tile of m×m outputs of a 3×3 kernel g over its (m + 2)×(m + 2) inputs d is `Aᵀ[(G g Gᵀ) ⊙ (Bᵀ d B)]A` (their equation
8). Summed over channels, the product of elements becomes one matrix product for each of the (m + 2)² places of a
transformed tile: with m = 4 a quarter of the multiplications of a plain convolution, before the transforms. Those are
matrix products as well, with both axes in one Kronecker product. A kernel over time adds up its frames' products.

The matrices are Toom and Cook's: interpolation through m + 1 points and infinity. In float32 the error is twice that of
the plain convolution, where the usual points 0, ±1, ±2 have four times it (points matter: arXiv 1803.10986). Only the
numbers come out of this path: where gradients, an export or half precision are wanted, PyTorch's convolution runs.
"""

# Torch leaves the results of modules and `Tensor.unflatten` without types.
# mypy: allow-untyped-calls, disable-error-code="no-any-return"

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import TYPE_CHECKING, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trifocal.action.layers import lean

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Winograd", "convolution"]

TILE, TAPS = 4, 3
PLACES = TILE + TAPS - 1
POINTS = (Fraction(0), Fraction(3, 4), Fraction(-3, 4), Fraction(3, 2), Fraction(-3, 2))
LEAST_WIDTH = 128
"""Of channels; below, the transforms cost what they save."""
LEAST_CELLS = 2048
"""In all maps together; below, the kernel's own transform does."""
BAND = 256
"""Tiles that are transformed at a time: enough rows for the matrix products, and few enough for the caches."""


def convolution(conv: nn.Conv2d | nn.Conv3d, maps: Tensor) -> Callable[[Tensor], Tensor]:
    """How to convolve maps, all at once or some at a time.

    Args:
        conv: of stride 1, its kernel 3×3 or 3×3×3, padded by one.
        maps: all that will be convolved, (P, H, W, C) or (B, T, H, W, C).

    Returns:
        A function from such maps to the same with C' channels.
    """
    return Winograd.of(conv) if _pays(conv, maps) else lambda some: conv(some.movedim(-1, 1)).movedim(1, -1)


def _pays(conv: nn.Conv2d | nn.Conv3d, maps: Tensor) -> bool:
    if type(conv) not in {nn.Conv2d, nn.Conv3d}:  # one that carries updates is called, so that they count
        return False
    plain = maps.device.type == "cpu" and maps.dtype == conv.weight.dtype == torch.float32
    wide = min(conv.in_channels, conv.out_channels) >= LEAST_WIDTH
    return plain and wide and lean() and not torch.is_autocast_enabled("cpu") and maps[..., 0].numel() >= LEAST_CELLS


@dataclass(frozen=True, slots=True)
class Winograd:
    """A convolution's kernel, transformed.

    Args:
        kernel: (frames, PLACES², C, C'); frames is 1, or 3 for a kernel over time.
        bias: (C',), or `None`.
    """

    kernel: Tensor
    bias: Tensor | None

    @classmethod
    def of(cls, conv: nn.Conv2d | nn.Conv3d) -> Self:
        """Transform the weights of a convolution as `convolution` takes it."""
        weight = conv.weight if conv.weight.ndim == 5 else conv.weight[:, :, None]
        outputs, inputs, frames = weight.shape[:3]
        taps = weight.permute(2, 1, 0, 3, 4).reshape(frames, -1, TAPS**2)
        return cls((_matrices()[1] @ taps.transpose(1, 2)).view(frames, PLACES**2, inputs, outputs), conv.bias)

    def __call__(self, maps: Tensor) -> Tensor:
        """(P, H, W, C) → (P, H, W, C'), or for a kernel over time (B, T, H, W, C) → (B, T, H, W, C')."""
        return self._convolve(maps) if maps.ndim == 4 else torch.stack([self._convolve(clip) for clip in maps])

    def _convolve(self, maps: Tensor) -> Tensor:
        count, height, width, _ = maps.shape
        down, across = -(-height // TILE), -(-width // TILE)  # tiles
        out = maps.new_empty(count, height, width, self.kernel.shape[-1])
        rows = max(1, BAND // (count * across))
        for start in range(0, down, rows):
            shape = (min(rows, down - start), across)
            top, bottom = start * TILE, (start + shape[0]) * TILE
            above, below = max(top - 1, 0), min(bottom + 1, height)
            edge = len(self.kernel) // 2
            sides = (0, 0, 1, across * TILE + 1 - width, above - (top - 1), bottom + 1 - below, edge, edge)
            band = self._band(F.pad(maps[:, above:below], sides), shape)
            goal = out[:, top:bottom]
            band = band[:, : goal.shape[1], :width]
            if self.bias is None:
                goal.copy_(band)
            else:
                torch.add(band, self.bias, out=goal)
        return out

    def _band(self, padded: Tensor, shape: tuple[int, int]) -> Tensor:
        """Some rows of tiles: (P + 2 edges, rows · TILE + 2, columns · TILE + 2, C) → (P, rows · TILE, ..., C')."""
        spread, _, gather = _matrices()
        tiles = padded.unfold(1, PLACES, TILE).unfold(2, PLACES, TILE)  # (P', rows, columns, C, PLACES, PLACES)
        flat = tiles.permute(4, 5, 0, 1, 2, 3).reshape(PLACES**2, -1)
        seen = (gather @ flat).view(PLACES**2, -1, padded.shape[-1])  # (PLACES², P' · tiles, C)
        each = shape[0] * shape[1]
        size = (len(padded) - len(self.kernel) + 1) * each
        summed = torch.bmm(seen[:, :size], self.kernel[0])
        for frame, kernel in enumerate(self.kernel[1:], 1):
            summed.baddbmm_(seen[:, frame * each : frame * each + size], kernel)
        made = (spread @ summed.flatten(1)).view(TILE, TILE, -1, *shape, summed.shape[-1])
        return made.permute(2, 3, 0, 4, 1, 5).flatten(3, 4).flatten(1, 2)


@cache
def _matrices() -> tuple[Tensor, Tensor, Tensor]:
    """Aᵀ (TILE², PLACES²), G (PLACES², 9) and Bᵀ (PLACES², PLACES²), for both axes at once."""
    spread, kernel = _powers(TILE), _powers(TAPS)
    gather = torch.linalg.inv(_powers(PLACES)).T
    # A row's size may move from Bᵀ to G, and rounding is best where rows of Bᵀ are about 1.
    size = gather.norm(dim=1, keepdim=True)
    one_axis = (spread.T, kernel * size, gather / size)
    a, g, b = (torch.kron(x, x).float().contiguous() for x in one_axis)
    return a, g, b


def _powers(count: int) -> Tensor:
    """(PLACES, count): powers of the points, and of infinity the highest alone."""
    rows = [[float(point**power) for power in range(count)] for point in POINTS]
    return torch.tensor([*rows, [0.0] * (count - 1) + [1.0]], dtype=torch.float64, device="cpu")
