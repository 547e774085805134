"""Labels of actions in memory: what every reader gives and every writer takes, whatever the file was.

`LabelMap` names the classes. `VideoLabels` has one row per box: frame number, box in pixels, track, actions. `Labels`
joins the videos of a file, and its splits. A video whose picture size no file told has boxes in parts of the frame
(1 x 1 "pixels") until `resized` says more. The second of a row is its frame number over the rate: 25 for frames of a
video at 25 a second, 1 for AVA's seconds.
"""

from __future__ import annotations

import difflib
import itertools
import math
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from trifocal.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

__all__ = ["LabelMap", "Labels", "VideoLabels"]


@dataclass(frozen=True, slots=True)
class LabelMap:
    """The action classes, in the order of the model's outputs.

    Args:
        names: of the classes, all different.
        ids: their numbers in annotation files, all different and rising.

    Raises:
        InvalidInput: no class, an empty or repeated name, numbers that do not rise or do not fit the names.
    """

    names: tuple[str, ...]
    ids: tuple[int, ...]

    def __post_init__(self) -> None:
        """Check the values."""
        if not self.names or len(self.names) != len(self.ids):
            raise InvalidInput(
                f"there are {len(self.names)} names and {len(self.ids)} numbers of classes",
                remedy="Give at least one class, and a number for each.",
            )
        for name in self.names:
            if not name or self.names.count(name) > 1:
                raise InvalidInput(f"the class name {name!r} is empty or repeated", remedy="Name each class once.")
        if any(later <= earlier for earlier, later in zip(self.ids, self.ids[1:], strict=False)):
            raise InvalidInput("the numbers of the classes do not rise", remedy="Sort the classes by number.")

    @classmethod
    def of(cls, names: Iterable[str], *, first_id: int = 1) -> LabelMap:
        """Classes numbered in a row, from 1 as AVA does, or from `first_id`."""
        listed = tuple(names)
        return cls(listed, tuple(range(first_id, first_id + len(listed))))

    def __len__(self) -> int:
        """A, the number of classes."""
        return len(self.names)

    def index(self, name: str) -> int:
        """The place of a class among the outputs.

        Raises:
            InvalidInput: there is no such class; the remedy names close ones.
        """
        if name in self.names:
            return self.names.index(name)
        close = difflib.get_close_matches(name, self.names, n=3) or self.names[:5]
        raise InvalidInput(f"there is no class {name!r}", remedy=f"Known are, among others: {', '.join(close)}.")

    def index_of_id(self, number: int) -> int | None:
        """The place of the class with this number; None where it is not one of the classes."""
        return self.ids.index(number) if number in self.ids else None


@dataclass(frozen=True, slots=True, eq=False)
class VideoLabels:
    """The labels of one video, one row per box; N rows, A classes.

    Args:
        video: the id of the video.
        indices: int64 (N,), frame number of each row, from 0, on the grid of `rate`; rows are kept sorted by it.
        boxes_xyxy: float32 (N, 4), in pixels of the original; in parts of the frame where width and height are 1.
        tracks: int64 (N,), the actor's number, -1 where the file tells none.
        actions: bool (N, A).
        rate: frame numbers per second.
        width: of the picture in pixels, or 1.
        height: of the picture in pixels, or 1.
        frame_count: frames of the video on the grid of `rate`; None where unknown.
        labelled: int64 (M,), sorted: the frames that were looked at, with or without an actor in them; by default those
            with rows.
        excluded: int64, sorted: frames that evaluation leaves out.
        file: where the pixels are, relative to the folder of videos; None where unknown.
        rate_told: whether the rate was told; False where it is a guess, which the video itself may correct (`timed`).
        unread: attributes of the file that no action was made of, and how many boxes have a value in them.

    Raises:
        InvalidInput: shapes that do not fit, a value that is not finite or not positive where it must be.
    """

    video: str
    indices: NDArray[np.int64]
    boxes_xyxy: NDArray[np.float32]
    tracks: NDArray[np.int64]
    actions: NDArray[np.bool_]
    rate: float
    width: int = 1
    height: int = 1
    frame_count: int | None = None
    labelled: NDArray[np.int64] | None = None
    excluded: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    file: str | None = None
    rate_told: bool = True
    unread: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check, sort by frame and track, and freeze."""
        if type(self.video) is not str or not self.video:
            raise InvalidInput(f"video is {self.video!r}", remedy="Give the video's id, a string that is not empty.")
        if not (math.isfinite(self.rate) and self.rate > 0 and self.width >= 1 and self.height >= 1):
            raise InvalidInput(
                f"{self.video} has {self.rate} frames a second and {self.width} x {self.height} pixels",
                remedy="Give a positive rate, width and height.",
            )
        indices = np.asarray(self.indices, np.int64).reshape(-1)
        boxes = np.asarray(self.boxes_xyxy, np.float32).reshape(-1, 4)
        tracks = np.asarray(self.tracks, np.int64).reshape(-1)
        actions = np.asarray(self.actions, np.bool_)
        if actions.ndim != 2 or not len(indices) == len(boxes) == len(tracks) == len(actions):
            raise InvalidInput(
                f"{self.video} has {len(indices)} frames, {len(boxes)} boxes, {len(tracks)} tracks and actions "
                f"{actions.shape}",
                remedy="Give one of each per row.",
            )
        if not np.isfinite(boxes).all() or (indices < 0).any():
            raise InvalidInput(
                f"{self.video} has a box that is not finite or a frame before the first",
                remedy="Correct the labels; frames count from 0.",
            )
        order = np.lexsort((tracks, indices))
        labelled = np.unique(indices if self.labelled is None else np.asarray(self.labelled, np.int64))
        values = {
            "indices": indices[order],
            "boxes_xyxy": boxes[order],
            "tracks": tracks[order],
            "actions": actions[order],
            "labelled": np.union1d(labelled, indices),
            "excluded": np.unique(np.asarray(self.excluded, np.int64)),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        """N, the number of boxes."""
        return len(self.indices)

    @property
    def times_s(self) -> NDArray[np.float64]:
        """(N,) the second of each row."""
        return self.indices / self.rate

    @property
    def measured(self) -> bool:
        """Whether boxes are in pixels; False while they are in parts of a frame of unknown size."""
        return (self.width, self.height) != (1, 1)

    @property
    def looked_at(self) -> NDArray[np.int64]:
        """The labelled frames that are not excluded."""
        return np.setdiff1d(self.labelled if self.labelled is not None else self.indices, self.excluded)

    @property
    def unit_boxes(self) -> NDArray[np.float32]:
        """(N, 4) the boxes in parts of the frame."""
        size = np.array([self.width, self.height] * 2, np.float32)
        return np.divide(self.boxes_xyxy, size, dtype=np.float32)

    def at(self, index: int) -> NDArray[np.int64]:
        """The rows of one frame."""
        return np.flatnonzero(self.indices == index)

    def resized(self, width: int, height: int) -> VideoLabels:
        """The same labels with boxes in pixels of a picture of this size."""
        scale = np.array([width / self.width, height / self.height] * 2, np.float32)
        return replace(self, boxes_xyxy=self.boxes_xyxy * scale, width=width, height=height)

    def on_grid(self, rate: float, *, start_s: float = 0.0) -> VideoLabels:
        """The same labels with frames counted at another rate, each the nearest to its second.

        Args:
            rate: frame numbers per second, such as the video's own.
            start_s: the second of the new grid that is the labels' second 0.

        Raises:
            InvalidInput: a frame lies before the first one, or two fall on one.
        """

        def moved(indices: NDArray[np.int64]) -> NDArray[np.int64]:
            return np.rint((indices / self.rate + start_s) * rate).astype(np.int64)

        old = np.union1d(self.indices if self.labelled is None else self.labelled, self.excluded)
        new = moved(old)
        if (new < 0).any():
            raise InvalidInput(
                f"{self.video} has a label at {old[0] / self.rate + start_s:.3f} s", remedy="Give another start_s."
            )
        if (both := np.flatnonzero(np.diff(new) == 0)).size:
            first, then = old[both[0] : both[0] + 2] / self.rate
            raise InvalidInput(
                f"the seconds {first:.4f} and {then:.4f} of {self.video} fall on one frame at {rate:g} a second",
                remedy="Keep the labels in seconds, as in AVA's csv.",
            )
        return replace(
            self, indices=moved(self.indices), labelled=moved(np.asarray(self.labelled)),
            excluded=moved(self.excluded), rate=rate, frame_count=None, rate_told=True,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """The labels of a data set.

    Args:
        classes: of the actions.
        videos: sorted by id, each id once.
        splits: by name, ids of the videos that belong to it; empty where the file has none.

    Raises:
        InvalidInput: a repeated id, actions of another number of classes, a split that names an unknown video.
    """

    classes: LabelMap
    videos: tuple[VideoLabels, ...]
    splits: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check and sort."""
        videos = tuple(sorted(self.videos, key=lambda one: one.video))
        known = [one.video for one in videos]
        for earlier, later in itertools.pairwise(known):
            if earlier == later:
                raise InvalidInput(f"the video {later!r} stands twice in the labels", remedy="Join its rows.")
        for one in videos:
            if one.actions.shape[1] != len(self.classes):
                raise InvalidInput(
                    f"{one.video} has {one.actions.shape[1]} columns of actions for {len(self.classes)} classes",
                    remedy="Give one column per class.",
                )
        for name, members in self.splits.items():
            if strangers := sorted(set(members) - set(known)):
                raise InvalidInput(
                    f"the split {name!r} names {strangers[0]!r}, which has no labels", remedy="Correct the split."
                )
        object.__setattr__(self, "videos", videos)
        object.__setattr__(self, "splits", MappingProxyType(dict(self.splits)))

    def __len__(self) -> int:
        """The number of videos."""
        return len(self.videos)

    def __getitem__(self, video: str) -> VideoLabels:
        """The labels of one video.

        Raises:
            InvalidInput: there is no such video.
        """
        for one in self.videos:
            if one.video == video:
                return one
        raise InvalidInput(f"there are no labels of {video!r}", remedy=_some(one.video for one in self.videos))

    def split(self, name: str) -> Labels:
        """The videos of one split alone.

        Raises:
            InvalidInput: there is no such split.
        """
        if name not in self.splits:
            raise InvalidInput(f"there is no split {name!r}", remedy=_some(self.splits))
        return self.only(self.splits[name])

    def only(self, videos: Iterable[str]) -> Labels:
        """These videos alone, without splits.

        Raises:
            InvalidInput: one of them has no labels.
        """
        return Labels(self.classes, tuple(self[video] for video in dict.fromkeys(videos)))

    def measured(self, sizes: Mapping[str, tuple[int, int]]) -> Labels:
        """With boxes in pixels where the size was unknown.

        Args:
            sizes: (width, height) by video id; videos that are not in it stay as they are.
        """
        videos = tuple(
            one.resized(*sizes[one.video]) if one.video in sizes and not one.measured else one for one in self.videos
        )
        return Labels(self.classes, videos, self.splits)

    def timed(self, rates: Mapping[str, float]) -> Labels:
        """With the videos' own rates where no file and nobody told one.

        Args:
            rates: frames per second by video id; videos that are not in it stay as they are.
        """
        videos = tuple(
            replace(one, rate=rates[one.video], rate_told=True) if one.video in rates and not one.rate_told else one
            for one in self.videos
        )
        return Labels(self.classes, videos, self.splits)


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    return f"There are {', '.join(listed[:5]) or 'none'}{' and more' if len(listed) > 5 else ''}."
