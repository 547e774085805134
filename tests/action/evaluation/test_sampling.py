"""What a detector finds at its own moments, compared with labels on other frames."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from trifocal.action import DetectReport, Tube, write_tubes
from trifocal.action.evaluation import evaluate
from trifocal.action.evaluation.files import read_detections
from trifocal.action.evaluation.sampling import nearest_moments, sampled_tubes
from trifocal.action.labels import LabelMap, Labels, VideoLabels
from trifocal.errors import InvalidInput

CLASSES = LabelMap(("walk", "wave"), (12, 80))
WIDTH, HEIGHT, SECONDS = 200, 100, 6


def box(time_s: float, actor: int) -> tuple[float, float, float, float]:
    """Two actors who pass one another in two rows."""
    left = 10 + 20 * time_s if actor == 0 else 160 - 20 * time_s
    return left, 10 + 45 * actor, left + 20, 45 + 45 * actor


def truth(rate: float, *, start_s: float = 0.0) -> Labels:
    """Both walk; the second one waves too."""
    places = round(start_s * rate) + np.arange(round(SECONDS * rate) + 1)
    indices = np.repeat(places, 2)
    tracks = np.tile([0, 1], len(places))
    boxes = np.array([box(i / rate - start_s, t) for i, t in zip(indices, tracks, strict=True)], np.float32)
    actions = np.stack([np.ones(len(tracks), bool), tracks == 1], axis=1)
    return Labels(CLASSES, (VideoLabels("v", indices, boxes, tracks, actions, rate, WIDTH, HEIGHT),))


def found(step_s: float, *, late_s: float = 0.0) -> DetectReport:
    """The same, at moments `step_s` apart."""
    times = np.arange(late_s, SECONDS + 1e-9, step_s)
    tubes = []
    for actor in (0, 1):
        boxes = np.array([box(float(t), actor) for t in times], np.float32)
        scores = {"walk": np.full(len(times), 0.9, np.float32)}
        scores |= {"wave": np.full(len(times), 0.8 if actor else 0.1, np.float32)}
        tubes.append(Tube("films/v.mp4", actor, times, boxes, scores))
    return DetectReport("films/v.mp4", tuple(tubes), WIDTH, HEIGHT, len(times), float(SECONDS))


def written(report: DetectReport, folder: Path, kind: str) -> Path:
    path = folder / f"found.{kind}"
    if kind == "json":
        path.write_text(json.dumps([report.to_dict()]))
    else:
        write_tubes(report, path, classes=CLASSES.names, ids=CLASSES.ids)
    return path


@pytest.mark.parametrize("kind", ["json", "csv"])
@pytest.mark.parametrize("step_s", [0.04, 0.08, 0.28])
@pytest.mark.parametrize("rate", [25.0, 1.0])
def test_a_perfect_sparse_detector_scores_one(rate: float, step_s: float, kind: str, tmp_path: Path) -> None:
    labels = truth(rate)
    detections, tubes = read_detections(written(found(step_s), tmp_path, kind), labels)
    result = evaluate(labels, detections, tubes=tubes)
    assert result.figures()["frame_map@.5"] == 1
    assert result.video is not None
    assert result.video.at(0.5) == 1
    assert len(detections) == len(labels["v"])
    if kind == "json":  # a tube's boxes move between its moments, those of a csv do not
        assert result.video.strict() == 1
        assert np.allclose(detections.boxes_xyxy[:3, 0], labels["v"].boxes_xyxy[labels["v"].tracks == 0][:3, 0])


@pytest.mark.parametrize("kind", ["json", "csv"])
def test_labels_of_a_film_that_was_cut_out(kind: str, tmp_path: Path) -> None:
    labels = truth(1.0, start_s=900.0)
    path = written(found(0.2), tmp_path, kind)
    detections, tubes = read_detections(path, labels, start_s=-900.0)
    assert evaluate(labels, detections, tubes=tubes).figures()["frame_map@.5"] == 1
    assert len(read_detections(path, labels)[0]) == 0


def test_moments_between_labelled_frames_do_not_count(tmp_path: Path) -> None:
    labels = truth(1.0)
    for kind in ("json", "csv"):
        detections, _ = read_detections(written(found(0.08, late_s=0.01), tmp_path, kind), labels)
        seen = np.unique(detections.index).tolist()
        assert seen[:SECONDS] == list(range(SECONDS))
        assert len(detections) == 2 * len(seen)  # each actor once a second, though there are twelve moments in one


def test_a_tube_reaches_half_a_step_beyond_its_moments() -> None:
    labels = truth(25.0)

    def tube(*times: float, actor: int = 0) -> Tube:
        return Tube("v", actor, np.array(times), np.tile(np.array([[0, 0, 9, 9]], np.float32), (len(times), 1)), {})

    assert sampled_tubes([tube(1.0, 1.08)], labels)[0].numbers.tolist() == [25, 26, 27, 28]
    first, second = sampled_tubes([tube(1.0, 1.08), tube(1.16, 1.24, actor=1)], labels)
    assert not set(first.numbers) & set(second.numbers)
    assert sampled_tubes([tube(1.0)], labels)[0].numbers.tolist() == [25]
    assert sampled_tubes([tube(99.0)], labels) == []
    with pytest.raises(InvalidInput, match="'w'"):
        sampled_tubes([Tube("w", 0, np.zeros(1), np.zeros((1, 4), np.float32), {})], labels)


def test_the_nearest_moment() -> None:
    one = truth(1.0)["v"]
    assert nearest_moments([0.4, 0.9, 1.2, 3.5], one, reach=0.5) == [(0, 0), (1, 1), (3, 3), (4, 3)]
    assert nearest_moments([], one, reach=0.5) == []
