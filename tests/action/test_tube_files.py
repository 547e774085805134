"""Tubes as AVA csv and CVAT xml, read back."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from trifocal.action import DetectReport, Tube, tubes_as_labels, write_tubes
from trifocal.action.data.formats import read_label_map, read_labels
from trifocal.action.labels import LabelMap
from trifocal.errors import InvalidInput

CLASSES = ("sit", "walk")


@pytest.fixture
def report() -> DetectReport:
    times = np.array([1.0, 1.5, 2.0])
    boxes = np.array([[10, 10, 30, 60], [20, 10, 40, 60], [30, 10, 50, 60]], np.float32)
    actions = {"walk": np.array([0.9, 0.8, 0.1], np.float32)}
    return DetectReport("films/v.mp4", (Tube("films/v.mp4", 3, times, boxes, actions),), 100, 80, 3, 2.0)


def test_a_csv_has_every_score(report: DetectReport, tmp_path: Path) -> None:
    written = write_tubes(report, tmp_path / "x.csv", classes=CLASSES)
    assert written == (tmp_path / "x.csv", tmp_path / "x.pbtxt")
    with (tmp_path / "x.csv").open() as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["v", "1.000", "0.1000", "0.1250", "0.3000", "0.7500", "2", "0.9000"]
    assert len(rows) == 3


def test_a_csv_numbers_the_actions_as_their_label_map_does(report: DetectReport, tmp_path: Path) -> None:
    write_tubes(report, tmp_path / "x.csv", classes=CLASSES, ids=(11, 80))
    with (tmp_path / "x.csv").open() as file:
        assert {row[6] for row in csv.reader(file)} == {"80"}
    assert read_label_map(tmp_path / "x.pbtxt") == LabelMap(("sit", "walk"), (11, 80))
    with pytest.raises(InvalidInput, match="1 numbers are given for 2"):
        write_tubes(report, tmp_path / "x.csv", classes=CLASSES, ids=(11,))


def test_cvat_has_a_box_on_every_frame(report: DetectReport, tmp_path: Path) -> None:
    assert write_tubes(report, tmp_path / "x.xml", classes=CLASSES, fps=10) == (tmp_path / "x.xml",)
    labels = read_labels(tmp_path / "x.xml", rate=10.0)
    one = labels["v"]
    assert one.indices.tolist() == list(range(10, 21))
    assert one.looked_at.tolist() == list(range(21))  # the detector saw nobody before
    assert (labels.classes.names, one.rate) == (CLASSES, 10.0)
    assert one.boxes_xyxy[5].tolist() == [20, 10, 40, 60]
    assert one.boxes_xyxy[2, 0] == pytest.approx(14)
    walk = one.actions[:, labels.classes.index("walk")]
    assert walk.tolist() == [True] * 8 + [False] * 3
    direct = tubes_as_labels(report, classes=CLASSES, fps=10, least_score=0.5)["v"]
    assert np.allclose(direct.boxes_xyxy, one.boxes_xyxy, atol=0.01)


def test_a_label_map_of_others_stops_the_csv(report: DetectReport, tmp_path: Path) -> None:
    (tmp_path / "x.pbtxt").write_text('item {\n  name: "run"\n  id: 1\n}\n')
    with pytest.raises(InvalidInput, match="label map of other classes"):
        write_tubes(report, tmp_path / "x.csv", classes=CLASSES)
    assert not (tmp_path / "x.csv").exists()


def test_nothing_detected_is_written_too(tmp_path: Path) -> None:
    empty = DetectReport("v", (), 100, 80, 0, 0.0)
    write_tubes(empty, tmp_path / "x.csv", classes=CLASSES)
    write_tubes(empty, tmp_path / "x.xml", classes=CLASSES)
    assert (tmp_path / "x.csv").read_text() == ""
    assert "<annotations>" in (tmp_path / "x.xml").read_text()
    with pytest.raises(InvalidInput):
        write_tubes(empty, tmp_path / "x.txt", classes=CLASSES)
