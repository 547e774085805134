"""A tube: one actor followed through a video, with the score of each action at each moment.

What linking makes of a model's boxes, what `trifocal detect` writes, and what evaluation compares. Boxes are in pixels
of the original picture, times in seconds of the video.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from trifocal.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = ["Tube"]


@dataclass(frozen=True, slots=True, eq=False)
class Tube:
    """One actor of one video.

    Args:
        video: the id of the video.
        actor: number of the actor in this video; tubes of one actor's different actions may share it.
        times_s: float64 (T,), ascending; T of at least 1.
        boxes_xyxy: float32 (T, 4), pixels of the original picture.
        actions: by name of the action, float32 (T,), its score at each time, 0 to 1.

    Raises:
        InvalidInput: an empty id, shapes that do not fit, values that are not finite, times that do not rise, a box
            whose corners are exchanged.
    """

    video: str
    actor: int
    times_s: NDArray[np.float64]
    boxes_xyxy: NDArray[np.float32]
    actions: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check and freeze the values."""
        if type(self.video) is not str or not self.video:
            raise InvalidInput(f"video is {self.video!r}", remedy="Give the video's id, a string that is not empty.")
        times = np.asarray(self.times_s, dtype=np.float64)
        boxes = np.asarray(self.boxes_xyxy, dtype=np.float32)
        actions = {name: np.asarray(scores, dtype=np.float32) for name, scores in self.actions.items()}
        if times.ndim != 1 or not len(times) or boxes.shape != (len(times), 4):
            raise InvalidInput(
                f"times have the shape {times.shape} and boxes {boxes.shape}",
                remedy="Give times (T,) and boxes (T, 4) with T of at least 1.",
            )
        for name, scores in actions.items():
            if scores.shape != times.shape or not np.isfinite(scores).all():
                raise InvalidInput(
                    f"the scores of {name!r} have the shape {scores.shape} or are not finite",
                    remedy="Give a finite score for each time.",
                )
        if not np.isfinite(times).all() or (np.diff(times) <= 0).any():
            raise InvalidInput("times_s does not rise", remedy="Give each moment once, in order.")
        if not np.isfinite(boxes).all() or (boxes[:, 2:] < boxes[:, :2]).any():
            raise InvalidInput("a box is not finite or ends before it begins", remedy="Give x1, y1, x2, y2.")
        object.__setattr__(self, "times_s", times)
        object.__setattr__(self, "boxes_xyxy", boxes)
        object.__setattr__(self, "actions", MappingProxyType(actions))

    def __len__(self) -> int:
        """T."""
        return len(self.times_s)

    @property
    def start_s(self) -> float:
        """The first time."""
        return float(self.times_s[0])

    @property
    def end_s(self) -> float:
        """The last time."""
        return float(self.times_s[-1])

    def score(self, action: str) -> float:
        """The mean score of an action over the tube.

        Raises:
            InvalidInput: the tube has no such action.
        """
        if action not in self.actions:
            raise InvalidInput(
                f"the tube has no action {action!r}", remedy=f"It has {', '.join(self.actions) or 'none'}."
            )
        return float(self.actions[action].mean())

    def to_dict(self) -> dict[str, Any]:
        """As plain values, ready for JSON; boxes to a hundredth of a pixel, scores to a millionth."""
        return {
            "video": self.video,
            "actor": self.actor,
            "times_s": [round(float(value), 6) for value in self.times_s],
            "boxes_xyxy": [[round(float(value), 2) for value in box] for box in self.boxes_xyxy],
            "actions": {name: [round(float(v), 6) for v in scores] for name, scores in self.actions.items()},
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Tube:
        """What `to_dict` wrote.

        Raises:
            InvalidInput: a key is missing or unknown, or a value is not valid.
        """
        expected = {"video", "actor", "times_s", "boxes_xyxy", "actions"}
        if set(values) != expected:
            raise InvalidInput(
                f"a tube has the keys {sorted(values)}", remedy=f"Give exactly these: {', '.join(sorted(expected))}."
            )
        try:
            return cls(**values)
        except (TypeError, ValueError) as error:
            if isinstance(error, InvalidInput):
                raise
            raise InvalidInput(f"a tube's values cannot be read: {error}", remedy="Give lists of numbers.") from error
