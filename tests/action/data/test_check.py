"""What is wrong with labels, and `trifocal labels`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trifocal.action import render
from trifocal.action.data.check import check_labels, draw_labels
from trifocal.action.data.clips import VideoFolder
from trifocal.action.data.formats import read_labels, write_labels
from trifocal.action.labels import Labels
from trifocal.cli import main


def run(arguments: list[str]) -> int:
    try:
        main(arguments)
    except SystemExit as stopped:
        return int(stopped.code or 0)
    return 0


def test_good_labels_have_no_problem(film: Path, labels: Labels) -> None:
    with VideoFolder(film, isolated=False) as frames:
        report = check_labels(labels, frames=frames)
    assert report.problems == ()
    assert (report.boxes, report.frames, report.empty_frames, report.tracks) == (35, 35, 5, 1)
    assert report.boxes_of_class == {"walk": 35, "wave": 17}
    assert report.videos_of_class == {"walk": 1, "wave": 1}


def test_every_kind_of_problem_is_found(film: Path, labels: Labels) -> None:
    one = labels["walk"]
    boxes, indices = one.boxes_xyxy.copy(), one.indices.copy()
    boxes[0] = [-20, 0, 10, 10]
    boxes[3, 2] = boxes[3, 0]
    boxes[20] += 60
    indices[5] = indices[4]
    indices[-1] = 90
    broken = replace(one, boxes_xyxy=boxes, indices=indices, labelled=None)
    with VideoFolder(film, isolated=False) as frames:
        found = check_labels(Labels(labels.classes, (broken, replace(one, video="gone"))), frames=frames).problems
        wrong_size = check_labels(Labels(labels.classes, (one.resized(640, 480),)), frames=frames).problems
    kinds = {problem.kind: problem for problem in found if problem.video == "walk"}
    assert set(kinds) >= {"outside", "no area", "twice", "jump", "after the end"}
    assert "frame 5" in kinds["outside"].text
    assert [problem.kind for problem in found if problem.video == "gone"] == ["unreadable"]
    assert [problem.kind for problem in wrong_size] == ["size"]


def test_a_drawn_box_lies_on_the_actor(film: Path, labels: Labels) -> None:
    with VideoFolder(film, isolated=False) as frames:
        picture = draw_labels(labels["walk"], index=20, names=labels.classes.names, frames=frames, short_side=96)
        plain = frames.read(labels["walk"], [20.3 / 25], short_side=96)[0]
    changed = np.argwhere((picture != plain).any(axis=2))
    assert changed[:, 1].min() == pytest.approx(40, abs=3)
    assert changed[:, 0].max() == pytest.approx(70, abs=3)


def test_truth_is_drawn_without_scores(film: Path, labels: Labels, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[list[str]] = []
    monkeypatch.setattr(render, "_write", lambda pen, text, box, **_: lines.append(text))
    with VideoFolder(film, isolated=False) as frames:
        draw_labels(labels["walk"], index=20, names=labels.classes.names, frames=frames, short_side=96)
    assert lines == [["0", "walk", "wave"]]


def test_the_commands(film: Path, labels: Labels, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_labels(labels, tmp_path / "labels.json", kind="coco")
    words = [str(tmp_path / "labels.json"), "--videos", str(film)]
    assert run(["labels", "check", *words, "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["boxes_of_class"] == {"walk": 35, "wave": 17}
    assert run(["labels", "draw", *words, "--out", str(tmp_path / "sheet.jpg"), "-n", "4"]) == 0
    with Image.open(tmp_path / "sheet.jpg") as sheet:
        assert sheet.width > 200
    assert (
        run(["labels", "convert", str(tmp_path / "labels.json"), "--to", "ava", "--out", str(tmp_path / "a.csv")]) == 0
    )
    assert run(["labels", "convert", str(tmp_path / "a.csv"), "--rate", "25", "--videos", str(film), "--to", "cvat",
                "--out", str(tmp_path / "walk.xml")]) == 0  # fmt: skip
    back = read_labels(tmp_path / "walk.xml")["walk"]
    assert np.allclose(back.boxes_xyxy, labels["walk"].boxes_xyxy, atol=0.02)
    assert run(["labels", "check", str(tmp_path / "walk.xml")]) == 0
    capsys.readouterr()
    (tmp_path / "a.csv").write_text("walk,0.2,0,0,1.5,1,1,0\n")
    assert run(["labels", "check", str(tmp_path / "a.csv")]) == 2
    assert "a.csv, line 1" in capsys.readouterr().err
    assert run(["labels", "check", str(tmp_path / "labels.json"), "--kind", "voc"]) == 2


def test_a_pickle_is_converted_once(shared: Path, tmp_path: Path) -> None:
    source = shared / "goldens/vad/data/jhmdb_input_gt.pkl"
    assert run(["labels", "convert", str(source), "--out", str(tmp_path / "jhmdb.json"), "--split", "test1"]) == 0
    labels = read_labels(tmp_path / "jhmdb.json")
    assert [one.video for one in labels.videos] == ["brush/a", "brush/b", "clap/c"]
    assert len(labels["brush/b"]) == 15
