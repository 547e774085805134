"""Every row of the bad-input table, through the real decoder: its error in under 10 s, and the library unchanged."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from trifocal.errors import TrifocalError, VideoError
from trifocal.library import Library


def audio_only(path: Path, real: bytes) -> None:
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 44100), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def huge(path: Path, real: bytes) -> None:
    """A header that says 40,000 × 40,000, in the track and in the sample description."""
    content = bytearray(real)
    at = content.index(b"avc1", content.index(b"stsd"))
    content[at + 28 : at + 32] = struct.pack(">HH", 40_000, 40_000)
    track = content.index(b"tkhd")
    content[track + 80 : track + 88] = struct.pack(">II", 40_000 << 16, 40_000 << 16)
    path.write_bytes(content)


def flipped(path: Path, real: bytes) -> None:
    content = bytearray(real)
    random = np.random.default_rng(7)
    for at in random.integers(0, len(content), len(content) // 8):
        content[at] ^= 0xFF
    path.write_bytes(content)


BAD: dict[str, tuple[Callable[[Path, bytes], object], set[str]]] = {
    "empty": (lambda path, real: path.write_bytes(b""), {"video_unreadable"}),
    "random bytes": (
        lambda path, real: path.write_bytes(np.random.default_rng(3).bytes(100_000)),
        {"video_unsupported", "video_unreadable"},
    ),
    "text": (lambda path, real: path.write_text("not a video\n" * 99), {"video_unsupported", "video_unreadable"}),
    "audio only": (audio_only, {"video_unreadable", "video_unsupported"}),
    "truncated before any frame": (lambda path, real: path.write_bytes(real[:200]), {"video_unreadable"}),
    "bit-flipped": (flipped, {"video_unreadable", "video_unsupported", "decoder_failed"}),
    "playlist": (
        lambda path, real: path.write_text("#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n"),
        {"video_unsupported"},
    ),
    "40,000 x 40,000": (huge, {"video_limit_exceeded", "video_unreadable"}),
    "missing": (lambda path, real: None, {"video_not_found"}),
    "named pipe": (lambda path, real: os.mkfifo(path), {"video_not_found"}),
}


@pytest.fixture
def library(lab: Any, real_videos: Path) -> Library:
    made: Library = lab.create(reader=None)
    made.add(real_videos / "video 0.mp4")
    return made


@pytest.mark.parametrize("row", BAD)
def test_16_bad_input(library: Library, tmp_path: Path, real_videos: Path, contents_of: Any, row: str) -> None:
    make, codes = BAD[row]
    path = tmp_path / "bad.mp4"
    make(path, (real_videos / "video 1.mp4").read_bytes())
    before, stored = library.dump(), contents_of(library.folder)
    for paths in ([path], [path, real_videos / "video 0.mp4"]):
        began = time.monotonic()
        report = library.add(paths, retry_failed=True)
        assert time.monotonic() - began < 10
        assert [failure.path for failure in report.failed] == [str(path)]
        assert report.failed[0].code in codes
        assert report.failed[0].message
        assert report.failed[0].remedy
    assert library.dump() == before
    assert contents_of(library.folder) == stored
    assert library.verify().ok


def test_a_folder_with_a_video_name(library: Library, tmp_path: Path) -> None:
    (tmp_path / "folder.mp4").mkdir()
    before = library.dump()
    report = library.add(tmp_path / "folder.mp4")
    assert (report.added, report.failed, library.dump()) == ((), (), before)


def test_a_wrong_extension_is_read_all_the_same(library: Library, tmp_path: Path, real_videos: Path) -> None:
    path = tmp_path / "film.txt"
    path.write_bytes((real_videos / "video 1.mp4").read_bytes())
    assert len(library.add(path).added) == 1


def test_16_a_truncated_video_is_kept_as_far_as_it_goes(library: Library, tmp_path: Path) -> None:
    path = tmp_path / "cut.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height = 160, 120
        random = np.random.default_rng(0)
        for _ in range(100):
            picture = random.integers(0, 256, (120, 160, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert len(library.add(path).added) == 1
    record = library.video(path)
    assert record.warnings
    assert 4 < record.duration_s < 6.5
    assert library.prototypes(record.id).spans_s[-1, 1] == pytest.approx(record.duration_s, abs=1e-3)


def test_a_file_that_may_not_be_read(library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "closed.mp4"
    path.write_text("x")
    path.chmod(0)
    if os.access(path, os.R_OK):  # root may read everything: let the kernel's answer come from the test
        whole = os.open

        def refuse(name: Any, *rest: Any, **options: Any) -> int:
            if str(name) == str(path):
                raise PermissionError(13, "Permission denied", name)
            return whole(name, *rest, **options)

        monkeypatch.setattr(os, "open", refuse)
    before = library.dump()
    assert [failure.code for failure in library.add(path).failed] == ["video_not_found"]
    assert library.failures() == []
    assert library.dump() == before


def test_every_code_is_one_of_the_tree(library: Library) -> None:
    known = {VideoError.code, *(kind.code for kind in VideoError.__subclasses__())}
    assert {code for _, codes in BAD.values() for code in codes} <= known
    assert issubclass(VideoError, TrifocalError)
