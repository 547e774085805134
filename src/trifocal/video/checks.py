"""Checks of what callers give: whole numbers in a range, RGB pictures, and text that is to stand in a message."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from trifocal.errors import InvalidInput

__all__ = ["check_image", "check_whole", "is_number", "one_line"]


def is_number(value: object) -> bool:
    """A finite number that is no truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def one_line(text: object, *, most: int = 400) -> str:
    """Text of others (a file's name, a decoder's message) as one printable line that cannot steer a terminal."""
    return "".join(c if c.isprintable() else " " if c.isspace() else "?" for c in str(text)[:most])


def check_whole(name: str, value: object, *, low: int, high: int | None = None) -> None:
    """Refuse what is not a whole number from `low` to `high`.

    Raises:
        InvalidInput: with the name, the value and the range.
    """
    good = isinstance(value, int) and not isinstance(value, bool) and low <= value
    if not good or (high is not None and isinstance(value, int) and value > high):
        span = f"of at least {low}" if high is None else f"from {low} to {high:,}"
        raise InvalidInput(f"{name} is {value!r}", remedy=f"Give a whole number {span}.")


def check_image(image: Any, *, shape: tuple[int, ...] | None = None) -> None:
    """Refuse what is not a picture, uint8 `(H, W, 3)` with at least one pixel, of the given shape if any.

    Raises:
        InvalidInput: with what it is instead.
    """
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        what = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise InvalidInput(f"a picture is {what}", remedy="Give uint8 of shape (H, W, 3).")
    if shape is not None and image.shape != shape:
        raise InvalidInput(f"a picture is {image.shape}, the first was {shape}", remedy="Give pictures of one size.")
    if not image.size:
        raise InvalidInput(f"a picture is {image.shape}", remedy="Give at least one pixel.")
