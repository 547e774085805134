"""Where a question looked: the attention that its tokens pay to the frames, computed beside the model's own forward.

Fast attention kernels do not give their weights, and switching a model to slow attention changes it for everybody who
uses it. So the weights are computed again, for the few positions and layers that matter, from the inputs of those
layers and the keys that are in the cache anyway. The rule of `Evidence` is in `frame_shares`. Measured on six clips
shuffled to one video, the right frame came first in 38 of 54 questions (chance 17 %); attention of the answer's
tokens, and attention not compared with a neutral question's, did no better than chance or half as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from transformers import DynamicCache, LlamaForCausalLM

__all__ = ["attention_rows", "frame_shares"]


@torch.inference_mode()
def attention_rows(
    model: LlamaForCausalLM, cache: DynamicCache, *, inputs: torch.Tensor, layers: Sequence[int]
) -> torch.Tensor:
    """The attention that the last positions pay to all, averaged over heads and layers.

    Args:
        model: llama-shaped: each layer has `input_layernorm` and `self_attn` with `q_proj` and rotary positions.
        cache: keys and values after those positions went through the model, one entry per position.
        inputs: what each layer was given at the last N positions, `(L, N, C)`.
        layers: which layers `inputs` belongs to; at least one.

    Returns:
        `(N, S)` float32 on the CPU; each row sums to 1.
    """
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    positions_in_all = cache.get_seq_length()
    positions = torch.arange(positions_in_all - inputs.shape[1], positions_in_all, device=inputs.device)  # (N,)
    cos, sin = model.model.rotary_emb(inputs, positions[None])
    rows = torch.zeros(inputs.shape[1], positions_in_all)
    for layer, given in zip(layers, inputs, strict=True):
        block = model.model.layers[layer]
        attention = block.self_attn
        query = attention.q_proj(block.input_layernorm(given[None]))  # (1, N, heads · D)
        query = query.unflatten(-1, (-1, attention.head_dim)).transpose(1, 2)  # (1, heads, N, D)
        query, _ = apply_rotary_pos_emb(query, query, cos, sin)
        keys = cache.layers[layer].keys.repeat_interleave(attention.num_key_value_groups, dim=1)  # (1, heads, S, D)
        scores = (query @ keys.transpose(2, 3)).float() * attention.scaling  # (1, heads, N, S)
        future = torch.arange(positions_in_all, device=keys.device)[None] > positions[:, None]  # (N, S)
        rows += scores.masked_fill(future, float("-inf")).softmax(-1)[0].mean(dim=0).cpu()
    return rows / len(layers)


def frame_shares(
    attention: torch.Tensor, *, neutral: torch.Tensor, frame_of: torch.Tensor, frames: int
) -> torch.Tensor:
    """How much more each frame is looked at than a neutral question looks at it, as shares.

    Attention goes to the first and last frames whatever is asked; dividing by what a question without a subject pays to
    the same frames leaves what this question is after.

    Args:
        attention: received by each position of the prefix, `(S,)`.
        neutral: the same, for the neutral question.
        frame_of: the frame that each position stands for, `(S,)` int64; -1 for words.
        frames: how many frames there are.

    Returns:
        `(T,)` float32 that sums to 1; all equal when nothing tells the frames apart.
    """
    of_frames = frame_of >= 0
    sums = [torch.zeros(frames).index_add_(0, frame_of[of_frames], each[of_frames]) for each in (attention, neutral)]
    ratio = torch.where(sums[1] > 0, sums[0] / sums[1], torch.zeros(frames))
    total = ratio.sum()
    return ratio / total if total > 0 else torch.full((frames,), 1.0 / frames)
