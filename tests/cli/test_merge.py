"""`trifocal merge` as a user types it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file
from tests.cli.conftest import Run

from trifocal import video

pytestmark = pytest.mark.weights


def test_merge_counts_draws_and_keeps_the_tokens(run: Run, clips: Path, tmp_path: Path) -> None:
    sheet, tokens = tmp_path / "m.jpg", tmp_path / "m.safetensors"
    done = run(
        *("merge", clips / "bikes.mp4", "--frames", "4", "--grid", "6", "--budget", "0.4"),
        *("--out", sheet, "--tokens", tokens, "--format", "json"),
    )
    assert done.code == 0, done.err
    facts, saved = done.json, load_file(tokens)
    assert facts["grid"] == [6, 14]
    assert facts["tokens_before"] == 4 * 6 * 14
    assert facts["tokens_after"] == len(saved["features"]) == sum(facts["tokens_by_frame"])
    assert facts["tokens_after"] <= 0.4 * facts["tokens_before"]
    assert saved["assignment"].shape == (4, 6, 14)
    assert set(np.unique(saved["assignment"])) == set(range(facts["tokens_after"]))
    with Image.open(sheet) as image:
        assert image.format == "JPEG"
        assert image.width > 320


def test_a_film_of_a_merge_by_thresholds(run: Run, clips: Path, tmp_path: Path) -> None:
    film = tmp_path / "m.mp4"
    words = ("--frames", "3", "--grid", "4", "--spatial", "0.8", "--temporal", "0.6", "-o", film)
    done = run("merge", clips / "bikes.mp4", *words)
    assert done.code == 0, done.err
    assert "sttm:" in done.out
    assert "spatial 0.800, temporal 0.600" in done.out
    assert video.probe(film).frame_count == 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--budget", "much"), "--budget is 'much'"),
        (("--budget", "0"), "--budget is '0'"),
        (("--method", "nope"), "method is 'nope'"),
        (("--method", "tome", "--spatial", "0.8"), "tome has no option spatial_threshold"),
        (("--out", "picture.gif"), "picture.gif ends in none of .jpg"),
        (("--tokens", "tokens.pt"), "tokens.pt ends in none of .safetensors"),
        (("--budget", "0.001", "--frames", "2", "--grid", "7"), "root_level"),
    ],
)
def test_bad_options_are_told(run: Run, clips: Path, words: tuple[str, ...], said: str) -> None:
    done = run("merge", clips / "bikes.mp4", *words)
    assert done.code != 0
    assert said in done.err


def test_a_file_that_is_no_video_is_told(run: Run, tmp_path: Path) -> None:
    (tmp_path / "x.mp4").write_text("nothing")
    done = run("merge", tmp_path / "x.mp4")
    assert done.code == 3
    assert "x.mp4" in done.err
