"""Cross-modal reconstruction: masked words, rebuilt with the retrieved prototype's help, must be told from other words.

    L = −1/|M| Σ_{i∈M} log  exp(cos(T̃_i, t_i)/τ) / Σ_{j∈M} exp(cos(T̃_i, t_j)/τ)

M are the masked words of the whole batch, t_i the word's own projected feature, held still. The same word masked twice
is no negative of itself: such pairs are left out of the sum. (method page, §6.1; how T̃ is made: `model/heads.py`)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["mask_words", "masked_word_loss", "same_words"]


def mask_words(word_mask: Tensor, *, rate: float) -> Tensor:
    """Which words to mask: bool (N, L), each with chance `rate`, at least one a caption; torch's global generator.

    Args:
        word_mask: bool (N, L), True where a word is; at least one a caption.
        rate: share of words, 0 to 1.
    """
    chance = torch.rand(word_mask.shape, device=word_mask.device).masked_fill(~word_mask, 2.0)
    lowest = torch.arange(word_mask.shape[1], device=word_mask.device) == chance.argmin(dim=1, keepdim=True)
    return (chance < rate) | lowest


def same_words(features: Tensor, ids: Tensor | None) -> Tensor:
    """Which masked words are the same word: bool (M, M), by equal ids, or by equal features where there are none.

    Args:
        features: (M, d), the words' input features.
        ids: int64 (M,), or None.
    """
    if ids is not None:
        return ids[:, None] == ids
    unit = F.normalize(features.float(), dim=-1)
    return (unit @ unit.T) > 1 - 1e-5


def masked_word_loss(rebuilt: Tensor, target: Tensor, same: Tensor, *, temperature: float) -> Tensor:
    """InfoNCE over masked words, a scalar.

    Args:
        rebuilt: (M, D), reconstructed words.
        target: (M, D), their own features; no gradient flows into them.
        same: bool (M, M), pairs that are one word; off the diagonal they are left out.
        temperature: τ.
    """
    logits = F.normalize(rebuilt, dim=-1) @ F.normalize(target.detach(), dim=-1).T / temperature  # (M, M)
    self_ = torch.eye(len(logits), dtype=torch.bool, device=logits.device)
    logits = logits.masked_fill(same & ~self_, -torch.inf)
    return F.cross_entropy(logits, torch.arange(len(logits), device=logits.device))
