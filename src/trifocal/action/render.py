"""Tubes drawn on their video: a box per actor, what it does, and where a class looks.

Boxes move evenly between the moments that were looked at. `annotated` is a generator over frames, so a film of any
length needs the memory of one frame; `overlay` lays an attention map over a picture.
"""

from __future__ import annotations

import colorsys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from trifocal.errors import InvalidInput

if TYPE_CHECKING:
    import numpy.typing as npt

    from trifocal.action.tube import Tube
    from trifocal.video import Frames

    Picture = npt.NDArray[np.uint8]

__all__ = ["actor_colour", "annotated", "draw_actors", "overlay"]

_GOLDEN = 0.618033988749895
_LABELS = 3


def actor_colour(actor: int) -> tuple[int, int, int]:
    """A colour of its own for each actor; neighbours differ."""
    red, green, blue = colorsys.hsv_to_rgb(actor * _GOLDEN % 1.0, 0.75, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)


def annotated(
    frames: Iterable[Frames], tubes: Sequence[Tube], *, size: tuple[int, int], least_score: float = 0.5
) -> Iterator[Picture]:
    """Frames with the actors drawn on them.

    Args:
        frames: batches in order of time, of any size.
        tubes: of this video.
        size: height and width that the tubes' boxes count in.
        least_score: actions below it are not written.

    Yields:
        uint8 `(H, W, 3)`, one for each frame.
    """
    for piece in frames:
        for image, time_s in zip(piece.images, piece.times_s, strict=True):
            yield draw_actors(image, tubes, time_s=float(time_s), size=size, least_score=least_score)


def draw_actors(
    image: Picture,
    tubes: Sequence[Tube],
    *,
    time_s: float,
    size: tuple[int, int],
    least_score: float = 0.5,
    scores: bool = True,
) -> Picture:
    """One frame with the actors of that second drawn on it; arguments as for `annotated`.

    With `scores=False` actions stand there without a number, as truth that nobody guessed.
    """
    height, width = image.shape[:2]
    scale = np.array([width / size[1], height / size[0]] * 2)
    canvas = Image.fromarray(np.ascontiguousarray(image))
    pen = ImageDraw.Draw(canvas)
    thick, letters = max(2, height // 180), max(11, height // 28)
    font = ImageFont.load_default(size=letters)
    for tube in tubes:
        if not tube.start_s <= time_s <= tube.end_s:
            continue
        box = _at(tube.times_s, tube.boxes_xyxy, time_s) * scale
        colour = actor_colour(tube.actor)
        pen.rectangle([float(side) for side in box], outline=colour, width=thick)
        found = {name: float(np.interp(time_s, tube.times_s, values)) for name, values in tube.actions.items()}
        best = sorted((name for name in found if found[name] >= least_score), key=lambda name: (-found[name], name))
        lines = [f"{tube.actor}", *(f"{name} {found[name]:.2f}" if scores else name for name in best[:_LABELS])]
        _write(pen, lines, box, colour=colour, font=font, room=(width, height))
    return np.asarray(canvas)


def overlay(image: Picture, attention: npt.NDArray[np.floating], *, strength: float = 0.6) -> Picture:
    """An attention map as heat over a picture.

    Args:
        image: uint8 `(H, W, 3)`.
        attention: `(h, w)`, at least 0; its largest value becomes the hottest colour.
        strength: how much of the picture the hottest colour hides, 0 to 1.

    Raises:
        InvalidInput: the map is not finite or below 0.
    """
    if attention.ndim != 2 or not np.isfinite(attention).all() or (attention < 0).any():
        raise InvalidInput(f"attention is {attention.shape} or not finite", remedy="Give (h, w) of at least 0.")
    height, width = image.shape[:2]
    peak = float(attention.max(initial=0.0)) or 1.0
    small = Image.fromarray((attention / peak).astype(np.float32), mode="F")
    heat = np.asarray(small.resize((width, height), Image.Resampling.BICUBIC)).clip(0, 1)[..., None]  # (H, W, 1)
    colour = np.concatenate((255 * np.ones_like(heat), 255 * heat, 40 * np.ones_like(heat)), -1)  # red to yellow
    mix = strength * heat
    return (image * (1 - mix) + colour * mix).round().astype(np.uint8)


def _at(times_s: npt.NDArray[np.float64], boxes: npt.NDArray[np.float32], time_s: float) -> npt.NDArray[np.float64]:
    return np.array([np.interp(time_s, times_s, boxes[:, side]) for side in range(4)])


def _write(
    pen: ImageDraw.ImageDraw,
    lines: Sequence[str],
    box: npt.NDArray[np.float64],
    *,
    colour: tuple[int, int, int],
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    room: tuple[int, int],
) -> None:
    """Lines above a box, or inside where there is no room above."""
    text = "\n".join(lines)
    left, top, right, bottom = pen.multiline_textbbox((0, 0), text, font=font, spacing=1)
    wide, high = right - left + 6, bottom - top + 6
    x = float(np.clip(box[0], 0, max(0, room[0] - wide)))
    y = float(box[1] - high if box[1] >= high else min(box[1], room[1] - high))
    pen.rectangle([x, y, x + wide, y + high], fill=colour)
    pen.multiline_text((x + 3 - left, y + 3 - top), text, fill=(0, 0, 0), font=font, spacing=1)
