from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from trifocal import video as video_files
from trifocal.chat import Answer, Decoding, Timing
from trifocal.chat.prompt import assemble, chat_parts, lay_out
from trifocal.chat.small_chat import NEUTRAL_QUESTION, OpenSmallVideo, SmallChat, SmallChatConfig
from trifocal.errors import InvalidInput, ModelError, UnreadableVideo, VideoLimitExceeded, VideoNotFound
from trifocal.video import Frames, Limits

MakeChat = Callable[..., SmallChat]
RED, GREEN, BLUE = 0, 1, 2


@pytest.fixture
def clip(tmp_path: Path, colours: Frames) -> Path:
    path = tmp_path / "colours.mp4"
    video_files.write_mp4(path, [np.kron(image, np.ones((8, 8, 1), np.uint8)) for image in colours.images], fps=1)
    return path


def test_an_answer_tells_what_it_rests_on(make_chat: MakeChat, clip: Path) -> None:
    chat = make_chat(frames=3)
    answer = chat.ask(clip, "What is shown?", evidence=2)
    assert answer.video == str(clip)
    assert answer.question == "What is shown?"
    assert answer.caveat == chat.caveat
    assert "weak" in answer.caveat
    assert answer.model == chat.name
    assert 1 <= len(answer.evidence) <= 2
    assert answer.evidence[0].weight >= answer.evidence[-1].weight > 1 / 3
    assert {frame.time_s for frame in answer.evidence} <= {1.0, 3.0, 5.0}
    assert answer.tokens.video == 2 + 3
    assert answer.tokens.prompt > answer.tokens.video
    assert answer.tokens.cached == 0
    assert 1 <= answer.tokens.answer <= 12
    assert min(answer.timing.decode_s, answer.timing.vision_s, answer.timing.prefill_s, answer.timing.generate_s) > 0


def test_evidence_is_what_stands_out(make_chat: MakeChat, colours: Frames) -> None:
    opened = make_chat().open(colours)
    answer = opened.ask("Is it a blue whale?", evidence=99)
    assert answer.video == "frames"
    assert 1 <= len(answer.evidence) < 6
    weights = [frame.weight for frame in answer.evidence]
    assert weights == sorted(weights, reverse=True)
    assert min(weights) > 1 / 6
    assert sum(weights) < 1
    assert {frame.time_s for frame in answer.evidence} <= set(colours.times_s.tolist())
    assert opened.ask("Is it a blue whale?", evidence=1).evidence == answer.evidence[:1]
    assert opened.ask("Is it a blue whale?", evidence=0).evidence == ()


def test_a_video_is_paid_for_once_by_however_many_threads(make_chat: MakeChat, colours: Frames) -> None:
    class SlowToRead(OpenSmallVideo):
        """Long between reading what is unpaid and writing that it is paid."""

        @property
        def _unpaid(self) -> Timing | None:
            value: Timing | None = self.__dict__["owed"]
            time.sleep(0.05)
            return value

        @_unpaid.setter
        def _unpaid(self, value: Timing | None) -> None:
            self.__dict__["owed"] = value

    chat = make_chat()
    entry, timing = chat.prefill(colours)
    video = SlowToRead(chat, entry, name="frames", warnings=(), timing=timing)
    gate = threading.Barrier(4)

    def ask(_: int) -> Answer:
        gate.wait()
        return video.ask("What is shown?", evidence=0)

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(ask, range(4)))
    assert sum(answer.tokens.cached == 0 for answer in answers) == 1
    assert sum(answer.timing.vision_s > 0 for answer in answers) == 1


def test_evidence_is_timed_apart_and_not_sought_unless_asked_for(
    make_chat: MakeChat, colours: Frames, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = make_chat().open(colours)
    video.ask("What is shown?")
    assert video.ask("What is shown?", evidence=1).timing.evidence_s > 0
    monkeypatch.setattr("trifocal.chat.small.opened.question_attention", None)
    assert video.ask("What is shown?", evidence=0).timing.evidence_s == 0


def test_a_question_about_everything_has_no_evidence(make_chat: MakeChat, colours: Frames) -> None:
    assert make_chat().ask(colours, NEUTRAL_QUESTION).evidence == ()


def test_a_cached_answer_equals_asking_afresh(make_chat: MakeChat, colours: Frames) -> None:
    chat = make_chat()
    opened = chat.open(colours)
    for question in ("What is shown?", "Who is it?", "What is shown?"):
        cached, fresh = opened.ask(question), chat.ask(colours, question)
        assert (cached.text, cached.evidence, cached.finished) == (fresh.text, fresh.evidence, fresh.finished)


def test_it_equals_one_forward_over_the_whole_prompt(make_chat: MakeChat, colours: Frames) -> None:
    chat = make_chat()
    frame_tokens, video_tokens = chat.tokens(chat.look(colours))
    parts = lay_out(
        chat.config.style, frame_tokens=frame_tokens, times_s=colours.times_s.tolist(), video_tokens=video_tokens
    )
    before, after = chat_parts(chat.language_model, style=chat.config.style, video=parts, question="What is shown?")
    whole = assemble(chat.language_model, parts=[*before, *after]).embeddings
    with pytest.warns(UserWarning, match="only to newly generated tokens"):
        expected = chat.language_model.model.generate(
            inputs_embeds=whole[None],
            attention_mask=torch.ones(1, len(whole), dtype=torch.long),
            max_new_tokens=12,
            do_sample=False,
            repetition_penalty=chat.config.decoding.repetition_penalty,
            no_repeat_ngram_size=chat.config.decoding.no_repeat_ngram,
        )
    assert chat.ask(colours, "What is shown?").text == chat.language_model.decode(expected[0].tolist()).strip()


def test_only_the_first_answer_pays_for_the_video(make_chat: MakeChat, colours: Frames) -> None:
    opened = make_chat().open(colours)
    first, second = opened.ask("What is shown?"), opened.ask("Who is it?")
    assert first.timing.vision_s > 0
    assert second.timing.vision_s == second.timing.decode_s == 0
    assert first.tokens.cached == 0
    assert second.tokens.cached == opened.prefix.length
    assert second.tokens.prompt - second.tokens.cached < 40


def test_the_stream_is_the_answer(make_chat: MakeChat, colours: Frames) -> None:
    pieces: list[str] = []
    answer = make_chat().ask(colours, "What is shown?", on_text=pieces.append)
    assert "".join(pieces).strip() == answer.text


def test_the_answer_depends_on_the_video(make_chat: MakeChat, colours: Frames) -> None:
    chat = make_chat()
    backwards = Frames(images=colours.images[::-1][:2], times_s=colours.times_s[:2])
    assert chat.ask(colours, "What is shown?").text != chat.ask(backwards, "What is shown?").text


@pytest.mark.parametrize(
    ("fields", "per_frame", "whole"),
    [
        ({"grid": 1, "frame_names": 0, "video_names": 0}, 1, 0),
        ({"grid": 2, "frame_names": 3, "video_names": 2}, 7, 2),
        ({"grid": 0, "frame_names": 2, "video_names": 0}, 2, 0),
        ({"grid": 0, "frame_names": 0, "video_names": 3}, 0, 3),
    ],
)
def test_the_config_says_how_many_tokens(
    make_chat: MakeChat, colours: Frames, fields: dict[str, Any], per_frame: int, whole: int
) -> None:
    chat = make_chat(**fields)
    frame_tokens, video_tokens = chat.tokens(chat.look(colours))
    assert frame_tokens.shape == (6, per_frame, 32)
    assert video_tokens.shape == (whole, 32)
    norm = chat.language_model.embeddings.norm(dim=-1).mean()
    for tokens in (frame_tokens, video_tokens):
        torch.testing.assert_close(tokens.norm(dim=-1), norm.expand(tokens.shape[:-1]))
    assert chat.ask(colours, "What is shown?").tokens.video == 6 * per_frame + whole


def test_a_frame_is_given_as_what_it_shows(make_chat: MakeChat, colours: Frames) -> None:
    chat = make_chat(grid=1, top_k=1, frame_names=1, video_names=3, norm=None)
    frame_tokens, video_tokens = chat.tokens(chat.look(colours))
    for frame, colour in enumerate((RED, RED, GREEN, GREEN, BLUE, BLUE)):
        for token in frame_tokens[frame]:
            torch.testing.assert_close(token, chat.class_embeddings[colour])
    distances = torch.cdist(video_tokens, chat.class_embeddings)
    assert sorted(distances.argmin(1).tolist()) == [RED, GREEN, BLUE]
    assert distances.min(1).values.max() < 1e-5


def test_frames_go_through_the_network_in_batches(make_chat: MakeChat, colours: Frames) -> None:
    whole, small = make_chat(), make_chat(batch_size=4)
    torch.testing.assert_close(small.look(colours), whole.look(colours))
    assert small.network.batches == [4, 2]  # type: ignore[attr-defined]  # the fake network keeps count


@pytest.mark.parametrize("question", ["", "  \n\t"])
def test_an_empty_question_is_refused_before_any_work(make_chat: MakeChat, colours: Frames, question: str) -> None:
    chat = make_chat()
    with pytest.raises(InvalidInput, match="question is empty"):
        chat.ask("no_such_file.mp4", question)
    with pytest.raises(InvalidInput, match="question is empty"):
        chat.open(colours).ask(question)


def test_a_question_that_does_not_fit_is_refused_with_numbers(make_chat: MakeChat, colours: Frames) -> None:
    with pytest.raises(ModelError, match=r"The prompt has \d+ tokens .* room for 512"):
        make_chat().ask(colours, "why? " * 400)


def test_a_video_that_does_not_fit_is_refused(make_chat: MakeChat, colours: Frames) -> None:
    many = Frames(images=np.repeat(colours.images, 100, axis=0), times_s=np.arange(600, dtype=np.float64))
    with pytest.raises(ModelError, match="use fewer frames"):
        make_chat().open(many)


def test_no_frames_are_refused(make_chat: MakeChat, colours: Frames) -> None:
    none = Frames(images=colours.images[:0], times_s=colours.times_s[:0])
    with pytest.raises(InvalidInput, match="no frames"):
        make_chat().open(none)


def test_errors_of_the_video_pass_through(make_chat: MakeChat, clip: Path, tmp_path: Path) -> None:
    chat = make_chat()
    with pytest.raises(VideoNotFound):
        chat.ask(tmp_path / "none.mp4", "What?")
    empty = tmp_path / "empty.mp4"
    empty.touch()
    with pytest.raises(UnreadableVideo):
        chat.ask(empty, "What?")
    with pytest.raises(VideoLimitExceeded):
        chat.ask(clip, "What?", limits=Limits(duration_s=2.0))


def test_a_negative_count_of_evidence_is_refused(make_chat: MakeChat, colours: Frames) -> None:
    with pytest.raises(InvalidInput, match="evidence is -1"):
        make_chat().ask(colours, "What?", evidence=-1)


def test_decoding_can_be_given_per_question(make_chat: MakeChat, colours: Frames) -> None:
    answer = make_chat().ask(colours, "What is shown?", decoding=Decoding(max_new_tokens=1))
    assert answer.tokens.answer == 1


@pytest.mark.parametrize(
    "fields",
    [
        {"frames": 0},
        {"grid": -1},
        {"batch_size": 0},
        {"frame_names": -1},
        {"grid": 0, "frame_names": 0, "video_names": 0},
        {"evidence_layers": (0.5, 0.5)},
        {"evidence_layers": (-0.1, 0.5)},
    ],
)
def test_a_bad_config_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        SmallChatConfig(**fields)
