"""Decode and encode as pure functions: what is stored of a video, at its edges."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trifocal.errors import ModelError, UnreadableVideo
from trifocal.library import LibrarySettings
from trifocal.library.meter import Meter
from trifocal.library.plan import IngestTask
from trifocal.library.records import AddProgress
from trifocal.library.scan import FoundFile
from trifocal.library.stages import FEATURES, THUMBNAILS, Batch, EncodedVideo, decode, encode
from trifocal.video import Frames

SETTINGS = LibrarySettings(prototypes=4, max_frames=20, batch_size=8)


def task(size: int = 100, name: str = "a") -> IngestTask:
    found = FoundFile(path=f"/{name}.mp4", root="/", size=size, mtime_ns=0, inode=0)
    return IngestTask(sha256=name * 64, files=(found,))


def frames(times: Any, *, seed: int = 0, warnings: tuple[str, ...] = ()) -> Frames:
    times = np.asarray(times, np.float64)
    images = np.random.default_rng(seed).integers(0, 256, (len(times), 8, 8, 3), dtype=np.uint8)
    return Frames(images, times, warnings)


def info(lab: Any, *, duration_s: float) -> Any:
    path = lab.video("info.mp4")
    return replace(lab.reader.open(path).info, duration_s=duration_s)


def run(lab: Any, times: Any, *, duration_s: float, warnings: tuple[str, ...] = ()) -> EncodedVideo:
    both = frames(times, warnings=warnings)
    batches = [Batch(FEATURES, both), Batch(THUMBNAILS, both)]
    return encode(task(), info(lab, duration_s=duration_s), batches, encoder=lab.encoder, settings=SETTINGS)


@pytest.mark.parametrize(
    ("times", "duration_s", "warnings", "end_s"),
    [
        ([0.0, 0.5, 1.0], 1.4, (), 1.4),
        ([0.0, 0.5, 1.0], 30.0, (), 30.0),  # the last frame stands still
        ([0.0, 0.5, 1.0], 9.0, ("cut short",), 1.5),
        ([0.0, 0.5, 1.0], 1.2, ("damaged",), 1.2),
        ([0.0, 0.5, 1.0], 0.0, (), 1.5),
        ([0.0, 0.5, 1.0], 0.7, (), 1.0),
        ([0.0], 0.04, (), 0.04),
    ],
)
def test_where_a_video_ends(
    lab: Any, times: list[float], duration_s: float, warnings: tuple[str, ...], end_s: float
) -> None:
    encoded = run(lab, times, duration_s=duration_s, warnings=warnings)
    assert encoded.duration_s == pytest.approx(end_s)
    assert encoded.prototypes.spans_s[-1, 1] == pytest.approx(end_s)
    assert encoded.warnings == warnings


def test_more_frames_than_agreed_are_thinned(lab: Any) -> None:
    encoded = run(lab, np.arange(0, 50, 0.5), duration_s=0.0)
    assert encoded.frames == 20
    assert len(encoded.thumbnail_ms) == 4
    assert {at_ms for at_ms, _ in encoded.thumbnails} == set(encoded.thumbnail_ms)


def test_thumbnails_show_the_frame_most_like_the_prototype(lab: Any) -> None:
    encoded = run(lab, np.arange(0, 10, 0.5), duration_s=10.0)
    features = lab.encoder.encode_frames(frames(np.arange(0, 10, 0.5)).images)
    for vector, (start_s, end_s), at_ms in zip(
        encoded.prototypes.vectors, encoded.prototypes.spans_s, encoded.thumbnail_ms, strict=True
    ):
        inside = [step for step in range(20) if start_s <= step / 2 < end_s]
        best = max(inside, key=lambda step: float(features[step] @ vector.astype(np.float32)))
        assert at_ms == best * 500
    assert encoded.poster_ms in encoded.thumbnail_ms


def test_no_frames(lab: Any) -> None:
    with pytest.raises(UnreadableVideo):
        run(lab, [], duration_s=1.0)


def test_values_that_are_not_finite(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lab.encoder, "encode_frames", lambda images: np.full((len(images), 24), np.nan, np.float32))
    with pytest.raises(ModelError):
        run(lab, [0.0], duration_s=1.0)


def test_decode_passes_on_what_is_found_last(lab: Any) -> None:
    video = lab.reader.open(lab.video("a.mp4", seconds=3))
    batches = []
    for batch in decode(video, frame_size=(8, 8), settings=SETTINGS):
        video.warnings = ("cut short",)
        batches.append(batch)
    assert {batch.stream for batch in batches} == {FEATURES, THUMBNAILS}
    assert (len(batches[-1].frames), batches[-1].frames.warnings) == (0, ("cut short",))


def test_real_frames(lab: Any, real_videos: Path) -> None:
    library = lab.create(reader=None)
    report = library.add(real_videos)
    assert len(report.added) == 5
    for record in library.videos():
        assert (record.codec, record.frames, record.duration_s) == ("h264", 8, pytest.approx(4.0))
        assert (record.width, record.height) == (96, 72)
    assert report.times.decode_s > 0


def test_the_meter(lab: Any) -> None:
    """Two videos of equal bytes per second: the estimate is right from the first on."""
    told: list[AddProgress] = []
    now = [0.0]
    meter = Meter(told.append, clock=lambda: now[0])
    meter.phase("ingest", total=2, total_bytes=300)
    assert (told[-1].total_s, told[-1].eta_s) == (0.0, None)
    now[0] = 5.0
    meter.seconds(task(100, "a"), info(lab, duration_s=10.0), 5.0)
    assert (told[-1].done_s, told[-1].total_s, told[-1].rate, told[-1].eta_s) == (5.0, 30.0, 1.0, 25.0)
    now[0] = 10.0
    meter.finished(size=100)
    assert (told[-1].done_videos, told[-1].done_s, told[-1].total_s, told[-1].eta_s) == (1, 10.0, 30.0, 20.0)
    meter.seconds(task(200, "b"), info(lab, duration_s=40.0), 10.0)
    assert (told[-1].done_s, told[-1].total_s) == (20.0, 50.0)
    meter.finished(size=200)
    assert (told[-1].done_s, told[-1].total_s, told[-1].eta_s) == (50.0, 50.0, 0.0)
    meter.phase("done")
    assert (told[-1].phase, told[-1].done_videos) == ("done", 2)
