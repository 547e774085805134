"""Video-mAP: how well whole tubes are found, box, class and time together.

In falling score, a found tube takes the free labelled tube of its class and video that it overlaps most, if by at
least the threshold. `fixed` counts frames for the overlap, takes ties in the detector's order and averages over
classes that have a labelled tube; it is the policy to use. `multisports` is the measure of ACT and MultiSports
(one pixel added to sides, time from first to last frame). The released measure of UCF101-24 and JHMDB, quirks and all,
is in `reference_video_map`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from trifocal.action.evaluation.class_tubes import tube_overlap
from trifocal.action.evaluation.frame_map import average_precision
from trifocal.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from trifocal.action.evaluation.class_tubes import ClassTube

__all__ = ["STRICT", "VIDEO_THRESHOLDS", "TubePolicy", "VideoScores", "video_map"]

TubePolicy = Literal["fixed", "multisports"]

STRICT = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
"""The ten thresholds of .5:.95."""
VIDEO_THRESHOLDS = (0.2, *STRICT)
"""What is reported: .2, .5, .75 and the mean over .5:.95."""


@dataclass(frozen=True, slots=True, eq=False)
class VideoScores:
    """Video-AP per threshold and class; S thresholds, A classes.

    Args:
        thresholds: spatio-temporal IoU.
        names: of the classes.
        ap: float64 (S, A); NaN for a class without a labelled tube.
        tubes: int64 (A,), labelled tubes.
        found: int64 (A,), found tubes.
    """

    thresholds: tuple[float, ...]
    names: tuple[str, ...]
    ap: NDArray[np.float64]
    tubes: NDArray[np.int64]
    found: NDArray[np.int64]

    @property
    def mean(self) -> NDArray[np.float64]:
        """(S,) mean over the classes that have a labelled tube; NaN where none has."""
        present = self.tubes > 0
        return self.ap[:, present].mean(axis=1) if present.any() else np.full(len(self.thresholds), np.nan)

    def at(self, threshold: float) -> float:
        """The mean at one threshold.

        Raises:
            InvalidInput: it was not asked for.
        """
        for value, mean in zip(self.thresholds, self.mean, strict=True):
            if abs(value - threshold) < 1e-9:
                return float(mean)
        raise InvalidInput(f"there is no result at {threshold}", remedy=f"There are {list(self.thresholds)}.")

    def strict(self) -> float:
        """The mean over .5:.95.

        Raises:
            InvalidInput: one of the ten was not asked for.
        """
        return float(np.mean([self.at(threshold) for threshold in STRICT]))


def video_map(
    truth: Sequence[Sequence[ClassTube]],
    found: Sequence[Sequence[ClassTube]],
    *,
    names: Sequence[str],
    thresholds: Sequence[float] = VIDEO_THRESHOLDS,
    policy: TubePolicy = "fixed",
) -> VideoScores:
    """Video-AP of every class.

    Args:
        truth: labelled tubes of each class (`truth_tubes`).
        found: found tubes of each class (`split_tubes`, `link_classes`).
        names: of the classes.
        thresholds: least overlap.
        policy: how overlap is measured.

    Raises:
        InvalidInput: other numbers of classes, a threshold out of range, an unknown policy.
    """
    if policy not in get_args(TubePolicy):
        raise InvalidInput(f"policy is {policy!r}", remedy=f"Give one of {', '.join(get_args(TubePolicy))}.")
    if not len(truth) == len(found) == len(names):
        raise InvalidInput(
            f"there are {len(names)} names, {len(truth)} classes of truth and {len(found)} of tubes",
            remedy="Give one of each per class.",
        )
    if not thresholds or not all(0 < threshold <= 1 for threshold in thresholds):
        raise InvalidInput(f"thresholds are {list(thresholds)}", remedy="Give numbers above 0, at most 1.")

    def overlap(a: ClassTube, b: ClassTube) -> float:
        return tube_overlap(a, b) if policy == "fixed" else tube_overlap(a, b, pixel=1.0, frame=0.0)

    ap = np.full((len(thresholds), len(names)), np.nan)
    for number, (own, tubes) in enumerate(zip(truth, found, strict=True)):
        if own:
            hits = claims(own, tubes, overlap=overlap, thresholds=thresholds)
            ap[:, number] = [average_precision(row, len(own)) for row in hits]
    counts = np.array([len(own) for own in truth], np.int64)
    return VideoScores(
        tuple(map(float, thresholds)), tuple(names), ap, counts, np.array([len(tubes) for tubes in found], np.int64)
    )


def claims(
    truth: Sequence[ClassTube],
    found: Sequence[ClassTube],
    *,
    overlap: Callable[[ClassTube, ClassTube], float],
    thresholds: Sequence[float],
) -> NDArray[np.bool_]:
    """Which found tubes, in falling score, take a labelled one: bool (S, N)."""
    order = np.argsort([-tube.score for tube in found], kind="stable")
    by_video: dict[str, list[int]] = {}
    for place, tube in enumerate(truth):
        by_video.setdefault(tube.video, []).append(place)
    hits = np.zeros((len(thresholds), len(found)), np.bool_)
    taken = np.zeros((len(thresholds), len(truth)), np.bool_)
    for rank, place in enumerate(order):
        rivals = np.array(by_video.get(found[place].video, []), np.int64)
        if not len(rivals):
            continue
        worth = np.array([overlap(truth[rival], found[place]) for rival in rivals])
        for row, threshold in enumerate(thresholds):
            free = np.where(taken[row, rivals], -1.0, worth)
            best = int(free.argmax())
            if free[best] >= threshold:
                hits[row, rank] = taken[row, rivals[best]] = True
    return hits
