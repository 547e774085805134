"""A picture of a merge: frames with the kept cells outlined, and the cells that time has joined in one colour.

A cell that stands for itself in its frame alone keeps the frame's own colours. A group that spans several frames is
tinted with one colour in all of them, so that what was carried over from earlier frames is seen at a glance. A cell
that nothing stands for is darkened.
"""

from __future__ import annotations

import colorsys
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from trifocal.errors import InvalidInput

if TYPE_CHECKING:
    import numpy.typing as npt

    from trifocal.merging.result import MergedTokens

    Pixels = npt.NDArray[np.uint8]

__all__ = ["draw"]

_TINT = 0.45
_DIMMED = 0.25
_GOLDEN = 0.618033988749895


def draw(images: Pixels, *, tokens: MergedTokens, scale: int | None = None) -> Pixels:
    """Outline the kept cells and colour the groups that span frames.

    Args:
        images: `(T, H', W', 3)` uint8 RGB, one per frame of the merged video, of any size.
        tokens: the merge of a video of `T` frames.
        scale: pixels per cell; None for as many as come nearest to the images' own size, at least 8.

    Returns:
        `(T, H * scale, W * scale, 3)` uint8: the images stretched onto the grid, tinted and outlined.

    Raises:
        InvalidInput: the images are not RGB, or not one per frame.
    """
    frames, height, width = tokens.grid
    if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != np.uint8:
        raise InvalidInput(
            f"images have shape {images.shape} and type {images.dtype}", remedy="Give (T, H, W, 3) of uint8, RGB."
        )
    if len(images) != frames:
        raise InvalidInput(f"there are {len(images)} images for {frames} frames", remedy="Give one image per frame.")
    if scale is None:
        scale = max(8, round(max(images.shape[1] / height, images.shape[2] / width)))
    elif scale < 2:
        raise InvalidInput(f"scale is {scale}", remedy="Give at least 2 pixels per cell.")

    token = tokens.assignment.cpu().numpy()
    colours = _colours(token, len(tokens))
    own = np.isnan(colours[:, 0])[np.maximum(token, 0)]  # the token has no colour: it lives in one frame
    tint = np.nan_to_num(colours)[np.maximum(token, 0)]
    strength = np.where(token < 0, 1 - _DIMMED, np.where(own, 0.0, _TINT))[..., None]
    tint = np.where(token[..., None] < 0, 0.0, tint)

    drawn = np.empty((frames, height * scale, width * scale, 3), np.uint8)
    for index, image in enumerate(images):
        canvas = np.asarray(Image.fromarray(image).resize((width * scale, height * scale), Image.Resampling.BILINEAR))
        spread = [np.repeat(np.repeat(part[index], scale, 0), scale, 1) for part in (strength, tint)]
        mixed = canvas * (1 - spread[0]) + spread[1] * spread[0]
        drawn[index] = _outline(mixed.round().astype(np.uint8), token[index], scale)
    return drawn


def _colours(token: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.float64]:
    """`(N, 3)` a colour for every token that is in several frames, NaN for the others; neighbours differ."""
    frames = len(token)
    flat = token.reshape(frames, -1)
    first, last = np.full(count, frames), np.full(count, -1)
    held = flat >= 0
    frame = np.broadcast_to(np.arange(frames)[:, None], flat.shape)[held]
    np.minimum.at(first, flat[held], frame)
    np.maximum.at(last, flat[held], frame)
    colours = np.full((count, 3), np.nan)
    for rank, index in enumerate(np.flatnonzero(last > first)):
        hue = rank * _GOLDEN % 1.0
        colours[index] = np.multiply(255, colorsys.hsv_to_rgb(hue, 0.85, 1.0))
    return colours


def _outline(canvas: Pixels, token: npt.NDArray[np.int64], scale: int) -> Pixels:
    """White lines wherever two neighbouring cells belong to different tokens, and around the frame."""
    height, width = token.shape
    image = Image.fromarray(canvas)
    pen = ImageDraw.Draw(image)
    thick = max(1, scale // 16)
    below = np.argwhere(token[:-1] != token[1:])
    beside = np.argwhere(token[:, :-1] != token[:, 1:])
    for y, x in below:
        pen.line([(x * scale, (y + 1) * scale), ((x + 1) * scale, (y + 1) * scale)], fill="white", width=thick)
    for y, x in beside:
        pen.line([((x + 1) * scale, y * scale), ((x + 1) * scale, (y + 1) * scale)], fill="white", width=thick)
    pen.rectangle([0, 0, width * scale - 1, height * scale - 1], outline="white", width=thick)
    return np.asarray(image)
