"""What a family sees: chunks give what one pass gives, and the model reads it as it reads pixels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from trifocal.chat.hf.chat import HFChat
from trifocal.chat.hf.processor import Seen, read_settings
from trifocal.chat.hf.processors import PROCESSORS, processor_for
from trifocal.chat.hf.reading import look
from trifocal.errors import InvalidInput, ModelError
from trifocal.video import Frames

FAMILIES = sorted(PROCESSORS)


def looked(chat: HFChat, batches: list[Frames], *, frames: int, chunk: int) -> Seen:
    return look(batches, processor=chat.processor, frames=frames, chunk=chunk, device=torch.device("cpu")).seen


def cut(frames: Frames, *lengths: int) -> list[Frames]:
    parts, start = [], 0
    for length in lengths:
        parts.append(Frames(frames.images[start : start + length], frames.times_s[start : start + length]))
        start += length
    return parts


@pytest.mark.parametrize("name", FAMILIES)
def test_chunks_give_what_one_pass_gives(name: str, make_chat: Callable[..., HFChat], frames: Frames) -> None:
    chat = make_chat(name)
    whole = looked(chat, [frames], frames=8, chunk=8)
    chunked = looked(chat, cut(frames, 1, 4, 3), frames=8, chunk=2)
    assert whole.features.shape[0] == 8 // chat.processor.pair
    torch.testing.assert_close(chunked.features, whole.features, atol=1e-5, rtol=1e-5)
    assert len(chunked.deep) == len(whole.deep) == (2 if name.startswith("qwen3_vl") else 0)
    for ours, expected in zip(chunked.deep, whole.deep, strict=True):
        torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_tower_never_sees_more_than_a_chunk(
    name: str, make_chat: Callable[..., HFChat], frames: Frames, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat = make_chat(name)
    seen: list[int] = []
    see = chat.processor.see

    def counted(images: torch.Tensor, size: tuple[int, int]) -> Seen:
        seen.append(len(images))
        return see(images, size)

    monkeypatch.setattr(chat.processor, "see", counted)
    looked(chat, cut(frames, 8), frames=8, chunk=3)
    most = 4 if chat.processor.pair == 2 else 3
    assert max(seen) == most
    assert sum(seen) == 8
    assert all(count % chat.processor.pair == 0 for count in seen[:-1])


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("count", [8, 5])
def test_the_model_reads_it_as_it_reads_pixels(
    name: str, count: int, make_chat: Callable[..., HFChat], frames: Frames
) -> None:
    """The prefix and a question in pieces, against one pass with pixels and the model's own positions."""
    chat = make_chat(name)
    video = cut(frames, count)[0]
    opened = chat.open(video)
    typed, rest = chat.prompt.question("What is shown?")
    logits = chat.engine.step(
        [*typed, *rest], cache=chat.engine.fork(opened.entry), start=int(opened.entry.facts["following"])
    )
    text = chat.processor.text(
        tuple(opened.entry.facts["grid"]),
        times_s=video.times_s.tolist(),
        duration_s=float(video.times_s[-1]),
        token=chat.prompt.token,
    )
    ids = chat.engine.tensor([*chat.prompt.before(text), *typed, *rest])
    with torch.inference_mode():
        expected = chat.engine.model(input_ids=ids, **pixels_for(chat, video, ids)).logits[0, -1]
    torch.testing.assert_close(logits, expected, atol=3e-4, rtol=1e-4)


def pixels_for(chat: HFChat, video: Frames, ids: torch.Tensor) -> dict[str, Any]:
    """What the published processor would pass for the whole video at once."""
    processor: Any = chat.processor
    images = torch.from_numpy(video.images).permute(0, 3, 1, 2)
    size = processor.picture_size(*video.images.shape[1:3], frames=len(video))
    pixels = processor.pixels(images, size)
    kind = chat.engine.model.config.model_type
    if kind in {"llava_onevision", "llava_next_video"}:
        return {"pixel_values_videos": pixels[None]}
    if kind == "internvl":
        return {"pixel_values": pixels}
    if kind in {"smolvlm", "idefics3"}:
        return {"pixel_values": pixels[None]}
    patches, grid = pixels
    given = {"pixel_values_videos": patches, "video_grid_thw": grid}
    if kind == "video_llama_3":
        return {**given, "video_merge_sizes": torch.tensor([processor.merge])}
    if kind == "qwen2_5_vl":
        # Frames a second apart, two in each cell.
        given["second_per_grid_ts"] = torch.tensor([2.0])
    return {**given, "mm_token_type_ids": (ids == processor.placeholder).int() * 2}


def test_an_unknown_model_is_refused_with_the_known_ones() -> None:
    class Stranger:
        class config:  # noqa: N801
            model_type = "blip"

    with pytest.raises(ModelError, match="llava_onevision"):
        processor_for(Stranger())


def test_no_frames_are_refused(make_chat: Callable[..., HFChat], frames: Frames) -> None:
    chat = make_chat("qwen2_vl")
    with pytest.raises(InvalidInput, match="no frames"):
        chat.open(Frames(frames.images[:0], frames.times_s[:0]))


def test_settings_of_a_folder_are_read_and_later_files_win(tmp_path: Any) -> None:
    assert read_settings(tmp_path) == {}
    (tmp_path / "preprocessor_config.json").write_text('{"image_mean": [0.1, 0.1, 0.1], "merge_size": 3}')
    (tmp_path / "processor_config.json").write_text('{"video_processor": {"merge_size": 2}, "chat_template": "x"}')
    assert read_settings(tmp_path) == {"image_mean": [0.1, 0.1, 0.1], "merge_size": 2}
    (tmp_path / "video_preprocessor_config.json").write_text("{")
    with pytest.raises(ModelError, match="not JSON"):
        read_settings(tmp_path)


def test_words_round_the_tokens(make_chat: Callable[..., HFChat]) -> None:
    def words(name: str, frames: int) -> str:
        processor = make_chat(name).processor
        times = [0.25 + 61 * frame for frame in range(frames * processor.pair)]
        return processor.text((frames, 1, 2), times_s=times, duration_s=125.9, token="#")

    assert words("qwen2_vl", 2) == "####"
    assert words("llava_onevision", 2) == "#####"
    assert words("internvl", 2) == "Frame1: <img>##</img>\nFrame2: <img>##</img>"
    assert words("video_llama_3", 2) == "Time 0.2s:##,Time 61.2s:##"
    first, second = "<30.8 seconds>", "<152.8 seconds>"
    start, end = "<|vision_start|>", "<|vision_end|>"
    assert words("qwen3_vl", 2) == f"{first}{start}##{end}{second}{start}##{end}"
    assert words("qwen3_vl_moe", 2) == words("qwen3_vl", 2)
    assert words("idefics3", 2) == words("smolvlm", 2)
    picture = "<fake_token_around_image><global-img>##<fake_token_around_image>"
    assert words("smolvlm", 2) == (
        "You are provided the following series of two frames from a 0:02:05 [H:MM:SS] video.\n"
        f"\nFrame from 00:00:{picture}\nFrame from 01:01:{picture}\n\n"
    )
