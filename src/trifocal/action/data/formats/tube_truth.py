"""Ground truth of JHMDB, UCF101-24 and MultiSports: a pickle of tubes per video and class, read without running it.

The pickle is a dict: `labels`, `gttubes[video][class]` = arrays of rows (frame from 1, x1, y1, x2, y2), `nframes`,
`resolution` (height, width), and lists of lists `train_videos` and `test_videos`, one per split. `trifocal labels
convert` turns it once into the project's own JSON.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from trifocal.action.data.formats.rows import GUESSED_RATE, field, wrong
from trifocal.action.data.plain_pickle import load_plain_pickle
from trifocal.action.labels import LabelMap, Labels, VideoLabels

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["read_tube_truth"]


def read_tube_truth(path: Path, *, rate: float | None = None) -> Labels:
    """All videos of the file, with splits `train0`, `test0`, `train1`, …

    Args:
        path: the pickle.
        rate: frames per second of the videos, which the file does not tell (UCF101-24: 25); None guesses 25, which
            `Labels.timed` may correct.

    Raises:
        InvalidInput: it is not such a pickle, or holds anything but builtins and arrays; the message names the entry.
    """
    value = load_plain_pickle(path)
    names = field(path, "the file", value, "labels", list)
    if not names or not all(isinstance(name, str) for name in names):
        raise wrong(path, "labels", f"they are {names!r}", "Give names of the classes.")
    classes = LabelMap.of(names)
    tubes = field(path, "the file", value, "gttubes", dict)
    counts, sizes = field(path, "the file", value, "nframes", dict), field(path, "the file", value, "resolution", dict)
    splits = {}
    for part in ("train", "test"):
        for number, members in enumerate(field(path, "the file", value, f"{part}_videos", list)):
            if not isinstance(members, list | tuple) or not all(isinstance(one, str) for one in members):
                where = f"{part}_videos, split {number}"
                raise wrong(path, where, f"it is {members!r}"[:80], "Give a list of names of videos.")
            splits[f"{part}{number}"] = tuple(members)
    known = tuple(dict.fromkeys([*tubes, *(video for members in splits.values() for video in members)]))
    videos = tuple(_video(path, name, tubes.get(name, {}), counts, sizes, classes, rate) for name in known)
    return Labels(classes, videos, splits)


def _video(
    path: Path,
    name: str,
    tubes: Any,
    counts: dict[str, int],
    sizes: dict[str, tuple[int, int]],
    classes: LabelMap,
    rate: float | None,
) -> VideoLabels:
    where = f"video {name!r}"
    count = field(path, where, counts, name, int)
    size: Any = field(path, where, sizes, name, (tuple, list))
    if len(size) != 2 or not all(isinstance(side, int | float) and side >= 1 for side in size):
        raise wrong(path, where, f"the resolution is {size!r}", "Give (height, width) in pixels.")
    if count < 1:
        raise wrong(path, where, f"it has {count} frames", "Give nframes of at least 1.")
    if not isinstance(tubes, dict):
        raise wrong(path, where, f"its gttubes are of the type {type(tubes).__name__}", "Give tubes by class number.")
    rows, tracks, actions = [np.zeros((0, 5))], [0][:0], [0][:0]
    for action, own in tubes.items():
        if not isinstance(action, int) or isinstance(action, bool) or not 0 <= action < len(classes):
            raise wrong(path, where, f"the class {action!r} is unknown", f"Give a number from 0 to {len(classes) - 1}.")
        if not isinstance(own, list | tuple):
            raise wrong(path, where, f"the tubes of class {action} are no list", "Give a list of arrays.")
        for tube in own:
            if not isinstance(tube, np.ndarray) or tube.ndim != 2 or tube.shape[1] != 5:
                raise wrong(path, where, "a tube has not five columns", "Give rows of frame, x1, y1, x2, y2.")
            if not np.isfinite(tube).all() or (tube[:, 0] < 1).any():
                raise wrong(path, where, "a tube has a frame before 1 or a value that is not finite", "Correct it.")
            if (tube[:, 3:] < tube[:, 1:3]).any():
                raise wrong(path, where, "a box of a tube ends before it begins", "Give x1, y1, x2, y2.")
            track = len(set(tracks))
            rows.append(tube.astype(np.float64))
            tracks += [track] * len(tube)
            actions += [action] * len(tube)
    table = np.concatenate(rows)
    return VideoLabels(
        name,
        table[:, 0].astype(np.int64) - 1,
        table[:, 1:].astype(np.float32),
        np.array(tracks, np.int64),
        np.array(actions, np.int64)[:, None] == np.arange(len(classes)),
        rate or GUESSED_RATE,
        int(size[1]),
        int(size[0]),
        frame_count=int(count),
        labelled=np.arange(count),
        rate_told=rate is not None,
    )
