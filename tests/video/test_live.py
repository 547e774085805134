"""Streams: the frames of a pipe are those of the file; a writer waits, a camera does not."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from tests.video.conftest import numbered, numbers_of

from trifocal import video
from trifocal.errors import InvalidInput, UnreadableVideo, UnsupportedVideo, VideoLimitExceeded
from trifocal.video import Camera, Limits, PipedVideo, RawVideo, Sampling

FRAMES = 50


def write(path: Path, container: str, *, options: dict[str, str] | None = None) -> Path:
    with av.open(str(path), "w", format=container, options=options or {}) as out:
        stream = out.add_stream("libx264", rate=25, options={"crf": "15", "bf": "0"})
        stream.width, stream.height, stream.pix_fmt = 80, 48, "yuv420p"
        for index in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(numbered(index), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


@pytest.fixture(
    params=[
        ("v.mkv", "matroska", {}),
        ("v.ts", "mpegts", {}),
        ("v.mp4", "mp4", {}),  # the index at the end
        ("v.mp4", "mp4", {"movflags": "faststart"}),
        ("v.mp4", "mp4", {"movflags": "frag_keyframe+empty_moov"}),
        ("v.avi", "avi", {}),
    ],
    ids=["matroska", "mpegts", "mp4", "faststart", "fragmented", "avi"],
)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    name, container, options = request.param
    return write(tmp_path / name, container, options=options)


class Pipe:
    """A pipe that a process feeds."""

    def __init__(self, code: str, *words: str | Path) -> None:
        self.process = subprocess.Popen([sys.executable, "-c", code, *map(str, words)], stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        self.fd = self.process.stdout.fileno()

    def __enter__(self) -> int:
        return self.fd

    def __exit__(self, *_: object) -> None:
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.process.kill()
        self.process.wait()


CAT = "import sys, pathlib; sys.stdout.buffer.write(pathlib.Path(sys.argv[1]).read_bytes())"


@pytest.mark.parametrize(
    "sampling", [Sampling.every(), Sampling.at_fps(7), Sampling.at_fps(10, size=(24, 40))], ids=str
)
def test_a_pipe_gives_what_the_file_gives(path: Path, sampling: Sampling) -> None:
    with video.open(path) as file:
        expected = file.read(sampling)
    with Pipe(CAT, path) as fd, PipedVideo(fd) as stream:
        assert (stream.width, stream.height) == (80, 48)
        pieces = list(stream.stream(sampling, batch_size=7))
    times = np.concatenate([piece.times_s for piece in pieces])
    images = np.concatenate([piece.images for piece in pieces])
    assert np.allclose(times, expected.times_s, atol=1e-6)
    assert np.array_equal(images, expected.images)


def test_a_slow_writer_is_waited_for(tmp_path: Path) -> None:
    path = write(tmp_path / "v.mkv", "matroska")
    slow = (
        "import sys, time, pathlib\nfor i, b in enumerate(pathlib.Path(sys.argv[1]).read_bytes()[k:k + 4096] "
        "for k in range(0, 1 << 20, 4096)):\n    sys.stdout.buffer.write(b); sys.stdout.flush()\n"
        "    time.sleep(0.7 if b and i % 4 == 3 else 0)"
    )
    with Pipe(slow, path) as fd, PipedVideo(fd, limits=Limits(stall_s=1.2)) as stream:
        images = np.concatenate([piece.images for piece in stream.stream(Sampling.every())])
    assert numbers_of(images) == list(range(FRAMES))


def test_a_stream_is_read_once_and_knows_no_middle(tmp_path: Path) -> None:
    path = write(tmp_path / "v.mkv", "matroska")
    with Pipe(CAT, path) as fd, PipedVideo(fd) as stream:
        with pytest.raises(InvalidInput, match="known end"):
            list(stream.stream(Sampling.uniform(3)))
        list(stream.stream(Sampling.every()))
        with pytest.raises(InvalidInput, match="only once"):
            list(stream.stream(Sampling.every()))


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("", UnreadableVideo),
        ("print('#EXTM3U')", UnsupportedVideo),
        ("import sys; sys.stdout.buffer.write(bytes(100000))", UnreadableVideo),
    ],
)
def test_what_is_no_video_is_told(code: str, error: type[Exception]) -> None:
    with Pipe(code) as fd, pytest.raises(error):
        PipedVideo(fd)


def test_a_cut_stream_gives_what_came(tmp_path: Path) -> None:
    path = write(tmp_path / "v.ts", "mpegts")
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with Pipe(CAT, path) as fd, PipedVideo(fd) as stream:
        got = sum(len(piece) for piece in stream.stream(Sampling.every()))
    assert 20 < got < FRAMES


def test_limits_hold(tmp_path: Path) -> None:
    path = write(tmp_path / "v.mp4", "mp4")
    with Pipe(CAT, path) as fd, pytest.raises(VideoLimitExceeded, match="bytes"):
        PipedVideo(fd, limits=Limits(file_bytes=path.stat().st_size - 1))
    path = write(tmp_path / "v.mkv", "matroska")
    with Pipe(CAT, path) as fd, pytest.raises(VideoLimitExceeded, match="pixels"):
        PipedVideo(fd, limits=Limits(max_side=64))


RAW = (
    "import sys, numpy as np\nfor i in range(int(sys.argv[1])):\n"
    "    sys.stdout.buffer.write(np.full((6, 8, 3), i, np.uint8).tobytes())"
)


def test_raw_pictures_through_a_pipe() -> None:
    with Pipe(RAW, "20") as fd:
        stream = RawVideo(fd, size=(6, 8), fps=10)
        pieces = list(stream.stream(Sampling.at_fps(5, size=(3, 4)), batch_size=4))
    images, times = (np.concatenate([getattr(p, name) for p in pieces]) for name in ("images", "times_s"))
    assert images.shape == (10, 3, 4, 3)
    assert np.allclose(times, np.arange(10) / 5)
    assert images[:, 0, 0, 0].tolist() == list(range(0, 20, 2))


def test_half_a_raw_picture_is_told() -> None:
    with Pipe(RAW, "3") as fd:
        stream = RawVideo(fd, size=(5, 8), fps=10)
        with pytest.raises(UnreadableVideo, match="--size"):
            list(stream.stream(Sampling.every()))


@pytest.mark.parametrize(("size", "fps"), [((0, 8), 10), ((6, 8), 0), ((6, 8), float("nan")), ((6, 8), 1000)])
def test_raw_sizes_and_rates_are_checked(size: tuple[int, int], fps: float) -> None:
    with pytest.raises(InvalidInput):
        RawVideo(0, size=size, fps=fps)


def test_a_camera_drops_what_comes_too_fast() -> None:
    taken = threading.Event()

    def frames() -> Iterator[tuple[float, video.live.Picture]]:
        for index in range(40):
            if index == 1:
                assert taken.wait(10)
            yield index / 30, np.full((4, 4, 3), index, np.uint8)

    with Camera(frames(), size=(4, 4), hold=3) as camera:
        seen = []
        for piece in camera.stream(Sampling.every()):
            seen.append(int(piece.images[0, 0, 0, 0]))
            if len(seen) == 1:
                taken.set()
                until = time.monotonic() + 10
                while camera.dropped < 36 and time.monotonic() < until:
                    time.sleep(0.01)
    assert seen == [0, 37, 38, 39]
    assert camera.dropped == 36


def test_a_camera_that_fails_is_told() -> None:
    def frames() -> Iterator[tuple[float, video.live.Picture]]:
        yield 0.0, np.zeros((4, 4, 3), np.uint8)
        raise OSError("unplugged")

    with Camera(frames(), size=(4, 4)) as camera, pytest.raises(UnreadableVideo, match="unplugged"):
        list(camera.stream(Sampling.every()))
    with pytest.raises(UnreadableVideo, match="cannot be opened"):
        Camera.open("/dev/no-such-camera")


def test_the_pipe_stays_open_for_its_owner(tmp_path: Path) -> None:
    path = write(tmp_path / "v.mkv", "matroska")
    with Pipe(CAT, path) as fd:
        PipedVideo(fd).close()
        os.fstat(fd)
