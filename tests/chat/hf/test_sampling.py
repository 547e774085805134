"""How many frames are shown: as wanted, else the most that fit, else an error with the numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trifocal import video
from trifocal.chat.hf.chat import HFChat
from trifocal.chat.hf.config import HFChatConfig
from trifocal.chat.hf.processors import PROCESSORS
from trifocal.chat.hf.sampling import Room, plan, tokens_for
from trifocal.chat.model import VideoUse
from trifocal.errors import InvalidInput, ModelError
from trifocal.video import Frames


def planned(chat: HFChat, clip: Path, room: Room) -> int:
    info = video.probe(clip)
    return plan(info, config=chat.config, processor=chat.processor, prompt=chat.prompt, room=room)[1]


def test_as_many_as_wanted(make_chat: Callable[..., HFChat], clip: Path) -> None:
    roomy = Room(context=10_000, reserved=10)
    assert planned(make_chat("llava_onevision"), clip, roomy) == 8
    assert planned(make_chat("llava_onevision", config={"fps": 0.5}), clip, roomy) == 4
    assert planned(make_chat("llava_onevision", config={"fps": 2.0, "max_frames": 5}), clip, roomy) == 5
    assert planned(make_chat("llava_onevision", config={"fps": 100.0}), clip, roomy) == 32  # no more than there are
    assert planned(make_chat("qwen2_vl", config={"fps": 0.01}), clip, roomy) == 2  # a pair at least


@pytest.mark.parametrize("name", sorted(PROCESSORS))
def test_the_count_of_tokens_is_exact(name: str, make_chat: Callable[..., HFChat], frames: Frames) -> None:
    chat = make_chat(name)
    entry = chat.open(frames).entry
    video_tokens, words = tokens_for(
        8, height=48, width=40, processor=chat.processor, prompt=chat.prompt, duration_s=7.0
    )
    assert video_tokens == entry.facts["video"] + chat.processor.trailing
    # The words' seconds may differ in a digit, and so by a token here and there.
    assert abs(video_tokens + words - entry.length) <= 8


@pytest.mark.parametrize("name", ["llava_onevision", "qwen2_vl", "internvl", "smolvlm"])
def test_the_most_that_fit(name: str, make_chat: Callable[..., HFChat], clip: Path) -> None:
    chat = make_chat(name)
    info = video.probe(clip)

    def cost(count: int) -> tuple[int, int]:
        return tokens_for(
            count,
            height=info.height,
            width=info.width,
            processor=chat.processor,
            prompt=chat.prompt,
            duration_s=info.duration_s,
        )

    room = Room(context=sum(cost(5)) + 60, reserved=60)
    frames = planned(chat, clip, room)

    def fits(count: int) -> bool:
        return room.fits(*cost(count))

    assert 5 <= frames < 8
    assert fits(frames)
    assert not fits(frames + 1)


def test_a_video_too_long_is_refused_when_asked(make_chat: Callable[..., HFChat], clip: Path) -> None:
    chat = make_chat("llava_onevision", config={"too_long": "refuse"})
    with pytest.raises(ModelError, match=r"8 frames take 129 video tokens .* room for 100"):
        planned(chat, clip, Room(context=100, reserved=10))


def test_not_even_one_frame_fits(make_chat: Callable[..., HFChat], clip: Path) -> None:
    with pytest.raises(ModelError, match="room for 20"):
        planned(make_chat("llava_onevision"), clip, Room(context=20, reserved=10))


def test_merging_before_the_layers_makes_room(make_chat: Callable[..., HFChat], clip: Path) -> None:
    narrow = {"question_room": 400}  # of 512
    plain = make_chat("llava_onevision", config=narrow).open(clip)
    later = make_chat("llava_onevision", config=narrow, method="sttm", budget=0.5, layer=2).open(clip)
    first = make_chat("llava_onevision", config=narrow, method="sttm", budget=0.5, layer=0).open(clip)
    assert plain.entry.facts["grid"][0] == later.entry.facts["grid"][0] < 8
    assert first.entry.facts["grid"][0] == 8
    assert first.ask("What is it?").tokens.kept <= 64


@pytest.mark.parametrize(("name", "fps"), [("llava_onevision", 1.0), ("qwen2_vl", 4.0)])
def test_a_number_of_tokens_before_the_layers_makes_room_too(
    name: str, fps: float, make_chat: Callable[..., HFChat], clip: Path
) -> None:
    narrow = {"question_room": 400, "fps": fps}  # of 512
    merging: dict[str, Any] = {"method": "sttm", "budget": 48, "positions": "reassign"}
    plain = make_chat(name, config=narrow).open(clip, isolated=False)
    later = make_chat(name, config=narrow, **merging, layer=2).open(clip, isolated=False)
    first = make_chat(name, config=narrow, **merging, layer=0).open(clip, isolated=False)
    assert plain.use.frames == later.use.frames < 8 * fps
    assert first.use.frames == first.use.frames_wanted == 8 * fps
    answer = first.ask("What is it?")
    assert 0 < answer.tokens.kept <= 48
    assert answer.warnings == ()


def test_room_counts_what_merging_leaves() -> None:
    assert [Room(100, 10, budget=budget, trailing=1).kept(81) for budget in (None, 0.5, 40, 400)] == [81, 41, 41, 81]
    room = Room(100, 10, budget=40, trailing=1)
    assert room.fits(10**6, 49)
    assert not room.fits(10**6, 50)
    assert not Room(100, 10, budget=4000).fits(95, 0)


def test_frames_that_were_left_out_are_told(make_chat: Callable[..., HFChat], clip: Path) -> None:
    cut = make_chat("llava_onevision", config={"question_room": 400}).open(clip)  # of 512
    assert cut.use == VideoUse(frames=cut.use.frames, frames_wanted=8, video=cut.use.frames * 16, kept=cut.use.video)
    assert 0 < cut.use.frames < 8
    (told,) = cut.ask("Who?").warnings
    assert told == f"{cut.use.frames} frames are shown where 8 were wanted: more do not fit into 512 tokens of context"
    whole = make_chat("llava_onevision", method="sttm", budget=0.5).open(clip)
    assert whole.use == VideoUse(frames=8, frames_wanted=8, video=128, kept=64)
    assert whole.ask("Who?").warnings == ()


def test_given_frames_are_all_used_or_refused(make_chat: Callable[..., HFChat], frames: Frames) -> None:
    with pytest.raises(ModelError, match="8 frames take 129 video tokens"):
        make_chat("llava_onevision", config={"question_room": 400}).open(frames)


@pytest.mark.parametrize(
    "fields",
    [
        {"fps": 0.0},
        {"fps": float("nan")},
        {"max_frames": 0},
        {"question_room": 0},
        {"chunk": 0},
        {"too_long": "cut"},
        {"evidence_depth": 1.5},
    ],
)
def test_settings_out_of_range(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        HFChatConfig(**fields)
