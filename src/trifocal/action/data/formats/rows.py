"""What the readers share: opening a text file with errors that say where, and rows that become `VideoLabels`.

A reader collects a `Row` per box and action; `join` merges rows of the same frame, track and box into one with several
actions, so that every format, however it spells several actions, gives the same labels.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from trifocal.action.labels import LabelMap, VideoLabels
from trifocal.errors import InvalidInput

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["GUESSED_RATE", "VIDEO_SUFFIXES", "Row", "field", "join", "read_json", "read_text", "runs", "wrong"]

GUESSED_RATE = 25.0
"""Frames per second of a video of which neither the file nor the caller tells it."""

VIDEO_SUFFIXES = frozenset((".mp4", ".mkv", ".webm", ".avi", ".mov", ".ts", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv"))
"""Endings of video files, which are no part of a video's id."""

_MOST_BYTES = 2 << 30


@dataclass(frozen=True, slots=True)
class Row:
    """One box with at most one action.

    Args:
        index: frame number, from 0.
        box: x1, y1, x2, y2.
        track: the actor's number; -1 where the file tells none.
        action: place among the classes; None for an actor who does nothing that is labelled.
    """

    index: int
    box: tuple[float, float, float, float]
    track: int
    action: int | None


def wrong(path: Path, where: str, what: str, remedy: str) -> InvalidInput:
    """The error of a label file: its name, the place in it, what is wrong there."""
    return InvalidInput(f"{path.name}, {where}: {what}", remedy=remedy)


def read_text(path: Path) -> str:
    """The text of a file.

    Raises:
        InvalidInput: it cannot be read, is huge, or is not UTF-8.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise InvalidInput(f"{path.name} has more than {_MOST_BYTES:,} bytes", remedy="Split it by videos.")
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}", remedy="Give the path of a file.") from error
    except UnicodeDecodeError as error:
        raise wrong(path, f"byte {error.start}", "it is not UTF-8 text", "Save it as UTF-8.") from error


def read_json(path: Path) -> Any:
    """The value of a JSON file.

    Raises:
        InvalidInput: it cannot be read or is no JSON; the message names the line.
    """
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise wrong(path, f"line {error.lineno}", f"it is no JSON: {error.msg}", "Export it again.") from error
    except RecursionError as error:
        raise wrong(path, "line 1", "it is nested too deeply", "Export it again.") from error


def join(
    video: str,
    rows: Iterable[Row],
    classes: LabelMap,
    *,
    rate: float,
    size: tuple[int, int] = (1, 1),
    **facts: Any,
) -> VideoLabels:
    """The labels of one video.

    Args:
        video: its id.
        rows: in any order.
        classes: of the actions.
        rate: frame numbers per second.
        size: (width, height), (1, 1) for boxes in parts of the frame.
        **facts: other fields of `VideoLabels`.
    """
    merged: dict[tuple[int, int, tuple[float, float, float, float]], set[int]] = {}
    for row in rows:
        own = merged.setdefault((row.index, row.track, row.box), set())
        if row.action is not None:
            own.add(row.action)
    actions = np.zeros((len(merged), len(classes)), np.bool_)
    for place, own in enumerate(merged.values()):
        actions[place, list(own)] = True
    return VideoLabels(
        video,
        np.array([key[0] for key in merged], np.int64),
        np.array([key[2] for key in merged], np.float32).reshape(-1, 4),
        np.array([key[1] for key in merged], np.int64),
        actions,
        rate,
        *size,
        **facts,
    )


def field(path: Path, where: str, values: Mapping[str, Any], name: str, kind: type | tuple[type, ...]) -> Any:
    """A value that must be there, of a type that it must have.

    Raises:
        InvalidInput: it is missing or another.
    """
    value = values.get(name) if hasattr(values, "get") else None
    if not isinstance(value, kind) or isinstance(value, bool):
        names = kind.__name__ if isinstance(kind, type) else " or ".join(one.__name__ for one in kind)
        raise wrong(path, where, f"{name} is {value!r}", f"Give {name} as {names}.")
    return value


def runs(values: NDArray[np.int64]) -> list[list[int]]:
    """Rising numbers as [first, after the last]."""
    cuts = np.flatnonzero(np.diff(values) != 1) + 1
    return [[int(run[0]), int(run[-1]) + 1] for run in np.split(values, cuts) if len(run)]
