"""Small layers that several parts of the detector are made of."""

# Torch leaves the results of modules and `Tensor.unflatten` without types.
# mypy: allow-untyped-calls, disable-error-code="no-any-return"

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["FeedForward", "MultiLayer", "attend", "lean", "widened"]

ROWS = 1024
"""Rows that go through a wide part at a time."""


def lean() -> bool:
    """Whether only the numbers are wanted: no gradients and no export, so that shapes and memory may be played with."""
    return not torch.is_grad_enabled() and not torch.compiler.is_exporting()


def widened(x: Tensor, widen: nn.Module, narrow: nn.Module, *, norm: nn.Module) -> Tensor:
    """`narrow(gelu(widen(norm(x))))`; on a CPU some rows at a time while only the numbers are wanted.

    So the wide part stays in the caches, and GELU needs no second copy of it.

    Args:
        x: (..., D).
        widen: to more channels.
        narrow: back.
        norm: of D channels.
    """
    if not lean() or x.device.type != "cpu":
        return narrow(F.gelu(widen(norm(x))))
    parts = [narrow(torch.ops.aten.gelu_(widen(norm(part)))) for part in x.flatten(0, -2).split(ROWS)]
    return torch.cat(parts).view_as(x) if len(parts) > 1 else parts[0].view_as(x)


class MultiLayer(nn.Module):
    """Linear layers with ReLU in between.

    Args:
        widths: of the input, each layer's output.
    """

    def __init__(self, *widths: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(inputs, outputs) for inputs, outputs in pairwise(widths))

    def forward(self, x: Tensor) -> Tensor:
        """(..., first width) → (..., last width)."""
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        last: Tensor = self.layers[-1](x)
        return last


class FeedForward(nn.Module):
    """Widen, ReLU, narrow, plus the input, normalised: the second half of a transformer's layer."""

    def __init__(self, width: int, hidden: int, *, dropout: float) -> None:
        super().__init__()
        self.widen = nn.Linear(width, hidden)
        self.narrow = nn.Linear(hidden, width)
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) → (..., D)."""
        hidden = self.dropout(F.relu(self.widen(x)))
        out: Tensor = self.norm(x + self.dropout(self.narrow(hidden)))
        return out


def attend(queries: Tensor, keys: Tensor, values: Tensor, *, heads: int, dropout: float = 0.0) -> Tensor:
    """Attention with several heads and no projections: (B, N, D), (B, K, D), (B, K, D) → (B, N, D)."""
    query, key, value = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (queries, keys, values))
    return F.scaled_dot_product_attention(query, key, value, dropout_p=dropout).transpose(1, 2).flatten(2)
