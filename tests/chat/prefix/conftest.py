"""Two tiny random language models, and prefixes made by them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, Qwen2Config, Qwen2ForCausalLM

from trifocal.chat.prefix import PrefixEntry, PrefixKey

SIZES = {
    "vocab_size": 97, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 256, "initializer_range": 0.3,
    "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1,
}  # fmt: skip


@pytest.fixture(scope="session", params=["llama", "qwen2"])
def model(request: pytest.FixtureRequest) -> PreTrainedModel:
    torch.manual_seed(0)
    config, kind = (
        (LlamaConfig(**SIZES), LlamaForCausalLM)
        if request.param == "llama"
        else (Qwen2Config(**SIZES), Qwen2ForCausalLM)
    )
    return kind(config).eval().requires_grad_(False)


@pytest.fixture
def key() -> PrefixKey:
    return PrefixKey(
        content="ab" * 32,
        sampling={"kind": "uniform", "n": 4},
        processor={"size": [8, 8]},
        model="tiny@1",
        dtype="float32",
        method={"method": "sttm", "budget": 0.3, "layer": 2},
        prompt="cd" * 32,
        software={"trifocal": "1"},
        salt="",
    )


@pytest.fixture
def make_entry() -> Callable[..., PrefixEntry]:
    """A prefix of two layers of unequal length; 1024 float32 numbers unless told otherwise."""

    def make(seed: int = 0, *, tokens: int = 8, dtype: torch.dtype = torch.float32) -> PrefixEntry:
        draw = torch.Generator().manual_seed(seed)
        layers = tuple(
            (
                torch.randn(1, 2, length, 16, generator=draw).to(dtype),
                torch.randn(1, 2, length, 16, generator=draw).to(dtype),
            )
            for length in (tokens + tokens // 2, tokens // 2)
        )
        return PrefixEntry(
            layers=layers,
            length=tokens + tokens // 2,
            extra={"frame_of": torch.arange(3), "none": torch.zeros(0, 4)},
            facts={"tokens": {"before": 12, "after": 4}, "times_s": [0.5, 1.5]},
        )

    return make
