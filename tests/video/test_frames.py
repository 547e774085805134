"""Sizes of pictures, what `Frames` accepts, and the identity of a file."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trifocal import video
from trifocal.errors import InvalidInput, VideoNotFound
from trifocal.video import Frames, VideoInfo
from trifocal.video.frames import target_size

sides = st.integers(1, 5000)


@given(sides, sides, st.integers(1, 5000))
def test_the_shorter_side_keeps_the_shape_and_never_grows(height: int, width: int, size: int) -> None:
    rows, columns = target_size(size, height=height, width=width)
    assert min(rows, columns) == min(size, height, width)
    assert rows <= height
    assert columns <= width
    assert abs(rows * width - columns * height) <= max(height, width)
    assert target_size(size, height=width, width=height) == (columns, rows)


def test_other_sizes() -> None:
    assert target_size(None, height=3, width=4) == (3, 4)
    assert target_size((7, 9), height=3, width=4) == (7, 9)


def test_frames_are_checked_and_brief() -> None:
    frames = Frames(np.zeros((2, 3, 4, 3), np.uint8), np.array([0.5, 1.0]), ("cut short",))
    assert len(frames) == 2
    assert repr(frames) == "Frames(images=uint8 (2, 3, 4, 3), 0.500–1.000 s, 1 warnings)"
    with pytest.raises(InvalidInput, match="images are float64"):
        Frames(np.zeros((2, 3, 4, 3)), np.zeros(2))  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="for 2 images"):
        Frames(np.zeros((2, 3, 4, 3), np.uint8), np.zeros(3))


def test_the_content_id_is_that_of_the_bytes(tmp_path: Path, workshop: Any) -> None:
    whole = workshop.bytes("h264")
    for name in ("a.mp4", "b.mkv"):
        (tmp_path / name).write_bytes(whole)
    assert (
        video.content_id(tmp_path / "a.mp4")
        == video.content_id(tmp_path / "b.mkv")
        == hashlib.sha256(whole).hexdigest()
    )
    (tmp_path / "b.mkv").write_bytes(whole + b"\0")
    assert video.content_id(tmp_path / "a.mp4") != video.content_id(tmp_path / "b.mkv")
    with pytest.raises(VideoNotFound, match="is a folder"):
        video.content_id(tmp_path)


def test_info_survives_json(workshop: Any) -> None:
    import json

    info = video.probe(workshop.make("h264 sound"), isolated=False)
    assert VideoInfo.from_json(json.loads(json.dumps(info.to_json()))) == info
    for name, value in (
        ("width", "80"),
        ("width", -1),
        ("streams", True),
        ("duration_s", None),
        ("duration_s", math.nan),
        ("mirrored", 1),
        ("codec", "h264\x1b[31m"),
        ("frame_count", 1.5),
        ("warnings", "cut"),
        ("warnings", ["two\nlines"]),
    ):
        with pytest.raises(InvalidInput, match=f"description has {name}"):
            VideoInfo.from_json({**info.to_json(), name: value})
    with pytest.raises(InvalidInput, match="missing field codec"):
        VideoInfo.from_json({k: v for k, v in info.to_json().items() if k != "codec"})
