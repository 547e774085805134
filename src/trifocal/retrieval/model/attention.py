"""The paper's prototype generator: shared learnable prototypes ask the video's tokens, by cross-attention only.

    P̂⁰ = P (shared, learned, drawn from N(0, 1)),   P̂ᵏ = CA(P̂ᵏ⁻¹, V, V)

No self-attention among prototypes and no feed-forward layer, on purpose: prototypes stay independent. What keeps them
from collapsing (measured, see the method page): no residual around the last layer, because with it the shared P
outweighs the video and one prototype wins every query; value and output maps that start as identities, so that a
prototype is a mean of tokens in the space of the queries; and sharper logits at the start, so that it is not the mean
of all. `slots` is the same with competition: the softmax runs over prototypes, so tokens are claimed, not shared.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import nn

from trifocal.retrieval.model.tokens import PrototypeSet

if TYPE_CHECKING:
    from torch import Tensor

    from trifocal.retrieval.model.config import RetrieverConfig
    from trifocal.retrieval.model.tokens import VideoTokens

__all__ = ["AttentionGenerator", "CrossAttention", "balanced"]


def balanced(logits: Tensor, *, rounds: int) -> Tensor:
    """Logits (..., K, V) to shares of tokens by Sinkhorn's rounds: each token sums to 1, each prototype to V/K.

    `rounds` = 0 is the plain softmax over prototypes; masked tokens (−∞ everywhere) stay at 0.
    """
    log = logits
    V = (logits > -torch.inf).any(dim=-2, keepdim=True).sum(dim=-1, keepdim=True)  # tokens that are not padding
    for _ in range(rounds):
        log = log - log.logsumexp(dim=-1, keepdim=True) + (V / logits.shape[-2]).log()
        log = (log - log.logsumexp(dim=-2, keepdim=True)).nan_to_num(nan=-torch.inf)
    return log.softmax(dim=-2).nan_to_num(nan=0.0)


class CrossAttention(nn.Module):
    """Multi-head attention of prototypes over tokens that also gives its weights.

    Args:
        hidden: D.
        heads: attention heads.
        identity_values: start value and output maps as identities.
        sharpness: factor on the logits at the start (learned from there).
        layer_norm: normalise the outcome.
        residual: add the asking prototypes to the outcome.
        compete: softmax over prototypes, then every prototype takes the mean of what it claimed.
        sinkhorn: balancing rounds of the competition.
    """

    def __init__(
        self,
        hidden: int,
        *,
        heads: int,
        identity_values: bool,
        sharpness: float,
        layer_norm: bool,
        residual: bool,
        compete: bool,
        sinkhorn: int,
    ) -> None:
        super().__init__()
        self.heads, self.residual, self.compete, self.sinkhorn = heads, residual, compete, sinkhorn
        self.query, self.key = nn.Linear(hidden, hidden), nn.Linear(hidden, hidden)
        self.value, self.output = nn.Linear(hidden, hidden), nn.Linear(hidden, hidden)
        self.norm = nn.LayerNorm(hidden) if layer_norm else nn.Identity()
        self.log_sharpness = nn.Parameter(torch.tensor(math.log(sharpness)))
        for linear in (self.query, self.key, self.value, self.output):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)
        if identity_values:
            nn.init.eye_(self.value.weight)
            nn.init.eye_(self.output.weight)

    def forward(self, prototypes: Tensor, video: VideoTokens) -> tuple[Tensor, Tensor]:
        """Prototypes (B, K, D) over a video's V tokens: (B, K, D) and weights (B, heads, K, V)."""
        q, mask = self._split(self.query(prototypes)), video.mask
        k, v = self._split(video.project(self.key)), self._split(video.project(self.value))
        logits = q @ k.transpose(-1, -2) * (self.log_sharpness.exp() / math.sqrt(q.shape[-1]))  # (B, h, K, V)
        if mask is not None:
            logits = logits.masked_fill(~mask[:, None, None], -torch.inf)
        if self.compete:
            claimed = balanced(logits, rounds=self.sinkhorn) + 1e-8
            if mask is not None:
                claimed = claimed * mask[:, None, None]
            weights = claimed / claimed.sum(dim=-1, keepdim=True)
        else:
            weights = logits.softmax(dim=-1)
        taken = (weights @ v).transpose(1, 2).flatten(2)  # (B, K, D)
        out = self.output(taken)
        return self.norm(out + prototypes if self.residual else out), weights

    def alone(self, tokens: Tensor, prototype: Tensor) -> Tensor:
        """What becomes of tokens (..., D) when each is all that the prototype (D,) looks at."""
        out = self.output(self.value(tokens))
        return torch.as_tensor(self.norm(out + prototype if self.residual else out))

    def _split(self, x: Tensor) -> Tensor:
        return torch.unflatten(x, -1, (self.heads, -1)).transpose(1, 2)  # (B, h, L, D/h)


class AttentionGenerator(nn.Module):
    """Shared prototypes and their layers of cross-attention; all but the last layer keep the residual.

    Args:
        config: K, the layers and their switches; `generator` "slots" makes the prototypes compete.
    """

    def __init__(self, config: RetrieverConfig) -> None:
        super().__init__()
        self.prototypes = nn.Parameter(torch.randn(config.prototypes, config.hidden) * config.prototype_std)
        self.join = config.attention_heads

        def layer(*, last: bool) -> CrossAttention:
            return CrossAttention(
                config.hidden,
                heads=config.heads,
                identity_values=config.identity_values,
                sharpness=config.sharpness,
                layer_norm=config.layer_norm,
                residual=config.residual_last or not last,
                compete=config.generator == "slots",
                sinkhorn=config.sinkhorn,
            )

        if config.share_layers:
            # One set of weights can have one form only: the last layer's.
            self.layers = nn.ModuleList([layer(last=True)] * config.layers)
        else:
            self.layers = nn.ModuleList(layer(last=i == config.layers - 1) for i in range(config.layers))

    def alone(self, tokens: Tensor) -> Tensor:
        """Tokens (..., D) in the space of the prototypes: each as a prototype that looks at nothing else."""
        last = self.layers[-1]
        assert isinstance(last, CrossAttention)
        return last.alone(tokens, self.prototypes.mean(dim=0))

    def forward(self, video: VideoTokens) -> PrototypeSet:
        """Prototypes of B videos with the last layer's attention."""
        prototypes = self.prototypes.expand(len(video.clips), -1, -1)
        weights = torch.empty(0)
        for layer in self.layers:
            prototypes, weights = layer(prototypes, video)
        if self.join == "mean":
            return PrototypeSet(vectors=prototypes, attention=weights.mean(dim=1))
        strongest = weights.amax(dim=1)
        return PrototypeSet(vectors=prototypes, attention=strongest / strongest.sum(dim=-1, keepdim=True))
