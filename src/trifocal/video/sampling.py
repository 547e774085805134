"""Which frames are wanted.

A `Sampling` is a plain, JSON-able description: `uniform`, `at_fps`, `at_times` or `every`. A frame is *shown at* second
t when it is the last one whose time is not after t; before the first frame the first is shown, after the last the last.
A `Selector` turns a description into decisions while frames go by: `next_s` is the earliest second it still waits for,
so the decoder can skip what nobody wants.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from itertools import count, pairwise
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from trifocal.errors import InvalidInput
from trifocal.video.checks import check_whole, is_number

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from trifocal.video.frames import Size

__all__ = ["Sampling", "Selector"]

_GRID_SLACK_S: Final = 0.0005
"""Matroska rounds times to milliseconds; without this, a grid at the video's own rate would miss one frame in three."""

_MOST_TIMES: Final = 1_000_000
_MOST_RATE: Final = 1000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """Which frames are wanted, and how large. Use `uniform`, `at_fps`, `at_times` or `every` to make one.

    Every kind but `at_times` returns a frame at most once: asking for more than there are gives those there are.
    """

    kind: Literal["uniform", "at_fps", "at_times", "every"]
    n: int | None = None
    rate: float | None = None
    max_frames: int | None = None
    times_s: tuple[float, ...] | None = None
    start_s: float | None = None
    end_s: float | None = None
    size: Size = None

    def __post_init__(self) -> None:
        """Check the values."""
        used = {"uniform": "n", "at_fps": "rate", "at_times": "times_s", "every": ""}
        if self.kind not in used:
            raise InvalidInput(f"sampling kind is {self.kind!r}", remedy=f"Give one of: {', '.join(used)}.")
        for kind, field in used.items():
            if field and (getattr(self, field) is not None) != (kind == self.kind):
                raise InvalidInput(
                    f"{field} is {getattr(self, field)!r} for {self.kind}", remedy="Use Sampling's verbs."
                )
        if self.max_frames is not None and self.kind != "at_fps":
            raise InvalidInput(f"max_frames is given for {self.kind}", remedy="Only at_fps takes it.")
        if self.kind == "at_times" and (self.start_s, self.end_s) != (None, None):
            raise InvalidInput("at_times takes no range", remedy="Leave out start_s and end_s.")
        for name in ("n", "max_frames"):
            if getattr(self, name) is not None:
                check_whole(name, getattr(self, name), low=1, high=_MOST_TIMES)
        if self.rate is not None and not (is_number(self.rate) and 0 < self.rate <= _MOST_RATE):
            raise InvalidInput(
                f"rate is {self.rate!r}", remedy=f"Give frames per second, above 0 and at most {_MOST_RATE:g}."
            )
        _check_range(self.start_s, self.end_s)
        _check_times(self.times_s)
        _check_size(self.size)

    @classmethod
    def uniform(cls, n: int, *, start_s: float | None = None, end_s: float | None = None, size: Size = None) -> Self:
        """The frames shown at the centres of `n` equal segments.

        Args:
            n: how many; fewer come back when the range has fewer frames.
            start_s: begin of the range in seconds, the video's by default.
            end_s: end of the range in seconds, the video's by default.
            size: see `video.frames.Size`.
        """
        return cls(kind="uniform", n=n, start_s=start_s, end_s=end_s, size=size)

    @classmethod
    def at_fps(
        cls,
        rate: float,
        *,
        max_frames: int | None = None,
        start_s: float | None = None,
        end_s: float | None = None,
        size: Size = None,
    ) -> Self:
        """The frames shown at `start_s`, `start_s + 1/rate`, ... A frame that starts within half a millisecond counts.

        Args:
            rate: grid points per second, at most 1000; above the video's own rate every frame comes once.
            max_frames: where the range would give more, the grid is widened so that this many cover it evenly.
            start_s: begin of the range in seconds, 0 by default.
            end_s: end of the range in seconds (not part of it), the video's by default.
            size: see `video.frames.Size`.
        """
        return cls(kind="at_fps", rate=rate, max_frames=max_frames, start_s=start_s, end_s=end_s, size=size)

    @classmethod
    def at_times(cls, times_s: Sequence[float], *, size: Size = None) -> Self:
        """The frame shown at each of the given seconds, one for each, also when that is the same frame again.

        Args:
            times_s: ascending seconds since the presentation start.
            size: see `video.frames.Size`.
        """
        return cls(kind="at_times", times_s=tuple(float(t) for t in times_s), size=size)

    @classmethod
    def every(cls, *, start_s: float | None = None, end_s: float | None = None, size: Size = None) -> Self:
        """Every frame whose time is in `[start_s, end_s)`; every frame of the video by default.

        Args:
            start_s: begin of the range in seconds.
            end_s: end of the range in seconds, not part of it.
            size: see `video.frames.Size`.
        """
        return cls(kind="every", start_s=start_s, end_s=end_s, size=size)

    def to_json(self) -> dict[str, Any]:
        """As plain values, for JSON; fields that are not set are left out."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """From what `to_json` gave, also after a trip through JSON.

        Raises:
            InvalidInput: an unknown field or an unusable value.
        """
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise InvalidInput(f"a sampling has no field {unknown[0]}", remedy=f"Known: {', '.join(sorted(known))}.")
        ready: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
        if "kind" not in ready:
            raise InvalidInput("a sampling needs a kind", remedy="Give uniform, at_fps, at_times or every.")
        return cls(**ready)

    def points_s(self, duration_s: float) -> Iterator[float]:
        """The seconds at which the frames shown are wanted, ascending; endless for an open `at_fps`.

        Args:
            duration_s: length of the video in seconds.

        Raises:
            InvalidInput: the kind is `every`, which has none.
        """
        start = 0.0 if self.start_s is None else self.start_s
        end = duration_s if self.end_s is None else min(self.end_s, duration_s)
        span = max(0.0, end - start)
        match self.kind:
            case "uniform":
                n = self.n or 0
                # A range that begins at or after the end still has a frame shown there: the last.
                return iter([start + (2 * i + 1) * span / (2 * n) for i in range(n if span else 1)])
            case "at_fps":
                return self._grid(start, span)
            case "at_times":
                return iter(self.times_s or ())
        raise InvalidInput("every frame is wanted, not those at some points", remedy="Do not ask `every` for points.")

    def _grid(self, start: float, span: float) -> Iterator[float]:
        rate = self.rate or 1.0
        if self.max_frames is not None and math.ceil(span * rate - 1e-9) > self.max_frames:
            return iter([start + i * span / self.max_frames for i in range(self.max_frames)])
        grid = (start + i / rate for i in count())
        return grid if self.end_s is None else _before(grid, self.end_s)


def _before(points: Iterator[float], end: float) -> Iterator[float]:
    for point in points:
        if point >= end:
            return
        yield point


class Selector:
    """Decides which of the frames going by are wanted. Frames must be offered in the order of their times."""

    def __init__(self, sampling: Sampling, *, duration_s: float) -> None:
        """Stand before the first frame."""
        self.sampling = sampling
        self._slack = _GRID_SLACK_S if sampling.kind == "at_fps" else 0.0
        self._repeats = sampling.kind == "at_times"
        self._every = sampling.kind == "every"
        self._points = iter(()) if self._every else sampling.points_s(duration_s)
        start = -math.inf if sampling.start_s is None else sampling.start_s
        self._stop = math.inf if sampling.end_s is None else sampling.end_s
        self._given_s = -math.inf
        self.next_s: float = (start if start < self._stop else math.inf) if self._every else self._advance()

    @property
    def done(self) -> bool:
        """Nothing more is wanted."""
        return self.next_s == math.inf

    def _advance(self) -> float:
        point = next(self._points, math.inf)
        return point + self._slack

    def wants(self, time_s: float) -> bool:
        """Whether a frame is wanted as soon as it is seen (only for `every`)."""
        if not self._every or time_s < self.next_s:
            return False
        if time_s >= self._stop:
            self.next_s = math.inf
            return False
        self.next_s = -math.inf
        return True

    def settle(self, shown_s: float, until_s: float) -> int:
        """How often the frame of `shown_s` is wanted, given that it is shown until (not at) second `until_s`."""
        times = 0
        while not self._every and self.next_s < until_s:
            times += 1
            self.next_s = self._advance()
        return self._give(shown_s, times)

    def finish(self, last_s: float, *, end_s: float) -> int:
        """How often the last frame of the video, which is over at `end_s`, is wanted by what is still open.

        Ends the selection.
        """
        times = 0
        if self._repeats and not self.done:
            times = 1 + sum(1 for _ in self._points)
        elif self.sampling.kind == "at_fps":
            # An open grid has a point wherever one looks; only those before the end of the video count.
            times = int(self.next_s < max(end_s, math.nextafter(last_s, math.inf)) + self._slack)
        elif not self._every:
            times = int(not self.done)
        self.next_s = math.inf
        return self._give(last_s, times)

    def _give(self, shown_s: float, times: int) -> int:
        if not self._repeats:
            times = min(times, int(shown_s > self._given_s))
        if times:
            self._given_s = shown_s
        return times


def _check_range(start_s: float | None, end_s: float | None) -> None:
    for name, value in (("start_s", start_s), ("end_s", end_s)):
        if value is not None and not (is_number(value) and value >= 0):
            raise InvalidInput(f"{name} is {value!r}", remedy="Give seconds, 0 or more.")
    if start_s is not None and end_s is not None and end_s <= start_s:
        raise InvalidInput(f"the range {start_s} s to {end_s} s is empty", remedy="Give an end after the start.")


def _check_times(times_s: tuple[float, ...] | None) -> None:
    if times_s is None:
        return
    if not times_s or len(times_s) > _MOST_TIMES:
        raise InvalidInput(f"{len(times_s)} times are given", remedy=f"Give 1 to {_MOST_TIMES:,} times.")
    if not all(is_number(t) for t in times_s):
        raise InvalidInput("times_s holds something that is not a second", remedy="Give finite numbers.")
    if any(later < earlier for earlier, later in pairwise(times_s)):
        raise InvalidInput("times_s is not ascending", remedy="Sort the times.")


def _check_size(size: Size) -> None:
    sides = () if size is None else size if isinstance(size, tuple) else (size,)
    if isinstance(size, tuple) and len(size) != 2:
        raise InvalidInput(f"size is {size!r}", remedy="Give the shorter side, or (height, width).")
    for side in sides:
        check_whole("size", side, low=1, high=16_384)
