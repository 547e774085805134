"""The deformable encoder: every token of every level looks at a few points of all levels, layer by layer.

Layers normalise after adding, as in Deformable DETR. While gradients are off, tokens are updated in place chunk by
chunk, because the values that are looked at were projected before; so one copy of the tokens is all that a layer needs.
The last layer updates only those tokens that are read afterwards.
"""

# Torch leaves the results of modules and `Tensor.unflatten` without types.
# mypy: allow-untyped-calls, disable-error-code="no-any-return"

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from trifocal.action.deformable import DeformableAttention, Prepared, Sampling, resolve, side_table
from trifocal.action.layers import FeedForward

if TYPE_CHECKING:
    from trifocal.action.atlas import LevelShape

__all__ = ["DeformableEncoder", "TokenGrid"]


@dataclass(frozen=True, slots=True)
class TokenGrid:
    """How tokens lie.

    Args:
        shapes: (T, H, W) of each level; tokens stand level after level, frame after frame, row after row.
        padding: bool (B, N), True where a token is outside its clip; `None` where none is.
        valid: (B, L, 3) share of each level that is inside the clip, in (x, y, t); `None` for all of it.
    """

    shapes: list[LevelShape]
    padding: Tensor | None = None
    valid: Tensor | None = None

    def centres(self, clip: int, *, device: torch.device) -> Tensor:
        """(N, 3 L): where the tokens of one clip stand in each level, as x, y and t in cells."""
        rows = []
        for level, (frames, height, width) in enumerate(self.shapes):
            sides = [torch.arange(side, device=device) + 0.5 for side in (frames, height, width)]
            t, y, x = torch.meshgrid(*sides, indexing="ij")
            place = torch.stack((x / width, y / height, t / frames), -1).flatten(0, -2)
            rows.append(place if self.valid is None else place / self.valid[clip, level])
        share = torch.cat(rows)[:, None].expand(-1, len(self.shapes), -1)  # (N, L, 3)
        if self.valid is not None:
            share = share * self.valid[clip]
        return (share * side_table(self.shapes, share).flip(-1) - 0.5).flatten(1)


class EncoderLayer(nn.Module):
    """Look, add, normalise; then the feed-forward part."""

    def __init__(
        self,
        width: int,
        hidden: int,
        *,
        levels: int,
        heads: int,
        points: int,
        dropout: float,
        correct_offsets: bool,
    ) -> None:
        super().__init__()
        self.attention = DeformableAttention(
            width, levels=levels, heads=heads, points=points, correct_offsets=correct_offsets
        )
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(width)
        self.feed_forward = FeedForward(width, hidden, dropout=dropout)

    def forward(self, tokens: Tensor, code: Tensor, centres: Tensor, prepared: Prepared) -> Tensor:
        """Tokens of one clip, or some of them: (C, D) → (C, D)."""
        seen = self.attention(tokens + code, centres, prepared)
        return cast("Tensor", self.feed_forward(self.norm(tokens + self.dropout(seen))))


class DeformableEncoder(nn.Module):
    """All layers.

    Attributes:
        sampling: how points are gathered; see `trifocal.action.deformable`.
        chunk_bytes: about what a chunk of queries may take while its points are gathered.
        skip_unread: let the last layer leave out tokens that nothing reads. The outputs are the same.
        recompute: in training, keep only each chunk's input and compute it again for the gradients.
    """

    def __init__(
        self,
        width: int,
        hidden: int,
        *,
        layers: int,
        levels: int,
        heads: int,
        points: int,
        dropout: float,
        correct_offsets: bool,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            EncoderLayer(
                width,
                hidden,
                levels=levels,
                heads=heads,
                points=points,
                dropout=dropout,
                correct_offsets=correct_offsets,
            )
            for _ in range(layers)
        )
        self.sampling: Sampling = "auto"
        self.chunk_bytes: int | None = None
        self.skip_unread = True
        self.recompute = False

    def forward(self, tokens: Tensor, code: Tensor, grid: TokenGrid, *, read: Tensor | None = None) -> Tensor:
        """Encode.

        Args:
            tokens: (B, N, D); overwritten while gradients are off.
            code: (B or 1, N, D), positions and levels.
            grid: how the tokens lie.
            read: int64 (R,), the tokens that are read afterwards; others may come back as the last layer but one left
                them. `None` for all.

        Returns:
            (B, N, D).
        """
        clips = [
            self._encode(tokens[clip], code[min(clip, len(code) - 1)], grid, clip, read if self.skip_unread else None)
            for clip in range(len(tokens))
        ]
        return tokens if not torch.is_grad_enabled() and not torch.compiler.is_exporting() else torch.stack(clips)

    def _encode(self, tokens: Tensor, code: Tensor, grid: TokenGrid, clip: int, read: Tensor | None) -> Tensor:
        centres = grid.centres(clip, device=tokens.device)
        exporting = torch.compiler.is_exporting()
        for number, layer in enumerate(self.layers):
            assert isinstance(layer, EncoderLayer)
            padding = None if grid.padding is None else grid.padding[clip]
            prepared = layer.attention.prepare(tokens, grid.shapes, padding=padding, sampling=self.sampling)
            if number == len(self.layers) - 1 and read is not None:
                updated = self._update(layer, tokens[read], code[read], centres[read], prepared)
                if torch.is_grad_enabled() or exporting:
                    tokens = tokens.index_copy(0, read, updated)
                else:
                    tokens[read] = updated
            elif exporting:
                tokens = layer(tokens, code, centres, prepared)
            else:
                tokens = self._update(layer, tokens, code, centres, prepared)
        return tokens

    def _update(self, layer: EncoderLayer, tokens: Tensor, code: Tensor, centres: Tensor, prepared: Prepared) -> Tensor:
        chunk = self._chunk(tokens, layer.attention)
        if not torch.is_grad_enabled():
            for start in range(0, len(tokens), chunk):
                part = slice(start, start + chunk)
                tokens[part] = layer(tokens[part], code[part], centres[part], prepared)
            return tokens
        parts = []
        for start in range(0, len(tokens), chunk):
            part = slice(start, start + chunk)
            given = (tokens[part], code[part], centres[part], prepared)
            again = self.recompute and self.training
            parts.append(checkpoint(layer, *given, use_reentrant=False) if again else layer(*given))
        return torch.cat(parts)

    def _chunk(self, tokens: Tensor, attention: DeformableAttention) -> int:
        """Queries per chunk. A bag's planes should fit the caches of a CPU; otherwise large chunks pay."""
        looks = attention.heads * attention.levels * attention.points
        sampling = resolve(self.sampling, tokens.device)
        if sampling == "bag":
            each, budget = looks * 4 * 16, 4 * 2**20
        else:  # rows of one corner, or samples of one level, and what is kept for the gradients
            each, budget = looks * 4 * (tokens.shape[-1] // attention.heads + 16), 512 * 2**20
        return max(64, (self.chunk_bytes or budget) // each)
