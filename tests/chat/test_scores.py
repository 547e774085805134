"""The scores of the next token are the model's own, without a copy of its head."""

from __future__ import annotations

import torch
from torch.profiler import ProfilerActivity, profile
from transformers import Qwen2Config, Qwen2ForCausalLM

from trifocal.chat.scores import last_scores


@torch.inference_mode()
def test_the_head_is_multiplied_where_it_lies() -> None:
    torch.manual_seed(0)
    config = Qwen2Config(
        hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1,
        vocab_size=500,
    )  # fmt: skip
    model = Qwen2ForCausalLM(config).eval()
    ids = torch.arange(7)[None]
    expected = model(input_ids=ids, logits_to_keep=1).logits[0, -1]
    hidden = model.model(input_ids=ids).last_hidden_state
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        scores = last_scores(model, hidden)
    assert torch.equal(scores.argsort(), expected.argsort())
    torch.testing.assert_close(scores, expected)
    # As a batch of matrices the head is copied in bfloat16.
    assert "aten::bmm" not in {event.name for event in seen.events()}
