"""The attention that is read beside the model equals that of a model with eager attention, merged or not."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

from trifocal.chat.hf.chat import HFChat, columns_of
from trifocal.chat.hf.evidence import Columns, outstanding
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
    with chat.engine.probe.watching() as rows:
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
    torch.testing.assert_close(rows[0], expected, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(rows[0].sum(1), torch.ones(len(typed)))


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


def test_threads_watch_only_their_own(make_chat: Callable[..., HFChat], frames: Frames) -> None:
    chat = make_chat("llava_onevision", method="sttm", budget=0.4, layer=2)
    entry = chat.open(frames).entry
    questions = ["What?", "Is it a street, or a river?", "Who is there?", "Where?"]
    alone = [chat.looks(chat.engine.fork(entry), entry, question) for question in questions]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda question: chat.looks(chat.engine.fork(entry), entry, question), questions))
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))


def test_nothing_is_watched_outside_the_block(make_chat: Callable[..., HFChat], frames: Frames) -> None:
    chat = make_chat("llava_onevision")
    entry = chat.open(frames).entry
    with chat.engine.probe.watching() as rows:
        pass
    chat.engine.step([5], cache=chat.engine.fork(entry), start=int(entry.facts["following"]))
    assert rows == []


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
