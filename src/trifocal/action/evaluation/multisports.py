"""Frame-AP as ACT and MultiSports measure it.

Other than in frame-mAP, a detection takes the best of the actors that are still free, so a second choice counts, and a
pixel is added to the sides of boxes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from trifocal.action.evaluation.class_tubes import ClassTube, paired_ious
from trifocal.action.evaluation.frame_map import FrameScores, average_precision, check_comparable
from trifocal.action.evaluation.video_map import claims

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from trifocal.action.evaluation.tables import Detections, FrameTruth

__all__ = ["frame_map_multisports"]


def frame_map_multisports(
    truth: FrameTruth, detections: Detections, *, thresholds: Sequence[float] = (0.5,)
) -> FrameScores:
    """Frame-AP of every class, 0 to 1.

    Args:
        truth: the labelled actors.
        detections: of the same classes. All count, as the measure has every frame labelled; where labels skip frames,
            give those of `Detections.on(truth)`.
        thresholds: least IoU, one pixel added to sides.

    Raises:
        InvalidInput: other classes, or a threshold out of range.
    """
    check_comparable(truth, detections, thresholds, "fixed")
    found = detections.aligned(truth.videos)
    classes = len(truth.classes)
    ap = np.full((len(thresholds), classes), np.nan)
    entered = (~np.isnan(found.scores)).sum(axis=0)
    for number in range(classes):
        own = np.flatnonzero(truth.actions[:, number])
        if not len(own):
            continue
        rows = np.flatnonzero(~np.isnan(found.scores[:, number]))
        actors = _single(truth.video[own], truth.index[own], truth.boxes_xyxy[own], np.ones(len(own)))
        boxes = _single(found.video[rows], found.index[rows], found.boxes_xyxy[rows], found.scores[rows, number])
        hits = claims(actors, boxes, overlap=_overlap, thresholds=thresholds)
        ap[:, number] = [average_precision(row, len(own)) for row in hits]
    return FrameScores(tuple(map(float, thresholds)), truth.classes.names, ap, truth.actions.sum(axis=0), entered)


def _single(
    video: NDArray[np.int64], index: NDArray[np.int64], boxes: NDArray[np.float64], scores: NDArray[np.float64]
) -> list[ClassTube]:
    """Boxes as tubes of one frame; the frame stands in the video's name, so that only boxes of one frame meet."""
    return [
        ClassTube(f"{place}:{number}", np.array([number]), box[None], np.array([score]))
        for place, number, box, score in zip(video, index, boxes, scores, strict=True)
    ]


def _overlap(a: ClassTube, b: ClassTube) -> float:
    return float(paired_ious(a.boxes_xyxy, b.boxes_xyxy, pixel=1.0)[0])
