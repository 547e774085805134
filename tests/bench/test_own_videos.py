"""Own videos end to end: the arithmetic by hand, clips against videos, and the script on a few videos."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from trifocal import video
from trifocal.bench import own_videos
from trifocal.bench.own_videos import Asked
from trifocal.retrieval.data import Caption

ROOT = Path(__file__).parents[2]
FPS = 8


@pytest.fixture(scope="module")
def ramp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight seconds that grow brighter, so that a frame says where it is: 3 levels a frame."""
    path = tmp_path_factory.mktemp("ramp") / "ramp.mp4"
    levels = (3 * np.arange(8 * FPS)).astype(np.uint8)
    video.write_mp4(path, np.broadcast_to(levels[:, None, None, None], (len(levels), 64, 64, 3)).copy(), fps=FPS)
    return path


def cut(source: Path, target: Path, *, start_s: float, end_s: float) -> Path:
    video.cut_clip(source, target, start_s=start_s, end_s=end_s)
    return target


def caption(name: str, start_s: float, end_s: float, text: str = "") -> Caption:
    return Caption(f"{name}{start_s}{text}", name, text or f"something at {start_s}", ((start_s, end_s),))


def test_stretches_of_time_by_hand() -> None:
    assert own_videos.overlap((0, 4), (2, 6)) == pytest.approx(2 / 6)
    assert own_videos.overlap((0, 2), (2, 6)) == 0
    # A second of ten, against a moment from 4 s to 6 s: it may begin from 3 s to 6 s, of the nine it can.
    assert own_videos.by_chance(1.0, (4.0, 6.0), duration_s=10.0) == pytest.approx(3 / 9)
    assert own_videos.by_chance(1.0, (0.0, 2.0), duration_s=10.0) == pytest.approx(2 / 9)
    assert own_videos.by_chance(10.0, (4.0, 6.0), duration_s=10.0) == 1


def test_a_moment_asks_once_and_one_that_fills_its_video_not_at_all() -> None:
    one, again, long, other = (
        caption("a.mp4", 1, 3),
        caption("a.mp4", 1, 3, "the same in other words"),
        caption("a.mp4", 0, 9),
        caption("b.mp4", 2, 4),
    )
    same_text = caption("b.mp4", 5, 6, one.text)
    durations_s = {"a.mp4": 10.0, "b.mp4": 10.0}
    assert own_videos.to_ask([one, again, long, other, same_text], durations_s) == [one, other]


def test_a_clip_shows_what_its_video_shows_then(ramp: Path, tmp_path: Path) -> None:
    clip = cut(ramp, tmp_path / "clip.mp4", start_s=2.0, end_s=4.0)
    difference, length_s = own_videos.check_clip(clip, ramp, start_s=2.0)
    assert difference <= own_videos.SAME_FRAME
    assert length_s == pytest.approx(2.0, abs=0.01)
    elsewhere, _ = own_videos.check_clip(clip, ramp, start_s=3.0)
    assert elsewhere > own_videos.SAME_FRAME


def test_the_summary_counts_videos_overlaps_and_frames(ramp: Path, tmp_path: Path) -> None:
    good = cut(ramp, tmp_path / "good.mp4", start_s=2.0, end_s=4.0)
    moved = cut(ramp, tmp_path / "moved.mp4", start_s=6.0, end_s=7.0)
    asked = [
        Asked(caption("ramp.mp4", 3, 5), {"path": str(ramp), "start_s": 2.0, "clip": str(good)}, 8.0),
        Asked(
            caption("ramp.mp4", 1, 2), {"path": str(ramp), "start_s": 4.0, "clip": str(moved)}, 8.0
        ),  # and cut wrongly
        Asked(caption("other.mp4", 1, 2), {"path": str(ramp), "start_s": 0.0, "clip": str(good)}, 8.0),
        Asked(caption("ramp.mp4", 1, 2, "nothing is found"), None, 8.0),
    ]
    found = own_videos.summary(asked)
    assert (found["captions"], found["in_the_right_video"]) == (4, 2)
    assert found["overlap"] == 1
    assert found["mean_iou"] == pytest.approx((1 / 3 + 0) / 2, abs=1e-3)
    assert found["frame_as_in_the_video"] == 1
    assert found["overlap_by_chance"] == pytest.approx(4 / 6 + 2 / 7, abs=0.06)


@pytest.mark.slow
def test_clips_of_own_videos_lie_in_the_video_where_the_table_says(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHON": sys.executable, "OUT": str(tmp_path / "figures")}
    subprocess.run([ROOT / "runs" / "own_videos.sh", tmp_path, "12", "3"], check=True, env=environment)
    found = json.loads((tmp_path / "figures" / "results.json").read_text())
    within = found["in_its_own_video"]
    assert within["captions"] == within["in_the_right_video"] == within["frame_as_in_the_video"] >= 5
    assert 0 < within["overlap"] <= within["captions"]
    assert found["in_all_videos"]["captions"] == within["captions"]
    assert json.loads((tmp_path / "figures" / "eval.json").read_text())["trained"]["videos"] == 3


def test_the_kept_figures_are_of_clips_that_show_what_they_should() -> None:
    kept = json.loads((ROOT / "bench" / "own_videos" / "results.json").read_text())
    for figures in (kept["in_all_videos"], kept["in_its_own_video"]):
        assert figures["frame_as_in_the_video"] == figures["in_the_right_video"] > 0
    assert kept["in_its_own_video"]["overlap"] > kept["in_its_own_video"]["overlap_by_chance"]
