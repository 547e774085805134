"""Contact sheets: many small pictures on one, each with its label."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from trifocal.errors import InvalidInput
from trifocal.video.checks import check_image, check_whole

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL import Image, ImageDraw, ImageFont

__all__ = ["contact_sheet", "timestamp"]

_PAPER: Final = (250, 250, 248)
_INK: Final = (38, 38, 42)
_MOST_PIXELS: Final = 100_000_000


def timestamp(seconds: float) -> str:
    """Seconds as a label: `0:07.5`, `12:30.0`, `1:02:03.4`."""
    tenths = max(0, round(seconds * 10))
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    clock = f"{rest // 10:02d}.{rest % 10}"
    return f"{hours}:{minutes:02d}:{clock}" if hours else f"{minutes}:{clock}"


def contact_sheet(
    images: Sequence[npt.NDArray[np.uint8]] | npt.NDArray[np.uint8],
    *,
    labels: Sequence[str] | None = None,
    times_s: Sequence[float] | npt.NDArray[np.float64] | None = None,
    columns: int | None = None,
    width: int = 240,
    title: str | None = None,
) -> npt.NDArray[np.uint8]:
    """Pictures in rows, each scaled to one width, with a line of text below.

    Args:
        images: uint8 `(T, H, W, 3)` RGB, or a list of `(H, W, 3)` of any sizes; a lower picture is centred.
        labels: a line for each picture; shortened with `…` where it does not fit.
        times_s: seconds of each picture, written as time stamps when there are no labels.
        columns: pictures in a row; by default so that the sheet is a little wider than high.
        width: columns of pixels of each picture.
        title: a line above all.

    Returns:
        The sheet, uint8 `(H, W, 3)` RGB.

    Raises:
        InvalidInput: no pictures, labels of another number, or a sheet of more than 100 Mpx.
    """
    from PIL import Image, ImageDraw  # its start is not worth the decoding process's time

    pictures = list(images)
    texts = _texts(len(pictures), labels, times_s)
    check_whole("width", width, low=16, high=4096)
    if columns is not None:
        check_whole("columns", columns, low=1)
    small = [_shrink(picture, width) for picture in pictures]
    cell = max(picture.height for picture in small)
    per_row = min(columns or _columns(len(small), cell, width), len(small))
    rows = math.ceil(len(small) / per_row)
    gap, line = max(8, width // 24), max(12, width // 14)
    caption = line + gap // 2 if any(texts) else 0
    heading = 2 * line + gap if title else 0
    size = (gap + per_row * (width + gap), heading + gap + rows * (cell + caption + gap))
    if size[0] * size[1] > _MOST_PIXELS:
        raise InvalidInput(f"the sheet would have {size[0]}×{size[1]} pixels", remedy="Give fewer or smaller pictures.")
    sheet = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(sheet)
    font = _font(line)
    if title:
        large = _font(line + line // 3)
        draw.text((gap, gap), _fit(draw, title, large, size[0] - 2 * gap), fill=_INK, font=large)
    for i, (picture, text) in enumerate(zip(small, texts, strict=True)):
        left = gap + (i % per_row) * (width + gap)
        top = heading + gap + (i // per_row) * (cell + caption + gap)
        sheet.paste(picture, (left + (width - picture.width) // 2, top + (cell - picture.height) // 2))
        if text:
            fitted = _fit(draw, text, font, width)
            draw.text((left + width / 2, top + cell + gap // 4), fitted, fill=_INK, font=font, anchor="ma")
    return np.asarray(sheet)


def _texts(
    count: int, labels: Sequence[str] | None, times_s: Sequence[float] | npt.NDArray[np.float64] | None
) -> list[str]:
    if not count:
        raise InvalidInput("there are no pictures for the sheet", remedy="Give at least one.")
    texts = list(labels) if labels is not None else [] if times_s is None else [timestamp(float(t)) for t in times_s]
    if (labels is not None or times_s is not None) and len(texts) != count:
        raise InvalidInput(f"{len(texts)} labels are given for {count} pictures", remedy="Give one for each.")
    return texts or [""] * count


def _shrink(picture: npt.NDArray[np.uint8], width: int) -> Image.Image:
    from PIL import Image  # see above

    check_image(picture)
    height = max(1, round(picture.shape[0] * width / picture.shape[1]))
    tallest = 2 * width  # a tall picture is fitted by its height, or one portrait would stretch every row
    if height > tallest:
        width, height = max(1, round(picture.shape[1] * tallest / picture.shape[0])), tallest
    return Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS)


def _columns(count: int, cell: int, width: int) -> int:
    return max(1, min(count, math.ceil(math.sqrt(count * 1.4 * cell / width))))


def _font(pixels: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    from PIL import ImageFont  # see above

    return ImageFont.load_default(size=pixels)


def _fit(draw: ImageDraw.ImageDraw, text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, room: float) -> str:
    """The text, or as much of its beginning as fits, with an ellipsis."""
    text = " ".join(text.split())
    if draw.textlength(text, font=font) <= room:
        return text
    fits = 0
    low, high = 0, len(text)
    while low <= high:
        middle = (low + high) // 2
        if draw.textlength(text[:middle].rstrip() + "…", font=font) <= room:
            fits, low = middle, middle + 1
        else:
            high = middle - 1
    return text[:fits].rstrip() + "…"
