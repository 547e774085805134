"""The attention that is read beside the model equals that of a model with eager attention, merged or not."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

from trifocal.chat.decoding import Decoding
from trifocal.chat.hf import evidence
from trifocal.chat.hf.chat import HFChat
from trifocal.chat.hf.evidence import Columns, outstanding
from trifocal.chat.hf.opened import NEUTRAL_QUESTION, NEUTRAL_TOKENS, columns_of
from trifocal.chat.hf.processors import PROCESSORS
from trifocal.video import Frames

QUESTION = "What is shown?"


@pytest.mark.parametrize("name", sorted(PROCESSORS))
def test_the_weights_are_those_of_eager_attention(
    name: str, make_chat: Callable[..., HFChat], make_model: Callable[[str], Any], frames: Frames
) -> None:
    chat = make_chat(name)
    entry = chat.open(frames).entry
    typed, _ = chat.prompt.question(QUESTION)
    with chat.engine.probe.watching() as watched:
        chat.engine.step(typed, cache=chat.engine.fork(entry), start=int(entry.facts["following"]))
    eager = make_model(name)
    eager.set_attn_implementation("eager")
    places = torch.arange(len(typed))[None] + int(entry.facts["following"])
    with torch.inference_mode():
        out = eager(
            input_ids=chat.engine.tensor(typed),
            position_ids=places,
            past_key_values=chat.engine.fork(entry),
            output_attentions=True,
        )
    expected = out.attentions[chat.engine.evidence_layer][0].mean(0)
    (rows,) = watched.rows
    torch.testing.assert_close(rows, expected, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(rows.sum(1), torch.ones(len(typed)))


@pytest.mark.parametrize("options", [{}, {"method": "sttm", "budget": 0.45, "layer": 1}], ids=["plain", "merged"])
@pytest.mark.parametrize("name", ["llava_onevision", "qwen2_vl", "smolvlm"])
def test_the_answers_attention_is_that_of_the_places_where_it_is_written(
    name: str,
    options: dict[str, Any],
    make_chat: Callable[..., HFChat],
    make_model: Callable[[str], Any],
    frames: Frames,
) -> None:
    """Against a model that is eager throughout, token by token."""
    model = make_model(name)
    model.set_attn_implementation("eager")
    chat = make_chat(name, model=model, config={"evidence_from": "answer"}, **options)
    video = chat.open(frames)
    entry, engine = video.entry, chat.engine
    typed, rest = chat.prompt.question(NEUTRAL_QUESTION)
    cache, ids, start = engine.fork(entry), [*typed, *rest], int(entry.facts["following"])
    expected = torch.zeros(int(entry.facts["grid"][0]))
    for place in range(NEUTRAL_TOKENS):
        with torch.inference_mode():
            out = model(
                input_ids=engine.tensor(ids),
                position_ids=torch.arange(start, start + len(ids))[None],
                past_key_values=cache,
                output_attentions=True,
            )
        expected += columns_of(entry).by_frame(out.attentions[engine.evidence_layer][0, :, -1].mean(0))
        start = max(start + len(ids), int(entry.facts["above"])) if place == 0 else start + 1
        ids = [int(out.logits[0, -1].argmax())]
        if ids[0] in chat.end_ids:
            break
    torch.testing.assert_close(video.neutral(), expected, atol=1e-5, rtol=1e-3)
    question = make_chat(name, **options).open(frames).neutral()
    assert not torch.allclose(video.neutral() / expected.sum(), question / question.sum(), rtol=1e-2)


@pytest.mark.parametrize("source", ["question", "answer"])
@pytest.mark.parametrize("frame", [1, 5])
def test_a_model_that_looks_at_one_frame_names_it(
    frame: int, source: str, make_chat: Callable[..., HFChat], make_model: Callable[[str], Any], frames: Frames
) -> None:
    model = make_model("llava_onevision")
    chat = make_chat("llava_onevision", model=model, config={"evidence_from": source})
    attention = model.model.language_model.layers[chat.engine.evidence_layer].self_attn
    # Every query points along the channel that rotates least, and so do the keys of one frame's cells.
    channel = attention.head_dim // 2 - 1
    attention.q_proj.weight.zero_()
    attention.q_proj.bias.view(-1, attention.head_dim).copy_(torch.eye(attention.head_dim)[channel])
    video = chat.open(frames)
    columns = columns_of(video.entry)
    keys, _ = video.entry.layers[chat.engine.evidence_layer]
    with torch.inference_mode():
        keys.zero_()
        keys[:, :, columns.column[columns.frame == frame], channel] = 60.0
    looks = video._looks(QUESTION)
    assert float(looks[frame] / looks.sum()) > 0.99
    video._neutral = torch.ones(8)
    (found,) = video.ask(QUESTION).evidence
    assert found.time_s == frame
    assert found.weight > 0.99


def test_the_source_of_evidence_changes_no_word(make_chat: Callable[..., HFChat], frames: Frames) -> None:
    videos = [make_chat("qwen2_vl", config={"evidence_from": source}).open(frames) for source in ("question", "answer")]
    answers = [video.ask(QUESTION, evidence=count) for video in videos for count in (0, 8)]
    assert len({(answer.text, answer.tokens.answer) for answer in answers}) == 1
    assert [bool(answer.evidence) for answer in answers] == [False, True] * 2
    assert answers[1].evidence != answers[3].evidence


@pytest.mark.parametrize("source", ["question", "answer"])
def test_evidence_is_sought_when_asked_for_and_timed_apart(
    source: str, make_chat: Callable[..., HFChat], frames: Frames, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[int] = []

    def slow(*given: Any) -> torch.Tensor:
        passes.append(1)
        time.sleep(0.4)
        return weights(*given)

    weights = evidence._weights
    monkeypatch.setattr(evidence, "_weights", slow)
    video = make_chat("llava_onevision", config={"evidence_from": source}).open(frames)
    without = video.ask(QUESTION, evidence=0)
    assert not passes
    assert without.timing.evidence_s == 0
    short = Decoding(max_new_tokens=2)
    first, second = video.ask(QUESTION, decoding=short), video.ask(QUESTION, decoding=short)
    of_each = first.tokens.answer if source == "answer" else 1
    assert second.timing.evidence_s >= 0.4 * of_each
    assert len(passes) >= 2 * of_each + 1  # and what they are compared with, once
    assert first.timing.evidence_s >= second.timing.evidence_s + 0.2
    assert max(each.timing.prefill_s + each.timing.generate_s for each in (first, second)) < 0.4


def test_it_leaves_the_model_as_it_is(make_chat: Callable[..., HFChat], frames: Frames) -> None:
    chat = make_chat("qwen2_vl")
    video = chat.open(frames)
    model = chat.engine.model
    before = {name: value.clone() for name, value in model.state_dict().items()}
    video.ask(QUESTION)
    assert model.config.get_text_config()._attn_implementation == "sdpa"
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    attention = model.model.language_model.layers[chat.engine.evidence_layer].self_attn
    assert len(attention._forward_pre_hooks) == 1
    chat.close()
    assert not attention._forward_pre_hooks


@pytest.mark.parametrize("source", ["question", "answer"])
def test_threads_watch_only_their_own(source: str, make_chat: Callable[..., HFChat], frames: Frames) -> None:
    chat = make_chat("llava_onevision", config={"evidence_from": source}, method="sttm", budget=0.4, layer=2)
    video = chat.open(frames)
    questions = ["What?", "Is it a street, or a river?", "Who is there?", "Where?"]
    alone = [video._looks(question) for question in questions]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(video._looks, questions))
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))


def test_nothing_is_watched_outside_the_block(make_chat: Callable[..., HFChat], frames: Frames) -> None:
    chat = make_chat("llava_onevision")
    entry = chat.open(frames).entry
    with chat.engine.probe.watching() as watched:
        pass
    chat.engine.step([5], cache=chat.engine.fork(entry), start=int(entry.facts["following"]))
    assert watched.rows == []
    assert watched.seconds == 0


@pytest.mark.parametrize("layer", [0, 2, 3])
def test_a_merged_token_is_shared_among_the_frames_it_stands_for(
    layer: int, make_chat: Callable[..., HFChat], frames: Frames
) -> None:
    chat = make_chat("llava_onevision", method="sttm", budget=0.45, layer=layer)
    entry = chat.open(frames).entry
    columns = columns_of(entry)
    length = entry.lengths[chat.engine.evidence_layer]
    video = torch.zeros(length).index_add_(0, columns.column, columns.weight)
    assert chat.engine.evidence_layer >= layer
    assert int((video > 0).sum()) == entry.facts["kept"] < entry.facts["video"]
    torch.testing.assert_close(video[video > 0], torch.ones(entry.facts["kept"]))
    received = torch.rand(length, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(columns.by_frame(received).sum(), received[video > 0].sum())


def test_without_merging_every_cell_is_its_frames() -> None:
    columns = Columns.of(torch.tensor([2, 3, 6, 7]), (2, 1, 2), record=None)
    received = torch.tensor([9.0, 9, 1, 2, 9, 9, 3, 4])
    assert columns.by_frame(received).tolist() == [3.0, 7.0]


def test_what_stands_out() -> None:
    neutral = torch.tensor([0.4, 0.2, 0.2, 0.2])
    assert outstanding(neutral * 3, neutral=neutral, most=3) == []
    found = outstanding(torch.tensor([0.4, 0.4, 0.2, 0.4]), neutral=neutral, most=3)
    assert [frame for frame, _ in found] == [1, 3]
    assert found[0][1] == pytest.approx(2 / 6)
    assert len(outstanding(torch.tensor([0.4, 0.4, 0.2, 0.4]), neutral=neutral, most=1)) == 1
    assert outstanding(torch.ones(4), neutral=torch.zeros(4), most=2) == []
