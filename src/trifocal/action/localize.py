"""The localizing decoder layer (LDL): where the actors are.

Actor queries look at one another, each mixes the levels into its own context map, and looks at that map with the
conditional positions of DAB-DETR. The keys and values of an actor's map serve that one query alone, so the projections
are applied to the query and to the weighted sum instead of to every cell: the same numbers for a fraction of the work.
"""

# Torch leaves the results of modules and `Tensor.unflatten` without types.
# mypy: allow-untyped-calls, disable-error-code="no-any-return"

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trifocal.action.layers import FeedForward, attend

__all__ = ["LocalizeLayer", "Localized"]


class Localized(NamedTuple):
    """What a localizing layer found, per frame (N) and actor (Q).

    `target` (N, Q, D) goes on to the next layer; `actor` (N, Q, D) and `context` (N, Q, K, D), the actors' own maps, to
    the classifying layer.
    """

    target: Tensor
    actor: Tensor
    context: Tensor


class LocalizeLayer(nn.Module):
    """One layer.

    Args:
        width: D.
        hidden: of the feed-forward part.
        levels: L.
        heads: M.
        dropout: while training.
        first: the first layer also adds the box's position to the content of its queries and keys.
    """

    def __init__(self, width: int, hidden: int, *, levels: int, heads: int, dropout: float, first: bool) -> None:
        super().__init__()
        self.heads = heads
        self.self_query_content = nn.Linear(width, width)
        self.self_query_position = nn.Linear(width, width)
        self.self_key_content = nn.Linear(width, width)
        self.self_key_position = nn.Linear(width, width)
        self.self_value = nn.Linear(width, width)
        self.self_output = nn.Linear(width, width)
        self.self_norm = nn.LayerNorm(width)
        self.level_weights = nn.Linear(width, levels)
        self.context_norm = nn.LayerNorm(width)
        self.query_content = nn.Linear(width, width)
        self.query_position = nn.Linear(width, width) if first else None
        self.query_box = nn.Linear(width, width)
        self.key_content = nn.Linear(width, width)
        self.key_position = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.feed_forward = FeedForward(width, hidden, dropout=dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        target: Tensor,
        *,
        query_position: Tensor,
        query_box: Tensor,
        memory: Tensor,
        position: Tensor,
        padding: Tensor | None,
    ) -> Localized:
        """Refine the actors.

        Args:
            target: (N, Q, D).
            query_position: (N, Q, D), of the actors' boxes.
            query_box: (N, Q, D), sines of the boxes' centres, scaled by their sizes.
            memory: (N, L, K, D), the levels on one grid of K cells.
            position: (N, K, D), code of the cells.
            padding: bool (N, K), True outside the clip; `None` for no padding.
        """
        target = self._among_actors(target, query_position)
        context = self._context(self.level_weights(target).softmax(-1), memory)
        looked = self._look(target, query_position, query_box, context, position, padding)
        actor = self.norm(target + self.dropout(self.output(looked)))
        return Localized(self.feed_forward(actor), actor, context)

    def _context(self, level_weights: Tensor, memory: Tensor) -> Tensor:
        """Each actor's own map: (N, Q, L) of (N, L, K, D) → (N, Q, K, D)."""
        mixed = torch.bmm(level_weights, memory.flatten(2)).unflatten(-1, memory.shape[2:])
        normed: Tensor = self.context_norm(mixed)
        return normed

    def _among_actors(self, target: Tensor, query_position: Tensor) -> Tensor:
        queries = self.self_query_content(target) + self.self_query_position(query_position)
        keys = self.self_key_content(target) + self.self_key_position(query_position)
        dropout = self.dropout.p if self.training else 0.0
        seen = attend(queries, keys, self.self_value(target), heads=self.heads, dropout=dropout)
        normed: Tensor = self.self_norm(target + self.dropout(self.self_output(seen)))
        return normed

    def _look(
        self,
        target: Tensor,
        query_position: Tensor,
        query_box: Tensor,
        context: Tensor,
        position: Tensor,
        padding: Tensor | None,
    ) -> Tensor:
        weights = self.attention(target, query_position, query_box, context, position, padding)  # (N, Q, M, K)
        weights = F.dropout(weights, self.dropout.p, self.training)
        summed = weights @ context  # (N, Q, M, D): per head, of whole cells
        projection = self.value.weight.unflatten(0, (self.heads, -1))  # (M, d, D)
        looked = torch.einsum("nqmc,mdc->nqmd", summed, projection).flatten(-2)
        # Weights sum to one, so the bias comes out as it is, except where dropout changed their sum.
        share = weights.sum(-1, keepdim=True)  # (N, Q, M, 1)
        return looked + (share * self.value.bias.unflatten(0, (self.heads, -1))).flatten(-2)

    def attention(
        self,
        target: Tensor,
        query_position: Tensor,
        query_box: Tensor,
        context: Tensor,
        position: Tensor,
        padding: Tensor | None,
    ) -> Tensor:
        """Weights of the cells: (N, Q, M, K)."""
        split = (self.heads, -1)
        content = self.query_content(target)
        box = self.query_box(query_box)
        if self.query_position is not None:
            content = content + self.query_position(query_position)
            box = box + content  # in the first layer the keys' position is part of their content too
        content, box = content.unflatten(-1, split), box.unflatten(-1, split)  # (N, Q, M, d)
        absorbed = torch.einsum("nqmd,mdc->nqmc", content, self.key_content.weight.unflatten(0, split))
        logits = absorbed @ context.transpose(-1, -2)  # (N, Q, M, K)
        logits = logits + (content * self.key_content.bias.unflatten(0, split)).sum(-1, keepdim=True)
        keys = self.key_position(position).unflatten(-1, split)  # (N, K, M, d)
        logits = logits + torch.einsum("nqmd,nkmd->nqmk", box, keys)
        logits = logits * (2 * content.shape[-1]) ** -0.5
        if padding is not None:
            logits = logits.masked_fill(padding[:, None, None], -torch.inf)
        return logits.softmax(-1)
