"""Tubes as files that annotation tools and evaluators read: AVA csv with scores, CVAT for video.

AVA's has a row for every moment, actor and action, with the score and corners in parts of the frame, and a label map
with the actions' names beside it. CVAT's has a track per actor with a box on every frame of the video, so that a person
can correct what was detected and train on it.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trifocal.action.data.formats import write_labels
from trifocal.action.data.formats.label_maps import write_label_map
from trifocal.action.labels import LabelMap, Labels, VideoLabels
from trifocal.errors import InvalidInput

if TYPE_CHECKING:
    from trifocal.action.detect import DetectReport

__all__ = ["numbered_classes", "tubes_as_labels", "write_tubes"]


def write_tubes(
    report: DetectReport,
    path: str | Path,
    *,
    classes: Sequence[str],
    ids: Sequence[int] = (),
    fps: float = 25.0,
    least_score: float = 0.5,
) -> tuple[Path, ...]:
    """Write a report's tubes; the path's ending chooses: `.csv` (AVA) or `.xml` (CVAT).

    Args:
        report: of one video.
        path: replaced when it exists.
        classes: names of the model's actions.
        ids: their numbers (`ActionModel.ids`); empty counts them from 1.
        fps: frames a second of the video, for CVAT.
        least_score: in CVAT an action is written while its score is at least this; a csv has every score.

    Returns:
        The files that were written; beside a csv `x.csv` also its label map, `x.pbtxt`.

    Raises:
        InvalidInput: another ending, another number of numbers than of names, or a label map of other classes that was
            not written here stands beside the csv.
    """
    path = Path(path)
    ids = tuple(ids) or tuple(range(1, len(classes) + 1))
    if path.suffix.lower() == ".csv":
        known = numbered_classes(classes, ids)
        beside = write_label_map(known, path)
        path.write_text(_ava(report, dict(zip(classes, ids, strict=True))), encoding="utf-8")
        return path, beside
    if path.suffix.lower() == ".xml":
        labels = tubes_as_labels(report, classes=classes, fps=fps, least_score=least_score)
        return write_labels(labels, path, kind="cvat")
    raise InvalidInput(f"{path} ends in neither .csv nor .xml", remedy="Give one of the two.")


def numbered_classes(classes: Sequence[str], ids: Sequence[int]) -> LabelMap:
    """A model's classes with their numbers, by number.

    Raises:
        InvalidInput: another number of numbers than of names.
    """
    if len(ids) != len(classes):
        raise InvalidInput(f"{len(ids)} numbers are given for {len(classes)} classes", remedy="Give one for each.")
    ordered = sorted(zip(ids, classes, strict=True))
    return LabelMap(tuple(name for _, name in ordered), tuple(number for number, _ in ordered))


def tubes_as_labels(report: DetectReport, *, classes: Sequence[str], fps: float, least_score: float) -> Labels:
    """A report's tubes as labels on every frame, boxes moving evenly between the moments that were looked at.

    Every frame up to the last moment counts as looked at: where no tube is, the detector says that nobody is there.
    Arguments as for `write_tubes`.
    """
    indices, boxes, tracks, actions = [], [], [], []
    for tube in report.tubes:
        frames = np.arange(int(np.ceil(tube.start_s * fps - 1e-6)), int(np.floor(tube.end_s * fps + 1e-6)) + 1)
        times = frames / fps
        corners = np.stack([np.interp(times, tube.times_s, tube.boxes_xyxy[:, side]) for side in range(4)], axis=1)
        done = np.zeros((len(frames), len(classes)), np.bool_)
        for name, scores in tube.actions.items():
            done[:, list(classes).index(name)] = np.interp(times, tube.times_s, scores) >= least_score
        indices.append(frames)
        boxes.append(corners)
        tracks.append(np.full(len(frames), tube.actor))
        actions.append(done)
    one = VideoLabels(
        video=Path(report.video).stem or report.video,
        indices=np.concatenate([np.empty(0, np.int64), *indices]).astype(np.int64),
        boxes_xyxy=np.concatenate([np.empty((0, 4)), *boxes]).astype(np.float32),
        tracks=np.concatenate([np.empty(0, np.int64), *tracks]).astype(np.int64),
        actions=np.concatenate([np.empty((0, len(classes)), np.bool_), *actions]),
        rate=fps,
        width=report.width,
        height=report.height,
        labelled=np.arange(int(np.floor(report.end_s * fps + 1e-6)) + 1) if report.moments else None,
    )
    return Labels(LabelMap.of(classes), (one,))


def _ava(report: DetectReport, ids: Mapping[str, int]) -> str:
    size = np.array([report.width, report.height] * 2, np.float64)
    name = Path(report.video).stem or report.video
    rows = []
    for tube in report.tubes:
        for place, time_s in enumerate(tube.times_s):
            corners = [f"{value:.4f}" for value in tube.boxes_xyxy[place] / size]
            for action, scores in tube.actions.items():
                number = ids[action]
                rows.append((f"{time_s:.3f}", tube.actor, number, [*corners, number, f"{scores[place]:.4f}"]))
    rows.sort(key=lambda row: (float(row[0]), row[1], row[2]))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for second, _, _, rest in rows:
        writer.writerow([name, second, *rest])
    return text.getvalue()
