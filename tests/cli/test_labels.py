"""`trifocal labels` as a user types it: what is written, what is told, and remedies that are options."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.cli.conftest import Run

from trifocal.action.data.formats import read_labels, write_labels
from trifocal.action.labels import LabelMap, Labels, VideoLabels
from trifocal.video import write_mp4

FPS, COUNT, WIDTH, HEIGHT = 10.0, 20, 64, 48


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("films")
    write_mp4(folder / "a.mp4", list(np.zeros((COUNT, HEIGHT, WIDTH, 3), np.uint8)), fps=FPS)
    return folder


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    """Two videos with a label in every fifth frame, as the project's JSON."""
    indices = np.arange(0, COUNT, 5)
    boxes = np.tile(np.array([[4, 4, 30, 40]], np.float32), (len(indices), 1))
    videos = [
        VideoLabels(
            name, indices, boxes, np.zeros(len(indices), np.int64), np.tile([True, False], (len(indices), 1)), FPS,
            WIDTH, HEIGHT, frame_count=COUNT,
        )
        for name in ("a", "b")
    ]  # fmt: skip
    path = tmp_path / "truth.json"
    write_labels(Labels(LabelMap(("walk", "wave"), (11, 80)), tuple(videos), {"train0": ("a",)}), path, kind="trifocal")
    return path


def test_sparse_labels_stay_sparse_in_cvat(run: Run, truth: Path, tmp_path: Path) -> None:
    done = run("labels", "convert", truth, "--to", "cvat", "--out", tmp_path / "xml")
    assert done.code == 0, done.err
    assert "cvat: splits are not kept: train0" in done.err
    found = run("labels", "check", tmp_path / "xml", "--format", "json").json
    assert (found["frames"], found["empty_frames"], found["boxes"]) == (8, 0, 8)


def test_a_csv_is_written_with_its_label_map(run: Run, truth: Path, tmp_path: Path) -> None:
    done = run("labels", "convert", truth, "--to", "ava", "--out", tmp_path / "x.csv")
    assert done.code == 0, done.err
    assert f"wrote 2 videos to {tmp_path / 'x.csv'}" in done.err
    assert f"wrote their label map to {tmp_path / 'x.pbtxt'}" in done.err
    assert run("labels", "check", tmp_path / "x.csv", "--format", "json").json["boxes_of_class"] == {
        "walk": 8,
        "wave": 0,
    }
    (tmp_path / "x.pbtxt").write_text('item {\n  name: "run"\n  id: 1\n}\n')
    done = run("labels", "convert", truth, "--to", "ava", "--out", tmp_path / "x.csv")
    assert done.code == 2
    assert "x.pbtxt is a label map of other classes" in done.err


def test_seconds_become_frames_of_the_videos(run: Run, films: Path, tmp_path: Path) -> None:
    """Without a rate AVA's csv counts seconds, which CVAT and COCO would take for frames."""
    (tmp_path / "x.csv").write_text("a,0900.5,0.1,0.1,0.5,0.9,1,0\na,0901,0.1,0.1,0.5,0.9,1,0\na,0901.5\n")
    for to, out in (("cvat", "one.xml"), ("coco", "one.json")):
        words = ("labels", "convert", tmp_path / "x.csv", "--to", to, "--out", tmp_path / out)
        done = run(*words)
        assert done.code == 2
        assert f"{to} counts in pixels, and x.csv does not tell the size" in done.err
        assert "Give the folder of the videos with --videos." in done.err
        done = run(*words, "--videos", films, "--start-s", "-900")
        assert done.code == 0, done.err
        one = read_labels(tmp_path / out)["a"]
        assert (one.indices.tolist(), one.looked_at.tolist(), one.rate) == ([5, 10], [5, 10, 15], FPS)
        assert one.boxes_xyxy[0].tolist() == pytest.approx([6.4, 4.8, 32, 43.2], abs=0.01)
    done = run("labels", "convert", tmp_path / "x.csv", "--out", tmp_path / "y.json", "--start-s", "-900")
    assert (done.code, "--start-s is given" in done.err) == (2, True)


def test_one_xml_is_of_one_video(run: Run, truth: Path, tmp_path: Path) -> None:
    words = ("labels", "convert", truth, "--to", "cvat", "--out", tmp_path / "one.xml")
    done = run(*words)
    assert done.code == 2
    assert "there are 2 videos, and one.xml is the name of one file" in done.err
    assert not (tmp_path / "one.xml").exists()
    assert run(*words, "--split", "train0").code == 0
    assert (tmp_path / "one.xml").is_file()


def test_an_attribute_of_another_name(run: Run, films: Path, truth: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    assert run("labels", "convert", truth, "--to", "cvat", "--out", path, "--split", "train0").code == 0
    path.write_text(path.read_text().replace('name="action"', 'name="activity"'))
    done = run("labels", "check", path)
    assert done.code == 1
    assert "attribute 'activity' not read: 4 boxes" in done.out
    assert "--attribute NAME" in done.out
    assert "nothing is wrong" not in done.out
    done = run("labels", "check", path, "--attribute", "activity", "--format", "json")
    assert (done.code, done.json["unread"], done.json["boxes_of_class"]["walk"]) == (0, {}, 4)
    named = ("--attribute", "activity")
    assert run("labels", "draw", path, *named, "--videos", films, "--out", tmp_path / "a.jpg").code == 0
    assert run("labels", "convert", path, *named, "--to", "ava", "--out", tmp_path / "a.csv").code == 0
    assert read_labels(tmp_path / "a.csv", rate=FPS)["a"].actions.any(axis=1).all()
    done = run("labels", "check", truth, *named)
    assert (done.code, "names of attributes are given for trifocal" in done.err) == (2, True)


def test_an_empty_csv_is_an_error(run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty.csv").write_text("")
    done = run("labels", "check", tmp_path / "empty.csv")
    assert done.code == 2
    assert "empty.csv, line 1: there is no row" in done.err
