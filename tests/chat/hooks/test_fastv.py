"""FastV through hooks, against a model with eager attention whose tokens are dropped by hand."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from tests.chat.families.conftest import CASES, IMAGE, VIDEO, Case, Inputs, join
from tests.chat.hooks.conftest import causal_model, embedded_prompt, smooth_video

from trifocal.chat.accelerate import accelerate
from trifocal.chat.families import family_of
from trifocal.chat.hooks import VideoSpan, fork, merged_state
from trifocal.chat.hooks.attach import text_model_of
from trifocal.chat.hooks.spans import Call
from trifocal.errors import InvalidInput, ModelError
from trifocal.merging import METHODS, FastvConfig, SttmConfig, configure

FASTV: dict[str, Any] = {"method": "fastv", "budget": 0.3}
CLOSE: dict[str, Any] = {"atol": 2e-5, "rtol": 1e-4}
GRID = (4, 4, 4)
SPAN = VideoSpan.contiguous(5, GRID)
FAMILIES = [case for case in CASES if case.name in {"llava_onevision", "qwen2_vl", "qwen3_vl", "internvl", "smolvlm"}]


def by_hand(model: Any, given: dict[str, Any], cells: torch.Tensor, *, layer: int) -> tuple[torch.Tensor, list[int]]:
    """Logits of the last token, and the cells kept, of one row without padding: eager attention, no hooks of ours."""
    model = copy.deepcopy(model)
    model.set_attn_implementation("eager")
    text, seen = text_model_of(model), {}

    def note(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        seen["states"] = args[0] if args else kwargs["hidden_states"]
        seen["rotation"] = kwargs["position_embeddings"]

    layers: Any = text.layers
    handle = layers[layer].register_forward_pre_hook(note, with_kwargs=True)
    with torch.no_grad():
        out = model(**given, use_cache=False, output_attentions=True)
        handle.remove()
        looked = out.attentions[layer - 1][0, :, -1].mean(0)[cells]  # (cells,)
        best = sorted(range(len(cells)), key=lambda cell: (-float(looked[cell]), cell))[: int(0.3 * len(cells))]
        kept = sorted(int(cells[cell]) for cell in best)
        states = seen["states"]
        text_places = sorted(set(range(states.shape[1])) - set(cells.tolist()))
        places = torch.tensor(sorted([*text_places, *kept]))
        states = states[:, places]
        rotation = tuple(part[:, places] for part in seen["rotation"])
        future = torch.full((len(places), len(places)), torch.finfo(states.dtype).min).triu(1)[None, None]
        for each in layers[layer:]:
            states = each(states, attention_mask=future, position_embeddings=rotation, use_cache=False)
        norm: Any = text.norm
        logits: torch.Tensor = model.lm_head(norm(states))[:, -1]
    return logits, kept


@pytest.mark.parametrize("layer", [1, 2, 3])
@pytest.mark.parametrize("use_cache", [True, False])
def test_it_keeps_what_the_last_token_looks_at(layer: int, use_cache: bool) -> None:
    model, embeds = causal_model(), embedded_prompt(smooth_video())
    expected, kept = by_hand(model, {"inputs_embeds": embeds}, SPAN.cells, layer=layer)
    with torch.no_grad(), accelerate(model, layer=layer, **FASTV) as handle:
        found = model(inputs_embeds=embeds, video_spans=[SPAN], use_cache=use_cache)
    assert handle.usage is not None
    (video,) = handle.usage.videos
    assert video.source.tolist() == kept
    assert len(kept) == int(0.3 * 64)
    assert handle.positions == "survive"
    assert torch.allclose(found.logits[:, -1], expected, **CLOSE)
    # Another question keeps other tokens.
    other = embeds.clone()
    other[:, -1] = -embeds[:, -1]
    with torch.no_grad(), accelerate(model, layer=layer, **FASTV) as handle:
        model(inputs_embeds=other, video_spans=[SPAN], use_cache=use_cache)
    assert handle.usage is not None
    assert handle.usage.videos[0].source.tolist() != kept


@pytest.mark.parametrize("case", FAMILIES, ids=lambda case: case.name)
def test_every_family_by_hand(case: Case) -> None:
    layer = 3 if case.name == "qwen3_vl" else 2  # the reference adds no DeepStack features behind the layer
    model, inputs = case.model(), case.inputs()
    arguments: dict[str, Any] = {name: value for name, value in inputs.items() if name != "input_ids"}
    (span,) = family_of(model).locate(Call(inputs["input_ids"], arguments, model.config))
    expected, kept = by_hand(model, inputs, span.cells, layer=layer)
    with torch.no_grad(), accelerate(model, layer=layer, **FASTV) as handle:
        logits = model(**inputs).logits
    assert handle.usage is not None
    assert handle.usage.videos[0].source.tolist() == kept
    assert torch.allclose(logits[:, -1], expected, **CLOSE)


@pytest.mark.parametrize("case", FAMILIES, ids=lambda case: case.name)
def test_a_batch_is_its_rows_and_generates(case: Case) -> None:
    model, rows = case.model(), [case.inputs(1, before=3, after=4), case.inputs(2, before=8, after=9)]
    options: dict[str, Any] = {
        "max_new_tokens": 4,
        "min_new_tokens": 4,
        "do_sample": False,
        "suppress_tokens": [IMAGE, VIDEO],
        "output_logits": True,
        "return_dict_in_generate": True,
    }

    def kept(inputs: Inputs) -> list[list[int]]:
        made.append(model.generate(**inputs, **options))
        assert handle.usage is not None
        return [(video.tokens.flat_index).tolist() for video in handle.usage.videos]

    made: list[Any] = []
    with torch.no_grad(), accelerate(model, layer=2, **FASTV) as handle:
        alone = [kept(row)[0] for row in rows]
        assert kept(join(*rows)) == alone
        assert alone[0] != alone[1]
        beams = model.generate(**rows[0], max_new_tokens=3, num_beams=2, suppress_tokens=[IMAGE, VIDEO])
        assert beams.shape[1] > rows[0]["input_ids"].shape[1]
    for index in range(2):
        together = torch.stack([step[index] for step in made[2].logits])
        assert torch.allclose(together, torch.stack([step[0] for step in made[index].logits]), **CLOSE)


def test_padding_at_the_right_is_not_the_question() -> None:
    model = causal_model()
    rows = [embedded_prompt(smooth_video(seed=seed), after=after, seed=seed) for seed, after in ((0, 6), (3, 9))]
    short, long = rows[0].shape[1], rows[1].shape[1]
    padded = torch.cat([torch.nn.functional.pad(rows[0], (0, 0, 0, long - short)), rows[1]])
    mask = torch.ones(2, long, dtype=torch.long)
    mask[0, short:] = 0
    spans = [SPAN, VideoSpan.contiguous(5, GRID, row=1)]
    with torch.no_grad(), accelerate(model, layer=2, **FASTV) as handle:
        alone = []
        for row in rows:
            model(inputs_embeds=row, video_spans=[SPAN])
            assert handle.usage is not None
            alone.append(handle.usage.videos[0].source.tolist())
        model(inputs_embeds=padded, attention_mask=mask, video_spans=spans)
        assert handle.usage is not None
        assert [video.source.tolist() for video in handle.usage.videos] == alone


def test_removed_is_the_original_and_budget_one_is_too() -> None:
    model, embeds = causal_model(), embedded_prompt(smooth_video())
    before = [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()]
    with torch.no_grad():
        plain = model(inputs_embeds=embeds).logits
        with accelerate(model, method=FastvConfig(budget=1.0), layer=2):
            assert torch.equal(model(inputs_embeds=embeds, video_spans=[SPAN]).logits, plain)
            assert torch.equal(model(inputs_embeds=embeds).logits, plain)
        assert torch.equal(model(inputs_embeds=embeds).logits, plain)
    assert [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()] == before


def test_threads_look_for_themselves() -> None:
    model = causal_model()
    prompts = [embedded_prompt(smooth_video(seed=seed), seed=seed) for seed in range(4)]

    def prefill(embeds: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            logits: torch.Tensor = model(inputs_embeds=embeds, video_spans=[SPAN]).logits
        return logits

    with accelerate(model, layer=2, **FASTV), ThreadPoolExecutor(4) as pool:
        alone = [prefill(embeds) for embeds in prompts]
        assert all(torch.equal(one, other) for one, other in zip(alone, pool.map(prefill, prompts * 4), strict=False))


def test_a_cache_serves_one_question() -> None:
    model, embeds = causal_model(), embedded_prompt(smooth_video())
    question = torch.tensor([[3, 4, 5]])
    with torch.no_grad(), accelerate(model, layer=2, **FASTV):
        cache = model(inputs_embeds=embeds, video_spans=[SPAN], use_cache=True).past_key_values
        for refused in (
            lambda: fork(cache),
            lambda: merged_state(cache),
            lambda: model(input_ids=question, past_key_values=cache),
        ):
            with pytest.raises(ModelError, match=r"one question attends to.*Prefill the video with each question"):
                refused()
        with pytest.raises(ModelError, match=r"ends with its video.*Put the question behind"):
            model(inputs_embeds=embeds[:, : 5 + 64], video_spans=[SPAN])
        # The answer goes on, token by token, and what was refused left nothing behind.
        assert model(input_ids=question[:, :1], past_key_values=cache).logits.shape[1] == 1
        assert model(inputs_embeds=embeds).logits.shape[1] == embeds.shape[1]


def test_it_is_for_models_only() -> None:
    assert "fastv" not in METHODS
    with pytest.raises(InvalidInput, match=r"fastv keeps what a question attends to.*trifocal.accelerate"):
        configure("fastv", budget=0.3)
    assert configure("fastv", with_question=True, budget=0.3) == FastvConfig(budget=0.3)
    with pytest.raises(InvalidInput, match=r"comes with no prompt.*trifocal.accelerate"):
        FastvConfig().merge(torch.randn(2, 3, 3, 4))
    with pytest.raises(InvalidInput, match=r"layer is 0, and fastv.*at least 1"):
        accelerate(causal_model(), layer=0, **FASTV)
    with pytest.raises(InvalidInput, match=r"budget is 1\.5"):
        accelerate(causal_model(), method="fastv", budget=1.5)
    with pytest.raises(InvalidInput, match="fastv has no option ratio"):
        accelerate(causal_model(), method="fastv", ratio=0.5)
    assert not SttmConfig.query_aware
