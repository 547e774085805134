"""Dumps of the released evaluators as truth and detections: text rows `key [numbers]`, and label maps beside them.

A key ends in the second (AVA) or the frame's number after the last underscore; a detection is a box, a score per class
and the actor's probability; a truth is a running number, the frame, a box and one flag per class (tubes: one more for
"no action").
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trifocal.action.evaluation.tables import Detections, FrameTruth
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


def tables(truth: Dump, found: Dump, classes: LabelMap, columns: Array) -> tuple[FrameTruth, Detections]:
    """Both as the evaluators take them; `columns` are the classes' places among the stored ones."""
    videos = tuple(dict.fromkeys(key.rpartition("_")[0] for key in (*found.keys, *truth.keys)))

    def frames(dump: Dump) -> tuple[Array, Array]:
        parts = [key.rpartition("_") for key in dump.keys]
        places = {name: place for place, name in enumerate(videos)}
        return np.array([places[one[0]] for one in parts]), np.array([int(one[2]) for one in parts])

    video, index = frames(truth)
    own_video, own_index = frames(found)
    looked_at = np.unique(np.stack([np.r_[video, own_video], np.r_[index, own_index]], axis=1), axis=0)
    actions = truth.numbers[:, 6:][:, columns] > 0
    tracks = np.full(len(video), -1)
    return (
        FrameTruth(classes, videos, video, index, truth.numbers[:, 2:6], actions, tracks, looked_at),
        Detections(
            classes,
            videos,
            own_video,
            own_index,
            found.numbers[:, :4],
            found.numbers[:, 4:-1][:, columns],
            found.numbers[:, -1],
        ),
    )
