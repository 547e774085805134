"""Words to one query vector, clips to encoded clips: the field's small transformers, or one linear map a side.

`transformer` is what every peer uses: LayerNorm, dropout, linear, ReLU, learned positions, LayerNorm, one post-norm
layer. With a few hundred videos it learns them by heart. `linear` keeps frozen features as they are but for one matrix
a side, so a window of clips is exactly the mean of its clips, and the words' sentence vector stays in reach through a
pooling that starts as a plain mean.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

if TYPE_CHECKING:
    from torch import Tensor

    from trifocal.retrieval.model.config import RetrieverConfig

__all__ = ["AttentionPool", "LinearEncoder", "SequenceEncoder", "TextEncoder", "build_sequence_encoder"]


class LinearEncoder(nn.Module):
    """Dropout and one matrix, orthogonal at the start: rows keep their lengths and angles.

    Args:
        width: of the input.
        hidden: D.
        dropout: share of input values dropped.
    """

    def __init__(self, width: int, hidden: int, *, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.project = nn.Linear(width, hidden, bias=False)
        nn.init.orthogonal_(self.project.weight)

    def embed(self, x: Tensor, mask: Tensor | None = None) -> Tensor:  # noqa: ARG002  (the other encoder needs it)
        """(B, L, width) to (B, L, D); what masked words are compared with."""
        return torch.as_tensor(self.project(self.dropout(x)))

    def contextualise(self, embedded: Tensor, mask: Tensor | None = None) -> Tensor:  # noqa: ARG002
        """Nothing: a linear encoder has no context."""
        return embedded


class SequenceEncoder(nn.Module):
    """The field's encoder of a sequence: linear block, learned positions, one post-norm transformer layer.

    Args:
        width: of the input.
        hidden: D.
        length: longest sequence.
        heads: attention heads.
        dropout: of inputs and inside.
    """

    def __init__(self, width: int, hidden: int, *, length: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.input = nn.Sequential(nn.LayerNorm(width), nn.Dropout(dropout), nn.Linear(width, hidden), nn.ReLU())
        self.position = nn.Embedding(length, hidden)
        self.norm = nn.LayerNorm(hidden)
        self.dropout = nn.Dropout(dropout)
        self.layer = nn.TransformerEncoderLayer(hidden, heads, hidden, dropout, batch_first=True)
        nn.init.normal_(self.position.weight, std=0.02)

    def embed(self, x: Tensor, mask: Tensor | None = None) -> Tensor:  # noqa: ARG002
        """Rows of unit length through the linear block: (B, L, width) to (B, L, D)."""
        return torch.as_tensor(self.input(F.normalize(x, dim=-1)))

    def contextualise(self, embedded: Tensor, mask: Tensor | None = None) -> Tensor:
        """Positions and the transformer layer; padding is not attended to."""
        x = self.dropout(self.norm(embedded + self.position.weight[: embedded.shape[1]]))
        return torch.as_tensor(self.layer(x, src_key_padding_mask=None if mask is None else ~mask))


def build_sequence_encoder(width: int, config: RetrieverConfig, *, length: int) -> LinearEncoder | SequenceEncoder:
    """The encoder that the configuration names, for inputs of that width."""
    if config.encoder == "linear":
        return LinearEncoder(width, config.hidden, dropout=config.dropout)
    return SequenceEncoder(width, config.hidden, length=length, heads=config.heads, dropout=config.dropout)


class AttentionPool(nn.Module):
    """One vector of a sequence: Σ softmax(w·x) x over what the mask leaves.

    Args:
        hidden: D.
        edges: learn a bias for the first and the last element too.
    """

    # With edges, a step of an optimiser should move the share of the last word visibly: logits move 8 times faster.
    _EDGE_RATE = 8.0

    def __init__(self, hidden: int, *, edges: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(hidden))
        self.edges = nn.Parameter(torch.zeros(2)) if edges else None

    def forward(self, x: Tensor, mask: Tensor, *, source: Tensor | None = None) -> Tensor:
        """(N, L, D) and bool (N, L) to (N, D); `source` gives the logits instead of x, where it is another tensor."""
        logits = (x if source is None else source) @ self.weight  # (N, L)
        if self.edges is not None:
            place = torch.arange(mask.shape[1], device=mask.device)
            last = (mask * place).amax(dim=1)  # (N,)
            bias = self._EDGE_RATE * self.edges
            logits = logits + bias[0] * (place == 0) + bias[1] * (place[None] == last[:, None])
        share = logits.masked_fill(~mask, -torch.inf).softmax(dim=1)
        return (share.unsqueeze(1) @ x).squeeze(1)


class TextEncoder(nn.Module):
    """Word features to one query vector a caption.

    Args:
        config: names the encoder and the pooling.
    """

    def __init__(self, config: RetrieverConfig) -> None:
        super().__init__()
        self.encoder = build_sequence_encoder(config.text_dim, config, length=config.max_words)
        self.pool = AttentionPool(config.hidden, edges=config.pool_edges)

    def embed(self, words: Tensor) -> Tensor:
        """Word features (N, L, text_dim) to projected words (N, L, D)."""
        return self.encoder.embed(words)

    def forward(self, words: Tensor, mask: Tensor) -> Tensor:
        """Word features (N, L, text_dim) and their mask (N, L) to query vectors (N, D), of any length."""
        return torch.as_tensor(self.pool(self.encoder.contextualise(self.encoder.embed(words), mask), mask))
