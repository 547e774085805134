"""The memory in the cache goes where keys and values go."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from tests.chat.hooks.conftest import embedded_prompt, smooth_video
from transformers import DynamicCache

from trifocal.chat.accelerate import accelerate
from trifocal.chat.hooks import MergedLayer, VideoSpan, fork, merged_layer, merged_state, restore_merged
from trifocal.errors import InvalidInput, ModelError

HALF: dict[str, Any] = {"budget": 0.5, "root_level": 0}
GRID = (4, 4, 4)


@pytest.fixture
def prompts() -> torch.Tensor:
    """Two rows of unlike videos."""
    videos = (smooth_video(seed=0), smooth_video(seed=3, noise=1.0))
    return torch.cat([embedded_prompt(video, seed=seed) for seed, video in enumerate(videos)])


def prefill(model: Any, prompts: torch.Tensor) -> DynamicCache:
    spans = [VideoSpan.contiguous(5, GRID, row=row) for row in range(len(prompts))]
    with torch.no_grad():
        cache: DynamicCache = model(inputs_embeds=prompts, video_spans=spans, use_cache=True).past_key_values
    return cache


def ask(model: Any, cache: DynamicCache, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = model(input_ids=ids, past_key_values=cache, use_cache=True).logits
    return logits


@pytest.mark.parametrize("layer", [0, 2])
def test_rows_are_taken_repeated_and_reordered(model: Any, prompts: torch.Tensor, layer: int) -> None:
    question = torch.tensor([[3, 4, 5]])
    with accelerate(model, layer=layer, spatial_threshold=0.8, temporal_threshold=0.9, root_level=0):
        cache = prefill(model, prompts)
        memory = merged_layer(cache, layer)
        assert memory is not None
        assert memory.keep is not None, "the rows should shrink by different amounts"
        alone = [ask(model, prefill(model, prompts[row : row + 1]), question) for row in (0, 1)]
        both = ask(model, copy.deepcopy(cache), question.expand(2, -1))
        swapped, repeated, taken, masked = (copy.deepcopy(cache) for _ in range(4))
        swapped.reorder_cache(torch.tensor([1, 0]))
        repeated.batch_repeat_interleave(2)
        taken.batch_select_indices(torch.tensor([1]))
        masked.batch_select_indices(torch.tensor([False, True]))
        results = {
            (0, 1): both,
            (1, 0): ask(model, swapped, question.expand(2, -1)),
            (0, 0, 1, 1): ask(model, repeated, question.expand(4, -1)),
            (1,): ask(model, taken, question),
        }
        assert torch.equal(ask(model, masked, question), results[1,])
    for rows, logits in results.items():
        for row, found in zip(rows, logits, strict=True):
            assert torch.allclose(found, alone[row][0], atol=1e-5)


def test_a_fork_grows_on_its_own(model: Any, prompts: torch.Tensor) -> None:
    with accelerate(model, layer=2, **HALF) as handle:
        cache = prefill(model, prompts[:1])
        held = [layer.keys.shape[-2] for layer in cache.layers]
        one, other = fork(cache), fork(cache)
        assert one.layers[0].keys.data_ptr() == cache.layers[0].keys.data_ptr()
        first = ask(model, one, torch.tensor([[1, 2, 3]]))
        ask(model, other, torch.tensor([[9, 9]]))
        assert [layer.keys.shape[-2] for layer in cache.layers] == held
        assert torch.equal(ask(model, fork(cache), torch.tensor([[1, 2, 3]])), first)
        assert int(handle.next_position(one)) == 78
        assert int(handle.next_position(cache)) == 75


def test_the_cache_counts_unmerged_tokens(model: Any, prompts: torch.Tensor) -> None:
    for layer in (0, 2):
        with accelerate(model, layer=layer, **HALF):
            cache = prefill(model, prompts)
            assert cache.get_seq_length() == 75
            ask(model, cache, torch.tensor([[1, 2], [3, 4]]))
            assert cache.get_seq_length() == 77
            cache.crop(-2)
            assert cache.get_seq_length() == 75
            cache.reset()
            assert cache.get_seq_length() == 0
            assert merged_layer(cache, layer) is None
            assert merged_state(cache) == {}


def test_a_reset_cache_serves_again(model: Any, prompts: torch.Tensor) -> None:
    with accelerate(model, layer=2, **HALF):
        cache = prefill(model, prompts[:1])
        expected = [layer.keys.clone() for layer in cache.layers]
        cache.reset()
        spans = [VideoSpan.contiguous(5, GRID)]
        with torch.no_grad():
            model(inputs_embeds=prompts[:1], video_spans=spans, past_key_values=cache, use_cache=True)
        assert all(torch.equal(layer.keys, keys) for layer, keys in zip(cache.layers, expected, strict=True))


def test_state_goes_to_tensors_and_back(model: Any, prompts: torch.Tensor) -> None:
    with accelerate(model, layer=0, spatial_threshold=0.8, root_level=0) as handle:
        cache = prefill(model, prompts)
        state = merged_state(cache)
        assert all(value.is_contiguous() for value in state.values())
        back = DynamicCache([(layer.keys, layer.values) for layer in cache.layers])
        restore_merged(back, layer=0, tensors=state)
        assert back.get_seq_length() == cache.get_seq_length() == 75
        record, restored = handle.record(cache), handle.record(back)
        assert record is not None
        assert restored is not None
        assert [cells.shape for cells in restored.assignments] == [GRID, GRID]
        assert restored.merge_s == record.merge_s > 0
        state.pop("frame")
        with pytest.raises(ModelError, match=r"cannot be read.*Prefill the video again"):
            restore_merged(back, layer=0, tensors=state)
        restore_merged(DynamicCache(), layer=0, tensors={})


def test_an_unmerged_cache_has_no_record(model: Any) -> None:
    with accelerate(model, layer=2, **HALF) as handle:
        with torch.no_grad():
            cache = model(input_ids=torch.tensor([[1, 2, 3]]), use_cache=True).past_key_values
        assert handle.record(cache) is None
        assert not any(isinstance(layer, MergedLayer) for layer in cache.layers)
        with pytest.raises(InvalidInput, match="holds no merged prompt"):
            handle.next_position(cache)
