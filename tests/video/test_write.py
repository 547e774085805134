"""Files written are read back as they were meant, and appear whole or not at all."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from trifocal import video
from trifocal.errors import InvalidInput
from trifocal.video import Sampling

Picture = npt.NDArray[np.uint8]


def everything(path: Path) -> video.Frames:
    with video.open(path, isolated=False) as opened:
        return opened.read(Sampling.every())


@pytest.mark.parametrize("fps", [1, 12.5, 25, 29.97, Fraction(30000, 1001), 60, 0.1, 0.0009])
def test_mp4_and_back(tmp_path: Path, workshop: Any, fps: float) -> None:
    pictures = [workshop.numbered(i) for i in range(12)]
    assert video.write_mp4(tmp_path / "a.mp4", iter(pictures), fps=fps, crf=10) == 12
    frames = everything(tmp_path / "a.mp4")
    assert workshop.numbers_of(frames.images) == list(range(12))
    exact = Fraction(fps).limit_denominator(10010)
    assert np.abs(frames.times_s - [float(i / exact) for i in range(12)]).max() < 1e-5
    assert np.abs(frames.images[3].astype(int) - pictures[3]).mean() < 12
    whole = (tmp_path / "a.mp4").read_bytes()
    assert whole.index(b"moov") < whole.index(b"mdat")
    info = video.probe(tmp_path / "a.mp4", isolated=False)
    assert (info.codec, info.pixel_format, info.has_audio, info.frame_count) == ("h264", "yuv420p", False, 12)


def test_colours_survive(tmp_path: Path) -> None:
    for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255), (200, 30, 60), (128, 128, 128), (255, 255, 255), (0, 0, 0)):
        picture = np.full((48, 64, 3), colour, np.uint8)
        video.write_mp4(tmp_path / "colour.mp4", [picture], fps=25, crf=0)
        assert np.abs(everything(tmp_path / "colour.mp4").images[0].astype(int) - colour).max() <= 3


def test_odd_sides_gain_an_edge(tmp_path: Path) -> None:
    picture = np.full((49, 65, 3), 90, np.uint8)
    picture[:, -1] = 200
    video.write_mp4(tmp_path / "odd.mp4", [picture], fps=25, crf=0)
    image = everything(tmp_path / "odd.mp4").images[0]
    assert image.shape == (50, 66, 3)
    assert np.abs(image[:, 65].astype(int) - 200).max() < 8


def test_frames_are_taken_one_by_one(tmp_path: Path) -> None:
    alive: list[int] = []

    def pictures() -> Iterator[Picture]:
        for index in range(100):
            alive.append(index)
            yield np.full((32, 32, 3), index, np.uint8)

    endless = pictures()
    next(endless)
    assert alive == [0]
    assert video.write_mp4(tmp_path / "many.mp4", endless, fps=25) == 99


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"before")

    def breaks() -> Iterator[Picture]:
        yield np.zeros((32, 32, 3), np.uint8)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        video.write_mp4(path, breaks(), fps=25)
    with pytest.raises(InvalidInput, match=r"a picture is \(32, 34, 3\), the first was \(32, 32, 3\)"):
        video.write_mp4(path, [np.zeros((32, 32, 3), np.uint8), np.zeros((32, 34, 3), np.uint8)], fps=25)
    assert path.read_bytes() == b"before"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.mp4"]


@pytest.mark.parametrize(
    ("frames", "values", "words"),
    [
        ([], {"fps": 25}, "no frames to write"),
        ([np.zeros((4, 4), np.uint8)], {"fps": 25}, r"a picture is uint8 \(4, 4\)"),
        ([np.zeros((4, 4, 3))], {"fps": 25}, "a picture is float64"),
        (["x"], {"fps": 25}, "a picture is str"),
        ([np.zeros((0, 4, 3), np.uint8)], {"fps": 25}, r"\(0, 4, 3\)"),
        ([np.zeros((4, 4, 3), np.uint8)], {"fps": 0}, "fps is 0"),
        ([np.zeros((4, 4, 3), np.uint8)], {"fps": "25"}, "fps is '25'"),
        ([np.zeros((4, 4, 3), np.uint8)], {"fps": 25, "crf": 99}, "crf is 99"),
        ([np.zeros((4, 4, 3), np.uint8)], {"fps": 25, "preset": "best"}, "preset is 'best'"),
        ([np.zeros((4, 4, 3), np.uint8)], {"fps": 25, "gop": 0}, "gop is 0"),
    ],
)
def test_wrong_frames_are_told(tmp_path: Path, frames: Any, values: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        video.write_mp4(tmp_path / "a.mp4", frames, **values)
    assert list(tmp_path.iterdir()) == []


def test_a_path_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot be written"):
        video.write_mp4(tmp_path / "none" / "a.mp4", [np.zeros((4, 4, 3), np.uint8)], fps=25)
    (tmp_path / "folder").mkdir()
    with pytest.raises(InvalidInput, match="cannot be written"):
        video.write_jpeg(tmp_path / "folder", np.zeros((4, 4, 3), np.uint8))
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder"]


def test_08_a_name_with_a_colon_is_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert video.write_mp4("http:a.mp4", [np.zeros((32, 32, 3), np.uint8)], fps=25) == 1
    assert video.probe("http:a.mp4", isolated=False).frame_count == 1


def test_08_exports_take_typed_options_alone() -> None:
    for function in (video.write_mp4, video.cut_clip, video.write_jpeg):
        names = inspect.signature(function).parameters
        assert set(names) <= {
            "path",
            "frames",
            "fps",
            "crf",
            "preset",
            "gop",
            "source",
            "target",
            "start_s",
            "end_s",
        } | {
            "limits",
            "size",
            "image",
            "quality",
        }


def test_16_a_full_disk_is_told_and_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"before")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, "save", full)
        with pytest.raises(InvalidInput, match=r"a\.jpg cannot be written: No space left on device"):
            video.write_jpeg(path, np.zeros((4, 4, 3), np.uint8))
    monkeypatch.setattr("trifocal.video.files.os.fsync", full)
    with pytest.raises(InvalidInput, match="No space left on device"):
        video.write_jpeg(path, np.zeros((4, 4, 3), np.uint8))
    assert path.read_bytes() == b"before"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.jpg"]


def test_a_name_as_long_as_names_may_be(tmp_path: Path) -> None:
    path = tmp_path / f"{'🎬' * 62}.jpg"
    video.write_jpeg(path, np.zeros((4, 4, 3), np.uint8))
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_jpeg(tmp_path: Path, workshop: Any) -> None:
    picture = workshop.numbered(5)
    video.write_jpeg(tmp_path / "a.jpg", picture)
    with Image.open(tmp_path / "a.jpg") as read:
        assert read.format == "JPEG"
        assert np.abs(np.asarray(read).astype(int) - picture).mean() < 12
    mode = (tmp_path / "a.jpg").stat().st_mode & 0o777
    (tmp_path / "plain").write_bytes(b"")
    assert mode == (tmp_path / "plain").stat().st_mode & 0o777
    with pytest.raises(InvalidInput, match="quality is 0"):
        video.write_jpeg(tmp_path / "a.jpg", picture, quality=0)


def test_cut_clip_keeps_uneven_times(tmp_path: Path, workshop: Any) -> None:
    source = workshop.make("h264 uneven")
    every = everything(source)
    start_s, end_s = 0.5, 2.0
    count = video.cut_clip(source, tmp_path / "cut.mp4", start_s=start_s, end_s=end_s)
    frames = everything(tmp_path / "cut.mp4")
    inside = (every.times_s >= start_s) & (every.times_s < end_s)
    first = int(np.flatnonzero(every.times_s <= start_s)[-1])
    starts_inside = bool(every.times_s[first] == start_s)
    expected = ([] if starts_inside else [first]) + np.flatnonzero(inside).tolist()
    assert workshop.numbers_of(frames.images) == expected
    assert count == len(expected)
    times = [0.0 if i == first else float(every.times_s[i]) - start_s for i in expected]
    assert np.abs(frames.times_s - times).max() < 1e-4


def test_cut_clip_refuses_what_it_cannot_do(tmp_path: Path, workshop: Any) -> None:
    source = workshop.make("h264")
    with pytest.raises(InvalidInput, match="shows nothing from 5 s to 6 s"):
        video.cut_clip(source, tmp_path / "cut.mp4", start_s=5, end_s=6)
    with pytest.raises(InvalidInput, match="is empty"):
        video.cut_clip(source, tmp_path / "cut.mp4", start_s=1, end_s=1)
    with pytest.raises(InvalidInput, match="is the video itself"):
        video.cut_clip(source, source, start_s=0, end_s=1)
    assert list(tmp_path.iterdir()) == []
