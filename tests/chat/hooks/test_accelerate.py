"""The handle, what it refuses, and prompts of more than one video."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from tests.chat.hooks.conftest import causal_model, embedded_prompt, smooth_video
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AttentionInterface, AttentionMaskInterface, DynamicCache, GPT2Config, GPT2Model
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import flash_attention_mask

import trifocal
from trifocal.chat.accelerate import accelerate
from trifocal.chat.hooks import VideoSpan, fork, merged_layer
from trifocal.errors import InvalidInput, ModelError, TrifocalError
from trifocal.merging import configure

HALF: dict[str, Any] = {"budget": 0.5, "root_level": 0}
GRID = (4, 4, 4)
SPAN = VideoSpan.contiguous(5, GRID)
CLOSE: dict[str, Any] = {"atol": 2e-5, "rtol": 1e-4}


def prompt(seed: int = 0) -> torch.Tensor:
    return embedded_prompt(smooth_video(seed=seed), seed=seed)


def run(model: Any, embeds: torch.Tensor, spans: Any = (SPAN,), **options: Any) -> Any:
    with torch.no_grad():
        return model(inputs_embeds=embeds, use_cache=True, **({"video_spans": spans} if spans else {}), **options)


def test_it_is_a_public_name(model: Any) -> None:
    assert trifocal.accelerate is accelerate
    with pytest.raises(AttributeError, match="has no attribute 'slow_down'"):
        _ = trifocal.slow_down
    with trifocal.accelerate(model, **HALF) as handle:
        assert "layer=2, reassign, attached" in repr(handle)
        assert handle.text_model is model.model
        assert handle.usage is None
    assert "removed" in repr(handle)


def test_an_unsupported_model_is_told_which_are() -> None:
    tiny = GPT2Model(GPT2Config(n_embd=8, n_layer=1, n_head=1, vocab_size=16, bos_token_id=None, eos_token_id=None))
    with pytest.raises(ModelError, match=r"model_type 'gpt2'.*LLaVA-OneVision.*Qwen2-VL.*InternVL3.*VideoLLaMA3"):
        accelerate(tiny, **HALF)
    with pytest.raises(ModelError, match="is not a supported model"):
        accelerate(torch.nn.Linear(1, 1), **HALF)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layer": 4, **HALF}, "layer is 4 and the model has 4.*Give 0 to 3"),
        ({"layer": -1, **HALF}, "layer is -1"),
        ({"layer": 1.5, **HALF}, "layer is 1.5"),
        ({"positions": "shuffle", **HALF}, "positions is 'shuffle'.*reassign, survive, average"),
        ({"compat": "old", **HALF}, "compat is 'old'"),
        ({}, "spatial_threshold and budget"),
        ({"method": "magic", **HALF}, "method is 'magic'.*sttm"),
        ({"method": "sttm", "stride": 3, **HALF}, "no option stride"),
        ({"method": configure("sttm", **HALF), "budget": 0.3}, "budget given beside a configuration"),
    ],
)
def test_options_that_cannot_be_used(model: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(TrifocalError, match=message):
        accelerate(model, **options)
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_twice_is_refused(model: Any) -> None:
    with accelerate(model, **HALF), pytest.raises(ModelError, match=r"accelerated already.*remove\(\)"):
        accelerate(model.model, **HALF)
    accelerate(model, **HALF).remove()


def test_windows_are_refused() -> None:
    model = causal_model(use_sliding_window=True, sliding_window=8, max_window_layers=2)
    with pytest.raises(ModelError, match="sliding_attention"):
        accelerate(model, **HALF)


def test_calls_that_cannot_be_merged(model: Any) -> None:
    embeds = prompt()
    length = embeds.shape[1]
    with accelerate(model, **HALF):
        with pytest.raises(ModelError, match="labels are given"):
            run(model, embeds, labels=torch.zeros(1, length, dtype=torch.long))
        with pytest.raises(ModelError, match=r"attention_mask is \(1, 1, 75, 75\)"):
            run(model, embeds, attention_mask=torch.ones(1, 1, length, length).bool())
        with pytest.raises(ModelError, match="Assisted decoding"):
            run(model, embeds, logits_to_keep=3)
        with pytest.raises(InvalidInput, match="ends at place 84"):
            run(model, embeds, spans=[VideoSpan.contiguous(21, GRID)])
        # What failed leaves nothing behind for the next call.
        plain = run(model, embeds, spans=None)
        assert plain.logits.shape[1] == length
    assert torch.equal(run(model, embeds, spans=None).logits, plain.logits)


def test_assisted_decoding_is_refused_from_the_start(model: Any) -> None:
    ids = torch.tensor([[9, 8, 7, 6, *range(10, 26), 9, 8, 7, 9, 8]])
    spans = [VideoSpan.contiguous(4, (1, 4, 4))]
    with accelerate(model, **HALF) as handle, handle.video_spans(spans), pytest.raises(ModelError, match="Assisted"):
        model.generate(input_ids=ids, prompt_lookup_num_tokens=3, max_new_tokens=8, do_sample=False)


@pytest.mark.parametrize("layer", [0, 2])
def test_spans_may_be_named_for_generate(model: Any, layer: int) -> None:
    embeds = torch.cat([prompt(0), prompt(3)])
    options: dict[str, Any] = {"max_new_tokens": 4, "do_sample": False, "num_beams": 2}
    with accelerate(model, layer=layer, **HALF) as handle:
        alone = []
        with handle.video_spans([SPAN]):
            alone = [model.generate(inputs_embeds=row[None], **options) for row in embeds]
        with handle.video_spans([SPAN, VideoSpan.contiguous(5, GRID, row=1)]):
            together = model.generate(inputs_embeds=embeds, **options)
        assert handle.usage is not None
        assert handle.usage.video_tokens_before == 4 * 64
        assert torch.equal(together, torch.cat(alone))
        plain = model.generate(inputs_embeds=embeds, **options)
    assert torch.equal(plain, model.generate(inputs_embeds=embeds, **options))


def test_every_way_to_call(model: Any) -> None:
    embeds = prompt()
    with accelerate(model, **HALF):
        expected = run(model, embeds).past_key_values.layers
        inner = run(model.model, embeds).past_key_values.layers
        with torch.no_grad():
            positional = model.model(None, None, None, None, embeds, True, video_spans=[SPAN]).past_key_values.layers
            without_cache = model(inputs_embeds=embeds, video_spans=[SPAN], use_cache=False).logits
        assert torch.equal(without_cache, run(model, embeds).logits)
    for found in (inner, positional):
        assert all(torch.equal(one.keys, other.keys) for one, other in zip(found, expected, strict=True))
    with accelerate(model.model, **HALF):
        bare = run(model.model, embeds).past_key_values.layers
    assert all(torch.equal(one.keys, other.keys) for one, other in zip(bare, expected, strict=True))


class Wrapped(torch.nn.Module):
    """Takes whatever comes, as adapters do."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner, self.config = inner, inner.config

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.inner(*args, **kwargs)


def test_a_wrapped_model_keeps_its_arguments(model: Any) -> None:
    embeds, ids = prompt(), torch.tensor([[1, 2, 3]])
    wrapped = Wrapped(model)
    with accelerate(wrapped, **HALF) as handle, torch.no_grad():
        short = wrapped(inputs_embeds=embeds, video_spans=[SPAN], use_cache=True)
        plain = wrapped(ids, torch.ones_like(ids)).logits
    assert handle.usage is not None
    assert short.logits.shape[1] == handle.usage.prompt_tokens_after
    assert torch.equal(plain, model(ids, torch.ones_like(ids)).logits)


def test_the_published_gap_is_kept_only_on_request(model: Any) -> None:
    embeds, ids = prompt(), torch.tensor([[3, 4, 5]])
    longer = torch.cat([embeds, model.model.embed_tokens(ids)], dim=1)
    for layer in (0, 2):
        apart = {}
        for compat in ("default", "reference"):
            with accelerate(model, layer=layer, compat=compat, spatial_threshold=0.8, root_level=0):
                cache = run(model, embeds).past_key_values
                memory = merged_layer(cache, layer)
                assert memory is not None
                assert (memory.shift is None) == (compat == "reference")
                with torch.no_grad():
                    asked = model(input_ids=ids, past_key_values=cache, use_cache=True).logits
                apart[compat] = float((asked - run(model, longer).logits[:, -3:]).abs().max())
        assert apart["default"] < 1e-5
        assert apart["reference"] > 1e-3


def test_two_models_may_differ() -> None:
    one, other = causal_model(0), causal_model(1)
    embeds = prompt()
    expected = []
    for model, options in ((one, {"layer": 1, **HALF}), (other, {"layer": 3, "method": "uniform", "budget": 0.25})):
        with accelerate(model, **options):
            expected.append(run(model, embeds).logits)
    with (
        accelerate(one, layer=1, **HALF) as first,
        accelerate(other, layer=3, method="uniform", budget=0.25) as second,
    ):
        assert torch.equal(run(one, embeds).logits, expected[0])
        assert torch.equal(run(other, embeds).logits, expected[1])
        assert first.usage is not None
        assert second.usage is not None
        assert (first.usage.share, second.usage.share) == (0.5, 0.25)


def test_threads_do_not_meet(model: Any) -> None:
    prompts = [prompt(seed) for seed in range(4)]
    questions = [torch.tensor([[number, 5, number + 1]]) for number in range(1, 9)]

    def answer(number: int) -> torch.Tensor:
        cache = caches[number % 4]
        with torch.no_grad():
            logits: torch.Tensor = model(
                input_ids=questions[number], past_key_values=fork(cache), use_cache=True
            ).logits
        return logits

    def prefill(embeds: torch.Tensor) -> DynamicCache:
        cache: DynamicCache = run(model, embeds).past_key_values
        return cache

    with accelerate(model, **HALF), ThreadPoolExecutor(4) as pool:
        caches = [prefill(embeds) for embeds in prompts]
        alone = [answer(number) for number in range(8)]
        caches = list(pool.map(prefill, prompts))
        assert all(torch.equal(one, other) for one, other in zip(alone, pool.map(answer, range(8)), strict=True))


@pytest.mark.parametrize("layer", [0, 2])
@pytest.mark.parametrize("positions", ["reassign", "survive"])
def test_a_second_video_in_a_later_turn(model: Any, layer: int, positions: Any) -> None:
    first, second = prompt(0), embedded_prompt(smooth_video(frames=2, seed=5), before=3, after=4, seed=9)
    later = VideoSpan.contiguous(3, (2, 4, 4))
    both = [SPAN, VideoSpan.contiguous(first.shape[1] + 3, (2, 4, 4))]
    with accelerate(model, layer=layer, positions=positions, **HALF) as handle:
        at_once = run(model, torch.cat([first, second], dim=1), spans=both)
        cache = run(model, first).past_key_values
        output = run(model, second, spans=[later], past_key_values=cache)
        assert torch.allclose(output.logits[:, -4:], at_once.logits[:, -4:], **CLOSE)
        question = torch.tensor([[1, 2]])
        with torch.no_grad():
            asked = [
                model(input_ids=question, past_key_values=held, use_cache=True).logits
                for held in (cache, at_once.past_key_values)
            ]
        assert torch.allclose(*asked, **CLOSE)
        assert torch.equal(handle.next_position(cache), handle.next_position(at_once.past_key_values))


def test_text_in_front_may_be_cached_and_padded(model: Any) -> None:
    """A first turn of words alone, of two lengths, then a video each."""
    words = torch.tensor([[0, 0, 7, 8], [4, 5, 6, 7]])
    mask = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]])
    ids = (mask.cumsum(1) - 1).clamp(min=0)
    embeds = torch.cat([prompt(0), prompt(3)])
    spans = [SPAN, VideoSpan.contiguous(5, GRID, row=1)]
    whole_mask = torch.cat([mask, torch.ones(embeds.shape[:2], dtype=torch.long)], dim=1)
    following = mask.sum(1, keepdim=True) + torch.arange(embeds.shape[1])
    with accelerate(model, spatial_threshold=0.8, root_level=0):
        cache = run(model, model.model.embed_tokens(words), spans=None, attention_mask=mask, position_ids=ids)
        batch = run(
            model,
            embeds,
            spans=spans,
            past_key_values=cache.past_key_values,
            attention_mask=whole_mask,
            position_ids=following,
        )
        for row, real in enumerate(([7, 8], [4, 5, 6, 7])):
            front = model.model.embed_tokens(torch.tensor([real]))
            span = VideoSpan.contiguous(5 + len(real), GRID)
            alone = run(model, torch.cat([front, embeds[row : row + 1]], dim=1), spans=[span])
            assert torch.allclose(batch.logits[row, -6:], alone.logits[0, -6:], **CLOSE)


def packed_free_attention(module: Any, query: Any, key: Any, value: Any, mask: Any, **options: Any) -> Any:
    """Attention that is told of padding as flash attention is: columns or nothing; never positions with gaps."""
    assert mask is None or (mask.dim() == 2 and mask.shape[1] == key.shape[2])
    ids = options.pop("position_ids", None)
    assert ids is None or bool((ids.diff() == 1).all()), "gaps are taken for packed sequences"
    length, seen = query.shape[2], key.shape[2]
    allowed = torch.arange(seen)[None] <= torch.arange(seen - length, seen)[:, None]
    allowed = allowed[None, None] if mask is None else allowed & mask[:, None, None].bool()
    # Rows that are padding themselves see something, so that nothing becomes undefined.
    allowed = allowed | ~allowed.any(-1, keepdim=True)
    return sdpa_attention_forward(module, query, key, value, allowed, **options)


@pytest.mark.parametrize("layer", [0, 2])
def test_flash_attention_gets_columns_and_no_positions(layer: int) -> None:
    AttentionInterface.register("columns_only", packed_free_attention)
    AttentionMaskInterface.register("columns_only", flash_attention_mask)
    embeds = torch.cat([prompt(0), embedded_prompt(smooth_video(seed=3, noise=1.0), seed=3)])
    spans = [SPAN, VideoSpan.contiguous(5, GRID, row=1)]
    question = torch.tensor([[1, 2, 3], [4, 5, 6]])
    found = {}
    for backend in ("sdpa", "columns_only"):
        model = causal_model(attn_implementation=backend)
        with accelerate(model, layer=layer, positions="survive", spatial_threshold=0.8, root_level=0) as handle:
            output = run(model, embeds, spans=spans)
            assert handle.usage is not None
            assert len({len(video.columns) for video in handle.usage.videos}) == 2
            with torch.no_grad():
                asked = model(input_ids=question, past_key_values=output.past_key_values, use_cache=True).logits
                step = model(input_ids=question[:, :1], past_key_values=output.past_key_values).logits
            found[backend] = torch.cat([output.logits[:, -6:], asked, step], dim=1)
    assert torch.allclose(found["sdpa"], found["columns_only"], **CLOSE)


class Waits(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts how often the host asks a tensor for a number."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count: int = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func.overloadpacket in {torch.ops.aten._local_scalar_dense, torch.ops.aten.nonzero}
        return func(*args, **(kwargs or {}))


def test_decoding_waits_no_more_than_without(model: Any) -> None:
    embeds, ids = prompt(), torch.tensor([[3]])

    def step(cache: DynamicCache) -> int:
        waits = Waits()
        with torch.no_grad(), waits:
            model(input_ids=ids, past_key_values=cache, use_cache=True)
        return waits.count

    plain = step(run(model, embeds, spans=None).past_key_values)
    for layer in (0, 2):
        for positions in ("reassign", "survive"):
            with accelerate(model, layer=layer, positions=positions, **HALF):
                assert step(run(model, embeds).past_key_values) == plain


@pytest.mark.slow
def test_it_goes_through_compile(model: Any) -> None:
    embeds, question = prompt(), torch.tensor([[1, 2, 3]])
    with accelerate(model, **HALF):
        eager = run(model, embeds)
        compiler: Any = torch.compile
        compiled = compiler(model, backend="eager")
        with torch.no_grad():
            output = compiled(inputs_embeds=embeds, use_cache=True, video_spans=[SPAN])
            assert torch.allclose(output.logits, eager.logits, **CLOSE)
            cache = copy.deepcopy(eager.past_key_values)
            asked = compiled(input_ids=question, past_key_values=output.past_key_values, use_cache=True).logits
            expected = model(input_ids=question, past_key_values=cache, use_cache=True).logits
        assert torch.allclose(asked, expected, **CLOSE)
