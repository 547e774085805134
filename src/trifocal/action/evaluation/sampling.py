"""Tubes at the frames that labels looked at: a detector's moments and the labels' frames are seldom the same.

A detector looks at every so many frames, labels have every frame (25 a second) or every second (AVA). Within a tube's
span its boxes move evenly and its scores change evenly between moments, so both are read off at the labelled frames;
moments themselves never count, or several of one second would be as many false detections.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from trifocal.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from trifocal.action.labels import Labels, VideoLabels
    from trifocal.action.tube import Tube

__all__ = ["SampledTube", "label_places", "moment_reach", "nearest_moments", "sampled_tubes", "usual_step"]

_SAME_S = 1e-6
"""Seconds that differ by less are one."""
_HOLE = 1.5
"""Usual steps from one labelled frame to the next; a longer one is a hole."""
_FAR = 1 << 20
"""Places that a hole is long, more than anything bridges."""


@dataclass(frozen=True, slots=True, eq=False)
class SampledTube:
    """A tube at labelled frames.

    Args:
        video: the id of the video.
        numbers: int64 (T,), rising frame numbers of the labels; T of at least 1.
        boxes_xyxy: float64 (T, 4).
        scores: float64 (T,) by name of the action.
    """

    video: str
    numbers: NDArray[np.int64]
    boxes_xyxy: NDArray[np.float64]
    scores: Mapping[str, NDArray[np.float64]]


def sampled_tubes(tubes: Iterable[Tube], labels: Labels) -> list[SampledTube]:
    """Tubes at the frames that the labels looked at; tubes that span none of them are left out.

    A moment stands for the time around it: a tube reaches half of its video's step beyond its first and last moment,
    with their boxes (half a labelled frame where a video has one moment only).

    Args:
        tubes: of any videos that the labels have.
        labels: whose frames count.

    Raises:
        InvalidInput: a tube of a video without labels.
    """
    listed = list(tubes)
    known = {one.video: one for one in labels.videos}
    if strangers := [tube.video for tube in listed if tube.video not in known]:
        raise InvalidInput(f"there are no labels of {strangers[0]!r}", remedy="Leave its tubes out.")
    by_video: dict[str, list[Tube]] = {}
    for tube in listed:
        by_video.setdefault(tube.video, []).append(tube)
    reach = {
        video: moment_reach(np.concatenate([tube.times_s for tube in own]), rate=known[video].rate)
        for video, own in by_video.items()
    }
    found = [_sampled(tube, known[tube.video], reach[tube.video]) for tube in listed]
    return [one for one in found if one is not None]


def moment_reach(times_s: NDArray[np.float64], *, rate: float) -> float:
    """Half of the least time between two moments, in seconds; half a labelled frame where there is one moment alone."""
    gaps = np.diff(np.unique(times_s))
    gaps = gaps[gaps > 10 * _SAME_S]
    return float(gaps.min() if len(gaps) else 1 / rate) / 2


def _sampled(tube: Tube, one: VideoLabels, reach: float) -> SampledTube | None:
    times = one.looked_at / one.rate
    # Open at the beginning and closed at the end, so that of two tubes in a row one has the frame between them.
    inside = (times > tube.start_s - reach + _SAME_S) & (times <= tube.end_s + reach + _SAME_S)
    if not inside.any():
        return None
    at = times[inside]

    def read(values: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.interp(at, tube.times_s, values.astype(np.float64))

    boxes = np.stack([read(tube.boxes_xyxy[:, side]) for side in range(4)], axis=1)
    scores = {name: read(values) for name, values in tube.actions.items()}
    return SampledTube(tube.video, one.looked_at[inside], boxes, scores)


def usual_step(looked_at: NDArray[np.int64]) -> float:
    """The usual distance of a video's labelled frames, in frame numbers; 1 where there is no second one."""
    return float(np.median(np.diff(looked_at))) if len(looked_at) > 1 else 1.0


def label_places(looked_at: NDArray[np.int64]) -> NDArray[np.int64]:
    """Places of a video's labelled frames in their row, rising from 0.

    Neighbours are 1 apart, whether labels have every frame, every fourth or one a second. Where labels have a hole, a
    step longer than one and a half usual ones, places are very far apart.

    Args:
        looked_at: int64 (M,), rising frame numbers.

    Returns:
        int64 (M,).
    """
    steps = np.diff(looked_at)
    return np.concatenate([[0], np.cumsum(np.where(steps > _HOLE * usual_step(looked_at), _FAR, 1))])[: len(looked_at)]


def nearest_moments(moments_s: Sequence[float], one: VideoLabels, *, reach: float) -> list[tuple[int, int]]:
    """For each labelled frame, the moment that is nearest, where one is near enough.

    Args:
        moments_s: rising seconds.
        one: whose frames count.
        reach: seconds that a moment may be away.

    Returns:
        (frame number, place in `moments_s`) of the labelled frames that have one; of two as near, the earlier.
    """
    moments = np.asarray(moments_s, np.float64)
    if not len(moments):
        return []
    times = one.looked_at / one.rate
    after = np.searchsorted(moments, times).clip(0, len(moments) - 1)
    before = (after - 1).clip(0)
    place = np.where(times - moments[before] <= moments[after] - times, before, after)
    near = np.abs(moments[place] - times) <= reach + _SAME_S
    return [(int(index), int(at)) for index, at in zip(one.looked_at[near], place[near], strict=True)]
