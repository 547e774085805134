"""The released video-mAP of UCF101-24 and JHMDB, to compare published figures with.

Kept as released: tubes are linked per class (three at most), UCF101-24 takes boxes of actors that are .7 sure and only
their best class, and cuts its tubes one frame late; JHMDB takes every box for every class, leaves time out of the
overlap and trims tubes (`_trimmed`); one pixel is added to sides, a tube of one common frame does not overlap; recall
is 1e-5 short; classes without a labelled tube count as 0; and videos are paired by their places in two lists, of which
one is sorted by frame names, so that of "clip_1" and "clip_10" each gets the other's boxes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from trifocal.action.evaluation.class_tubes import (
    ClassTube,
    best_paths,
    borrowed,
    paired_ious,
    suppressed,
    tube_overlap,
)
from trifocal.action.evaluation.video_map import VideoScores, claims

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from trifocal.action.evaluation.tables import Detections

__all__ = ["reference_video_map"]

_SURE = 0.7
_SUPPRESS = 0.3
_JUMP = 0.3


def reference_video_map(
    truth: Sequence[Sequence[ClassTube]],
    detections: Detections,
    *,
    kind: Literal["ucf", "jhmdb"],
    thresholds: Sequence[float] = (0.2, 0.5, 0.75),
) -> VideoScores:
    """Video-AP as released.

    Args:
        truth: labelled tubes of each class; frame numbers count from 1.
        detections: all boxes of all frames, with actor probabilities; frame numbers count from 1 (`ucf`) or 0.
        kind: which data set's rules.
        thresholds: least overlap.

    Returns:
        Scores whose `ap` is 0, not NaN, for classes without a labelled tube, and all classes enter the mean.
    """
    names = detections.classes.names
    pairing = _pairing(detections.videos)
    ap = np.zeros((len(thresholds), len(names)))
    found_counts = np.zeros(len(names), np.int64)
    rows_of = {name: np.flatnonzero(detections.video == place) for place, name in enumerate(detections.videos)}
    for number in range(len(names)):
        found = []
        for name, source in pairing.items():
            tubes = _tubes(detections, rows_of[source], number, kind)
            found += [ClassTube(name, tube.numbers, tube.boxes_xyxy, tube.scores) for tube in tubes]
        found_counts[number] = len(found)
        overlap = _spatial if kind == "jhmdb" else _temporal
        hits = claims(truth[number], found, overlap=overlap, thresholds=thresholds)
        ap[:, number] = [_average_precision(row, len(truth[number])) for row in hits]
    # Every class enters the mean: `tubes` says one where there is none.
    counts = np.array([max(1, len(own)) for own in truth], np.int64)
    return VideoScores(tuple(map(float, thresholds)), names, ap, counts, found_counts)


def _pairing(videos: Sequence[str]) -> dict[str, str]:
    """Whose boxes each video gets: by place in the list sorted by id, and in that sorted by the frames' names."""
    return dict(zip(sorted(videos), sorted(videos, key=lambda name: f"{name}_0"), strict=True))


def _tubes(detections: Detections, rows: NDArray[np.int64], number: int, kind: str) -> list[ClassTube]:
    """Linked tubes of one class in one video, suppressed and cut."""
    shown = np.unique(detections.index[rows])
    if kind == "ucf":
        person = detections.person if detections.person is not None else np.ones(len(detections))
        best = np.nan_to_num(detections.scores[rows], nan=-1.0).argmax(axis=1)
        rows = rows[(person[rows] >= _SURE) & (best == number)]
    boxes = np.hstack([detections.boxes_xyxy[rows], detections.scores[rows, number, None]])
    frames = [boxes[detections.index[rows] == index] for index in shown]
    full = [int(index) for index, frame in zip(shown, frames, strict=True) if len(frame)]
    paths = best_paths(borrowed(frames))
    numbers = np.arange(1, len(shown) + 1)
    tubes = suppressed(
        [ClassTube("", numbers, path, scores) for path, scores in paths], overlap=_SUPPRESS, pixel=1.0, frame=1.0
    )
    if kind == "jhmdb":
        return [part for tube in tubes if len(part := _trimmed(tube))]
    cut = slice(full[0], full[0] + len(full)) if full else slice(0)
    return [tube.part(cut) for tube in tubes if len(tube.numbers[cut])]


def _trimmed(tube: ClassTube) -> ClassTube:
    """A tube as the released check of its time leaves it: often a frame shorter, and scored anew.

    Scores of frames that hardly overlap the one before change their sign, for good. Of the scores less their mean, the
    run of frames with the largest sum is taken, without its last frame. Then it is made as long as the tube was, half
    of what is missing at either side, rounded down, as far as there are frames. (In the lineage of ACT the length to
    reach is a training set's; here it is the tube's own.)
    """
    jumps = np.flatnonzero(paired_ious(tube.boxes_xyxy[:-1], tube.boxes_xyxy[1:], pixel=1.0) < _JUMP) + 1
    scores = tube.scores.astype(np.float32)
    scores[jumps] *= -1
    first = last = opened = -1
    total = best = np.float32(0)
    for place, value in enumerate(scores - scores.mean()):
        if total == 0:
            opened = place
        total = max(total + value, np.float32(0))
        if total > best:
            best, first, last = total, opened, place
    more = (len(tube) - (last - first)) // 2
    kept = slice(max(first - more, 0), last + more)
    return ClassTube(tube.video, tube.numbers[kept], tube.boxes_xyxy[kept], scores[kept].astype(np.float64))


def _temporal(a: ClassTube, b: ClassTube) -> float:
    common = min(a.numbers[-1], b.numbers[-1]) - max(a.numbers[0], b.numbers[0])
    return tube_overlap(a, b, pixel=1.0, frame=1.0) if common > 0 else 0.0


def _spatial(truth: ClassTube, found: ClassTube) -> float:
    """Mean IoU row by row; of different lengths, the longer is cut to the rows that the other's frame numbers name."""
    if len(found) > len(truth):
        found = found.part(slice(int(truth.numbers[0]) - 1, int(truth.numbers[-1])))
    elif len(found) < len(truth):
        truth = truth.part(slice(int(found.numbers[0]) - 1, int(found.numbers[-1])))
    if len(found) != len(truth) or not len(found):
        return 0.0  # where the released code stops with an AssertionError
    return float(paired_ious(truth.boxes_xyxy, found.boxes_xyxy, pixel=1.0).mean())


def _average_precision(hits: NDArray[np.bool_], tubes: int) -> float:
    """All points, in float32, from (precision 1, recall 0) on."""
    true = np.cumsum(hits)
    precision = np.concatenate([[1.0], true / np.arange(1, len(hits) + 1)]).astype(np.float32)
    recall = np.concatenate([[0.0], true / (tubes + 1e-5)]).astype(np.float32)
    recall = np.concatenate([[0.0], recall, [1.0]])
    envelope = np.maximum.accumulate(np.concatenate([[0.0], precision, [0.0]])[::-1])[::-1]
    step = np.flatnonzero(recall[1:] != recall[:-1])
    return float(((recall[step + 1] - recall[step]) * envelope[step + 1]).sum())
