"""Tubes of one action, for evaluation: truth from labels, and detections linked frame by frame.

A `ClassTube` is one actor doing one action. `truth_tubes` cuts labelled tracks where an action stops; `best_paths` is
the linking that the released video-mAP of UCF101-24 and JHMDB is defined with (Gkioxari and Malik, arXiv 1411.6031, per
class): the best path through the frames' boxes, taken out and repeated, then suppression of tubes that overlap.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from trifocal.action.evaluation.sampling import label_places, sampled_tubes, usual_step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from trifocal.action.evaluation.tables import FrameTruth
    from trifocal.action.labels import Labels, VideoLabels
    from trifocal.action.tube import Tube

__all__ = [
    "ClassTube",
    "best_paths",
    "borrowed",
    "label_bridge",
    "performed",
    "split_tubes",
    "suppressed",
    "truth_tubes",
    "tube_overlap",
]


_BRIDGE = 5
"""Frames from one in which an action is seen to the next within one tube."""


@dataclass(frozen=True, slots=True, eq=False)
class ClassTube:
    """One actor doing one action.

    Args:
        video: the id of the video.
        numbers: int64 (T,), rising frame numbers.
        boxes_xyxy: float64 (T, 4).
        scores: float64 (T,); ones for truth.
    """

    video: str
    numbers: NDArray[np.int64]
    boxes_xyxy: NDArray[np.float64]
    scores: NDArray[np.float64]

    def __len__(self) -> int:
        """T."""
        return len(self.numbers)

    @property
    def score(self) -> float:
        """The mean of its frames' scores."""
        return float(self.scores.mean())

    def part(self, rows: slice) -> ClassTube:
        """Some of its frames in a row."""
        return ClassTube(self.video, self.numbers[rows], self.boxes_xyxy[rows], self.scores[rows])


def truth_tubes(truth: FrameTruth) -> list[list[ClassTube]]:
    """The labelled tubes of each class: runs of frames in which one actor does it.

    A labelled frame without the actor ends a run, and so does a hole in the labels (`sampling.label_places`); rows
    without a track are runs of one frame.
    """
    out: list[list[ClassTube]] = [[] for _ in truth.classes.names]
    lone = np.where(truth.tracks < 0, -1 - np.arange(len(truth)), truth.tracks)
    order = np.lexsort((truth.index, lone, truth.video))
    video, track, at = truth.video[order], lone[order], _places(truth)[order]
    for number, tubes in enumerate(out):
        rows = np.flatnonzero(truth.actions[order, number])
        if not len(rows):
            continue
        same = (np.diff(video[rows]) == 0) & (np.diff(track[rows]) == 0)
        near = np.diff(at[rows]) <= 1
        for run in np.split(rows, np.flatnonzero(~(same & near)) + 1):
            own = order[run]
            name = truth.videos[truth.video[own[0]]]
            tubes.append(ClassTube(name, truth.index[own], truth.boxes_xyxy[own], np.ones(len(own))))
    return out


def _places(truth: FrameTruth) -> NDArray[np.int64]:
    """(G,) the place of each row's frame among those that were looked at in its video."""
    out = np.zeros(len(truth), np.int64)
    for place in range(len(truth.videos)):
        looked_at = np.unique(truth.looked_at[truth.looked_at[:, 0] == place, 1])
        own = truth.video == place
        out[own] = label_places(looked_at)[np.searchsorted(looked_at, truth.index[own])]
    return out


def split_tubes(tubes: Sequence[Tube], labels: Labels, *, cut: float = 0.5) -> list[list[ClassTube]]:
    """Tubes with several actions as tubes of one action each, where the actor does it, at the labelled frames.

    Where the labels have a hole, tubes end, as the labelled ones do.

    Args:
        tubes: of videos that the labels have.
        labels: the truth; actions of the tubes that are not among its classes are left out.
        cut: see `performed`.

    Raises:
        InvalidInput: a tube of a video without labels.
    """
    columns = {name: column for column, name in enumerate(labels.classes.names)}
    out: list[list[ClassTube]] = [[] for _ in columns]
    bridges = {one.video: label_bridge(one) for one in labels.videos}
    for one in sampled_tubes(tubes, labels):
        looked_at = labels[one.video].looked_at
        holes = np.flatnonzero(np.diff(label_places(looked_at)[np.searchsorted(looked_at, one.numbers)]) > 1) + 1
        for name, scores in one.scores.items():
            if name not in columns:
                continue
            whole = ClassTube(one.video, one.numbers, one.boxes_xyxy, scores)
            for start, stop in itertools.pairwise([0, *holes.tolist(), len(whole)]):
                out[columns[name]] += performed(whole.part(slice(start, stop)), cut=cut, bridge=bridges[one.video])
    return out


def label_bridge(one: VideoLabels) -> int:
    """For `performed`: five labelled frames, a second of them at most."""
    return max(1, min(_BRIDGE, int(one.rate / usual_step(one.looked_at) + 1e-6)))


def performed(tube: ClassTube, *, cut: float = 0.5, bridge: int = _BRIDGE) -> list[ClassTube]:
    """The parts of an actor's tube in which it does the action: its score is at least `cut` times the tube's highest.

    Args:
        tube: with a score in every frame.
        cut: part of the highest score; 0 keeps the whole tube.
        bridge: fewer frames in a row below that do not part it.
    """
    above = np.flatnonzero(tube.scores >= cut * tube.scores.max())
    ends = np.flatnonzero(np.diff(above) > bridge)
    starts, stops = above[np.concatenate([[0], ends + 1])], above[np.concatenate([ends, [len(above) - 1]])] + 1
    return [tube.part(slice(int(start), int(stop))) for start, stop in zip(starts, stops, strict=True)]


def tube_overlap(
    a: ClassTube, b: ClassTube, *, pixel: float = 0.0, frame: float | None = None, spatial: bool = False
) -> float:
    """Spatio-temporal IoU of two tubes, 0 to 1: IoU in the frames of both, over the frames of either.

    Args:
        a: a tube of the same video.
        b: another.
        pixel: added to widths and heights (1 where boxes name the last pixel inside).
        frame: None counts frames; a number gives the time from first to last frame plus that, as others define it.
        spatial: leave the time out: the mean IoU in the frames of both.
    """
    if a.numbers[0] > b.numbers[-1] or b.numbers[0] > a.numbers[-1]:
        return 0.0
    common, at_a, at_b = np.intersect1d(a.numbers, b.numbers, assume_unique=True, return_indices=True)
    if not len(common):
        return 0.0
    ious = paired_ious(a.boxes_xyxy[at_a], b.boxes_xyxy[at_b], pixel=pixel)
    if spatial:
        return float(ious.mean())
    if frame is None:
        return float(ious.sum() / (len(a) + len(b) - len(common)))
    inter = common[-1] - common[0] + frame
    union = max(a.numbers[-1], b.numbers[-1]) - min(a.numbers[0], b.numbers[0]) + frame
    return float(ious.mean() * inter / union) if union > 0 else 0.0


def paired_ious(a: NDArray[np.float64], b: NDArray[np.float64], *, pixel: float = 0.0) -> NDArray[np.float64]:
    """IoU of (..., 4) with (..., 4), broadcast."""
    low, high = np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., 2:], b[..., 2:])
    shared = (high - low + pixel).clip(0).prod(axis=-1)
    union = (a[..., 2:] - a[..., :2] + pixel).prod(axis=-1) + (b[..., 2:] - b[..., :2] + pixel).prod(axis=-1) - shared
    return np.asarray(np.divide(shared, union, out=np.zeros_like(shared), where=union > 0))


def borrowed(frames: Sequence[NDArray[np.float64]]) -> list[NDArray[np.float64]]:
    """Frames without a box get those of the nearest frame that has some; of two as near, the earlier."""
    full = np.array([place for place, rows in enumerate(frames) if len(rows)], np.int64)
    if not len(full):
        return []
    nearest = full[np.abs(full[None, :] - np.arange(len(frames))[:, None]).argmin(axis=1)]
    return [frames[place] for place in nearest]


def best_paths(frames: Sequence[NDArray[np.float64]], *, most: int = 3) -> list[tuple[NDArray[np.float64], ...]]:
    """Paths through boxes of frames in a row, the best first, each box in one path at most.

    A step from box i to box j is worth IoU + s_i + s_j + s_i s_j / 2; Viterbi finds the best path, its boxes leave, and
    so on until a frame is empty or `most` are found.

    Args:
        frames: per frame (n, 5): box and score; none empty.
        most: paths at most.

    Returns:
        Pairs of boxes (T, 4) and scores (T,). The arithmetic is in float32, as the definition's was.
    """
    rows = [np.asarray(frame, np.float32) for frame in frames]
    paths: list[tuple[NDArray[np.float64], ...]] = []
    edges = [_edges(a, b) for a, b in itertools.pairwise(rows)]
    while rows and all(len(frame) for frame in rows) and len(paths) < most:
        worth = [np.zeros(len(rows[-1]), np.float32)]
        choice: list[NDArray[np.int64]] = []
        for edge in reversed(edges):
            total = edge + worth[-1]
            worth.append(total.max(axis=1))
            choice.append(total.argmax(axis=1))
        at = [int(worth[-1].argmax())]
        for step in reversed(choice):
            at.append(int(step[at[-1]]))
        path = np.stack([frame[place] for frame, place in zip(rows, at, strict=True)]).astype(np.float64)
        paths.append((path[:, :4], path[:, 4]))
        rows = [np.delete(frame, place, axis=0) for frame, place in zip(rows, at, strict=True)]
        edges = [
            np.delete(np.delete(edge, here, axis=0), there, axis=1)
            for edge, here, there in zip(edges, at[:-1], at[1:], strict=True)
        ]
    return paths


def _edges(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    score_a, score_b = a[:, None, 4], b[None, :, 4]
    overlap = paired_ious(a[:, None, :4].astype(np.float64), b[None, :, :4].astype(np.float64))
    return (overlap + score_a + score_b + 0.5 * score_a * score_b).astype(np.float32)


def suppressed(
    tubes: Sequence[ClassTube], *, overlap: float = 0.3, pixel: float = 0.0, frame: float | None = None
) -> list[ClassTube]:
    """Tubes of falling score that overlap no better one by more than `overlap`; of equal ones, the later first."""
    left = np.argsort(np.array([tube.score for tube in tubes], np.float64), kind="stable")
    firsts, lasts = (np.array([tube.numbers[end] for tube in tubes], np.int64) for end in (0, -1))
    kept = []
    while len(left):
        best, left = tubes[left[-1]], left[:-1]
        kept.append(best)
        meet = np.flatnonzero((firsts[left] <= best.numbers[-1]) & (lasts[left] >= best.numbers[0]))
        gone = [at for at in meet.tolist() if tube_overlap(tubes[left[at]], best, pixel=pixel, frame=frame) > overlap]
        left = np.delete(left, gone)
    return kept
