"""What must hold for every family: these tests run over the table in `conftest`."""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import Any

import pytest
import torch
from tests.chat.families.conftest import FRAMES, HIDDEN, IMAGE, LAYERS, SIDE, VIDEO, Case, Inputs, join, without_pixels
from transformers import DynamicCache, TextIteratorStreamer

from trifocal.chat.accelerate import accelerate
from trifocal.chat.families import family_of
from trifocal.chat.hooks import merged_state, restore_merged
from trifocal.chat.hooks.spans import Call
from trifocal.errors import ModelError

CELLS = FRAMES * SIDE * SIDE
NEUTRAL: dict[str, Any] = {"spatial_threshold": 1.0000000000000002}
HALF: dict[str, Any] = {"budget": 0.5, "root_level": 0}
CLOSE: dict[str, Any] = {"atol": 2e-5, "rtol": 1e-4}


def run(model: Any, inputs: Inputs, **options: Any) -> Any:
    with torch.no_grad():
        return model(**inputs, use_cache=True, **options)


def generate(model: Any, inputs: Inputs, *, new: int = 5, **options: Any) -> Any:
    # A placeholder that a random model writes would be a video without pixels when the text is read again.
    options = {"do_sample": False, "suppress_tokens": [IMAGE, VIDEO], **options}
    with torch.no_grad():
        return model.generate(**inputs, max_new_tokens=new, min_new_tokens=new, **options)


def lengths(cache: DynamicCache) -> list[int]:
    return [layer.keys.shape[-2] for layer in cache.layers]


def same_cache(one: DynamicCache, other: DynamicCache) -> bool:
    return all(
        torch.equal(a.keys, b.keys) and torch.equal(a.values, b.values)
        for a, b in zip(one.layers, other.layers, strict=True)
    )


def continued(inputs: Inputs, ids: torch.Tensor) -> Inputs:
    """The prompt with more text behind it."""
    longer = {**inputs, "input_ids": torch.cat([inputs["input_ids"], ids], 1)}
    for name, fill in (("attention_mask", 1), ("mm_token_type_ids", 0)):
        if name in inputs:
            longer[name] = torch.nn.functional.pad(inputs[name], (0, ids.shape[1]), value=fill)
    return longer


def test_it_finds_the_video(case: Case) -> None:
    model, inputs = case.model(), case.inputs(before=7)
    arguments: dict[str, Any] = {name: value for name, value in inputs.items() if name != "input_ids"}
    (span,) = family_of(model).locate(Call(inputs["input_ids"], arguments, model.config))
    assert span.grid == (FRAMES, SIDE, SIDE)
    assert span.row == 0
    places = (inputs["input_ids"][0] == family_of(model).token_id(model.config)).nonzero().flatten()
    assert int(inputs["input_ids"][0, places[0]]) in {IMAGE, VIDEO}
    assert span.cells.tolist() == places[: len(places) - case.extra].tolist()


def test_it_finds_each_video_of_a_batch_of_beams(case: Case) -> None:
    model, inputs = case.model(), join(case.inputs(1, before=3), case.inputs(2, before=8))
    arguments: dict[str, Any] = {name: value for name, value in inputs.items() if name != "input_ids"}
    ids = inputs["input_ids"].repeat_interleave(2, 0)
    pixels = {"pixel_values_videos", "pixel_values"}
    arguments = {name: value for name, value in arguments.items() if name not in pixels}
    found = family_of(model).locate(Call(ids, arguments, model.config))
    assert sorted(span.row for span in found) == [0, 1, 2, 3]
    assert {span.grid for span in found} == {(FRAMES, SIDE, SIDE)}


def test_neutral_is_the_untouched_model(case: Case) -> None:
    model = case.model()
    for inputs in (case.inputs(), join(case.inputs(1, after=4), case.inputs(2, after=9))):
        plain, tokens = run(model, inputs), generate(model, inputs)
        for layer in case.layers:
            with accelerate(model, layer=layer, **NEUTRAL) as handle:
                merged = run(model, inputs)
                assert handle.usage is not None
                assert handle.usage.share == 1.0
                assert torch.equal(merged.logits, plain.logits)
                assert same_cache(merged.past_key_values, plain.past_key_values)
                assert torch.equal(generate(model, inputs), tokens)


def test_removed_is_the_original(case: Case) -> None:
    model, inputs = case.model(), case.inputs()
    plain = run(model, inputs)
    hooks = [len(module._forward_pre_hooks) for module in model.modules()]
    handle = accelerate(model, layer=2, **HALF)
    changed = run(model, inputs)
    assert not torch.equal(changed.logits[:, -1], plain.logits[:, -1])
    handle.remove()
    handle.remove()
    assert not handle.attached
    again = run(model, inputs)
    assert torch.equal(again.logits, plain.logits)
    assert same_cache(again.past_key_values, plain.past_key_values)
    assert [len(module._forward_pre_hooks) for module in model.modules()] == hooks


def test_layers_hold_what_they_should(case: Case) -> None:
    model, inputs = case.model(), case.inputs()
    length = inputs["input_ids"].shape[1]
    for layer in case.layers:
        with accelerate(model, layer=layer, **HALF) as handle:
            output = run(model, inputs, output_hidden_states=True)
        usage = handle.usage
        assert usage is not None
        assert usage.video_tokens_before == CELLS
        assert CELLS // 2 - FRAMES <= usage.video_tokens_after <= CELLS // 2
        short = length - CELLS + usage.video_tokens_after
        assert (usage.prompt_tokens_before, usage.prompt_tokens_after) == (length, short)
        assert lengths(output.past_key_values) == [length] * layer + [short] * (LAYERS - layer)
        assert output.past_key_values.get_seq_length() == length
        # What the first layer was given, and what each gave.
        full = layer + 1 if layer else 0
        shapes = [length] * full + [short] * (LAYERS + 1 - full)
        assert [states.shape for states in output.hidden_states] == [(1, seen, HIDDEN) for seen in shapes]
        record = handle.record(output.past_key_values)
        assert record is not None
        assert int((record.video == 0).sum()) == usage.video_tokens_after
        text = inputs["input_ids"][0][record.source[0][record.video[0] < 0]]
        marks = int(((text == VIDEO) | (text == IMAGE)).sum())
        assert marks == case.extra
        frames = record.frame[record.video == 0]
        assert frames.min() == 0
        assert all(before <= after for before, after in pairwise(frames.tolist()))


@pytest.mark.parametrize("layer", [0, 2])
def test_generated_tokens_continue_the_merged_prompt(case: Case, layer: int) -> None:
    """Step by step equals all at once: what is generated stands where a longer prompt would have it."""
    model, inputs = case.model(), case.inputs()
    with accelerate(model, layer=layer, **HALF):
        made = generate(model, inputs, new=6, output_logits=True, return_dict_in_generate=True)
        new = made.sequences[:, -6:]
        at_once = run(model, continued(inputs, new[:, :-1])).logits[:, -6:]
    assert torch.allclose(torch.stack(made.logits, 1), at_once, **CLOSE)


@pytest.mark.parametrize("positions", ["reassign", "survive", "average"])
def test_cached_is_one_shot(case: Case, positions: Any) -> None:
    model, inputs = case.model(), case.inputs(after=4)
    questions = [torch.tensor([[9, 8, 7]]), torch.tensor([[30, 31, 32, 33, 34]])]
    for layer in (0, 2):
        with accelerate(model, layer=layer, positions=positions, **HALF) as handle:
            cache = run(model, inputs).past_key_values
            held = lengths(cache)
            for question in questions:
                whole = continued(inputs, question)
                expected = run(model, whole).logits[:, -question.shape[1] :]
                fork = copy.deepcopy(cache)
                ids = handle.next_position(fork)[:, None] + torch.arange(question.shape[1])
                asked = run(model, {"input_ids": question, "position_ids": ids}, past_key_values=fork).logits
                assert torch.allclose(asked, expected, **CLOSE)
                # And through generate, which is given the whole prompt again.
                fresh = generate(model, whole)
                fork = copy.deepcopy(cache)
                if case.mrope:
                    model.model.rope_deltas = handle.next_position(fork)[:, None] - inputs["input_ids"].shape[1]
                assert torch.equal(generate(model, without_pixels(whole), past_key_values=fork), fresh)
                fork.crop(held[0] - lengths(fork)[0] if layer else held[-1] - lengths(fork)[-1])
                assert lengths(fork) == held
                asked = run(model, {"input_ids": question, "position_ids": ids}, past_key_values=fork).logits
                assert torch.allclose(asked, expected, **CLOSE)
            assert lengths(cache) == held


def test_a_cache_comes_back_from_tensors(case: Case) -> None:
    model, inputs = case.model(), case.inputs()
    question = torch.tensor([[9, 8, 7]])
    with accelerate(model, layer=2, **HALF) as handle:
        cache = run(model, inputs).past_key_values
        stored = {name: tensor.clone() for name, tensor in merged_state(cache).items()}
        back = DynamicCache([(layer.keys, layer.values) for layer in cache.layers])
        restore_merged(back, layer=2, tensors=stored)
        ids = handle.next_position(cache)[:, None] + torch.arange(3)
        assert torch.equal(handle.next_position(back), handle.next_position(cache))
        asked = {"input_ids": question, "position_ids": ids}
        expected = run(model, asked, past_key_values=copy.deepcopy(cache)).logits
        assert torch.equal(run(model, asked, past_key_values=back).logits, expected)


@pytest.mark.parametrize("layer", [0, 2])
@pytest.mark.parametrize("positions", ["reassign", "survive"])
def test_a_batch_is_its_rows(case: Case, layer: int, positions: Any) -> None:
    model = case.model()
    rows = [case.inputs(1, before=3, after=4), case.inputs(2, before=8, after=9), case.inputs(5, before=5, after=2)]
    # Thresholds, so that the rows shrink by different amounts.
    with accelerate(
        model, layer=layer, positions=positions, spatial_threshold=0.9, temporal_threshold=0.95, root_level=0
    ) as handle:
        single = [generate(model, row, output_logits=True, return_dict_in_generate=True) for row in rows]
        kept = []
        for row in rows:
            run(model, row)
            assert handle.usage is not None
            kept.append(handle.usage.prompt_tokens_after)
        batch = generate(model, join(*rows), output_logits=True, return_dict_in_generate=True)
    assert len(set(kept)) > 1
    for index, alone in enumerate(single):
        together = torch.stack([step[index] for step in batch.logits])
        assert torch.allclose(together, torch.stack([step[0] for step in alone.logits]), **CLOSE)
        assert torch.equal(batch.sequences[index, -5:], alone.sequences[0, -5:])


def test_attention_backends_agree(case: Case) -> None:
    inputs = join(case.inputs(1, after=4), case.inputs(2, after=9))
    made = {}
    for backend in ("sdpa", "eager"):
        model = case.model(attention=backend)
        with accelerate(model, layer=2, **HALF):
            made[backend] = generate(model, inputs, output_logits=True, return_dict_in_generate=True)
    assert torch.equal(made["sdpa"].sequences, made["eager"].sequences)
    assert torch.allclose(torch.stack(made["sdpa"].logits), torch.stack(made["eager"].logits), **CLOSE)


def test_bfloat16_agrees(case: Case) -> None:
    inputs = case.inputs()
    model = case.model()
    with accelerate(model, layer=2, **HALF) as handle:
        exact = run(model, inputs)
        assert handle.usage is not None
        kept = handle.usage.video_tokens_after
    model = model.to(torch.bfloat16)
    with accelerate(model, layer=2, **HALF) as handle:
        narrow = run(model, inputs)
    assert handle.usage is not None
    assert abs(handle.usage.video_tokens_after - kept) <= FRAMES
    assert narrow.logits.dtype == torch.bfloat16
    assert all(layer.keys.dtype == torch.bfloat16 for layer in narrow.past_key_values.layers)
    assert float((narrow.logits[:, -1] - exact.logits[:, -1]).norm() / exact.logits[:, -1].norm()) < 0.25


def test_generate_in_every_way(case: Case) -> None:
    model, inputs = case.model(), case.inputs()
    with accelerate(model, layer=2, **HALF):
        greedy = generate(model, inputs)
        assert torch.equal(generate(model, inputs, use_cache=False), greedy)
        beams = generate(model, inputs, num_beams=3, num_return_sequences=2)
        assert len(beams) == 2
        torch.manual_seed(3)
        sampled = generate(model, inputs, do_sample=True, num_return_sequences=2)
        torch.manual_seed(3)
        assert torch.equal(generate(model, inputs, do_sample=True, num_return_sequences=2), sampled)
        stream = TextIteratorStreamer(_Letters())
        assert torch.equal(generate(model, inputs, streamer=stream), greedy)
        assert "".join(stream) == _Letters().decode(greedy[0].tolist())


class _Letters:
    """As much of a tokenizer as a streamer needs."""

    def decode(self, ids: Any, **_options: Any) -> str:
        return "".join(chr(48 + int(token)) for token in ids)


def test_assisted_decoding_and_static_caches_are_refused(case: Case) -> None:
    model, inputs = case.model(), case.inputs()
    with accelerate(model, layer=2, **HALF):
        with pytest.raises(ModelError, match=r"StaticCache.*Use a DynamicCache"):
            generate(model, inputs, cache_implementation="static")
        cache = run(model, inputs).past_key_values
        with pytest.raises(ModelError, match="Assisted decoding"):
            generate(model, without_pixels(inputs), past_key_values=cache, prompt_lookup_num_tokens=2)
