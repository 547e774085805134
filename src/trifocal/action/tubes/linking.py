"""From boxes of single moments to tubes: one actor followed through time.

Two linkers share one configuration. `link` looks at the whole video: the moments' detections are the nodes of a graph,
overlaps in near moments its edges, and the best path is taken out again and again (Viterbi, after Gkioxari and Malik,
arXiv 1411.6031, but blind to the class: an actor may do several things at once and change them). `OnlineLinker` decides
as each moment comes, needs no future, and holds only what is still going on.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from trifocal.action.tubes.detections import FrameDetections, pairwise_iou, without_repeats
from trifocal.errors import InvalidInput

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["LinkConfig", "OnlineLinker", "Track", "link"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkConfig:
    """What belongs together.

    Args:
        least_score: detections that are less surely an actor are left out.
        start_score: a tube needs one detection at least this sure.
        least_iou: boxes of neighbouring moments that overlap less are not the same actor.
        most_gap: moments that an actor may be missed between two detections.
        most_repeat_iou: of boxes in one moment that overlap more, only the surest stays.
        least_length: tubes of fewer detections are left out.

    Raises:
        InvalidInput: a value out of its range.
    """

    least_score: float = 0.3
    start_score: float = 0.5
    least_iou: float = 0.2
    most_gap: int = 2
    most_repeat_iou: float = 0.7
    least_length: int = 2

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("least_score", "start_score", "least_iou", "most_repeat_iou"):
            if not 0.0 <= (value := getattr(self, name)) <= 1.0:
                raise InvalidInput(f"{name} is {value}", remedy="Give a number from 0 to 1.")
        for name, least in (("most_gap", 0), ("least_length", 1)):
            if (value := getattr(self, name)) < least:
                raise InvalidInput(f"{name} is {value}", remedy=f"Give a whole number of at least {least}.")


@dataclass(frozen=True, slots=True, eq=False)
class Track:
    """One actor: a detection for each moment it was seen in.

    Args:
        times_s: float64 `(N,)`, ascending.
        boxes_xyxy: float32 `(N, 4)`, pixels of the video.
        actor_scores: float32 `(N,)`.
        class_scores: float32 `(N, A)`.
    """

    times_s: npt.NDArray[np.float64]
    boxes_xyxy: npt.NDArray[np.float32]
    actor_scores: npt.NDArray[np.float32]
    class_scores: npt.NDArray[np.float32]

    def __len__(self) -> int:
        """Number of moments."""
        return len(self.times_s)


def link(frames: Iterable[FrameDetections], *, config: LinkConfig | None = None) -> list[Track]:
    """Follow actors through a whole video.

    A path gains its detections' scores and, for each step, the overlap of the two boxes divided by the moments it
    spans. The best path is taken out, and the next best, until nothing is left. Detections that no chain of steps
    connects never meet in one search, so the work is that of the scenes and not of the video.

    Args:
        frames: moments in ascending order.
        config: what belongs together.

    Returns:
        Tubes by begin, then by end, then by the first box's left and top.
    """
    config = config or LinkConfig()
    kept = [without_repeats(f, least_score=config.least_score, most_iou=config.most_repeat_iou) for f in frames]
    _check_order(kept)
    graph = _Graph(kept, config)
    tracks = [_track(kept, path) for component in graph.components() for path in graph.paths(component)]
    return sorted(tracks, key=_order)


class OnlineLinker:
    """Follows actors as moments arrive: each detection goes to the tube that it overlaps most.

    Pairs of an open tube and a detection are taken by falling overlap; of equals the older tube, then the surer
    detection. What no tube takes opens one, if it is sure enough.
    """

    def __init__(self, *, config: LinkConfig | None = None) -> None:
        """Stand before the first moment."""
        self.config = config or LinkConfig()
        self._open: list[_Open] = []
        self._moment = -1
        self._last_s = -np.inf

    @property
    def open_count(self) -> int:
        """Tubes that are still going on."""
        return len(self._open)

    def add(self, frame: FrameDetections) -> list[Track]:
        """Take in the next moment; the tubes that have ended with it.

        Raises:
            InvalidInput: the moment is not after the last.
        """
        config = self.config
        if frame.time_s <= self._last_s:
            raise InvalidInput(
                f"a moment at {frame.time_s:.3f} s comes after one at {self._last_s:.3f} s",
                remedy="Give the moments in ascending order.",
            )
        self._last_s, self._moment = frame.time_s, self._moment + 1
        frame = without_repeats(frame, least_score=config.least_score, most_iou=config.most_repeat_iou)
        ended = [tube for tube in self._open if self._moment - tube.moment > config.most_gap + 1]
        self._open = [tube for tube in self._open if self._moment - tube.moment <= config.most_gap + 1]
        taken = self._assign(frame)
        for row in range(len(frame)):
            one = frame.pick(np.array([row]))
            if row in taken:
                taken[row].extend(one, self._moment)
            elif frame.actor_scores[row] >= config.start_score:
                self._open.append(_Open([one], self._moment))
        return self._finished(ended)

    def finish(self) -> list[Track]:
        """The tubes that are still going on; the linker is then as new."""
        ended, self._open = self._open, []
        self._moment, self._last_s = -1, -np.inf
        return self._finished(ended)

    def _assign(self, frame: FrameDetections) -> dict[int, _Open]:
        if not self._open or not len(frame):
            return {}
        last = np.concatenate([tube.parts[-1].boxes_xyxy for tube in self._open])
        overlap = pairwise_iou(last, frame.boxes_xyxy)
        taken: dict[int, _Open] = {}
        used: set[int] = set()
        for flat in np.argsort(-overlap, axis=None, kind="stable"):
            tube, row = divmod(int(flat), len(frame))
            if overlap[tube, row] < self.config.least_iou or overlap[tube, row] <= 0:
                break
            if tube not in used and row not in taken:
                used.add(tube)
                taken[row] = self._open[tube]
        return taken

    def _finished(self, ended: list[_Open]) -> list[Track]:
        tracks = [_join(tube.parts) for tube in ended if len(tube.parts) >= self.config.least_length]
        return sorted(tracks, key=_order)


@dataclass(slots=True)
class _Open:
    """A tube that is still going on."""

    parts: list[FrameDetections]
    moment: int

    def extend(self, part: FrameDetections, moment: int) -> None:
        self.parts.append(part)
        self.moment = moment


Node = tuple[int, int]
"""Moment, and row of a detection in it."""


class _Graph:
    """Detections of all moments, numbered by moment and row, and the steps between them."""

    def __init__(self, frames: Sequence[FrameDetections], config: LinkConfig) -> None:
        self.config = config
        counts = np.array([len(frame) for frame in frames], np.intp)
        self.first = np.concatenate(([0], np.cumsum(counts))).astype(np.intp)
        self.moment = np.repeat(np.arange(len(frames)), counts)
        self.score = np.concatenate([np.empty(0), *(frame.actor_scores for frame in frames)]).astype(np.float64)
        self.steps: dict[int, list[tuple[int, float]]] = defaultdict(list)
        """Into each node: where from, and what the step gains."""
        ends: list[tuple[int, int]] = []
        for later in range(len(frames)):
            for gap in range(1, min(config.most_gap + 1, later) + 1):
                overlap = pairwise_iou(frames[later - gap].boxes_xyxy, frames[later].boxes_xyxy)
                for source, target in zip(*np.nonzero((overlap >= config.least_iou) & (overlap > 0)), strict=True):
                    nodes = int(self.first[later - gap] + source), int(self.first[later] + target)
                    self.steps[nodes[1]].append((nodes[0], float(overlap[source, target]) / gap))
                    ends.append(nodes)
        self.ends = np.array(ends, np.intp).reshape(-1, 2)

    def components(self) -> Iterator[npt.NDArray[np.intp]]:
        """Nodes that steps connect, ascending."""
        count = len(self.score)
        if not count:
            return
        ones = np.ones(len(self.ends), np.int8)
        matrix = coo_array((ones, (self.ends[:, 0], self.ends[:, 1])), shape=(count, count))
        _, label = connected_components(matrix, directed=False)
        order = np.argsort(label, kind="stable")
        yield from np.split(order, np.flatnonzero(np.diff(label[order])) + 1)

    def paths(self, component: npt.NDArray[np.intp]) -> Iterator[list[Node]]:
        """Best paths, one after the other, through what the earlier ones left."""
        left = set(component.tolist())
        while left:
            path = self._best(sorted(left))
            left.difference_update(path)
            sure = max(self.score[node] for node in path) >= self.config.start_score
            if sure and len(path) >= self.config.least_length:
                yield [(int(self.moment[node]), int(node - self.first[self.moment[node]])) for node in path]

    def _best(self, nodes: list[int]) -> list[int]:
        """The path that gains most; of equals the one that ends at the earlier node."""
        gain: dict[int, float] = {}
        before: dict[int, int] = {}
        for node in nodes:
            best, source = 0.0, -1
            for origin, step in self.steps.get(node, ()):
                if origin in gain and gain[origin] + step > best:
                    best, source = gain[origin] + step, origin
            gain[node], before[node] = best + float(self.score[node]), source
        node = max(nodes, key=lambda end: (gain[end], -end))
        path = []
        while node >= 0:
            path.append(node)
            node = before[node]
        return path[::-1]


def _check_order(frames: Sequence[FrameDetections]) -> None:
    for earlier, later in pairwise(frames):
        if later.time_s <= earlier.time_s:
            raise InvalidInput(
                f"a moment at {later.time_s:.3f} s comes after one at {earlier.time_s:.3f} s",
                remedy="Give the moments in ascending order.",
            )


def _track(frames: Sequence[FrameDetections], path: Sequence[Node]) -> Track:
    return _join([frames[moment].pick(np.array([row])) for moment, row in path])


def _join(parts: Sequence[FrameDetections]) -> Track:
    return Track(
        times_s=np.array([part.time_s for part in parts], np.float64),
        boxes_xyxy=np.concatenate([part.boxes_xyxy for part in parts]),
        actor_scores=np.concatenate([part.actor_scores for part in parts]),
        class_scores=np.concatenate([part.class_scores for part in parts]),
    )


def _order(track: Track) -> tuple[float, float, float, float]:
    left, top = track.boxes_xyxy[0, :2]
    return float(track.times_s[0]), float(track.times_s[-1]), float(left), float(top)
