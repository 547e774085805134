"""The trained and the merged model, on the tiny language model of `tests/chat/conftest.py`."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from trifocal.chat.language_model import LanguageModel
from trifocal.chat.prefix import PrefixStore
from trifocal.chat.prompt import PromptStyle
from trifocal.chat.small.cells import COLOURS
from trifocal.chat.small.projector import Projector, ProjectorConfig
from trifocal.chat.small.trained import Trained, load_trained, save_trained, shipped
from trifocal.chat.small_chat import SmallChat, SmallChatConfig
from trifocal.errors import InvalidInput, WeightsCorrupt, WeightsUnavailable
from trifocal.merging import configure
from trifocal.video import Frames

MakeChat = Callable[..., SmallChat]


@pytest.fixture
def trained() -> Trained:
    torch.manual_seed(0)
    projector = Projector(ProjectorConfig(features=3, colours=COLOURS, width=32))
    torch.nn.init.normal_(projector.linear.weight)
    torch.nn.init.normal_(projector.place.weight, std=0.1)
    return Trained(
        projector=projector.requires_grad_(False),
        low_rank={"a.up": torch.ones(4, 2), "a.down": torch.ones(2, 4)},
        language_model="tiny",
        frames=6,
        grid=2,
        video_names=2,
        introduction="\nFrames:",
        facts={"steps": 3},
    )


@pytest.fixture
def trained_chat(make_chat: MakeChat, language_model: LanguageModel, trained: Trained) -> MakeChat:
    def make(store: PrefixStore | None = None, **fields: object) -> SmallChat:
        model = make_chat(style=PromptStyle(system="", frames="\nFrames:"), frames=6, grid=2, **fields)
        return SmallChat(
            language_model,
            network=model.network,
            class_names=model.class_names,
            config=model.config,
            trained=trained,
            store=store,
        )

    return make


def test_files_hold_it_to_half_precision(trained: Trained, tmp_path: Path) -> None:
    save_trained(trained, tmp_path)
    read = load_trained(tmp_path)
    assert (read.language_model, read.frames, read.grid, read.facts) == ("tiny", 6, 2, {"steps": 3})
    torch.testing.assert_close(read.projector.linear.weight, trained.projector.linear.weight, atol=1e-2, rtol=1e-3)
    assert read.low_rank.keys() == trained.low_rank.keys()
    config = read.config()
    assert (config.frames, config.grid, config.video_names, config.style.frames) == (6, 2, 2, "\nFrames:")
    first = (tmp_path / "trained.safetensors").read_bytes()
    save_trained(trained, tmp_path)
    assert (tmp_path / "trained.safetensors").read_bytes() == first


def test_missing_and_broken_files_are_told_apart(trained: Trained, tmp_path: Path) -> None:
    with pytest.raises(WeightsUnavailable, match="no trained weights"):
        load_trained(tmp_path)
    save_trained(trained, tmp_path)
    whole = (tmp_path / "trained.safetensors").read_bytes()
    (tmp_path / "trained.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsCorrupt, match="cannot be used"):
        load_trained(tmp_path)
    (tmp_path / "trained.safetensors").write_bytes(whole)
    (tmp_path / "trained.json").write_text("{}")
    with pytest.raises(WeightsCorrupt, match="cannot be used"):
        load_trained(tmp_path)


def test_what_ships_is_small_and_says_how_it_was_judged() -> None:
    if not (shipped() / "trained.safetensors").is_file():
        with pytest.raises(WeightsUnavailable):
            load_trained()
        return
    assert (shipped() / "trained.safetensors").stat().st_size <= 10_000_000
    held_out = load_trained().facts["held_out"]
    assert 0.25 < held_out["accuracy"] <= 1.0


def test_trained_tokens_reach_the_model(trained_chat: MakeChat, colours: Frames) -> None:
    chat = trained_chat()
    opened = chat.open(colours)
    answer = opened.ask("What is shown?")
    assert answer.tokens.video == 6 * 4 + 2
    assert answer.tokens.merged_away == 0
    assert "trained" in answer.model
    assert answer.caveat == chat.caveat
    assert "drawn videos" in answer.caveat
    frame_of = opened.prefix.extra["frame_of"]
    assert [int((frame_of == frame).sum()) for frame in range(6)] == [4] * 6


def test_merging_shortens_the_prompt_and_is_counted(
    trained_chat: MakeChat, make_chat: MakeChat, colours: Frames
) -> None:
    merge = configure("sttm", spatial_threshold=0.999, temporal_threshold=0.999)
    for make in (trained_chat, partial(make_chat, grid=2)):
        whole, merged = make().ask(colours, "What is shown?"), make(merge=merge).ask(colours, "What is shown?")
        assert merged.tokens.video == whole.tokens.video == 26
        # Each of three colours fills two frames alike: of the two one is left, in a grid too small to merge within.
        assert merged.tokens.kept == 3 * 4 + 2
        assert merged.tokens.prompt < whole.tokens.prompt
        assert merged.timing.merge_s > 0
        assert whole.timing.merge_s == 0


def test_choices_are_scored_as_they_would_be_written(trained_chat: MakeChat, colours: Frames) -> None:
    opened = trained_chat().open(colours)
    scores = opened.choice_scores(["Which?", "Is it?"], [["a red fox", "a blue whale", "lawn"], ["yes", "no"]])
    assert [len(row) for row in scores] == [3, 2]
    assert max(max(row) for row in scores) < 0
    alone = opened.choice_scores(["Is it?"], [["no", "yes"]])
    assert alone[0][::-1] == pytest.approx(scores[1], abs=1e-4)
    with pytest.raises(InvalidInput, match="2 questions and 1"):
        opened.choice_scores(["Which?", "Is it?"], [["yes"]])
    with pytest.raises(InvalidInput, match="empty"):
        opened.choice_scores([" "], [["yes"]])


def test_a_store_spares_the_second_opening(trained_chat: MakeChat, colours: Frames) -> None:
    store = PrefixStore(memory_bytes=1 << 24)
    chat = trained_chat(store=store)
    first, second = chat.ask(colours, "What is shown?"), chat.ask(colours, "What is shown?")
    assert first.text == second.text
    assert first.evidence == second.evidence
    assert (first.tokens.cached, second.tokens.cached > 0) == (0, True)
    assert second.timing.vision_s == 0
    keys = {
        trained_chat(store=store).key(colours).digest,
        trained_chat(store=store, merge=configure("tome", budget=0.5)).key(colours).digest,
        trained_chat(store=store, video_names=1).key(colours).digest,
        chat.key(Frames(images=colours.images[:3].copy(), times_s=colours.times_s[:3])).digest,
        chat.key(colours).digest,
    }
    assert len(keys) == 4


def test_other_trained_weights_have_other_keys(trained_chat: MakeChat, colours: Frames) -> None:
    chat = trained_chat()
    before = chat.key(colours).digest
    assert chat.trained is not None
    chat.trained.projector.linear.weight += 1
    assert chat.key(colours).digest != before


def test_merging_needs_cells() -> None:
    with pytest.raises(InvalidInput, match="Merging works on cells"):
        SmallChatConfig(grid=0, merge=configure("tome", budget=0.5))
    with pytest.raises(InvalidInput, match="Merging works on cells"):
        SmallChatConfig(frame_names=1, merge=configure("tome", budget=0.5))


def test_reversed_frames_are_taken(trained_chat: MakeChat, colours: Frames) -> None:
    chat = trained_chat()
    view = Frames(images=colours.images[::-1], times_s=colours.times_s)
    copied = Frames(images=np.ascontiguousarray(colours.images[::-1]), times_s=colours.times_s)
    assert chat.ask(view, "What?").text == chat.ask(copied, "What?").text
    assert copy.deepcopy(chat.config) == chat.config
