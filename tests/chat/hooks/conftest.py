"""A tiny random Qwen2 and a prompt of embeddings with a video, and the same computed by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

HIDDEN, LAYERS, VOCABULARY = 32, 4, 64


def causal_model(seed: int = 0, **options: Any) -> Any:
    """Weights large enough that positions matter."""
    torch.manual_seed(seed)
    config = Qwen2Config(
        hidden_size=HIDDEN,
        intermediate_size=48,
        num_hidden_layers=LAYERS,
        num_attention_heads=2,
        num_key_value_heads=1,
        vocab_size=VOCABULARY,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=0,
        **options,
    )
    model = Qwen2ForCausalLM(config).eval()
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if name.endswith(("_proj.weight",)):
                weights.mul_(5.0)
    return model


@pytest.fixture
def model() -> Any:
    return causal_model()


def smooth_video(frames: int = 4, side: int = 4, seed: int = 0, noise: float = 0.1) -> torch.Tensor:
    """`(T, H, W, C)` whose quarters and frames are alike to different degrees."""
    random = torch.Generator().manual_seed(seed)
    coarse = (
        torch.randn(1, 2, 2, HIDDEN, generator=random).repeat_interleave(side // 2, 1).repeat_interleave(side // 2, 2)
    )
    drift = torch.linspace(0, 1, frames)[:, None, None, None] * torch.randn(1, 1, side, HIDDEN, generator=random)
    return coarse + 0.5 * drift + noise * torch.randn(frames, side, side, HIDDEN, generator=random)


def embedded_prompt(video: torch.Tensor, *, before: int = 5, after: int = 6, seed: int = 1) -> torch.Tensor:
    """`(1, S, C)`."""
    random = torch.Generator().manual_seed(seed)
    words = torch.randn(before + after, HIDDEN, generator=random)
    return torch.cat([words[:before], video.flatten(0, 2), words[before:]])[None]
