"""The classifying decoder layer (CDL): what each actor does, one query and one attention map per class.

The actor's feature is spread over its context map and three convolution blocks, of one set of weights, mix the two.
Class queries look at one another, then at the map. As published, half of the heads match content alone and half match
the actor's position alone: the latter are the same for every class, so they are computed once per actor. The content
heads are the class-specific attention maps.
"""

# Torch leaves the results of modules and `Tensor.unflatten` without types.
# mypy: allow-untyped-calls, disable-error-code="no-any-return"

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trifocal.action.layers import FeedForward, attend

__all__ = ["ClassifyLayer", "ConvBlock"]

MAP_NORM_EPSILON = 1e-6


class ConvBlock(nn.Module):
    """3×3 convolution, norm, widen by four, GELU, narrow; plus the input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.norm = nn.LayerNorm(width, eps=MAP_NORM_EPSILON)
        self.widen = nn.Linear(width, 4 * width)
        self.narrow = nn.Linear(4 * width, width)

    def forward(self, maps: Tensor) -> Tensor:
        """(P, H, W, D) → (P, H, W, D)."""
        mixed = self.conv(maps.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)  # channels last in memory throughout
        return maps + self.narrow(F.gelu(self.widen(self.norm(mixed))))


class ClassifyLayer(nn.Module):
    """One layer.

    Args:
        width: D.
        hidden: of the feed-forward parts.
        heads: M.
        dropout: while training.
        split_heads: half of the heads for content, half for position, as published; else every head has both.
        shared_block: one convolution block applied three times, as published, or three.
    """

    def __init__(
        self, width: int, hidden: int, *, heads: int, dropout: float, split_heads: bool, shared_block: bool
    ) -> None:
        super().__init__()
        self.heads, self.split_heads = heads, split_heads
        self.actor_feed_forward = FeedForward(width, hidden, dropout=dropout)
        self.map_norm = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(ConvBlock(width) for _ in range(1 if shared_block else 3))
        self.self_output = nn.Linear(width, width)
        self.self_norm = nn.LayerNorm(width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.query_box = nn.Linear(width, width)
        self.output = nn.Linear(width, width)
        self.feed_forward = FeedForward(width, hidden, dropout=dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        queries: Tensor,
        *,
        actor: Tensor,
        context: Tensor,
        position: Tensor,
        query_box: Tensor,
        grid: tuple[int, int],
        padding: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """Classify some actors.

        Args:
            queries: (P or 1, A, D) class queries.
            actor: (P, D), from the localizing layer.
            context: (P, K, D), the actors' maps.
            position: (P, K, D), code of the cells.
            query_box: (P, D), sines of the actors' boxes.
            grid: height and width; their product is K.
            padding: bool (P, K), True where class queries may not look, or `None`.

        Returns:
            (P, A, D), the next layer's queries, and the attention weights (P, M, A, K), softmaxed over K; with
            `split_heads` the first half of the heads is content and the second position.
        """
        maps = self.fuse(actor, context, grid)
        queries = self.self_norm(queries + self.dropout(self.self_output(self._among_classes(queries))))
        content, place = self.attention(queries, maps, position, query_box, padding)
        values = self.value(context).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (P, M, K, d)
        half = content.shape[1]
        drop = self.dropout.p
        looked = F.dropout(content, drop, self.training) @ values[:, :half]  # (P, M or M/2, A, d)
        weights = content
        if place is not None:
            once = F.dropout(place, drop, self.training) @ values[:, half:]  # (P, M/2, 1, d)
            looked = torch.cat((looked, once.expand_as(looked)), 1)
            weights = torch.cat((content, place.expand_as(content)), 1)
        classes: Tensor = self.output(looked.transpose(1, 2).flatten(2))
        return self.feed_forward(classes), weights

    def fuse(self, actor: Tensor, context: Tensor, grid: tuple[int, int]) -> Tensor:
        """The actor's feature mixed into its map: (P, D) and (P, K, D) → (P, K, D)."""
        spread = self.actor_feed_forward(actor)[:, None] + context
        maps = self.map_norm(spread).unflatten(1, grid)
        for number in range(3):
            maps = self.blocks[number % len(self.blocks)](maps)
        return maps.flatten(1, 2)

    def attention(
        self, queries: Tensor, maps: Tensor, position: Tensor, query_box: Tensor, padding: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Weights over the cells: of content (P, M/2, A, K) and of position (P, M/2, 1, K), or joint (P, M, A, K)."""
        heads = self.heads // 2 if self.split_heads else self.heads
        scale = (2 * queries.shape[-1] / self.heads) ** -0.5

        def by_head(x: Tensor) -> Tensor:
            return x.unflatten(-1, (heads, -1)).transpose(-2, -3)  # (..., heads, items, d)

        keys = by_head(self.key(maps)).transpose(-1, -2)
        content = by_head(queries) @ keys * scale
        place = by_head(self.query_box(query_box)[:, None]) @ by_head(position).transpose(-1, -2) * scale
        blocked = None if padding is None else padding[:, None, None]
        if not self.split_heads:
            return _softmax(content + place, blocked), None
        return _softmax(content, blocked), _softmax(place, blocked)

    def _among_classes(self, queries: Tensor) -> Tensor:
        dropout = self.dropout.p if self.training else 0.0
        return attend(queries, queries, queries, heads=self.heads, dropout=dropout)


def _softmax(logits: Tensor, blocked: Tensor | None) -> Tensor:
    return (logits if blocked is None else logits.masked_fill(blocked, -torch.inf)).softmax(-1)
