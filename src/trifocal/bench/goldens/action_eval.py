"""Golden files of the action evaluators: frame-mAP of AVA, UCF101-24 and JHMDB, their video-mAP, and ACT's measures.

`<case>.json` holds the figures, `<case>.gt.*` and `<case>.*det.*` beside it what they were computed from; the name's
first word tells the measure. Where equal scores make the released sort a matter of luck (its figures with a stable
sort are others), a result within .02 of either figure will do, as the files' own notes say.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from trifocal.action.data.plain_pickle import load_plain_pickle
from trifocal.action.evaluation.class_tubes import ClassTube, truth_tubes
from trifocal.action.evaluation.frame_map import frame_map
from trifocal.action.evaluation.multisports import frame_map_multisports
from trifocal.action.evaluation.reference_video_map import reference_video_map
from trifocal.action.evaluation.tables import Detections, FrameTruth
from trifocal.action.evaluation.video_map import video_map
from trifocal.action.labels import LabelMap
from trifocal.bench.goldens.action_dumps import read_dump, tables, without_repeats
from trifocal.bench.goldens.case import Case, Checker

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

_TOLERANCE = 1e-6
_LUCK = 0.02


def _near(found: float, wanted: float | None, lucky: float | None = None) -> bool:
    """Whether a figure is the wanted one, or near it where luck decides."""
    if wanted is None or np.isnan(wanted):
        return bool(np.isnan(found))
    if lucky is not None and abs(lucky - wanted) > _TOLERANCE:
        return min(abs(found - lucky), abs(found - wanted)) <= _LUCK
    return abs(found - wanted) <= _TOLERANCE


def _compared(
    what: str, found: Sequence[float], wanted: Sequence[float | None], stable: Sequence[float | None]
) -> list[str]:
    rows = enumerate(zip(found, wanted, stable, strict=True))
    return [
        f"{what} {place} is {one:.7f}, expected {want}"
        for place, (one, want, luck) in rows
        if not _near(one, want, luck)
    ]


def ava_cases(path: Path) -> Iterator[Case]:
    """Frame-mAP over a white list, without excluded seconds."""
    stored = json.loads(path.read_text(encoding="utf-8"))
    truth, found = read_dump(path.with_suffix(".gt.txt")), read_dump(path.with_suffix(".det.txt"))
    ids = stored["ids"]
    classes = LabelMap(tuple(f"action{number}" for number in ids), tuple(ids))
    excluded = frozenset(one.replace(",", "_") for one in stored["excluded"])
    actors, boxes = tables(truth, found, classes, np.array(ids) - 1, excluded=excluded)
    yield _frame_case(path.stem, stored, actors, boxes, wanted=stored["mAP"], metrics=stored["metrics"], key="mAP")


def _frame_case(
    name: str,
    stored: Mapping[str, Any],
    truth: FrameTruth,
    found: Detections,
    *,
    wanted: Sequence[float],
    metrics: Mapping[str, Any],
    key: str,
) -> Case:
    scores = frame_map(truth, found, thresholds=stored["thresholds"], policy="reference")
    stable = stored.get("with_stable_argsort", {}).get(key, wanted)
    wrong = _compared("frame-mAP", scores.mean.tolist(), wanted, stable)
    if list(stable) == list(wanted):  # the classes' own figures are stored for the luck's sort only
        for row, threshold in enumerate(stored["thresholds"]):
            for column, label in enumerate(truth.classes.names):
                want = metrics[f"PascalBoxes_PerformanceByCategory/AP@{threshold}IOU/{label}"]
                if not _near(float(scores.ap[row, column]), want):
                    wrong.append(f"AP@{threshold} of {label}")
    return Case(f"{name} frame-mAP", tuple(wrong), " ".join(f"{value:.4f}" for value in scores.mean))


def tube_cases(path: Path) -> Iterator[Case]:
    """Frame-mAP and video-mAP of UCF101-24 or JHMDB."""
    stored = json.loads(path.read_text(encoding="utf-8"))
    kind = cast("Literal['ucf', 'jhmdb']", path.stem.split("_")[0])
    truth, found = read_dump(path.with_suffix(".gt.txt")), read_dump(path.with_suffix(".det.txt"))
    truth, found = without_repeats(truth, found, queries=stored.get("query_num", len(found.keys)))
    count = found.numbers.shape[1] - 5
    names = tuple(stored.get("v_metrics_last_threshold", {}))[:count] or tuple(f"class {n}" for n in range(count))
    actors, boxes = tables(truth, found, LabelMap.of(names), np.arange(count))
    thresholds = stored.get("thresholds", [0.2, 0.5, 0.75])
    tubes = truth_tubes(actors)
    if kind == "jhmdb":  # frames of the keys count from 0, those of the truth's rows from 1
        tubes = [[ClassTube(one.video, one.numbers + 1, one.boxes_xyxy, one.scores) for one in own] for own in tubes]
    scores = reference_video_map(tubes, boxes, kind=kind, thresholds=thresholds)
    if "EXCEPTION" in stored:
        note = f"no figure is stored ({stored['EXCEPTION'][:40]}…); video-mAP {scores.mean[0]:.4f}"
        finite = () if np.isfinite(scores.mean).all() else ("not finite",)
        yield Case(f"{path.stem} does not fail", finite, note)
        return
    yield _frame_case(
        path.stem, stored, actors, boxes, wanted=stored["f_mAP"], metrics=stored["f_metrics"], key="f_mAP"
    )
    wanted = stored["v_mAP"]
    stable = stored.get("with_stable_argsort", {}).get("v_mAP", wanted)
    wrong = _compared("video-mAP", scores.mean.tolist(), wanted, stable)
    if list(stable) == list(wanted):
        last = stored["v_metrics_last_threshold"]
        wrong += [
            f"video-AP of {name}"
            for name, value in zip(names, scores.ap[-1], strict=True)
            if not _near(float(value), last[name])
        ]
    yield Case(f"{path.stem} video-mAP", tuple(wrong), " ".join(f"{value:.4f}" for value in scores.mean))


def act_cases(path: Path) -> Iterator[Case]:
    """Frame-AP and video-AP of ACT and MultiSports, in percent."""
    stored = json.loads(path.read_text(encoding="utf-8"))
    truth = load_plain_pickle(path.with_suffix(".gt.pkl"))
    rows = load_plain_pickle(path.with_suffix(".framedet.pkl"))
    found_tubes = load_plain_pickle(path.with_suffix(".videodet.pkl"))
    classes = LabelMap.of(truth["labels"])
    videos = tuple(truth["test_videos"][0])
    tubes: list[list[ClassTube]] = [[] for _ in classes.names]
    for video in videos:
        for number, own in truth["gttubes"][video].items():
            tubes[number] += [_class_tube(video, tube) for tube in own]
    actors = _rows_of(tubes, classes, videos)
    boxes = Detections(
        classes,
        videos,
        rows[:, 0].astype(np.int64),
        rows[:, 1].astype(np.int64),
        rows[:, 4:8].astype(np.float64),
        np.where(rows[:, 2, None] == np.arange(len(classes)), rows[:, 3, None], np.nan),
    )
    frame = frame_map_multisports(actors, boxes, thresholds=[float(one) for one in stored["frameAP"]])
    stable = stored.get("with_stable_argsort", stored)
    figures = (100 * frame.mean).tolist()
    wrong = _compared("frame-AP", figures, list(stored["frameAP"].values()), list(stable["frameAP"].values()))
    yield Case(f"{path.stem} frame-AP", tuple(wrong), " ".join(f"{value:.3f}" for value in figures))
    found = [[_class_tube(one[0], one[2], one[1]) for one in found_tubes.get(n, [])] for n in range(len(classes))]

    def mean(thresholds: Sequence[float]) -> np.ndarray[Any, Any]:
        scores = video_map(tubes, found, names=classes.names, thresholds=thresholds, policy="multisports")
        return 100 * scores.mean

    figures = mean([float(one) for one in stored["videoAP"]]).tolist()
    wrong = _compared("video-AP", figures, list(stored["videoAP"].values()), list(stable["videoAP"].values()))
    for line in stored.get("videoAP_all_printout", []):
        span, value = line.removeprefix("VideoAP_").split()
        low, high = (float(one) for one in span.rstrip(":").split(":"))
        step = 0.1 if abs(low - 0.1) < 1e-9 else 0.05
        average = float(mean(np.arange(low, high + step / 2, step).tolist()).mean())
        if abs(average - float(value)) > 0.006:
            wrong.append(f"video-AP {span} is {average:.3f}, expected {value}")
    yield Case(f"{path.stem} video-AP", tuple(wrong), " ".join(f"{value:.3f}" for value in figures))


def _class_tube(video: str, rows: np.ndarray[Any, Any], score: float = 1.0) -> ClassTube:
    """Rows of frame number and box."""
    numbers = rows[:, 0].astype(np.int64)
    return ClassTube(video, numbers, rows[:, 1:5].astype(np.float64), np.full(len(rows), float(score)))


def _rows_of(tubes: Sequence[Sequence[ClassTube]], classes: LabelMap, videos: tuple[str, ...]) -> FrameTruth:
    """The tubes' frames as a table."""
    flat = [(number, tube) for number, own in enumerate(tubes) for tube in own]
    lengths = [len(tube) for _, tube in flat]
    video = np.repeat([videos.index(tube.video) for _, tube in flat], lengths)
    index = np.concatenate([tube.numbers for _, tube in flat])
    return FrameTruth(
        classes,
        videos,
        video,
        index,
        np.concatenate([tube.boxes_xyxy for _, tube in flat]),
        np.repeat([number for number, _ in flat], lengths)[:, None] == np.arange(len(classes)),
        np.repeat(np.arange(len(flat)), lengths),
        np.unique(np.stack([video, index], axis=1), axis=0),
    )


def _side_cases(path: Path) -> Iterator[Case]:
    """Files that the cases of another one read."""
    main = path.with_name(path.name.split(".")[0] + ".json")
    missing = () if main.is_file() else (f"{main.name} is not beside it",)
    yield Case(path.name, missing, f"side file: read with {main.name}")


KINDS: Mapping[str, Checker] = {
    "eval/ava*.json": ava_cases,
    "eval/ucf*.json": tube_cases,
    "eval/jhmdb*.json": tube_cases,
    "eval/act*.json": act_cases,
    "eval/*.txt": _side_cases,
    "eval/*.pkl": _side_cases,
}
"""Checker by the name of a file."""
