"""What the detector saw at one moment: boxes, how surely each is an actor, and what each does.

`FrameDetections` is one such moment, in seconds of the video and pixels of its frames. Linking turns a sequence of them
into tubes; nothing here knows a model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from trifocal.errors import InvalidInput

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]

__all__ = ["FrameDetections", "pairwise_iou", "without_repeats"]


@dataclass(frozen=True, slots=True, eq=False)
class FrameDetections:
    """The actors of one moment.

    Args:
        time_s: seconds since the video's begin.
        boxes_xyxy: float32 `(Q, 4)`, pixels of the video as shown.
        actor_scores: float32 `(Q,)`, 0 to 1: how surely each is an actor.
        class_scores: float32 `(Q, A)`, 0 to 1: how surely each does each action.
        attention: float32 `(Q, A, h, w)`, where each class looked for each actor, summing to 1; None unless asked for.

    Raises:
        InvalidInput: shapes that do not fit together, or values that are not finite.
    """

    time_s: float
    boxes_xyxy: Floats
    actor_scores: Floats
    class_scores: Floats
    attention: Floats | None = None

    def __post_init__(self) -> None:
        """Check the shapes."""
        count = len(self.boxes_xyxy)
        if (
            self.boxes_xyxy.shape != (count, 4)
            or self.actor_scores.shape != (count,)
            or self.class_scores.ndim != 2
            or len(self.class_scores) != count
        ):
            raise InvalidInput(
                f"boxes {self.boxes_xyxy.shape}, actors {self.actor_scores.shape} and classes "
                f"{self.class_scores.shape} do not fit together",
                remedy="Give (Q, 4), (Q,) and (Q, A).",
            )
        if not all(np.isfinite(part).all() for part in (self.boxes_xyxy, self.actor_scores, self.class_scores)):
            raise InvalidInput(f"a detection at {self.time_s:.2f} s is not finite", remedy="Check the model's weights.")

    def __len__(self) -> int:
        """Number of detections, Q."""
        return len(self.boxes_xyxy)

    def pick(self, rows: npt.NDArray[np.intp]) -> FrameDetections:
        """Some of the detections."""
        attention = None if self.attention is None else self.attention[rows]
        return FrameDetections(
            self.time_s, self.boxes_xyxy[rows], self.actor_scores[rows], self.class_scores[rows], attention
        )


def pairwise_iou(first: npt.NDArray[np.floating], second: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Intersection over union of every pair of boxes.

    Args:
        first: `(N, 4)` as x0, y0, x1, y1.
        second: `(M, 4)`.

    Returns:
        `(N, M)`, 0 where either box has no area.
    """
    a, b = first.astype(np.float64), second.astype(np.float64)
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    common = np.clip(high - low, 0, None).prod(-1)  # (N, M)
    areas = [np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(-1) for boxes in (a, b)]
    union = areas[0][:, None] + areas[1][None] - common
    overlap: npt.NDArray[np.float64] = np.divide(common, union, out=np.zeros_like(common), where=union > 0)
    return overlap


def without_repeats(frame: FrameDetections, *, least_score: float, most_iou: float) -> FrameDetections:
    """Detections that are surely enough an actor, each actor once.

    Of two boxes that overlap by more than `most_iou` the surer stays; of equals the first.
    """
    order = np.argsort(-frame.actor_scores, kind="stable")
    order = order[frame.actor_scores[order] >= least_score]
    overlaps = pairwise_iou(frame.boxes_xyxy[order], frame.boxes_xyxy[order]) > most_iou
    kept: list[int] = []
    for place in range(len(order)):
        if not overlaps[place, kept].any():
            kept.append(place)
    return frame.pick(order[kept])
