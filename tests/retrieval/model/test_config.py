"""Configurations: what is refused, what survives JSON, and that every open question has its field."""

from __future__ import annotations

import json

import pytest

from trifocal.errors import InvalidInput
from trifocal.retrieval.model import PRESET_RECIPES, PRESETS, RetrieverConfig, preset

QUESTIONS = {
    "Q1": ("prototypes", 32),
    "Q2": ("frame_branch", False),
    "Q3": ("window_max", 32),
    "Q4": ("residual_last", False),
    "Q5": ("attention_heads", "mean"),
    "Q6": ("mask_rate", 0.3),
    "Q7": ("decoder", "token_channel"),
    "Q8": ("mixing", "concatenate"),
    "Q9": ("guidance_margin", 0.1),
    "Q10": ("ortho_norm", "mean"),
    "Q11": ("retrieval", "cosine"),
    "Q12": ("balance_weight", 0.0),
}


@pytest.mark.parametrize(("question", "field"), QUESTIONS.items())
def test_every_open_question_is_a_field_with_the_stated_default(question: str, field: tuple[str, object]) -> None:
    name, default = field
    assert getattr(RetrieverConfig(video_dim=8, text_dim=8), name) == default
    assert f"({question})" in (RetrieverConfig.__doc__ or "")


@pytest.mark.parametrize("name", PRESETS)
def test_presets_survive_json(name: str) -> None:
    config = preset(name, video_dim=128, text_dim=96)
    values = json.loads(config.to_json())
    assert list(values) == sorted(values)
    assert RetrieverConfig.from_dict(values) == config
    assert name in PRESET_RECIPES


def test_an_unknown_key_warns_and_is_left_out() -> None:
    with pytest.warns(UserWarning, match="does not know shape"):
        config = RetrieverConfig.from_dict({"video_dim": 4, "text_dim": 4, "shape": 1, "version": "9"})
    assert config.video_dim == 4
    with pytest.raises(InvalidInput, match="text_dim is missing"):
        RetrieverConfig.from_dict({"video_dim": 4})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"hidden": 10, "heads": 4}, "divide"),
        ({"prototypes": 0}, "at least 1"),
        ({"prototypes": 2.0}, "whole number"),
        ({"dropout": 1.5}, "from 0"),
        ({"temperature": 0.0}, "above 0"),
        ({"temperature": float("nan")}, "finite"),
        ({"generator": "magic"}, "attention, slots, merged, coverage, tokens"),
        ({"mixing": "blend"}, "concatenate, splice"),
        ({"window_max": 33}, "at most as many"),
        ({"frame_branch": 1}, "true or false"),
        ({"start": "shared", "text_dim": 9}, "two spaces"),
        ({"generator": "merged", "guidance_weight": 0.0, "prototypes": 33}, "at most one a clip"),
        ({"generator": "coverage"}, "guidance_weight=0"),
        ({"generator": "coverage", "guidance_weight": 0.0}, "video_weight=0"),
        ({"generator": "merged", "guidance_weight": 0.0, "frame_tokens": True}, "attend"),
        ({"ortho_weight": -1.0}, "at least 0"),
        ({"shape": 3}, "not a field"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        preset("paper", **{"video_dim": 8, "text_dim": 8, **changes})  # type: ignore[arg-type]


def test_an_unknown_preset_names_the_valid_ones() -> None:
    with pytest.raises(InvalidInput, match="paper"):
        preset("papers", video_dim=8, text_dim=8)


def test_bytes_of_the_defaults() -> None:
    assert preset("default", video_dim=8, text_dim=8).bytes_per_video == 24_576
    assert preset("paper", video_dim=8, text_dim=8, frame_branch=True).bytes_per_video == 25_344
