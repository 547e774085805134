"""A small encoder and a small reader that stand in for the real ones, and a place to try a library with them.

A fake video is a text file: `FAKE <seconds> <seed>` and anything after; its frames are drawn from the seed. `BAD` files
raise what they name. `ingest_process.py` loads this file by its path, so that processes of their own share it.
"""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pytest

import trifocal.video
from trifocal.errors import DecoderFailed, UnreadableVideo, UnsupportedVideo
from trifocal.library import Library, LibrarySettings
from trifocal.video import Frames, Limits, Sampling, VideoInfo

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from trifocal.action import DetectReport
    from trifocal.library import FileChange

ERRORS = {"unreadable": UnreadableVideo, "unsupported": UnsupportedVideo, "crash": DecoderFailed}


class FakeEncoder:
    """Block means of a frame, and a hash of a text: deterministic, and quick."""

    def __init__(self, name: str = "fake-1", *, dim: int = 24) -> None:
        self.id, self.dim, self.frame_size = name, dim, (8, 8)
        self.queries = 0

    def encode_frames(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        count = len(frames)
        rows = frames.reshape(count, 4, 2, 4, 2, 3).mean(axis=(2, 4)).reshape(count, -1)[:, : self.dim]
        rows = rows.astype(np.float32) - 127.0
        unit: NDArray[np.float32] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return unit

    def encode_query(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.queries += 1
        seeds = [int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") for text in texts]
        rows = np.stack([np.random.default_rng(seed).normal(size=self.dim) for seed in seeds]).astype(np.float32)
        unit: NDArray[np.float32] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return unit


class FakeVideo:
    def __init__(self, path: Path, *, delay_s: float) -> None:
        self._delay_s = delay_s
        text = path.read_text(encoding="utf-8", errors="replace").split()
        if not text or text[0] not in ("FAKE", "BAD"):
            raise UnsupportedVideo(f"{path.name} is no video", remedy="Give a video.")
        if text[0] == "BAD":
            raise ERRORS[text[1]](f"{path.name} is {text[1]}", remedy="Give another.")
        self.warnings: tuple[str, ...] = ()
        self._seed = int(text[2])
        self.info = VideoInfo(
            container="mp4",
            codec="h264",
            width=64,
            height=48,
            coded_width=64,
            coded_height=48,
            rotation=0,
            mirrored=False,
            pixel_aspect=1.0,
            pixel_format="yuv420p",
            bit_depth=8,
            average_fps=10.0,
            real_fps=10.0,
            duration_s=float(text[1]),
            frame_count=None,
            start_s=0.0,
            size_bytes=path.stat().st_size,
            streams=1,
            has_audio=False,
        )

    def stream_many(self, samplings: Mapping[str, Sampling], *, batch_size: int = 32) -> Iterator[tuple[str, Frames]]:
        random = np.random.default_rng(self._seed)
        times = np.arange(0, self.info.duration_s, 0.5)
        for start in range(0, len(times), batch_size):
            part = times[start : start + batch_size]
            for name, sampling in samplings.items():
                size = (8, 8) if isinstance(sampling.size, tuple) else (12, 16)
                time.sleep(self._delay_s)
                yield name, Frames(random.integers(0, 256, (len(part), *size, 3), dtype=np.uint8), part)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None


class FakeReader:
    """Reads fake videos; `hashed` and `opened` say which files it was asked for."""

    def __init__(self, *, delay_s: float = 0.0, hashes: dict[str, str] | None = None) -> None:
        self.delay_s = delay_s
        self.hashes = hashes or {}
        self.hashed: list[str] = []
        self.opened: list[str] = []

    def content_id(self, path: str | os.PathLike[str]) -> str:
        self.hashed.append(Path(path).name)
        return self.hashes.get(Path(path).name) or trifocal.video.content_id(path)

    def open(self, path: str | os.PathLike[str], *, limits: Limits | None = None) -> FakeVideo:
        self.opened.append(Path(path).name)
        return FakeVideo(Path(path), delay_s=self.delay_s)


class FakeLooker:
    """Sees two actors in a fake video: one waves in the first part, the other walks all the time, by the seed."""

    def __init__(self, name: str = "fake", *, classes: tuple[str, ...] = ("walk", "wave"), config: str = "{}") -> None:
        self.id = hashlib.sha256(name.encode()).hexdigest()[:16]
        self.name, self.classes, self.config = name, classes, config
        self.looked: list[str] = []

    def look(self, path: str, *, video: str, limits: Limits, progress: Callable[[float, float], None]) -> DetectReport:
        from trifocal.action import DetectReport, Tube

        self.looked.append(Path(path).name)
        opened = FakeVideo(Path(path), delay_s=0.0)
        times = np.arange(0, opened.info.duration_s, 0.5)
        random = np.random.default_rng([opened._seed, len(self.config)])
        first, second = self.classes
        corners = random.uniform(0, 20, (2, len(times), 2)).astype(np.float32)
        boxes = np.concatenate([corners, corners + np.float32(8)], axis=2)
        waving = (np.where(times < 0.5 + 0.5 * opened._seed, 0.9, 0.1) - 0.01 * opened._seed).astype(np.float32)
        walking = np.full(len(times), 0.25 + 0.1 * opened._seed, dtype=np.float32)
        progress(float(times[-1]), opened.info.duration_s)
        return DetectReport(
            video=video,
            tubes=(
                Tube(video, 1, times, boxes[0], {second: waving, first: walking * np.float32(0.125)}),
                Tube(video, 2, times, boxes[1], {first: walking}),
            ),
            width=64,
            height=48,
            moments=len(times),
            end_s=float(times[-1]),
            model=self.name,
            caveat="It sees what is not there.",
            warnings=("it is dark",),
        )


def write_fake(path: Path, *, seconds: float = 4.0, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"FAKE {seconds} {seed}\n", encoding="utf-8")
    return path


def write_bad(path: Path, kind: str = "unreadable") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"BAD {kind}\n", encoding="utf-8")
    return path


def names(changes: Sequence[FileChange]) -> list[str]:
    """The file names of what a report lists."""
    return [Path(change.path).name for change in changes]


def state_of(folder: Path) -> dict[str, bytes]:
    """The files of a library that must be equal after any interruption."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for name in ("prototypes", "thumbnails", "tmp", "cache")
        for path in sorted((folder / name).rglob("*"))
        if path.is_file()
    }


class Lab:
    """A folder of fake videos, and libraries beside it."""

    SETTINGS = LibrarySettings(prototypes=4, batch_size=4, thumbnail_size=16)

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "videos"
        self.home.mkdir()
        self.encoder = FakeEncoder()
        self.reader = FakeReader()
        self.opened: list[Library] = []

    def video(self, name: str, *, seconds: float = 4.0, seed: int = 0) -> Path:
        return write_fake(self.home / name, seconds=seconds, seed=seed)

    def bad(self, name: str, kind: str = "unreadable") -> Path:
        return write_bad(self.home / name, kind)

    def create(self, name: str = "library", **options: Any) -> Library:
        options = {"encoder": self.encoder, "reader": self.reader, "settings": self.SETTINGS, **options}
        return self._kept(Library.create(self.folder / name, **options))

    def open(self, name: str = "library", **options: Any) -> Library:
        options = {"encoder": self.encoder, "reader": self.reader, **options}
        return self._kept(Library.open(self.folder / name, **options))

    def _kept(self, library: Library) -> Library:
        self.opened.append(library)
        return library


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """A fresh place to try."""
    place = Lab(tmp_path)
    yield place
    for library in place.opened:
        library.close()


@pytest.fixture(scope="session")
def contents_of() -> Callable[[Path], dict[str, bytes]]:
    """`state_of`."""
    return state_of


@pytest.fixture(scope="session")
def make_encoder() -> type[FakeEncoder]:
    """`FakeEncoder`."""
    return FakeEncoder


@pytest.fixture(scope="session")
def make_reader() -> type[FakeReader]:
    """`FakeReader`."""
    return FakeReader


@pytest.fixture(scope="session")
def make_looker() -> type[FakeLooker]:
    """`FakeLooker`."""
    return FakeLooker


@pytest.fixture(scope="session")
def real_videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of five small real videos."""
    folder = tmp_path_factory.mktemp("real")
    for number in range(5):
        random = np.random.default_rng(number)
        shade = random.integers(0, 200, (6, 8, 3), dtype=np.uint8)
        frames = [np.roll(shade, step // 4, axis=1).repeat(12, axis=0).repeat(12, axis=1) for step in range(40)]
        trifocal.video.write_mp4(folder / f"video {number}.mp4", frames, fps=10)
    return folder
