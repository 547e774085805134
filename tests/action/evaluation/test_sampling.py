"""What a detector finds at its own moments, compared with labels on other frames."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trifocal.action import DetectReport, Tube, write_tubes
from trifocal.action.evaluation import Detections, FrameTruth, evaluate, link_classes
from trifocal.action.evaluation.files import read_detections
from trifocal.action.evaluation.sampling import label_places, nearest_moments, sampled_tubes
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
    if kind == "json" or (rate, step_s) == (25.0, 0.04):
        assert result.video.strict() == 1
    if kind == "json":  # a tube's boxes move between its moments, those of a csv do not
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


LEAVES = {"v": ((0.0, 2.0), (4.0, 6.0)), "w": ((0.0, 1.0), (3.0, 4.0))}
"""When, in each video, the second actor is there, in seconds; the first one always is."""


def leaving(video: str, rate: float, step: int) -> VideoLabels:
    """The second actor, who waves, leaves and comes back; every `step`-th frame is labelled."""
    labelled = np.arange(0, round(SECONDS * rate) + 1, step)
    rows = [
        (index, actor)
        for index in labelled.tolist()
        for actor in (0, 1)
        if actor == 0 or any(start <= index / rate <= end for start, end in LEAVES[video])
    ]
    indices, tracks = np.array(rows, np.int64).T
    boxes = np.array([box(i / rate, t) for i, t in rows], np.float32)
    actions = np.stack([np.ones(len(rows), bool), tracks == 1], axis=1)
    return VideoLabels(video, indices, boxes, tracks, actions, rate, WIDTH, HEIGHT, labelled=labelled)


def exact(labels: Labels, kind: str, folder: Path) -> tuple[Detections, list[Tube] | None]:
    """The truth itself as a detector says it: in a file, or as a model does, of every frame and somewhere wrong too."""
    if kind == "model":
        parts = []
        for place, one in enumerate(labels.videos):
            last = int(one.looked_at[-1])
            for index in range(last + 1):
                nearest = one.looked_at[np.abs(one.looked_at - index).argmin()]
                there = set(one.tracks[one.at(int(nearest))].tolist())
                for actor in (0, 1):
                    scores = [0.9, 0.9 * actor] if actor in there else [0.01, 0.01]
                    parts.append((place, index, box(index / one.rate, actor), scores))
                parts.append((place, index, (80.0, 2.0, 95.0, 30.0), [0.01, 0.02]))
        columns = [np.array(column) for column in zip(*parts, strict=True)]
        return Detections(CLASSES, tuple(one.video for one in labels.videos), *columns), None
    path = folder / f"exact.{kind}"
    if kind == "csv":
        lines = [
            f"{one.video},{i / one.rate:.3f},{','.join(f'{c:.6f}' for c in unit)},{CLASSES.ids[k]},1.0"
            for one in labels.videos
            for i, unit, doing in zip(one.indices, one.unit_boxes, one.actions, strict=True)
            for k in np.flatnonzero(doing)
        ]
        path.write_text("\n".join(lines))
    else:
        tubes = []
        for one in labels.videos:
            spans = [(0, 0.0, float(SECONDS))] + [(1, *span) for span in LEAVES[one.video]]
            for actor, start, end in spans:
                rows = (one.tracks == actor) & (one.times_s >= start) & (one.times_s <= end)
                doing = {n: one.actions[rows, k].astype(np.float32) for k, n in enumerate(CLASSES.names)}
                tubes.append(Tube(one.video, actor, one.times_s[rows], one.boxes_xyxy[rows], doing).to_dict())
        path.write_text(json.dumps(tubes))
    return read_detections(path, labels)


@pytest.mark.parametrize("kind", ["json", "csv", "model"])
@pytest.mark.parametrize(
    ("rate", "steps"), [(25.0, (1, 1)), (25.0, (4, 4)), (25.0, (1, 5)), (30.0, (12, 7)), (1.0, (1, 1))]
)
def test_the_truth_at_the_labelled_frames_scores_one(
    rate: float, steps: tuple[int, int], kind: str, tmp_path: Path
) -> None:
    labels = Labels(CLASSES, (leaving("v", rate, steps[0]), leaving("w", rate, steps[1])))
    detections, tubes = exact(labels, kind, tmp_path)
    result = evaluate(labels, detections, tubes=tubes)
    assert result.video is not None
    assert result.video.tubes.tolist() == [6, 4]
    assert (result.figures()["frame_map@.5"], result.video.strict()) == (1, 1)
    assert result.errors is not None
    assert result.errors[:, 1:].sum() == 0
    sports = evaluate(labels, detections, tubes=tubes, policy="multisports").figures()
    assert (sports["frame_map@.5"], sports["video_map@.5"]) == (1, 1)


def test_tubes_end_at_holes_of_the_labels(tmp_path: Path) -> None:
    whole = leaving("v", 25.0, 4)
    labels = Labels(CLASSES, (replace(whole, excluded=np.arange(20, 41)),))
    for kind in ("json", "csv", "model"):
        detections, tubes = exact(labels, kind, tmp_path)
        result = evaluate(labels, detections, tubes=tubes)
        assert result.video is not None
        assert result.video.tubes.tolist() == [5, 3]
        assert result.video.strict() == 1


def test_one_stops_where_another_begins() -> None:
    one = leaving("v", 25.0, 25)
    boxes = np.array([(20 + 30 * t, 10, 60 + 30 * t, 90) for t in one.tracks], np.float32)
    turns = np.stack([np.ones(len(one), bool), (one.indices >= 50) == (one.tracks == 1)], axis=1)
    labels = Labels(CLASSES, (replace(one, boxes_xyxy=boxes, actions=turns),))
    truth_ = FrameTruth.of(labels)
    scores = np.where(truth_.actions, 1.0, np.nan)
    found = Detections(CLASSES, ("v",), truth_.video, truth_.index, truth_.boxes_xyxy, scores)
    result = evaluate(labels, found)
    assert result.video is not None
    assert result.video.strict() == 1


def test_places_of_labelled_frames() -> None:
    assert label_places(np.array([0, 12, 25, 37])).tolist() == [0, 1, 2, 3]
    places = label_places(np.array([3, 4, 5, 7, 8]))
    assert np.diff(places)[[0, 1, 3]].tolist() == [1, 1, 1]
    assert places[3] - places[2] > 1000
    assert label_places(np.array([7])).tolist() == [0]
    assert label_places(np.zeros(0, np.int64)).tolist() == []


def test_videos_that_only_one_side_knows_are_told(tmp_path: Path) -> None:
    labels = Labels(CLASSES, (leaving("v", 25.0, 4), leaving("w", 25.0, 4)))
    rows = {name: f"{name},0.000,0.1,0.1,0.2,0.4,12,1.0\n" for name in ("v", "films/w.mp4", "stdin", "other")}
    path = tmp_path / "found.csv"
    path.write_text(rows["stdin"] + rows["other"])
    with pytest.raises(InvalidInput, match=r"it has 2 videos \('other', 'stdin'\), they have 2 videos \('v', 'w'\)"):
        read_detections(path, labels)
    tube = found(0.2).tubes[0].to_dict() | {"video": "stdin"}
    (tmp_path / "found.json").write_text(json.dumps([tube]))
    with pytest.raises(InvalidInput, match=r"it has 1 video \('stdin'\)"):
        read_detections(tmp_path / "found.json", labels)
    notes: list[str] = []
    path.write_text(rows["v"] + rows["stdin"])
    read_detections(path, labels, note=notes.append)
    assert len(notes) == 2
    assert "missed: 1 video ('w')" in notes[0]
    assert "left out: 1 video ('stdin')" in notes[1]
    notes.clear()
    path.write_text(rows["v"] + rows["films/w.mp4"])
    read_detections(path, labels, note=notes.append)
    assert notes == []
    read_detections(path, labels, start_s=-900.0, note=notes.append)
    assert "near a labelled frame (is the start right?): 2 videos" in notes[0]
    notes.clear()
    reports: list[dict[str, Any]] = [{"video": name, "tubes": []} for name in ("v", "w")]  # looked at, and nobody found
    (tmp_path / "found.json").write_text(json.dumps(reports))
    assert len(read_detections(tmp_path / "found.json", labels, note=notes.append)[0]) == 0
    assert notes == []


def test_actions_of_a_csv_are_meant_by_name_where_names_stand_beside_it(tmp_path: Path) -> None:
    labels = Labels(CLASSES, (leaving("v", 25.0, 4),))
    name, number = CLASSES.names[0], CLASSES.ids[0]
    path = tmp_path / "found.csv"
    path.write_text(f"v,0.000,0.1,0.1,0.2,0.4,{number + 70},0.75\n")
    assert np.isnan(read_detections(path, labels)[0].scores).all()  # a number that the labels lack
    path.with_suffix(".pbtxt").write_text(f'item {{ name: "{name}" id: {number + 70} }}')
    assert np.nanmax(read_detections(path, labels)[0].scores[:, 0]) == 0.75
    path.with_suffix(".pbtxt").write_text(f'item {{ name: "none of them" id: {number} }}')
    path.write_text(f"v,0.000,0.1,0.1,0.2,0.4,{number},0.5\n")
    assert np.nanmax(read_detections(path, labels)[0].scores[:, 0]) == 0.5


def test_a_wavering_score_is_one_tube_and_one_next_to_nothing_ends_it() -> None:
    one = leaving("v", 25.0, 4)
    labels = Labels(CLASSES, (one,))
    rows = FrameTruth.of(labels)
    first = rows.tracks == 0

    def walked(scores: dict[int, float]) -> list[int]:
        own = np.array([[scores.get(int(at), 0.9), np.nan] for at in rows.index[first]])
        found = Detections(CLASSES, ("v",), rows.video[first], rows.index[first], rows.boxes_xyxy[first], own)
        return [int(tube.numbers[0]) for tube in link_classes(found, labels)[0]]

    assert walked({}) == [0]
    assert walked({40: 0.3, 44: 0.3}) == [0]
    assert sorted(walked({40: 0.1, 44: 0.1})) == [0, 40, 48]
    assert sorted(walked(dict.fromkeys(range(40, 60, 4), 0.3))) == [0, 60]
    assert sorted(walked({40: np.nan})) == [0, 44]
