"""Limits are checked, survive JSON, and others may only lower them."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import pytest

from trifocal.errors import InvalidInput
from trifocal.video import Limits


def test_06_the_defaults_are_those_documented() -> None:
    limits = Limits()
    assert limits.duration_s == 4 * 3600
    assert limits.file_bytes == 8 * 1024**3
    assert (limits.max_side, limits.max_pixels, limits.fps) == (8192, 40_000_000, 240)


def test_json_and_back() -> None:
    limits = Limits(duration_s=12.5, codecs=("h264", "vp9"))
    assert Limits.from_json(json.loads(json.dumps(limits.to_json()))) == limits


def test_06_lowered_never_raises() -> None:
    ours = Limits(duration_s=100, frames=1000, codecs=("h264", "vp9"))
    theirs = ours.lowered(duration_s=1e9, frames=10, stall_s=5.0, codecs=("vp9", "av1"))
    assert theirs == dataclasses.replace(ours, frames=10, stall_s=5.0, codecs=("vp9",))
    assert ours.lowered() == ours
    with pytest.raises(InvalidInput, match="no limit colour"):
        ours.lowered(colour=1)
    with pytest.raises(InvalidInput, match="codecs is \\(\\)"):
        ours.lowered(codecs=("av1",))
    with pytest.raises(InvalidInput, match="frames is -1"):
        ours.lowered(frames=-1)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"duration_s": 0}, "duration_s is 0"),
        ({"duration_s": math.nan}, "duration_s is nan"),
        ({"wall_s": math.inf}, "wall_s is inf"),
        ({"frames": 1.5}, r"frames is 1\.5"),
        ({"frames": True}, "frames is True"),
        ({"file_bytes": "8"}, "file_bytes is '8'"),
        ({"codecs": ("h264", "theora")}, "Give a tuple of: h264"),
        ({"containers": ()}, "containers is"),
    ],
)
def test_wrong_limits_are_told(values: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        Limits(**values)


def test_unknown_fields_are_told() -> None:
    with pytest.raises(InvalidInput, match="unusable limits"):
        Limits.from_json({"colour": 3})
