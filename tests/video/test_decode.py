"""Exact frames at exact times, whatever the codec and the container, and the same whether skipped to or walked to."""

from __future__ import annotations

import dataclasses
import random
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from trifocal import video
from trifocal.errors import InvalidInput, VideoLimitExceeded
from trifocal.video import Frames, Limits, Sampling


def shown_at(every: Frames, times_s: list[float]) -> list[int]:
    """Positions of the frames shown at those seconds, from all frames."""
    return [max(0, int(np.searchsorted(every.times_s, t, side="right")) - 1) for t in times_s]


def test_16_every_frame_comes_once_at_its_exact_time(workshop: Any, recipe: str) -> None:
    made = workshop.recipes[recipe]
    with video.open(workshop.make(recipe), isolated=False) as opened:
        frames = opened.read(Sampling.every())
        assert workshop.numbers_of(frames.images) == list(range(made.cut, made.frames))
        assert frames.times_s.tolist() == made.times_s()
        assert opened.warnings == ()
        info = opened.info
        assert (info.height, info.width) == frames.images.shape[1:3] == (made.height, made.width)
        assert info.pixel_format == made.pixel_format
        assert info.bit_depth == (10 if "10" in made.pixel_format else 8)
        assert info.has_audio == made.audio
        assert info.frame_count in (None, len(frames))
        assert frames.times_s[-1] < info.duration_s <= frames.times_s[-1] + 0.7


def test_skipping_changes_nothing(workshop: Any, recipe: str) -> None:
    rng = random.Random(recipe)
    with video.open(workshop.make(recipe), isolated=False) as opened:
        every = opened.read(Sampling.every())
        last = float(every.times_s[-1])
        for trial in range(16):
            if trial % 4 == 0:  # exactly the time of a frame
                times = sorted(float(rng.choice(every.times_s)) for _ in range(3))
            else:
                times = sorted(rng.uniform(-0.1, last + 0.2) for _ in range(rng.randint(1, 4)))
            found = opened.read(Sampling.at_times(times))
            expected = shown_at(every, times)
            assert found.times_s.tolist() == every.times_s[expected].tolist()
            assert np.array_equal(found.images, every.images[expected]), times


@pytest.mark.parametrize("recipe_name", ["h264", "h264 uneven", "h264 ts", "vp9 webm", "h264 fragmented", "h264 avi b"])
@pytest.mark.parametrize("n", [1, 3, 7, 500])
def test_uniform_gives_the_centres_of_equal_segments(workshop: Any, recipe_name: str, n: int) -> None:
    with video.open(workshop.make(recipe_name), isolated=False) as opened:
        every = opened.read(Sampling.every())
        found = opened.read(Sampling.uniform(n))
        duration = opened.info.duration_s
        expected = sorted(set(shown_at(every, [(2 * i + 1) * duration / (2 * n) for i in range(n)])))
        assert np.array_equal(found.images, every.images[expected])
        assert np.all(np.diff(found.times_s) > 0)


def test_uniform_stays_in_its_range(workshop: Any) -> None:
    with video.open(workshop.make("h264"), isolated=False) as opened:
        found = opened.read(Sampling.uniform(2, start_s=0.4, end_s=0.8))
        assert workshop.numbers_of(found.images) == [12, 17]
        beyond = opened.read(Sampling.uniform(4, start_s=50, end_s=60))
        assert workshop.numbers_of(beyond.images) == [39]


@pytest.mark.parametrize(
    ("rate", "expected"),
    [(5.0, list(range(0, 40, 5))), (25.0, list(range(40))), (100.0, list(range(40))), (12.5, list(range(0, 40, 2)))],
)
def test_at_fps_takes_a_regular_grid(workshop: Any, rate: float, expected: list[int]) -> None:
    for name in ("h264", "h264 mkv", "h264 ts"):
        with video.open(workshop.make(name), isolated=False) as opened:
            assert workshop.numbers_of(opened.read(Sampling.at_fps(rate)).images) == expected


def test_at_fps_at_the_rate_of_a_rounded_clock_misses_nothing(workshop: Any, tmp_path: Path) -> None:
    # 30 frames a second in milliseconds: 0, 33, 67, 100, ...
    made = workshop.recipe(container="matroska", rate=Fraction(30))
    with video.open(made.write(tmp_path / "thirty.mkv"), isolated=False) as opened:
        assert len(opened.read(Sampling.at_fps(30))) == 40


def test_at_fps_widens_its_grid_to_the_most_frames(workshop: Any) -> None:
    with video.open(workshop.make("h264"), isolated=False) as opened:
        found = opened.read(Sampling.at_fps(25, max_frames=4))
        assert workshop.numbers_of(found.images) == [0, 10, 20, 30]
        ranged = opened.read(Sampling.at_fps(10, start_s=0.4, end_s=0.8))
        assert workshop.numbers_of(ranged.images) == [10, 12, 15, 17]


def test_at_times_answers_each_time(workshop: Any) -> None:
    with video.open(workshop.make("h264"), isolated=False) as opened:
        found = opened.read(Sampling.at_times([-5.0, 0.0, 0.039, 0.04, 0.04, 1.0, 1e9, 1e300]))
        assert workshop.numbers_of(found.images) == [0, 0, 0, 1, 1, 25, 39, 39]


def test_a_time_far_beyond_any_clock(workshop: Any, tmp_path: Path) -> None:
    # At this clock the ticks of the last time do not fit into 64 bits.
    made = workshop.recipe(clock=Fraction(1, 10_000_000), ticks=[i * 400_000 for i in range(40)])
    with video.open(made.write(tmp_path / "fine.mp4"), isolated=False) as opened:
        assert workshop.numbers_of(opened.read(Sampling.at_times([1.0, 1e12])).images) == [25, 39]


def test_nobody_asks_and_nothing_comes(workshop: Any) -> None:
    for isolated in (True, False):
        with video.open(workshop.make("h264"), isolated=isolated) as opened:
            assert list(opened.stream_many({})) == []


def test_the_range_of_every_is_half_open(workshop: Any) -> None:
    with video.open(workshop.make("h264"), isolated=False) as opened:
        found = opened.read(Sampling.every(start_s=0.4, end_s=0.52))
        assert workshop.numbers_of(found.images) == [10, 11, 12]
        empty = opened.read(Sampling.every(start_s=30))
        assert empty.images.shape == (0, 48, 80, 3)


def test_one_walk_feeds_several(workshop: Any) -> None:
    wanted = {
        "all": Sampling.every(size=(24, 40)),
        "few": Sampling.uniform(4),
        "some": Sampling.at_fps(5, size=24),
        "two": Sampling.at_times([0.1, 0.1, 1.5]),
    }
    with video.open(workshop.make("h264"), isolated=False) as opened:
        alone = {name: opened.read(sampling) for name, sampling in wanted.items()}
        together: dict[str, list[Frames]] = {name: [] for name in wanted}
        for name, frames in opened.stream_many(wanted, batch_size=3):
            assert len(frames) <= 3
            together[name].append(frames)
        assert opened._idle._decoder.walked == 40  # type: ignore[union-attr]
    for name, parts in together.items():
        assert np.array_equal(np.concatenate([p.images for p in parts]), alone[name].images)
        assert np.array_equal(np.concatenate([p.times_s for p in parts]), alone[name].times_s)


@pytest.mark.parametrize(
    "name", ["h264", "h264 mkv", "h264 ts", "h264 fragmented", "vp9 webm live", "av1 mp4", "mpeg4 avi"]
)
def test_sparse_sampling_does_not_decode_what_it_can_pass(workshop: Any, name: str) -> None:
    with video.open(workshop.make(name), isolated=False) as opened:
        decoder = opened._idle._decoder  # type: ignore[union-attr]
        every = opened.read(Sampling.every())
        for second, most in ((0.0, 6), (1.25, 16), (0.62, 16)):
            opened.read(Sampling.at_times([second]))
            assert decoder.walked <= most
        assert len(every) == 40


def test_a_key_frame_costs_no_more_than_its_surroundings(workshop: Any, tmp_path: Path) -> None:
    made = workshop.recipe(frames=200, gop=50, options={"x264-params": "scenecut=0:bframes=3:keyint=50:min-keyint=50"})
    for container in ("mp4", "matroska", "mpegts"):
        path = dataclasses.replace(made, container=container).write(tmp_path / f"long.{container}")
        with video.open(path, isolated=False) as opened:
            found = opened.read(Sampling.at_times([2.0, 4.0, 6.0]))
            assert workshop.numbers_of(found.images) == [50, 100, 150]
            # Each key frame and those that the decoder holds back to sort them, not the group before it.
            assert opened._idle._decoder.walked <= 3 * 8  # type: ignore[union-attr]


ROTATIONS = [(d, h, v) for d in (0, 90, 180, 270) for h in (False, True) for v in (False, True)]


@pytest.mark.parametrize(("degrees", "hflip", "vflip"), ROTATIONS)
def test_rotation_is_applied(workshop: Any, tmp_path: Path, degrees: int, hflip: bool, vflip: bool) -> None:
    made = workshop.recipe(frames=2, rotation=(degrees, hflip, vflip))
    with video.open(made.write(tmp_path / "turned.mp4"), isolated=False) as opened:
        frames = opened.read(Sampling.every())
        small = opened.read(Sampling.every(size=24))
        info = opened.info
    # The display matrix turns anticlockwise by the angle, and flips what is then seen.
    expected = np.rot90(workshop.numbered(1), degrees // 90)
    expected = expected[::-1] if vflip else expected
    expected = expected[:, ::-1] if hflip else expected
    assert frames.images[1].shape == expected.shape == (info.height, info.width, 3)
    assert np.abs(frames.images[1].astype(int) - expected).mean() < 12
    assert min(small.images.shape[1:3]) == 24
    assert (info.height > info.width) == (small.images.shape[1] > small.images.shape[2]) == (degrees % 180 == 90)
    if not hflip and not vflip:
        assert (info.rotation, info.mirrored) == (-degrees % 360, False)


@pytest.mark.parametrize(
    ("size", "shape"),
    [(None, (48, 80)), (24, (24, 40)), (48, (48, 80)), (500, (48, 80)), ((30, 20), (30, 20)), (7, (7, 12))],
)
def test_sizes(workshop: Any, size: Any, shape: tuple[int, int]) -> None:
    with video.open(workshop.make("h264"), isolated=False) as opened:
        assert opened.read(Sampling.uniform(1, size=size)).images.shape == (1, *shape, 3)


def test_making_smaller_averages(tmp_path: Path) -> None:
    # One-pixel stripes must become grey; a scaler that only picks pixels would leave stripes or one colour.
    stripes = np.zeros((128, 128, 3), np.uint8)
    stripes[:, ::2] = 255
    video.write_mp4(tmp_path / "stripes.mp4", [stripes] * 3, fps=25, crf=0)
    with video.open(tmp_path / "stripes.mp4", isolated=False) as opened:
        image = opened.read(Sampling.uniform(1, size=32)).images[0]
    assert np.abs(image[4:-4, 4:-4].astype(int) - 127).max() < 16


@pytest.mark.parametrize(("height", "standard"), [(64, 601), (720, 709)])
def test_colours_follow_the_size_when_the_file_names_no_matrix(tmp_path: Path, height: int, standard: int) -> None:
    frame = av.VideoFrame(64, height, "yuv420p")
    for plane, value in zip(frame.planes, (81, 90, 240), strict=True):
        plane.update(bytes([value]) * plane.buffer_size)
    with av.open(str(tmp_path / "red.mp4"), "w", format="mp4") as output:
        stream = output.add_stream("libx264", rate=25, options={"crf": "0"})
        stream.width, stream.height, stream.pix_fmt = 64, height, "yuv420p"
        frame.pts = 0
        for packet in stream.encode(frame) + stream.encode(None):
            output.mux(packet)
    with video.open(tmp_path / "red.mp4", isolated=False) as opened:
        red, green, blue = opened.read(Sampling.every()).images[0, 20, 20].tolist()
    # (81, 90, 240) is pure red in BT.601; read as BT.709 it has some green.
    assert red >= 252
    assert blue <= 2
    assert green <= 2 if standard == 601 else 20 <= green <= 26


def test_06_a_change_of_size_in_mid_stream(workshop: Any, tmp_path: Path) -> None:
    small, large = (
        workshop.recipe(container="mpegts"),
        workshop.recipe(container="mpegts", height=96, width=160, shift=40),
    )
    path = tmp_path / "grows.ts"
    first = small.write(tmp_path / "a.ts").read_bytes()
    path.write_bytes(first + large.write(tmp_path / "b.ts").read_bytes())
    with video.open(path, isolated=False) as opened:
        frames = opened.read(Sampling.every())
        assert frames.images.shape[1:3] == (48, 80)
        assert workshop.numbers_of(frames.images)[-10:] == list(range(30, 40))
    with (
        pytest.raises(VideoLimitExceeded, match=r"grows\.ts has pictures of 160×96 pixels"),
        video.open(path, limits=Limits(max_side=100)) as opened,
    ):
        opened.read(Sampling.every())


def test_threads_change_nothing(workshop: Any) -> None:
    for name in ("h264", "vp9 webm", "hevc", "h264 ts"):
        with (
            video.open(workshop.make(name), isolated=False) as one,
            video.open(workshop.make(name), isolated=False, threads=3) as three,
        ):
            for sampling in (Sampling.every(), Sampling.at_times([0.3, 1.1])):
                assert np.array_equal(one.read(sampling).images, three.read(sampling).images)


def test_isolated_equals_in_process(workshop: Any) -> None:
    for name in ("h264", "vp9 webm", "h264 ts"):
        with video.open(workshop.make(name), isolated=False) as here, video.open(workshop.make(name)) as there:
            assert here.info == there.info == video.probe(workshop.make(name))
            for sampling in (Sampling.every(), Sampling.uniform(5, size=20), Sampling.at_times([0.3, 0.3, 1.1])):
                a, b = here.read(sampling), there.read(sampling)
                assert np.array_equal(a.images, b.images)
                assert np.array_equal(a.times_s, b.times_s)


def test_06_a_result_too_large_is_refused(workshop: Any) -> None:
    limits = Limits(decoded_bytes=10 * 48 * 80 * 3)
    with video.open(workshop.make("h264"), limits=limits, isolated=False) as opened:
        assert len(opened.read(Sampling.uniform(10))) == 10
        for sampling in (Sampling.uniform(11), Sampling.every(), Sampling.at_times([0.0] * 11)):
            with pytest.raises(VideoLimitExceeded, match="fewer or smaller frames, use stream"):
                opened.read(sampling)
        assert sum(len(frames) for frames in opened.stream(Sampling.every())) == 40


def test_wrong_use_is_told(workshop: Any) -> None:
    opened = video.open(workshop.make("h264"), isolated=False)
    with pytest.raises(InvalidInput, match="batch_size"):
        next(opened.stream(Sampling.every(), batch_size=0))
    opened.close()
    opened.close()
    with pytest.raises(InvalidInput, match="closed"):
        opened.read(Sampling.every())
    with pytest.raises(InvalidInput, match="threads"):
        video.open(workshop.make("h264"), threads=0)


def test_real_clips(shared: Path) -> None:
    for path in sorted((shared / "clips").glob("*.mp4")):
        with av.open(str(path)) as container:
            stream: Any = container.streams.video[0]
            times = [float(f.pts * stream.time_base) for f in container.decode(stream)]
        with video.open(path) as opened:
            assert opened.info.frame_count == len(times)
            every = opened.read(Sampling.every(size=64))
            assert every.times_s.tolist() == times
            found = opened.read(Sampling.uniform(9, size=64))
            assert np.array_equal(found.images, every.images[np.isin(every.times_s, found.times_s)])
