"""A long video takes no more memory than a short one with as many tokens: bytes of pixels and tensors are counted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from trifocal import video as video_files
from trifocal.bench.merge import Accountant
from trifocal.chat.hf.chat import HFChat
from trifocal.chat.hf.reading import look
from trifocal.video import Frames, Sampling, write_mp4

MERGED: dict[str, Any] = {"method": "sttm", "budget": 64, "layer": 0}
ROUGHLY = 1.1
BOOKKEEPING = 100_000
"""Bytes that Python itself may want for a longer file; three decoded frames have as many."""
TOKENS, CHANNELS = 16, 32
"""Of a frame, in the tiny models."""


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """8 and 32 seconds, 128 × 96, at 4 frames a second."""
    draw = np.random.default_rng(1)
    scenes = draw.integers(0, 256, (8, 6, 8, 3), dtype=np.uint8).repeat(16, 1).repeat(16, 2)
    folder = tmp_path_factory.mktemp("long")
    for name, each in (("short", 4), ("long", 16)):
        write_mp4(folder / f"{name}.mp4", scenes[np.repeat(np.arange(8), each)], fps=4.0)
    return folder / "short.mp4", folder / "long.mp4"


@pytest.mark.parametrize(("name", "options"), [("llava_onevision", {}), ("smolvlm", {}), ("qwen3_vl", MERGED)])
def test_four_times_as_long_with_as_many_tokens_holds_as_much(
    name: str, options: dict[str, Any], make_chat: Callable[..., HFChat], clips: tuple[Path, Path]
) -> None:
    held = []
    for clip in (clips[0], *clips):  # the first time things are imported
        chat = make_chat(name, config={"fps": 4.0, "max_frames": 16}, **options)
        with Accountant() as account:
            video = chat.open(clip, isolated=False)
        held.append((account.peak_bytes, video.use))
    _, short, long = held
    assert short[1] == long[1]
    assert long[0] <= ROUGHLY * short[0] + BOOKKEEPING


def looked(chat: HFChat, batches: Iterable[Frames], *, frames: int) -> int:
    with Accountant() as account:
        look(batches, processor=chat.processor, frames=frames, chunk=4, device=torch.device("cpu"))
    return account.peak_bytes


def hoarded(batches: Iterable[Frames]) -> Iterator[Frames]:
    yield from list(batches)


@pytest.mark.parametrize("name", ["llava_onevision", "qwen3_vl"])
def test_looking_at_four_times_as_many_frames_holds_their_tokens_more(
    name: str, make_chat: Callable[..., HFChat], clips: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    chat = make_chat(name)
    size: Any = chat.processor.picture_size  # of some families shrinks with more frames
    monkeypatch.setattr(chat.processor, "picture_size", lambda *shape, frames: size(*shape, frames=min(8, frames)))

    def seen(frames: int, *, hoard: bool = False) -> int:
        with video_files.open(clips[1], isolated=False) as opened:
            batches = opened.stream(Sampling.at_fps(4.0, max_frames=frames), batch_size=4)
            return looked(chat, hoarded(batches) if hoard else batches, frames=frames)

    seen(8)
    few, many = seen(16), seen(64)
    # Once in parts and once joined; deep features are as large again, each.
    levels = 3 if name == "qwen3_vl" else 1
    tokens = 48 // chat.processor.pair * TOKENS * CHANNELS * 4
    assert many - few <= ROUGHLY * 2 * levels * tokens + BOOKKEEPING
    pixels = 48 * 128 * 96 * 3
    assert seen(64, hoard=True) - few > 0.9 * pixels  # what is counted would show
