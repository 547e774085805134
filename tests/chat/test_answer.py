from __future__ import annotations

import dataclasses
import json
import math

import pytest

from trifocal.chat import Answer, Evidence, Timing, TokenUse
from trifocal.errors import InvalidInput


def example() -> Answer:
    return Answer(
        video="a.mp4",
        text="I see a fox.",
        evidence=(Evidence(time_s=1.5, weight=0.75), Evidence(time_s=0.5, weight=0.25)),
        timing=Timing(decode_s=0.5, vision_s=0.25, merge_s=0.0625, prefill_s=0.125, generate_s=1.0, evidence_s=2.0),
        question="What is shown?",
        tokens=TokenUse(video=8, prompt=40, cached=30, answer=5, merged_away=6),
        warnings=("cut short",),
    )


def test_it_survives_json() -> None:
    values = json.loads(json.dumps(example().to_dict()))
    assert values["evidence"] == [{"time_s": 1.5, "weight": 0.75}, {"time_s": 0.5, "weight": 0.25}]
    assert values["timing"] == {
        "decode_s": 0.5, "vision_s": 0.25, "merge_s": 0.0625, "prefill_s": 0.125, "generate_s": 1.0, "evidence_s": 2.0,
        "total_s": 3.9375,
    }  # fmt: skip
    assert values["tokens"] == {"video": 8, "prompt": 40, "cached": 30, "answer": 5, "merged_away": 6, "kept": 2}
    assert values["warnings"] == ["cut short"]
    assert set(values) == {field.name for field in dataclasses.fields(Answer)}


def test_it_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        example().text = "no"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("time_s", "weight"), [(math.nan, 0.5), (math.inf, 0.5), (1.0, -0.1), (1.0, 1.1), (1.0, math.nan)]
)
def test_evidence_out_of_range_is_refused(time_s: float, weight: float) -> None:
    with pytest.raises(InvalidInput):
        Evidence(time_s=time_s, weight=weight)
