"""Dumps of the released evaluators as truth and detections: text rows `key [numbers]`, and label maps beside them.

A key ends in the second (AVA) or the frame's number after the last underscore; a detection is a box, a score per class
and the actor's probability; a truth is a running number, the frame, a box and one flag per class (tubes: one more for
"no action").
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trifocal.action.evaluation.tables import Detections, FrameTruth

if TYPE_CHECKING:
    from trifocal.action.labels import LabelMap

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Dump:
    """Rows of a text file, in its order."""

    keys: tuple[str, ...]
    numbers: Array


def read_dump(path: Path) -> Dump:
    """One row a line."""
    keys, rows = [], []
    for line in path.read_text(encoding="utf-8").splitlines():
        key, _, rest = line.partition(" [")
        keys.append(key)
        rows.append([float(value) for value in rest.strip().rstrip("]").split(",")])
    return Dump(tuple(keys), np.array(rows, np.float64))


def without_repeats(truth: Dump, found: Dump, *, queries: int) -> tuple[Dump, Dump]:
    """Without what a distributed sampler wrote twice: equal rows of truth, and boxes of a frame beyond `queries`."""
    seen: set[tuple[object, ...]] = set()
    kept = []
    for place, (key, row) in enumerate(zip(truth.keys, truth.numbers, strict=True)):
        same = (key, *row[1:])
        if same not in seen:
            seen.add(same)
            kept.append(place)
    count: dict[str, int] = {}
    first = []
    for place, key in enumerate(found.keys):
        count[key] = count.get(key, 0) + 1
        if count[key] <= queries:
            first.append(place)
    return _taken(truth, kept), _taken(found, first)


def _taken(dump: Dump, rows: list[int]) -> Dump:
    return Dump(tuple(dump.keys[row] for row in rows), dump.numbers[rows])


def tables(
    truth: Dump, found: Dump, classes: LabelMap, columns: Array, *, excluded: frozenset[str] = frozenset()
) -> tuple[FrameTruth, Detections]:
    """Both as the evaluators take them.

    Args:
        truth: as dumped.
        found: as dumped.
        classes: that are evaluated.
        columns: their places among the stored ones.
        excluded: keys that are left out.

    A truth's track is its place among the rows of its frame.
    """
    videos = tuple(dict.fromkeys(key.rpartition("_")[0] for key in (*found.keys, *truth.keys)))
    places = {name: place for place, name in enumerate(videos)}

    def frames(keys: tuple[str, ...]) -> tuple[Array, Array]:
        parts = [key.rpartition("_") for key in keys]
        return np.array([places[one[0]] for one in parts]), np.array([int(one[2]) for one in parts])

    every = np.stack(frames(tuple(key for key in (*truth.keys, *found.keys) if key not in excluded)), axis=1)
    count: dict[str, int] = {}
    tracks = []
    for key in truth.keys:
        tracks.append(count.get(key, 0))
        count[key] = tracks[-1] + 1
    actions = truth.numbers[:, 6:][:, columns] > 0
    kept = np.array([key not in excluded for key in truth.keys]) & actions.any(axis=1)
    video, index = frames(truth.keys)
    own_video, own_index = frames(found.keys)
    numbers = found.numbers
    return (
        FrameTruth(
            classes,
            videos,
            video[kept],
            index[kept],
            truth.numbers[kept, 2:6],
            actions[kept],
            np.array(tracks)[kept],
            np.unique(every, axis=0),
        ),
        Detections(classes, videos, own_video, own_index, numbers[:, :4], numbers[:, 4:-1][:, columns], numbers[:, -1]),
    )
