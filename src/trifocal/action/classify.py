"""The classifying decoder layer (CDL): what each actor does, one query and one attention map per class.

The actor's feature is spread over its context map and three convolution blocks, of one set of weights, mix the two.
Class queries look at one another, then at the map. As published, half of the heads match content alone and half match
the actor's position alone: the latter are the same for every class, so they are computed once per actor. The content
heads are the class-specific attention maps. While only the numbers are wanted and classes are few, the projections of
keys and values are applied to queries and sums, as in the localizing layer.
"""

# Torch leaves the results of modules and `Tensor.unflatten` without types.
# mypy: allow-untyped-calls, disable-error-code="no-any-return"

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trifocal.action.layers import ROWS, FeedForward, attend, lean, widened
from trifocal.action.winograd import convolution

if TYPE_CHECKING:
    from collections.abc import Callable

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

    def forward(self, maps: Tensor, convolve: Callable[[Tensor], Tensor]) -> Tensor:
        """(P, H, W, D) → (P, H, W, D); `convolve` is what `convolution` makes of `conv`."""
        return maps + widened(convolve(maps), self.widen, self.narrow, norm=self.norm)


class ClassifyLayer(nn.Module):
    """One layer.

    Args:
        width: D.
        hidden: of the feed-forward parts.
        heads: M.
        dropout: while training.
        split_heads: half of the heads for content, half for position, as published; else every head has both.
        shared_block: one convolution block applied three times, as published, or three.
        carry_classes: add to what the class queries saw what tells each from their mean; nothing, as published.
    """

    def __init__(
        self,
        width: int,
        hidden: int,
        *,
        heads: int,
        dropout: float,
        split_heads: bool,
        shared_block: bool,
        carry_classes: bool,
    ) -> None:
        super().__init__()
        self.heads, self.split_heads, self.carry_classes = heads, split_heads, carry_classes
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
        place: Tensor,
        grid: tuple[int, int],
        padding: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """Classify some actors.

        Args:
            queries: (P or 1, A, D) class queries.
            actor: (P, D), from the localizing layer.
            context: (P, K, D), the actors' maps.
            place: (P, M/2 or M, K), how well cells fit the actors' boxes, from `places`.
            grid: height and width; their product is K.
            padding: bool (P, K), True where class queries may not look, or `None`.

        Returns:
            (P, A, D), the next layer's queries, and the attention weights (P, M, A, K), softmaxed over K; with
            `split_heads` the first half of the heads is content and the second position.
        """
        maps = self.fuse(actor, context, grid)
        queries = self.self_norm(queries + self.dropout(self.self_output(self._among_classes(queries))))
        content, by_place = self.attention(queries, maps, place, padding)
        looked = self._look(content, by_place, context)
        weights = content if by_place is None else torch.cat((content, by_place.expand_as(content)), 1)
        classes: Tensor = self.output(looked.transpose(1, 2).flatten(2))
        if self.carry_classes:
            classes = classes + (queries - queries.mean(1, keepdim=True))
        return self.feed_forward(classes), weights

    def places(self, query_box: Tensor, position: Tensor) -> Tensor:
        """How well cells fit the actors' boxes, for all actors of a frame at once.

        Args:
            query_box: (N, Q, D), sines of the actors' boxes.
            position: (N, K, D), code of the cells.

        Returns:
            (N, Q, M/2 or M, K), logits.
        """
        split = (self._key_heads, -1)
        boxes = self.query_box(query_box).unflatten(-1, split)  # (N, Q, heads, d)
        cells = position.unflatten(-1, split)  # (N, K, heads, d)
        return torch.einsum("nqhd,nkhd->nqhk", boxes, cells) * self._scale

    def fuse(self, actor: Tensor, context: Tensor, grid: tuple[int, int]) -> Tensor:
        """The actor's feature mixed into its map: (P, D) and (P, K, D) → (P, K, D).

        On a CPU some pairs go through all blocks at a time while only the numbers are wanted, and stay in the caches.
        """
        spread = self.actor_feed_forward(actor)[:, None]
        convolve = [convolution(cast("ConvBlock", block).conv, context.unflatten(1, grid)) for block in self.blocks]
        pairs = max(1, ROWS // context.shape[1]) if lean() and context.device.type == "cpu" else len(context)
        parts = []
        for own, around in zip(spread.split(pairs), context.split(pairs), strict=True):
            maps = self.map_norm(own + around).unflatten(1, grid)
            for number in range(3):
                maps = self.blocks[number % len(self.blocks)](maps, convolve[number % len(self.blocks)])
            parts.append(maps.flatten(1, 2))
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    @property
    def _key_heads(self) -> int:
        return self.heads // 2 if self.split_heads else self.heads

    @property
    def _scale(self) -> float:
        return (2 * self.key.in_features / self.heads) ** -0.5

    def _absorbs(self, classes: int) -> bool:
        """Whether queries and sums of `classes` classes are less to project than cells."""
        return self.split_heads and lean() and classes * self._key_heads < self.key.in_features

    def attention(
        self, queries: Tensor, maps: Tensor, place: Tensor, padding: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Weights over the cells: of content (P, M/2, A, K) and of position (P, M/2, 1, K), or joint (P, M, A, K)."""
        by_head = queries.unflatten(-1, (self._key_heads, -1)).transpose(1, 2)  # (P or 1, heads, A, d)
        if self._absorbs(queries.shape[1]):
            # The key's bias is the same for all cells, which a softmax over cells does not see.
            wide = by_head @ self.key.weight.unflatten(0, (self._key_heads, -1))  # (P or 1, heads, A, D)
            wide = wide.flatten(1, 2).expand(len(maps), -1, -1)
            content = (wide @ maps.transpose(1, 2)).unflatten(1, (self._key_heads, -1))
        else:
            keys = self.key(maps).unflatten(-1, (self._key_heads, -1))  # (P, K, heads, d)
            content = by_head @ keys.permute(0, 2, 3, 1)
        content = content * self._scale
        place = place[:, :, None]
        blocked = None if padding is None else padding[:, None, None]
        if not self.split_heads:
            return _softmax(content + place, blocked), None
        return _softmax(content, blocked), _softmax(place, blocked)

    def _look(self, content: Tensor, place: Tensor | None, context: Tensor) -> Tensor:
        """Values by the weights: (P, M, A, d)."""
        drop = self.dropout.p
        half = content.shape[1]
        if place is not None and self._absorbs(content.shape[2]):
            summed = torch.cat((content.flatten(1, 2), place.flatten(1, 2)), 1) @ context  # (P, heads * A + heads, D)
            parts = summed.split((summed.shape[1] - half, half), 1)
            weight = self.value.weight.unflatten(0, (2, half, -1)).transpose(-1, -2)  # (2, heads, D, d)
            looked, once = (part.unflatten(1, (half, -1)) @ own for part, own in zip(parts, weight, strict=True))
            looked = torch.cat((looked, once.expand_as(looked)), 1)
            return looked + self.value.bias.unflatten(0, (self.heads, 1, -1))  # weights sum to one
        values = self.value(context).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (P, M, K, d)
        looked = F.dropout(content, drop, self.training) @ values[:, :half]  # (P, M or M/2, A, d)
        if place is None:
            return looked
        once = F.dropout(place, drop, self.training) @ values[:, half:]  # (P, M/2, 1, d)
        return torch.cat((looked, once.expand_as(looked)), 1)

    def _among_classes(self, queries: Tensor) -> Tensor:
        dropout = self.dropout.p if self.training else 0.0
        return attend(queries, queries, queries, heads=self.heads, dropout=dropout)


def _softmax(logits: Tensor, blocked: Tensor | None) -> Tensor:
    return (logits if blocked is None else logits.masked_fill(blocked, -torch.inf)).softmax(-1)
