"""Which frames of a video make a clip: around a key frame, or windows that tile the whole video.

`compat="reference"` keeps what the released data sets do: a clip that would begin before the video begins at its first
frame instead, so the key frame is no longer in the middle (AVA, first two seconds); a video whose length is a multiple
of the window is shifted by half a window, and its last frames are never seen (UCF101-24). The default repairs both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from trifocal.errors import InvalidInput

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Compat", "Window", "keyframe_indices", "tube_windows"]

Compat = Literal["default", "reference"]


@dataclass(frozen=True, slots=True)
class Window:
    """T frames in a row of a video, of which some at its ends may not exist.

    Args:
        first: frame number of the first slot; negative where the video begins later.
        length: T.
        count: frames of the video.
    """

    first: int
    length: int
    count: int

    @property
    def numbers(self) -> NDArray[np.int64]:
        """(T,) frame numbers, also those that do not exist."""
        return np.arange(self.first, self.first + self.length)

    @property
    def indices(self) -> NDArray[np.int64]:
        """(T,) frames that are shown: the first and the last one repeated where there is none."""
        return self.numbers.clip(0, self.count - 1)

    @property
    def padded(self) -> NDArray[np.bool_]:
        """(T,) True for slots that show a repeated frame."""
        return (self.numbers < 0) | (self.numbers >= self.count)

    @property
    def front(self) -> int:
        """Padded slots at the beginning."""
        return max(0, -self.first)

    @property
    def end(self) -> int:
        """Padded slots at the end."""
        return max(0, self.first + self.length - self.count)


def keyframe_indices(key: int, *, frames: int, step: int, count: int, compat: Compat = "default") -> NDArray[np.int64]:
    """The frames of a clip around a key frame, which stands at place T // 2.

    Args:
        key: frame number of the key frame.
        frames: T.
        step: frames of the video from one of the clip to the next.
        count: frames of the video.
        compat: `reference` begins at frame 0 where the clip would begin before it.

    Returns:
        int64 (T,), frame numbers; those before the first and after the last are those.

    Raises:
        InvalidInput: a count below 1.
    """
    _check(frames=frames, step=step, count=count)
    start = key - frames // 2 * step
    if compat == "reference":
        start = max(start, 0)
    return (start + step * np.arange(frames)).clip(0, count - 1)


def tube_windows(count: int, *, frames: int, compat: Compat = "default") -> tuple[Window, ...]:
    """Windows of T frames that tile a video, half of the padding before it and half after.

    Args:
        count: frames of the video.
        frames: T.
        compat: `reference` pads a video whose length is a multiple of T by another T, without another window.

    Raises:
        InvalidInput: a count below 1.
    """
    _check(frames=frames, step=1, count=count)
    number = -(-count // frames)
    pad = frames - count % frames if compat == "reference" else -count % frames
    return tuple(Window(frames * place - pad // 2, frames, count) for place in range(number))


def _check(**counts: int) -> None:
    for name, value in counts.items():
        if value < 1:
            raise InvalidInput(f"{name} is {value}", remedy="Give a whole number of at least 1.")
