"""Tubes as WebVTT subtitles: a cue for each stretch in which an actor does something, for any video player."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from trifocal.errors import InvalidInput

if TYPE_CHECKING:
    import numpy.typing as npt

    from trifocal.action.tube import Tube

__all__ = ["action_spans", "write_webvtt"]


def action_spans(tube: Tube, *, least_score: float) -> list[tuple[str, float, float, float]]:
    """When a tube's actor does what.

    Args:
        tube: the actor.
        least_score: an action is going on while its score is at least this.

    Returns:
        (action, start_s, end_s, mean score) by start, then by action. A moment lasts until halfway to the next one, and
        half as long as the tube's usual step at its ends.
    """
    edges = _edges(tube.times_s)
    out = []
    for action, scores in tube.actions.items():
        on = np.concatenate(([False], scores >= least_score, [False]))
        starts, ends = np.flatnonzero(on[1:] & ~on[:-1]), np.flatnonzero(on[:-1] & ~on[1:])
        out += [
            (action, float(edges[start]), float(edges[end]), float(scores[start:end].mean()))
            for start, end in zip(starts, ends, strict=True)
        ]
    return sorted(out, key=lambda span: (span[1], span[0]))


def write_webvtt(tubes: Iterable[Tube], *, least_score: float = 0.5) -> str:
    """The text of a .vtt file.

    Args:
        tubes: of one video.
        least_score: an action is going on while its score is at least this.

    Raises:
        InvalidInput: `least_score` is no share.
    """
    if not 0.0 <= least_score <= 1.0:
        raise InvalidInput(f"least_score is {least_score}", remedy="Give a number between 0 and 1.")
    cues = [
        (start, end, tube.actor, action, score)
        for tube in tubes
        for action, start, end, score in action_spans(tube, least_score=least_score)
    ]
    lines = ["WEBVTT", ""]
    for start, end, actor, action, score in sorted(cues):
        lines += [f"{_stamp(start)} --> {_stamp(end)}", f"actor {actor}: {_plain(action)} ({score:.2f})", ""]
    return "\n".join(lines)


def _edges(times_s: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(T + 1,) where each moment begins, and where the last one ends."""
    half = float(np.median(np.diff(times_s))) / 2 if len(times_s) > 1 else 0.5
    middles = (times_s[1:] + times_s[:-1]) / 2
    return np.concatenate(([max(0.0, times_s[0] - half)], middles, [times_s[-1] + half]))


def _stamp(seconds: float) -> str:
    total = math.floor(seconds * 1000 + 0.5)
    hours, rest = divmod(total, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    return f"{hours:02d}:{minutes:02d}:{rest // 1000:02d}.{rest % 1000:03d}"


def _plain(text: str) -> str:
    """A name that cannot end a cue or be taken for markup."""
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return " ".join(escaped.split())
