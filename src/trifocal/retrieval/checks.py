"""What every encoder of this lens refuses, in the same words: frames and texts that cannot be encoded."""

from __future__ import annotations

from typing import Any

import numpy as np

from trifocal.errors import InvalidInput

__all__ = ["check_frames", "check_texts"]


def check_frames(frames: Any) -> None:
    """Refuse what is not uint8 RGB (T, H, W, 3) with pixels in it; T may be zero.

    Raises:
        InvalidInput: it is not.
    """
    if not isinstance(frames, np.ndarray) or frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3:
        got = f"{frames.dtype} {frames.shape}" if isinstance(frames, np.ndarray) else type(frames).__name__
        raise InvalidInput(f"frames are {got}", remedy="Give a uint8 RGB array, (T, H, W, 3).")
    if len(frames) and 0 in frames.shape:
        raise InvalidInput(f"frames have the shape {frames.shape}", remedy="Give frames with at least one pixel.")


def check_texts(texts: Any) -> list[str]:
    """The texts as a list, without the space around them.

    Raises:
        InvalidInput: a bare string instead of a sequence, something that is not a string, a text with nothing in it.
    """
    if isinstance(texts, str):
        raise InvalidInput(f"texts is the string {texts!r}", remedy="Give a list of texts, such as [text].")
    checked = [text.strip() if isinstance(text, str) else "" for text in texts]
    if not all(checked):
        raise InvalidInput(
            f"the text at index {checked.index('')} has nothing in it", remedy="Say in a few words what to look for."
        )
    return checked
