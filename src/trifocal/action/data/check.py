"""What is wrong with labels, and what is in them: counts, boxes outside the picture, times after the end.

`check_labels` looks at the labels alone, and at their videos too where it is told where they are; nothing is corrected.
`draw_labels` makes pictures of labelled frames, the surest way to see that boxes and times are meant as they are read.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from trifocal.action.render import draw_actors
from trifocal.action.tube import Tube
from trifocal.errors import InvalidInput, VideoError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from trifocal.action.data.clips import VideoFolder
    from trifocal.action.labels import Labels, VideoLabels

__all__ = ["LabelReport", "Problem", "check_labels", "draw_labels"]

_SLACK = 1e-3
"""How far outside, in parts of the frame, a corner may lie without being told."""

_MOST_PLACES = 5


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is wrong, once for each video.

    Args:
        video: its id.
        kind: `outside`, `no area`, `twice`, `jump`, `after the end`, `size`, `unreadable`, `no action`.
        count: how many rows.
        text: where, in words.
    """

    video: str
    kind: str
    count: int
    text: str


@dataclass(frozen=True, slots=True)
class LabelReport:
    """What labels hold.

    Args:
        videos: how many.
        boxes: rows.
        frames: frames with a box.
        empty_frames: frames that were looked at without a box.
        tracks: actors with a number of their own.
        boxes_of_class: rows per class, by name.
        videos_of_class: videos per class, by name.
        without_action: rows that no class is given.
        unread: CVAT's attributes that no action was made of, with the number of boxes that have them.
        problems: what is wrong.
    """

    videos: int
    boxes: int
    frames: int
    empty_frames: int
    tracks: int
    boxes_of_class: dict[str, int]
    videos_of_class: dict[str, int]
    without_action: int
    unread: dict[str, int]
    problems: tuple[Problem, ...]

    def to_dict(self) -> dict[str, Any]:
        """As plain values, ready for JSON."""
        names = ("videos", "boxes", "frames", "empty_frames", "tracks", "boxes_of_class", "videos_of_class")
        problems = [{"video": p.video, "kind": p.kind, "count": p.count, "text": p.text} for p in self.problems]
        return {name: getattr(self, name) for name in (*names, "without_action", "unread")} | {"problems": problems}


def check_labels(labels: Labels, *, frames: VideoFolder | None = None, start_s: float = 0.0) -> LabelReport:
    """Count what labels hold and look for what cannot be right.

    Args:
        labels: to look at.
        frames: their videos; without it times and sizes are not compared with anything.
        start_s: the videos' second that is the labels' second 0.
    """
    problems: list[Problem] = []
    for one in labels.videos:
        problems += _rows(one)
        if frames is not None:
            problems += _against_video(one, frames, start_s)
    if not any(one.actions.any() for one in labels.videos):
        problems += [_unread(one) for one in labels.videos if one.unread]
    actions = [one.actions for one in labels.videos]
    nothing = np.zeros((1, len(labels.classes)), np.int64)
    per_class = np.concatenate([nothing, *(rows.sum(axis=0)[None] for rows in actions)]).sum(axis=0)
    with_class = np.concatenate([nothing, *(np.asarray(rows.any(axis=0))[None] for rows in actions)]).sum(axis=0)
    with_box = [len(np.unique(one.indices)) for one in labels.videos]
    return LabelReport(
        videos=len(labels),
        boxes=sum(len(one) for one in labels.videos),
        frames=sum(with_box),
        empty_frames=sum(len(one.looked_at) for one in labels.videos) - _looked_with_box(labels),
        tracks=sum(len(np.unique(one.tracks[one.tracks >= 0])) for one in labels.videos),
        boxes_of_class=dict(zip(labels.classes.names, per_class.tolist(), strict=True)),
        videos_of_class=dict(zip(labels.classes.names, with_class.tolist(), strict=True)),
        without_action=sum(int((~rows.any(axis=1)).sum()) for rows in actions),
        unread=dict(sum((Counter(one.unread) for one in labels.videos), Counter[str]())),
        problems=tuple(problems),
    )


def _unread(one: VideoLabels) -> Problem:
    names = ", ".join(f"{name!r} ({count} boxes)" for name, count in one.unread.items())
    return Problem(
        one.video, "no action", len(one), f"no box has an action, and these attributes were not read: {names}"
    )


def _looked_with_box(labels: Labels) -> int:
    return sum(len(np.intersect1d(one.looked_at, one.indices)) for one in labels.videos)


def _rows(one: VideoLabels) -> list[Problem]:
    unit = one.unit_boxes
    outside = np.asarray(((unit < -_SLACK) | (unit > 1 + _SLACK)).any(axis=1))
    flat = np.asarray((unit[:, 2:] <= unit[:, :2]).any(axis=1))
    found = [
        _problem(one, "outside", outside, "a box lies outside the picture"),
        _problem(one, "no area", flat, "a box has no width or no height"),
    ]
    numbered = one.tracks >= 0
    same = np.zeros(len(one), np.bool_)
    same[1:] = (np.diff(one.indices) == 0) & (np.diff(one.tracks) == 0) & numbered[1:]
    found.append(_problem(one, "twice", same, "an actor has two boxes in a frame"))
    order = np.lexsort((one.indices, one.tracks))
    sizes = (unit[:, 2:] - unit[:, :2]).max(axis=1, initial=0)
    centres = (unit[:, :2] + unit[:, 2:]) / 2
    near = (np.diff(one.tracks[order]) == 0) & (np.diff(one.indices[order]) == 1) & numbered[order][1:]
    moved = np.abs(np.diff(centres[order], axis=0)).max(axis=1, initial=0) > np.maximum(sizes[order][1:], 0.05)
    jumps = np.zeros(len(one), np.bool_)
    jumps[order[1:][near & moved]] = True
    if one.rate > 2:  # from one second to the next anybody may be anywhere
        found.append(_problem(one, "jump", jumps, "an actor moves by more than its own size in a frame"))
    if one.frame_count is not None:
        found.append(
            _problem(one, "after the end", one.indices >= one.frame_count, f"the video has {one.frame_count} frames")
        )
    return [problem for problem in found if problem is not None]


def _problem(one: VideoLabels, kind: str, rows: NDArray[np.bool_], text: str) -> Problem | None:
    if not rows.any():
        return None
    where = ", ".join(str(int(index)) for index in np.unique(one.indices[rows])[:_MOST_PLACES])
    more = " and more" if len(np.unique(one.indices[rows])) > _MOST_PLACES else ""
    return Problem(one.video, kind, int(rows.sum()), f"{text}: frame {where}{more}")


def _against_video(one: VideoLabels, frames: VideoFolder, start_s: float) -> list[Problem]:
    try:
        seconds, _ = frames.length(one)
        size = frames.size(one)
    except VideoError as error:
        return [Problem(one.video, "unreadable", len(one), error.message)]
    found = []
    if one.measured and size != (one.width, one.height):
        text = f"the labels are of {one.width} x {one.height} pixels, the video has {size[0]} x {size[1]}"
        found.append(Problem(one.video, "size", len(one), text))
    times = one.times_s + start_s
    late = (times > seconds) | (times < 0)
    if (problem := _problem(one, "after the end", late, f"the video has {seconds:.2f} s")) is not None:
        found.append(problem)
    return found


def draw_labels(
    one: VideoLabels,
    *,
    index: int,
    names: Sequence[str],
    frames: VideoFolder,
    start_s: float = 0.0,
    short_side: int = 360,
) -> NDArray[np.uint8]:
    """A labelled frame with its boxes and actions: uint8 (H, W, 3).

    Args:
        one: labels of a video.
        index: frame number, on the labels' grid.
        names: of the classes.
        frames: where the videos are.
        start_s: the video's second that is the labels' second 0.
        short_side: pixels of the picture.

    Raises:
        InvalidInput: a frame before the video's first.
        VideoError: the video is missing or cannot be decoded.
    """
    time_s = index / one.rate + start_s
    if time_s < 0:
        raise InvalidInput(f"frame {index} lies at {time_s:.2f} s", remedy="Give another start_s.")
    picture = frames.read(one, [time_s + 0.25 / max(one.rate, 25.0)], short_side=short_side)[0]
    tubes = []
    for number, row in enumerate(one.at(index)):
        box = np.sort(one.boxes_xyxy[row].reshape(2, 2), axis=0).reshape(1, 4)
        actor = int(one.tracks[row]) if one.tracks[row] >= 0 else number
        doing = [names[int(place)] for place in np.flatnonzero(one.actions[row])]
        tubes.append(Tube(one.video, actor, np.array([0.0]), box, {name: np.ones(1, np.float32) for name in doing}))
    return draw_actors(picture, tubes, time_s=0.0, size=(one.height, one.width), scores=False)
