"""Heads that exist in training only: words rebuilt from the retrieved prototype, the video rebuilt from its prototypes.

The trap of the first. The paper rebuilds words by cross-attention from masked words to the one retrieved prototype:
SA(CA(fc_q(T̄); fc_k(p̂*); fc_v(p̂*))). With one key the softmax over keys is 1 whatever the query, so fc_q and fc_k get
no gradient and every word receives the same vector fc_v(p̂*). Taken literally, without the residual and positions, all
masked words come out identical and the loss can teach nothing. Here the function is written as what it is,
LN(T̄ + W p̂*), positions and the other words kept, and the self-attention after it tells the masked words apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from torch import Tensor

    from trifocal.retrieval.model.config import RetrieverConfig

__all__ = ["VideoDecoder", "WordDecoder"]


class WordDecoder(nn.Module):
    """Masked words (N, L, D) and a prototype each (N, D) to rebuilt words.

    Args:
        config: D, heads, dropout, longest caption, and which width the target has.
    """

    def __init__(self, config: RetrieverConfig) -> None:
        super().__init__()
        D = config.hidden
        self.mask_token = nn.Parameter(torch.randn(D) * 0.02)
        self.position = nn.Embedding(config.max_words, D)
        self.value = nn.Linear(D, D)
        self.norm = nn.LayerNorm(D)
        self.layer = nn.TransformerEncoderLayer(D, config.heads, D, config.dropout, batch_first=True)
        self.output = nn.Linear(D, D if config.word_target == "projected" else config.text_dim)
        nn.init.normal_(self.position.weight, std=0.02)

    def forward(self, words: Tensor, mask: Tensor, masked: Tensor, prototype: Tensor) -> Tensor:
        """Rebuild.

        Args:
            words: (N, L, D), projected words.
            mask: bool (N, L), True where a word is.
            masked: bool (N, L), True where it is hidden from the decoder.
            prototype: (N, D), the retrieved prototype of the caption's video.

        Returns:
            (number of masked words, D or text_dim), in the order of `masked`.
        """
        hidden = torch.where(masked[..., None], self.mask_token.to(words.dtype), words)
        hidden = hidden + self.position.weight[: words.shape[1]]
        hidden = self.norm(hidden + self.value(prototype)[:, None])
        hidden = self.layer(hidden, src_key_padding_mask=~mask)
        return torch.as_tensor(self.output(hidden[masked]))


class VideoDecoder(nn.Module):
    """Prototypes (B, K, D) to clips (B, M, d): an MLP along the prototypes, then one along the channels.

    Args:
        config: K, M, D and the widths.
    """

    def __init__(self, config: RetrieverConfig) -> None:
        super().__init__()
        D, h = config.hidden, config.decoder_hidden
        width = config.video_dim if config.video_target == "input" else D
        self.along_tokens = nn.Sequential(nn.Linear(config.vectors, h), nn.GELU(), nn.Linear(h, config.clips))
        self.along_channels: nn.Module = (
            nn.Sequential(nn.LayerNorm(D), nn.Linear(D, D), nn.GELU(), nn.Linear(D, width))
            if config.decoder == "token_channel"
            else nn.Linear(D, width)
        )

    def forward(self, prototypes: Tensor) -> Tensor:
        """(B, K, D) to (B, M, d)."""
        clips = self.along_tokens(prototypes.transpose(1, 2)).transpose(1, 2)  # (B, M, D)
        return torch.as_tensor(self.along_channels(clips))
