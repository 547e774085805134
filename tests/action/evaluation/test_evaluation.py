"""Frame-mAP, video-mAP and the diagnosis: goldens, and small cases that can be worked out by hand."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from trifocal.action.data.formats import write_labels
from trifocal.action.evaluation import (
    Detections,
    FrameTruth,
    error_kinds,
    evaluate,
    frame_map,
    link_classes,
    oracles,
    save_plot,
    truth_tubes,
    video_map,
)
from trifocal.action.evaluation.class_tubes import ClassTube, best_paths, borrowed, performed, tube_overlap
from trifocal.action.evaluation.files import read_detections, read_tubes
from trifocal.action.evaluation.frame_map import average_precision
from trifocal.action.evaluation.reference_video_map import _trimmed
from trifocal.action.labels import LabelMap, Labels, VideoLabels
from trifocal.action.tube import Tube
from trifocal.bench.goldens import check
from trifocal.cli import main
from trifocal.errors import InvalidInput

CLASSES = LabelMap.of(["walk", "wave"])


def walker(*, video: str = "v", count: int = 10) -> VideoLabels:
    """Two actors side by side; the first walks, the second walks and, from frame 5 on, waves."""
    indices = np.repeat(np.arange(count), 2)
    boxes = np.stack([[10 + i, 10, 30 + i, 50] if t == 0 else [60, 10, 80, 50] for i in range(count) for t in (0, 1)])
    actions = np.stack([[True, t == 1 and i >= 5] for i in range(count) for t in (0, 1)])
    tracks = np.tile([0, 1], count)
    return VideoLabels(video, indices, boxes.astype(np.float32), tracks, actions, 25.0, 100, 60, frame_count=count)


def perfect(labels: Labels) -> Detections:
    truth = FrameTruth.of(labels)
    scores = np.where(truth.actions, 0.9, 0.1)
    return Detections(
        truth.classes, truth.videos, truth.video, truth.index, truth.boxes_xyxy, scores, np.ones(len(truth))
    )


@pytest.fixture
def labels() -> Labels:
    return Labels(CLASSES, (walker(), walker(video="v_1"), walker(video="v_10", count=10)))


def test_shared_goldens_pass(shared: Path) -> None:
    found = [case for path in sorted((shared / "goldens/vad/eval").glob("*.*")) for case in check(path)]
    assert [case for case in found if case.wrong] == []
    assert len([case for case in found if case.wrong == ()]) >= 25


def test_the_released_trimming_loses_frames_and_turns_scores() -> None:
    still = np.tile([0.0, 0.0, 10.0, 10.0], (6, 1))
    jumped = still.copy()
    jumped[3] += 100.0  # frames 3 and 4 hardly overlap the ones before
    plain = ClassTube("v", np.arange(1, 7), still, np.array([0.1, 0.2, 0.9, 0.8, 0.1, 0.1]))
    # Frames 2 and 3 stand out; without the last that is one, and five are missing: two at either side.
    assert _trimmed(plain).numbers.tolist() == [1, 2, 3, 4, 5]
    turned = _trimmed(ClassTube("v", np.arange(1, 7), jumped, np.array([0.1, 0.2, 0.9, 0.8, 0.1, 0.1])))
    assert turned.scores.tolist() == pytest.approx([0.1, 0.2, 0.9, -0.8])
    assert len(_trimmed(plain.part(slice(1)))) == 0


def test_a_changed_golden_fails(shared: Path, tmp_path: Path) -> None:
    folder = tmp_path / "eval"
    folder.mkdir()
    for path in (shared / "goldens/vad/eval").glob("ava_basic5*"):
        shutil.copy(path, folder)
    text = (folder / "ava_basic5.json").read_text()
    (folder / "ava_basic5.json").write_text(text.replace("0.6349526663083715", "0.6349"))
    (case,) = check(folder / "ava_basic5.json")
    assert case.wrong


@pytest.mark.parametrize("policy", ["fixed", "reference"])
def test_the_truth_itself_scores_one(labels: Labels, policy: str) -> None:
    found = frame_map(FrameTruth.of(labels), perfect(labels), thresholds=(0.5, 0.9), policy=policy)  # type: ignore[arg-type]
    assert found.mean.tolist() == [1, 1]
    assert found.actors.tolist() == [60, 15]
    result = evaluate(labels, perfect(labels))
    assert result.video is not None
    assert result.video.strict() == pytest.approx(1)
    assert result.video.tubes.tolist() == [6, 3]


def test_average_precision_by_hand() -> None:
    assert average_precision(np.array([True, False, True]), 2) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert average_precision(np.array([False, True, True]), 4) == pytest.approx(2 / 4 * 2 / 3)
    assert average_precision(np.zeros(0, bool), 3) == 0
    assert np.isnan(average_precision(np.zeros(2, bool), 0))


def test_a_second_box_on_an_actor_is_false_and_so_is_a_box_where_nobody_is(labels: Labels) -> None:
    one = labels.only(["v"])
    truth, found = FrameTruth.of(one), perfect(one)
    twice = found.taken(np.repeat(np.arange(len(found)), 2))
    kept = frame_map(truth, twice)
    assert kept.ap[0, 0] < 1
    away = replace(found, boxes_xyxy=found.boxes_xyxy + 200)
    assert frame_map(truth, away).mean[0] == 0
    flat = replace(found, boxes_xyxy=found.boxes_xyxy[:, [0, 1, 0, 3]])
    assert frame_map(truth, flat).detections.sum() == 0
    elsewhere = replace(found, videos=("other",))
    assert frame_map(truth, elsewhere).mean[0] == 0


def test_frames_that_are_excluded_or_not_looked_at_do_not_count(labels: Labels) -> None:
    one = replace(walker(), excluded=np.array([0, 1]), labelled=np.arange(12))
    truth = FrameTruth.of(Labels(CLASSES, (one,)))
    assert (truth.index >= 2).all()
    found = perfect(labels.only(["v"]))
    assert frame_map(truth, found).mean[0] == 1  # what was found in the excluded frames is not false
    row = found.taken(np.array([0]))
    for index, worse in ((11, True), (20, False)):
        extra = replace(row, index=np.array([index]), scores=np.array([[0.99, 0.99]]))
        both = replace(
            found,
            video=np.append(found.video, extra.video),
            index=np.append(found.index, extra.index),
            boxes_xyxy=np.concatenate([found.boxes_xyxy, extra.boxes_xyxy]),
            scores=np.concatenate([found.scores, extra.scores]),
            person=None,
        )
        assert bool(frame_map(truth, both).mean[0] < 1) is worse


def test_ties_go_by_the_detectors_order(labels: Labels) -> None:
    one = labels.only(["v"])
    truth, found = FrameTruth.of(one), perfect(one)
    wrong = replace(found, boxes_xyxy=found.boxes_xyxy + 300)

    def joined(a: Detections, b: Detections) -> Detections:
        names = ("video", "index", "boxes_xyxy", "scores")
        return Detections(CLASSES, a.videos, *(np.concatenate([getattr(a, n), getattr(b, n)]) for n in names))

    same = (
        replace(found, scores=np.full_like(found.scores, 0.5)),
        replace(wrong, scores=np.full_like(found.scores, 0.5)),
    )
    first, last = (frame_map(truth, joined(*pair)).mean[0] for pair in (same, same[::-1]))
    assert first > last
    assert first == frame_map(truth, joined(*same)).mean[0]


def test_tubes_of_labels_end_where_the_action_does() -> None:
    one = walker()
    actions = one.actions.copy()
    actions[(one.indices == 4) & (one.tracks == 0), 0] = False
    tubes = truth_tubes(FrameTruth.of(Labels(CLASSES, (replace(one, actions=actions),))))
    assert sorted(tube.numbers.tolist() for tube in tubes[0]) == [
        [0, 1, 2, 3],
        [5, 6, 7, 8, 9],
        list(range(10)),
    ] or sorted(len(tube) for tube in tubes[0]) == [4, 5, 10]
    assert [tube.numbers.tolist() for tube in tubes[1]] == [[5, 6, 7, 8, 9]]


def tube(numbers: list[int], *, at: float = 0, score: float = 1.0, video: str = "v") -> ClassTube:
    boxes = np.tile([at, 0, at + 10, 10], (len(numbers), 1)).astype(np.float64)
    return ClassTube(video, np.array(numbers), boxes, np.full(len(numbers), score))


def test_overlap_in_space_and_time() -> None:
    a = tube([0, 1, 2, 3])
    assert tube_overlap(a, a) == 1
    assert tube_overlap(a, tube([2, 3, 4, 5])) == pytest.approx(2 / 6)
    assert tube_overlap(a, tube([0, 1, 2, 3], at=5)) == pytest.approx(1 / 3)
    assert tube_overlap(a, tube([3])) == pytest.approx(1 / 4)
    assert tube_overlap(a, tube([9])) == 0
    assert tube_overlap(a, tube([2, 3, 4, 5]), spatial=True) == 1
    assert tube_overlap(a, tube([2, 3, 4, 5]), frame=0.0) == pytest.approx(1 / 5)


def test_video_map_by_hand() -> None:
    truth = [[tube([0, 1, 2]), tube([0, 1, 2], video="v_1")], []]
    found = [
        [tube([0, 1, 2], score=0.9, video="v_1"), tube([0, 1, 2], score=0.8, video="v_1"), tube([0, 1], score=0.7)],
        [tube([0], score=0.9)],
    ]
    result = video_map(truth, found, names=["a", "b"], thresholds=(0.5, 0.75))
    assert result.ap[:, 0].tolist() == pytest.approx([0.5 + 0.5 * 2 / 3, 0.5])
    assert np.isnan(result.ap[:, 1]).all()
    assert result.at(0.5) == pytest.approx(0.5 + 1 / 3)
    with pytest.raises(InvalidInput, match="no result at"):
        result.at(0.2)
    with pytest.raises(InvalidInput, match="policy"):
        video_map(truth, found, names=["a", "b"], policy="old")  # type: ignore[arg-type]


def test_linking_follows_two_actors_through_a_gap() -> None:
    draw = np.random.default_rng(0)
    frames = [
        np.array([[t, 0, t + 10, 10, 0.9], [50 - t, 0, 60 - t, 10, 0.6]])[draw.permutation(2)]
        if t != 3
        else np.zeros((0, 5))
        for t in range(6)
    ]
    paths = best_paths(borrowed(frames))
    assert [round(float(scores.mean()), 2) for _, scores in paths] == [0.9, 0.6]
    assert paths[0][0][:, 0].tolist() == [0, 1, 2, 2, 4, 5]
    assert borrowed([np.zeros((0, 5))]) == []


def test_videos_whose_names_begin_alike_are_not_confused(labels: Labels) -> None:
    result = evaluate(labels, perfect(labels), policy="fixed", diagnose=False)
    assert result.video is not None
    assert result.video.at(0.5) == 1
    released = evaluate(labels, perfect(labels), policy="reference-jhmdb", video=True, diagnose=False)
    assert released.video is not None
    assert np.isfinite(released.video.mean).all()


def test_what_the_truth_would_give(labels: Labels) -> None:
    found = perfect(labels)
    shifted = replace(found, boxes_xyxy=found.boxes_xyxy + np.array([12.0, 0.0, 12.0, 0.0]))
    truth = FrameTruth.of(labels)
    place = oracles(truth, shifted)
    assert place.detected < 0.1
    assert place.with_true_boxes == 1
    assert place.with_true_classes == pytest.approx(place.detected, abs=0.1)
    mixed = replace(found, scores=found.scores[:, ::-1].copy())
    label = oracles(truth, mixed)
    assert label.with_true_classes == 1
    assert label.with_true_boxes == label.detected < 0.9
    assert error_kinds(truth, found)[:, 0].tolist() == [60, 15]
    assert error_kinds(truth, shifted)[0].tolist()[2] == 60  # all misplaced
    assert error_kinds(truth, replace(found, boxes_xyxy=found.boxes_xyxy + 500))[0].tolist() == [0, 0, 0, 0, 60]
    assert error_kinds(truth, mixed)[1, 3] > 0


def test_detections_of_files(labels: Labels, tmp_path: Path) -> None:
    truth = perfect(labels)
    rows = []
    for row in range(len(truth)):
        unit = truth.boxes_xyxy[row] / [100, 60, 100, 60]
        second = truth.index[row] / 25.0
        for action in (0, 1):
            name = truth.videos[truth.video[row]]
            rows.append(
                f"{name},{second:.6f},{','.join(f'{v:.6f}' for v in unit)},{action + 1},{truth.scores[row, action]}"
            )
    (tmp_path / "found.csv").write_text("\n".join(rows) + "\n")
    found, tubes = read_detections(tmp_path / "found.csv", labels)
    assert tubes is None
    assert frame_map(FrameTruth.of(labels), found, thresholds=(0.9,)).mean[0] == 1
    (tmp_path / "bad.csv").write_text("v,0,0,0,1,1,1,0.5\nv,0,0,0,1,1,one,0.5\n")
    with pytest.raises(InvalidInput, match=r"bad\.csv, line 2"):
        read_detections(tmp_path / "bad.csv", labels)
    report = {"video": "films/v.mp4", "tubes": [as_tube(one, video="films/v.mp4").to_dict() for one in (0, 1)]}
    (tmp_path / "found.json").write_text(json.dumps([report]))
    found, tubes = read_detections(tmp_path / "found.json", labels)
    assert tubes is not None
    assert [one.video for one in tubes] == ["v", "v"]
    result = evaluate(labels.only(["v"]), found, tubes=tubes)
    assert result.video is not None
    assert result.video.at(0.75) == 1
    assert result.figures()["frame_map@.5"] == 1
    (tmp_path / "bad.json").write_text('[{"tubes": [{"video": "v"}]}]')
    with pytest.raises(InvalidInput, match=r"bad\.json, tube 0"):
        read_tubes(tmp_path / "bad.json")


def as_tube(actor: int, *, video: str) -> Tube:
    one = walker()
    rows = one.tracks == actor
    actions = {name: one.actions[rows, n].astype(np.float32) for n, name in enumerate(CLASSES.names)}
    if actor == 0:
        actions["wave"] = actions["wave"] + np.float32(0.05)
    return Tube(video, actor, one.times_s[rows], one.boxes_xyxy[rows], actions)


def test_an_action_is_cut_out_of_its_actors_tube() -> None:
    scores = np.array([0.1, 0.2, 0.9, 0.8, 0.1, 0.7, 0.1, 0.1, 0.1, 0.1, 0.1, 0.6, 0.1])
    whole = ClassTube("v", np.arange(13) + 4, np.zeros((13, 4)), scores)
    assert [one.numbers.tolist() for one in performed(whole)] == [[6, 7, 8, 9], [15]]
    assert [len(one) for one in performed(whole, cut=0)] == [13]


def run(arguments: list[str]) -> int:
    try:
        main(arguments)
    except SystemExit as stopped:
        return int(stopped.code or 0)
    return 0


def test_the_command(labels: Labels, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_labels(labels, tmp_path / "labels.json", kind="trifocal")
    report = [{"tubes": [as_tube(one, video=name).to_dict() for one in (0, 1)]} for name in ("v", "v_1")]
    (tmp_path / "found.json").write_text(json.dumps(report))
    words = ["eval", "detect", "--labels", str(tmp_path / "labels.json"), "-d", str(tmp_path / "found.json")]
    assert run([*words, "--out", str(tmp_path / "out.json"), "--plot", str(tmp_path / "plot.png")]) == 0
    shown = capsys.readouterr().out
    assert "frame_map@.5" in shown
    assert "misclassified" in shown
    written = json.loads((tmp_path / "out.json").read_text())
    assert written["figures"]["video_map@.5"] == pytest.approx((4 / 6 + 2 / 3) / 2, abs=1e-5)
    assert {row["class"] for row in written["classes"]} == {"walk", "wave"}
    assert (tmp_path / "plot.png").stat().st_size > 5000
    assert run([*words[:-1], str(tmp_path / "found.json")]) == 0
    assert "their actors count as missed: 1 video ('v_10')" in capsys.readouterr().err
    (tmp_path / "other.csv").write_text("stdin,0.0,0.1,0.1,0.2,0.2,1,0.9\n")
    assert run([*words[:-1], str(tmp_path / "other.csv")]) == 2
    assert "it has 1 video ('stdin'), they have 3 videos ('v', 'v_1', 'v_10')" in capsys.readouterr().err
    assert run([*words, "--policy", "old"]) == 2
    assert "fixed, multisports" in capsys.readouterr().err


def test_the_plot_names_its_reason(labels: Labels, tmp_path: Path) -> None:
    result = evaluate(labels, perfect(labels))
    with pytest.raises(InvalidInput, match="cannot be written"):
        save_plot(result, tmp_path / "absent" / "x.png")
    assert link_classes(perfect(labels), labels)[1][0].video == "v"
