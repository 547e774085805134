"""Truth and detections of single frames as arrays: what the evaluators compare.

`FrameTruth` and `Detections` hold one row per box; a frame is (place of its video in `videos`, frame number). Both are
measured in the same pixels. `FrameTruth.of` takes labels, `Detections.of_tubes` tubes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from trifocal.action.evaluation.sampling import sampled_tubes
from trifocal.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from trifocal.action.labels import LabelMap, Labels
    from trifocal.action.tube import Tube

__all__ = ["Detections", "FrameTruth"]


@dataclass(frozen=True, slots=True, eq=False)
class FrameTruth:
    """The labelled actors, one row per actor and frame; G rows.

    Args:
        classes: of the actions.
        videos: ids, in the order that `video` counts.
        video: int64 (G,), place in `videos`.
        index: int64 (G,), frame number.
        boxes_xyxy: float64 (G, 4).
        actions: bool (G, A).
        tracks: int64 (G,), actor number within the video; -1 where unknown.
        looked_at: int64 (F, 2), (video, index) of the frames that count, with or without an actor.
    """

    classes: LabelMap
    videos: tuple[str, ...]
    video: NDArray[np.int64]
    index: NDArray[np.int64]
    boxes_xyxy: NDArray[np.float64]
    actions: NDArray[np.bool_]
    tracks: NDArray[np.int64]
    looked_at: NDArray[np.int64]

    def __len__(self) -> int:
        """G."""
        return len(self.video)

    @classmethod
    def of(cls, labels: Labels) -> FrameTruth:
        """The rows of labels on frames that were looked at and are not excluded."""
        rows = [np.isin(one.indices, one.looked_at) for one in labels.videos]
        pairs = list(zip(labels.videos, rows, strict=True))
        frames = [
            np.stack([np.full(len(one.looked_at), place), one.looked_at], axis=1)
            for place, one in enumerate(labels.videos)
        ]
        return cls(
            labels.classes,
            tuple(one.video for one in labels.videos),
            np.repeat(np.arange(len(pairs)), [int(kept.sum()) for kept in rows]),
            _joined([one.indices[kept] for one, kept in pairs], (0,)),
            _joined([one.boxes_xyxy[kept].astype(np.float64) for one, kept in pairs], (0, 4)),
            _joined([one.actions[kept] for one, kept in pairs], (0, len(labels.classes))).astype(np.bool_),
            _joined([one.tracks[kept] for one, kept in pairs], (0,)),
            _joined(frames, (0, 2)),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """What a detector found, one row per box; N rows, in the detector's order (ties keep it).

    Args:
        classes: of the scores, the truth's own.
        videos: ids, in the order that `video` counts.
        video: int64 (N,), place in `videos`.
        index: int64 (N,), frame number.
        boxes_xyxy: float64 (N, 4).
        scores: float64 (N, A); NaN where the detector gave none.
        person: float64 (N,), the probability that it is an actor at all; None where unknown.

    Raises:
        InvalidInput: shapes that do not fit, or a box that is not finite.
    """

    classes: LabelMap
    videos: tuple[str, ...]
    video: NDArray[np.int64]
    index: NDArray[np.int64]
    boxes_xyxy: NDArray[np.float64]
    scores: NDArray[np.float64]
    person: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        """Check shapes and values."""
        count = len(self.video)
        wanted = {"index": (count,), "boxes_xyxy": (count, 4), "scores": (count, len(self.classes))}
        for name, shape in wanted.items():
            if getattr(self, name).shape != shape:
                raise InvalidInput(
                    f"{name} of the detections has the shape {getattr(self, name).shape}", remedy=f"Give {shape}."
                )
        if not np.isfinite(self.boxes_xyxy).all() or np.isinf(self.scores).any():
            raise InvalidInput("a detection's box or score is not finite", remedy="Correct or drop it.")

    def __len__(self) -> int:
        """N."""
        return len(self.video)

    def taken(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> Detections:
        """Some rows alone."""
        return replace(
            self,
            video=self.video[rows],
            index=self.index[rows],
            boxes_xyxy=self.boxes_xyxy[rows],
            scores=self.scores[rows],
            person=None if self.person is None else self.person[rows],
        )

    def aligned(self, videos: Sequence[str]) -> Detections:
        """With `video` counting in another list of ids; rows of videos that it lacks are dropped."""
        places = {name: place for place, name in enumerate(videos)}
        moved = np.array([places.get(name, -1) for name in self.videos] or [-1], np.int64)
        video = moved[self.video] if len(self) else self.video
        return replace(self, videos=tuple(videos), video=video).taken(video >= 0)

    def on(self, truth: FrameTruth) -> Detections:
        """Those on frames that the truth looked at, `video` counting in its list; nobody knows what the others show."""
        found = self.aligned(truth.videos)
        width = int(max(truth.looked_at[:, 1].max(initial=0), found.index.max(initial=0))) + 1
        known = truth.looked_at[:, 0] * width + truth.looked_at[:, 1]
        return found.taken(np.isin(found.video * width + found.index, known))

    @classmethod
    def of_tubes(cls, tubes: Iterable[Tube], labels: Labels) -> Detections:
        """Tubes as single frames: their boxes and scores at the frames that the labels looked at.

        Args:
            tubes: of videos that the labels have, boxes in the labels' own pixels.
            labels: the truth; actions of the tubes that are not among its classes are left out.

        Raises:
            InvalidInput: a tube of a video without labels.
        """
        listed, classes = sampled_tubes(tubes, labels), labels.classes
        videos = tuple(dict.fromkeys(one.video for one in listed))
        scores = []
        for one in listed:
            own = np.full((len(one.numbers), len(classes)), np.nan)
            for name, values in one.scores.items():
                if name in classes.names:
                    own[:, classes.index(name)] = values
            scores.append(own)
        places = [videos.index(one.video) for one in listed]
        return cls(
            classes,
            videos,
            np.repeat(np.array(places, np.int64), [len(one.numbers) for one in listed]),
            _joined([one.numbers for one in listed], (0,)),
            _joined([one.boxes_xyxy for one in listed], (0, 4)).astype(np.float64),
            _joined(scores, (0, len(classes))).astype(np.float64),
        )


def _joined(parts: Sequence[NDArray[Any]], empty: tuple[int, ...]) -> NDArray[Any]:
    """One below the other; where there is none, nothing, of the given shape."""
    return np.concatenate(parts) if len(parts) else np.zeros(empty, np.int64)
