"""Tubes as subtitles and pictures, and results in another library's words."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from trifocal.action import (
    DetectReport,
    FrameDetections,
    Tube,
    action_spans,
    annotated,
    draw_actors,
    overlay,
    to_supervision,
    write_webvtt,
)
from trifocal.errors import InvalidInput
from trifocal.video import Frames


def tube(actor: int = 1, **actions: list[float]) -> Tube:
    times = np.arange(4) / 2
    boxes = np.array([[10 + 4 * t, 40, 30 + 4 * t, 80] for t in range(4)], np.float32)
    scores = {name: np.array(values, np.float32) for name, values in actions.items()}
    return Tube("v", actor, times, boxes, scores)


def test_spans_end_halfway_to_the_next_moment() -> None:
    spans = action_spans(tube(walk=[0.9, 0.8, 0.1, 0.7], sit=[0.1, 0.1, 0.1, 0.1]), least_score=0.5)
    assert [(name, start, end) for name, start, end, _ in spans] == [("walk", 0.0, 0.75), ("walk", 1.25, 1.75)]
    assert spans[0][3] == pytest.approx(0.85)


def test_webvtt_is_in_order_and_cannot_be_broken_out_of() -> None:
    text = write_webvtt([tube(2, **{"a --> b <i>\n\nNOTE": [0.9] * 4}), tube(1, walk=[0.1, 0.1, 0.9, 0.9])])
    assert text.splitlines() == [
        "WEBVTT",
        "",
        "00:00:00.000 --> 00:00:01.750",
        "actor 2: a --&gt; b &lt;i&gt; NOTE (0.90)",
        "",
        "00:00:00.750 --> 00:00:01.750",
        "actor 1: walk (0.90)",
    ]
    assert write_webvtt([]) == "WEBVTT\n"
    with pytest.raises(InvalidInput):
        write_webvtt([], least_score=2)


def test_boxes_move_between_moments_and_end_with_the_tube() -> None:
    image = np.zeros((100, 120, 3), np.uint8)
    drawn = draw_actors(image, [tube(walk=[0.9] * 4)], time_s=0.25, size=(100, 120))
    assert not image.any()
    column = np.flatnonzero(drawn[60].any(-1))
    assert column.min() == pytest.approx(12, abs=2)
    assert column.max() == pytest.approx(32, abs=2)
    assert not draw_actors(image, [tube(walk=[0.9] * 4)], time_s=1.75, size=(100, 120)).any()


def test_boxes_follow_the_size_of_the_picture() -> None:
    drawn = draw_actors(np.zeros((200, 240, 3), np.uint8), [tube()], time_s=0.0, size=(100, 120))
    assert np.flatnonzero(drawn[120].any(-1)).max() == pytest.approx(60, abs=2)


def test_annotated_gives_a_picture_a_frame() -> None:
    frames = [Frames(np.zeros((3, 50, 60, 3), np.uint8), np.array([0.0, 0.5, 9.0]))]
    drawn = list(annotated(frames, [tube(walk=[1.0] * 4)], size=(100, 120)))
    assert [bool(picture.any()) for picture in drawn] == [True, True, False]


def test_heat_is_where_attention_is() -> None:
    attention = np.zeros((4, 4), np.float32)
    attention[3, 3] = 0.5
    hot = overlay(np.full((40, 40, 3), 100, np.uint8), attention)
    assert hot[38, 38, 0] > 180
    assert np.array_equal(hot[2, 2], [100, 100, 100])
    assert np.array_equal(overlay(hot, np.zeros((2, 2), np.float32)), hot)
    for wrong in (np.zeros(4), np.full((2, 2), -1.0), np.full((2, 2), np.nan)):
        with pytest.raises(InvalidInput):
            overlay(hot, wrong)


def test_supervision_gets_actors_and_their_likeliest_action() -> None:
    boxes = np.array([[0, 0, 10, 20], [5, 5, 9, 9]], np.float32)
    scores = np.array([[0.1, 0.8], [0.9, 0.2]], np.float32)
    moment = FrameDetections(0.0, boxes, np.array([0.9, 0.2], np.float32), scores)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "OpenCV")  # its own remark on import
        found = to_supervision(moment, classes=("sit", "walk"))
    assert found.xyxy.tolist() == [[0, 0, 10, 20]]
    assert found.class_id.tolist() == [1]
    assert found.data["class_name"].tolist() == ["walk"]
    assert found.confidence.tolist() == pytest.approx([0.8])


def test_supervision_gets_tubes_with_their_actors() -> None:
    report = DetectReport(
        "v", (tube(2, walk=[0.2, 0.4, 0.8, 0.8], sit=[0.6, 0.5, 0.1, 0.1]), tube(7)), 120, 100, moments=4, end_s=1.5
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "OpenCV")
        whole = to_supervision(report, classes=("sit", "walk"))
        now = to_supervision(report, classes=("sit", "walk"), at_s=0.75)
        gone = to_supervision(report, classes=("sit", "walk"), at_s=9.0)
        alone = to_supervision(report.tubes[0], classes=("sit", "walk"))
        with pytest.raises(InvalidInput, match="'walk' is none of the classes"):
            to_supervision(report, classes=("sit",))
        moment = FrameDetections(0.0, *(np.zeros(shape, np.float32) for shape in ((0, 4), 0, (0, 2))))
        with pytest.raises(InvalidInput, match=r"at_s is 1\.0 beside one moment"):
            to_supervision(moment, classes=("sit", "walk"), at_s=1.0)
    assert whole.tracker_id.tolist() == [2] * 4 + [7] * 4
    assert whole.class_id.tolist() == [0, 0, 1, 1] + [-1] * 4
    assert whole.data["class_name"].tolist() == ["sit", "sit", "walk", "walk"] + [""] * 4
    assert whole.data["time_s"].tolist() == [0.0, 0.5, 1.0, 1.5] * 2
    assert now.xyxy.tolist() == [[16, 40, 36, 80]] * 2
    assert now.confidence.tolist() == pytest.approx([0.6, 0.0])
    assert len(gone) == 0
    assert alone.tracker_id.tolist() == [2] * 4
