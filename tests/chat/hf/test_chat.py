"""One video, many questions: answers equal asking afresh, whatever served the prefix, and the counts are true."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from trifocal.chat import Answer, Decoding
from trifocal.chat.hf.chat import HFChat, OpenHFVideo
from trifocal.chat.hf.processors import PROCESSORS
from trifocal.chat.prefix import PrefixEntry, PrefixStore
from trifocal.errors import InvalidInput, ModelError
from trifocal.video import Frames

FAMILIES = sorted(PROCESSORS)
QUESTIONS = ("What is shown in the video?", "Is it a street?", "Who?")
MERGED: dict[str, Any] = {"method": "sttm", "budget": 0.5, "layer": 2}
SETTINGS = [{}, MERGED, {**MERGED, "layer": 0}]


def words(answer: Answer) -> tuple[object, ...]:
    return answer.text, answer.tokens.answer, answer.finished, answer.evidence


@pytest.mark.parametrize("options", SETTINGS, ids=["plain", "layer 2", "layer 0"])
@pytest.mark.parametrize("name", FAMILIES)
def test_later_questions_equal_asking_afresh(
    name: str, options: dict[str, Any], make_chat: Callable[..., HFChat], frames: Frames
) -> None:
    chat = make_chat(name, **options)
    video = chat.open(frames)
    asked = [video.ask(question) for question in (*QUESTIONS, QUESTIONS[0])]
    chat.close()
    for question, answer in zip(QUESTIONS, asked, strict=False):
        fresh = make_chat(name, **options).ask(frames, question)
        assert words(answer) == words(fresh)
        assert fresh.tokens.cached == 0
    assert words(asked[0]) == words(asked[3])
    assert asked[0].tokens.cached == 0
    assert [answer.tokens.cached for answer in asked[1:]] == [video.entry.length] * 3


@pytest.mark.parametrize("layer", [0, 1, 2, 3])
@pytest.mark.parametrize("name", ["llava_onevision", "qwen2_vl", "qwen3_vl"])
def test_layers_hold_what_merging_leaves(
    name: str, layer: int, make_chat: Callable[..., HFChat], frames: Frames
) -> None:
    chat = make_chat(name, **{**MERGED, "layer": layer})
    video = chat.open(frames)
    answer = video.ask(QUESTIONS[0])
    merged = answer.tokens.merged_away
    assert merged > 0
    assert answer.tokens.kept <= answer.tokens.video // 2
    assert video.entry.lengths == (video.entry.length,) * layer + (video.entry.length - merged,) * (4 - layer)
    assert answer.tokens.prompt > video.entry.length


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *((name, MERGED) for name in FAMILIES),
        *((name, options) for name in ("qwen2_vl", "llava_onevision") for options in (SETTINGS[0], SETTINGS[2])),
    ],
)
def test_a_prefix_from_disk_answers_alike(
    name: str, options: dict[str, Any], make_chat: Callable[..., HFChat], frames: Frames, tmp_path: Path
) -> None:
    fixed = {"revision": "1", **options}
    first = make_chat(name, store=PrefixStore(folder=tmp_path), **fixed)
    expected = [first.ask(frames, question) for question in QUESTIONS]
    again = make_chat(name, store=PrefixStore(folder=tmp_path), **fixed)
    video = again.open(frames)
    answers = [video.ask(question) for question in QUESTIONS]
    assert again.store.stats.from_disk == 1
    assert again.store.stats.made == 0
    assert [words(a) for a in answers] == [words(b) for b in expected]
    assert answers[0].tokens.cached == video.entry.length
    assert (answers[0].timing.decode_s, answers[0].timing.vision_s, answers[0].timing.merge_s) == (0.0, 0.0, 0.0)


def test_int8_answers_alike_whichever_level_serves(
    make_chat: Callable[..., HFChat], frames: Frames, tmp_path: Path
) -> None:
    def chat() -> HFChat:
        return make_chat("llava_onevision", revision="1", store=PrefixStore(folder=tmp_path, int8=True), **MERGED)

    first = chat()
    made, found, later = first.open(frames), first.open(frames), chat().open(frames)
    assert [words(each.ask(QUESTIONS[0])) for each in (found, later)] == [words(made.ask(QUESTIONS[0]))] * 2
    exact = make_chat("llava_onevision", **MERGED).open(frames).entry
    error = (made.entry.layers[3][0] - exact.layers[3][0]).abs().max() / exact.layers[3][0].abs().max()
    assert 0 < error < 0.01


def test_an_exact_answer_never_comes_from_an_int8_prefix(
    make_chat: Callable[..., HFChat], frames: Frames, tmp_path: Path
) -> None:
    def entry(**options: Any) -> PrefixEntry:
        return make_chat("llava_onevision", revision="1", **MERGED, **options).open(frames).entry

    entry(store=PrefixStore(folder=tmp_path, int8=True))
    beside, alone = entry(store=PrefixStore(folder=tmp_path)), entry()
    assert all(
        torch.equal(ours, theirs)
        for pair, other in zip(beside.layers, alone.layers, strict=True)
        for ours, theirs in zip(pair, other, strict=True)
    )


def test_many_threads_ask_and_open(make_chat: Callable[..., HFChat], frames: Frames) -> None:
    chat = make_chat("qwen2_5_vl", **MERGED)
    other = Frames(frames.images[::-1].copy(), frames.times_s)
    alone = {
        (which, question): words(make_chat("qwen2_5_vl", **MERGED).ask(video, question))
        for which, video in enumerate((frames, other))
        for question in QUESTIONS
    }
    gate = threading.Barrier(6)

    def ask(task: tuple[int, str]) -> tuple[object, ...]:
        gate.wait()
        return words(chat.open((frames, other)[task[0]]).ask(task[1]))

    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(ask, alone))
    assert together == list(alone.values())
    assert chat.store.stats.made == 2


def test_an_open_video_takes_questions_from_many_threads_and_is_paid_once(
    make_chat: Callable[..., HFChat], frames: Frames
) -> None:
    video = make_chat("llava_onevision", **MERGED).open(frames)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(video.ask, QUESTIONS * 2))
    assert sum(answer.tokens.cached == 0 for answer in answers) == 1
    assert sum(answer.timing.vision_s > 0 for answer in answers) == 1
    assert [words(answer) for answer in answers[:3]] == [words(answer) for answer in answers[3:]]


def test_the_parts_are_timed_apart(make_chat: Callable[..., HFChat], clip: Path) -> None:
    video = make_chat("llava_onevision", **MERGED).open(clip)
    first, second = video.ask(QUESTIONS[0]), video.ask(QUESTIONS[1])
    parts = first.timing
    assert min(parts.decode_s, parts.vision_s, parts.merge_s, parts.prefill_s, parts.generate_s) > 0
    assert (second.timing.decode_s, second.timing.vision_s, second.timing.merge_s) == (0, 0, 0)
    assert 0 < second.timing.prefill_s < parts.prefill_s


def test_text_streams(make_chat: Callable[..., HFChat], frames: Frames) -> None:
    pieces: list[str] = []
    answer = make_chat("llava_next_video", **{**MERGED, "layer": 0}).ask(frames, "What is it?", on_text=pieces.append)
    assert "".join(pieces).strip() == answer.text
    assert all(pieces)


def test_a_file_is_read_once(make_chat: Callable[..., HFChat], clip: Path) -> None:
    chat = make_chat("qwen2_vl")
    assert chat.open(clip).entry is chat.open(clip).entry
    answer = chat.open(clip).ask("What is it?")
    assert answer.video == str(clip)
    assert answer.tokens.cached > 0
    assert {frame.time_s for frame in answer.evidence} <= set(chat.open(clip).entry.facts["times_s"])


def test_security_11_a_prefix_is_another_ones_as_soon_as_anything_differs(
    make_chat: Callable[..., HFChat], make_model: Callable[[str], Any], frames: Frames, clip: Path
) -> None:
    def key(video: Path | Frames = frames, **options: Any) -> str:
        return make_chat("llava_onevision", **{"revision": "1", **MERGED, **options}).key(video).digest

    moved = Frames(frames.images, frames.times_s + 1)
    keys = [
        key(),
        key(clip),
        key(moved),
        key(revision="2"),
        key(name="another"),
        key(budget=0.4),
        key(layer=0),
        key(positions="survive"),
        key(compat="reference"),
        key(method="uniform"),
        make_chat("llava_onevision", revision="1").key(frames).digest,
        key(config={"system": "Be brief."}),
        key(clip, config={"fps": 2.0}),
        key(clip, config={"max_frames": 3}),
        key(store=PrefixStore(salt="tenant")),
        key(model=make_model("llava_onevision").to(torch.bfloat16)),
    ]
    assert key() == keys[0]
    assert len(set(keys)) == len(keys)
    assert replace(make_chat("llava_onevision", revision="1").key(frames), stream=1).digest not in keys


def test_without_a_revision_no_other_object_finds_it(make_chat: Callable[..., HFChat], frames: Frames) -> None:
    store = PrefixStore()
    for _ in range(2):
        make_chat("llava_onevision", store=store).open(frames)
    assert store.stats.made == 2


def test_decoding_can_be_given(make_chat: Callable[..., HFChat], frames: Frames) -> None:
    video = make_chat("llava_onevision").open(frames)
    assert video.ask("Who?", decoding=Decoding(max_new_tokens=2)).tokens.answer == 2
    sampled = [video.ask("Who?", decoding=Decoding(temperature=2.0, seed=seed)).text for seed in (1, 1, 2)]
    assert sampled[0] == sampled[1]


def test_what_cannot_be_asked(make_chat: Callable[..., HFChat], frames: Frames) -> None:
    video = make_chat("llava_onevision").open(frames)
    with pytest.raises(InvalidInput, match="empty"):
        video.ask("  ")
    with pytest.raises(InvalidInput, match="evidence is -1"):
        video.ask("Who?", evidence=-1)
    with pytest.raises(ModelError, match="has room for 512"):
        video.ask("Who? " * 200)
    assert video.ask("Who?", evidence=0).evidence == ()


def test_closing_takes_everything_off_the_model(
    make_chat: Callable[..., HFChat], make_model: Callable[[str], Any]
) -> None:
    model = make_model("qwen3_vl")
    make_chat("qwen3_vl", model=model, **MERGED).close()
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.modules())
    assert isinstance(make_chat("qwen3_vl", model=model, **MERGED), HFChat)


def test_opened_videos_are_of_the_public_kind(make_chat: Callable[..., HFChat], frames: Frames) -> None:
    assert isinstance(make_chat("internvl").open(frames), OpenHFVideo)


def test_a_method_that_looks_at_the_question_is_refused_before_a_video_is_read(
    make_chat: Callable[..., HFChat], make_model: Callable[[str], Any]
) -> None:
    with pytest.raises(InvalidInput, match="fastv keeps what one question attends to"):
        make_chat("qwen2_vl", method="fastv", budget=0.5)
    assert make_chat("qwen2_vl", method="sttm", budget=0.5).engine.handle is not None  # nothing was left attached
