"""Decoded frames, and the sizes they are decoded at.

`Frames` is what every reader returns: pictures with the second at which each is shown. `target_size` turns the `size`
of a `Sampling` into the height and width of the pictures.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trifocal.errors import InvalidInput

__all__ = ["Frames", "Size", "target_size"]

Size = int | tuple[int, int] | None
"""`None`: as the video is; a whole number: the shorter side, never enlarged; `(height, width)`: exactly so."""


@dataclass(frozen=True, slots=True, eq=False)
class Frames:
    """Frames in the order of their times.

    Args:
        images: uint8 `(T, H, W, 3)`, RGB, rotation applied.
        times_s: float64 `(T,)`, seconds since the presentation start at which each frame is shown; ascending, and
            strictly so unless a time was asked for twice.
        warnings: what was wrong with the video so far (cut short, damaged places), one line each; empty when nothing.
    """

    images: npt.NDArray[np.uint8]
    times_s: npt.NDArray[np.float64]
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check the values."""
        if self.images.ndim != 4 or self.images.shape[3] != 3 or self.images.dtype != np.uint8:
            raise InvalidInput(
                f"images are {self.images.dtype} {self.images.shape}", remedy="Give uint8 of shape (T, H, W, 3)."
            )
        if self.times_s.shape != self.images.shape[:1] or self.times_s.dtype != np.float64:
            raise InvalidInput(
                f"times_s is {self.times_s.dtype} {self.times_s.shape} for {self.images.shape[0]} images",
                remedy="Give one float64 time for each image.",
            )

    def __len__(self) -> int:
        """The number of frames."""
        return int(self.images.shape[0])

    def __repr__(self) -> str:
        """Shapes and times, no pixels."""
        span = f", {self.times_s[0]:.3f}–{self.times_s[-1]:.3f} s" if len(self) else ""
        noted = f", {len(self.warnings)} warnings" if self.warnings else ""
        return f"Frames(images={self.images.dtype} {self.images.shape}{span}{noted})"


def target_size(size: Size, *, height: int, width: int) -> tuple[int, int]:
    """Height and width of the pictures for a requested size.

    Args:
        size: what was asked for.
        height: rows of the video as shown.
        width: columns of the video as shown.

    Returns:
        `(height, width)`, each at least 1. A whole number scales both sides alike, the longer one rounded to the
        nearest pixel (halves up).
    """
    if size is None:
        return height, width
    if isinstance(size, tuple):
        return size
    short = min(height, width)
    if size >= short:
        return height, width
    scaled = max(1, (2 * max(height, width) * size + short) // (2 * short))
    return (size, scaled) if height <= width else (scaled, size)
