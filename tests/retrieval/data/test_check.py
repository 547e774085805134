from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from trifocal.retrieval.data import ArrayRows, Hdf5Rows, RetrievalData, check_data, open_layout, write_hdf5

from .conftest import rows


def test_a_whole_set_has_no_problems(layout: Path) -> None:
    report = check_data(open_layout(layout, visual="i3d"), deep=True)
    assert report.problems == ()
    train = report.splits["train"]
    assert (train.videos, train.captions, train.moments) == (6, 12, 12)
    assert train.captions_per_video == (2.0, 2.0, 2.0)
    assert train.rows_per_video == (5.0, 7.5, 10.0)
    assert train.durations_s == (5.0, 7.5, 10.0)
    assert train.words_per_caption == (3.0, 3.5, 4.0)
    assert train.moment_share is not None
    assert abs(train.moment_share - np.mean([2 / (5 + n) for n in range(6)])) < 1e-9


def test_missing_ids_and_wrong_widths_are_counted(layout: Path) -> None:
    data = replace(open_layout(layout, visual="i3d"), dims=(1024, 6))
    kept = {video: data.features.read(video) for video in ("v_0", "v_1", "v_6", "v_7", "v_8", "v_9")}
    words = {one.id: data.words.read(one.id) for part in data.splits.values() for one in part if one.id != "v_9#enc#1"}
    report = check_data(replace(data, features=ArrayRows(kept), words=ArrayRows(words)))
    assert report.problems == (
        "frames have 8 dimensions, and toy has 1024",
        "train: 4 of 6 videos have no features: v_2, v_3, v_4, v_5",
        "test: 1 of 8 captions have no words: v_9#enc#1",
    )
    assert report.splits["train"].missing_videos == ("v_2", "v_3", "v_4", "v_5")


def test_rows_that_cannot_be_used_are_found_when_looking_deeply(layout: Path, tmp_path: Path) -> None:
    data = open_layout(layout, visual="i3d")
    broken = {video: data.features.read(video).copy() for video in data.features.ids()}
    broken["v_1"][2, 3] = np.nan
    broken["v_2"] = rows(3, 5, 0)
    write_hdf5(tmp_path / "x.h5", broken)
    data = replace(data, features=Hdf5Rows(tmp_path / "x.h5"))
    assert check_data(data).problems == ()
    problems = check_data(data, deep=True).problems
    assert len(problems) == 2
    assert "row 2 of 'v_1'" in problems[0]
    assert "'v_2' has rows of 5 numbers" in problems[1]


def test_videos_in_train_and_test_are_a_problem(layout: Path) -> None:
    data = open_layout(layout, visual="i3d")
    both: RetrievalData = replace(data, splits={**data.splits, "test": data.split("train").only(["v_1", "v_2"])})
    assert check_data(both).problems == ("train and test share 2 videos: v_1, v_2",)


def test_spare_features_are_a_note(layout: Path) -> None:
    data = open_layout(layout, visual="i3d")
    report = check_data(replace(data, splits={"train": data.split("train")}))
    assert report.problems == ()
    assert report.notes == ("4 ids with features have no captions here",)
