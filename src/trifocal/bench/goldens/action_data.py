"""Golden files of the data sets: windows and frames opened, and targets before and after the evaluation's transform.

`<name>.json` lists windows, `<name>.npz` their targets, `<name>_input*` beside them is the ground truth; the name's
first word tells the data set. What the released loaders add for their own dumps (frame ids that slip after a tube
inside the window, corners cut to whole pixels) is redone here on top of the library's windows.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from trifocal.action.data.plain_pickle import load_plain_pickle
from trifocal.action.data.windows import Window, keyframe_indices, tube_windows
from trifocal.bench.goldens.case import Arrays, Case, Checker, load_arrays

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_TOLERANCE = 1e-5
_FRAMES, _STEP = {"ViT": 16, "CSN": 32}, {"ViT": 4, "CSN": 2}
_SIDE = {"ucf": 224, "jhmdb": 256}
_SLOTS = {"ucf": 32, "jhmdb": 40}

Array = np.ndarray[Any, Any]


def _differing(found: Mapping[str, Any], expected: Mapping[str, Any]) -> list[str]:
    wrong = []
    for name, value in found.items():
        want = np.asarray(expected[name])
        have = np.asarray(value)
        if have.shape != want.shape or not np.allclose(have, want, rtol=0, atol=_TOLERANCE):
            wrong.append(name)
    return wrong


def ava_cases(path: Path) -> Iterator[Case]:
    """Frames and targets of key frames: T, step, the 30 frames a second from second 900 on, corners in whole pixels."""
    arrays = load_arrays(path.with_suffix(".npz"))
    truth = json.loads(path.with_name("ava_input.json").read_text(encoding="utf-8"))
    rows = json.loads(path.read_text(encoding="utf-8"))
    places: dict[str, int] = {}
    for row in rows:
        kind = "ViT" if "ViT" in row["yaml"] else "CSN"
        count = max(max(one["frames_1based"]) for one in rows)
        place = places[row["yaml"]] = places.get(row["yaml"], -1) + 1
        key = (int(row["key"].split(",")[1]) - 900) * 30
        frames = keyframe_indices(key, frames=_FRAMES[kind], step=_STEP[kind], count=count, compat="reference")
        height, width = row["shape"][2:]
        own = truth[row["key"]]
        corners = np.trunc(np.array(own["bboxes"], np.float64).reshape(-1, 4) * [width, height, width, height])
        middle = np.full((len(corners), 1), _FRAMES[kind] // 2)
        labels = np.zeros((len(corners), 80))
        for number, actions in enumerate(own["acts"]):
            labels[number, actions] = 1
        prefix = f"{row['yaml']}.{row['key']}."
        found = {
            "frames": frames + 1,
            "boxes": np.hstack([middle, _centred(corners, height, width)]),
            "raw_boxes": np.hstack([np.full_like(middle, place), middle, corners]),
            "labels": labels,
            "size": [height, width],
        }
        wrong = _differing(found, {"frames": row["frames_1based"], **_below(arrays, prefix)})
        yield Case(f"{path.stem} {prefix[:-1]}", tuple(wrong), f"{len(frames)} frames, {len(corners)} boxes")


def tube_cases(path: Path) -> Iterator[Case]:
    """Windows of UCF101-24 or whole videos of JHMDB."""
    kind = path.stem.split("_")[0]
    arrays = load_arrays(path.with_suffix(".npz"))
    truth = load_plain_pickle(path.with_name(f"{path.stem}_input_gt.pkl"))
    rows = json.loads(path.read_text(encoding="utf-8"))
    windows: dict[str, Iterator[Window]] = {}
    for place, row in enumerate(rows):
        video, count = row["vid"], truth["nframes"][row["vid"]]
        if video not in windows:
            slots = _SLOTS[kind]
            tiled = tube_windows(count, frames=slots, compat="reference" if kind == "ucf" else "default")
            windows[video] = iter(tiled)
        window = next(windows[video])
        found, size = _window_targets(truth, video, window, kind, place)
        own = _below(arrays, f"{place}.raw.") | {
            f"val {name}": value for name, value in _below(arrays, f"{place}.val.").items()
        }
        expected = {"frames": row["frames"], "tensor_hw": row["tensor_hw"], **own}
        found |= {"frames": window.indices + 1, "tensor_hw": size}
        if kind == "ucf":
            expected["center"] = row["center"]
            found["center"] = window.first + 1 + window.length // 2
        wrong = _differing(found, expected)
        yield Case(f"{path.stem} {video} {place}", tuple(wrong), f"frames {window.first + 1} on, {len(found)} facts")
    left = [video for video, rest in windows.items() if next(rest, None) is not None]
    yield Case(f"{path.stem} no window left", tuple(left), f"{len(windows)} videos")


def _window_targets(
    truth: Mapping[str, Any], video: str, window: Window, kind: str, place: int
) -> tuple[dict[str, Any], list[int]]:
    """The facts that the released loader gives for a window, and the size of the resized picture."""
    height, width = truth["resolution"][video]
    side = _SIDE[kind]
    size = [side, int(side * width / height)]
    # Not the size as truncated; and in this order of operations, as corners on a whole pixel fall to either side of it.
    factor = np.array([side * (width / height) / width, side / height] * 2)
    no_action = len(truth["labels"])
    shown = window.numbers + 1 if kind == "ucf" else window.indices + 1
    raw, labels, lengths, visible = [], [], [], False
    for action, tubes in truth["gttubes"][video].items():
        for tube in tubes:
            numbers = tube[:, 0].astype(np.int64)
            corners = np.full((window.length, 5), -1.0)
            corners[:, 0] = shown
            own = np.full(window.length, no_action)
            slot, row = np.nonzero(shown[:, None] == numbers[None, :])
            corners[slot, 1:] = np.trunc(tube[row, 1:].astype(np.float64) * factor)
            own[slot] = action
            own[window.padded] = no_action
            first, last = shown[0], shown[-1]
            within = kind == "ucf" and first < numbers[0] and numbers[-1] < last
            if within:  # frame ids after the tube begin with its last one again
                corners[shown > numbers[-1], 0] -= 1
            overlaps = len(slot) > 0
            visible = kind == "jhmdb" or (overlaps and not within)
            lengths.append(len(slot) if overlaps and not within else window.length)
            raw.append(corners)
            labels.append(own)
    rows = np.concatenate(raw)
    if kind == "jhmdb":
        lengths = [window.count]
    clamped = np.hstack([rows[:, :1], rows[:, 1:].clip(0, [size[1], size[0]] * 2)])
    count = np.full((len(rows), 1), place)
    stacked = np.stack(labels) if kind == "ucf" else labels[0]
    found = {
        "boxes": rows,
        "raw_boxes": np.hstack([count, rows]),
        "labels": stacked,
        "size": size,
        "orig_size": size,
        "front_pad": window.front,
        "end_pad": window.end,
        "tube_len": lengths,
        "vis": [int(visible)],
        "val boxes": np.hstack([rows[:, :1], _centred(clamped[:, 1:], *size)]),
        "val raw_boxes": np.hstack([count, clamped]),
        "val labels": stacked,
        "val size": size,
    }
    return found, size


def _centred(corners: Array, height: int, width: int) -> Array:
    unit = corners / np.array([width, height, width, height])
    return np.hstack([(unit[:, :2] + unit[:, 2:]) / 2, unit[:, 2:] - unit[:, :2]])


def _below(arrays: Arrays, prefix: str) -> dict[str, Array]:
    return {key.removeprefix(prefix): value for key, value in arrays.items() if key.startswith(prefix)}


def _side_cases(path: Path) -> Iterator[Case]:
    """Files that the cases of another one read."""
    main = path.with_name(path.stem.split("_input")[0] + ".json")
    missing = () if main.is_file() else (f"{main.name} is not beside it",)
    yield Case(path.name, missing, f"side file: read with {main.name}")


KINDS: Mapping[str, Checker] = {
    "data/*_input*": _side_cases,
    "data/*.npz": _side_cases,
    "data/ava*.json": ava_cases,
    "data/ucf*.json": tube_cases,
    "data/jhmdb*.json": tube_cases,
}
"""Checker by the name of a file."""
