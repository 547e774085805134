"""Polygons that move: every figure and thing is a list of `Part`s, each one outline per frame.

The renderer fills these outlines and the truth takes their extent, so a box is tight because both read the same
numbers. Everything is vectorised over frames: an outline is `(T, n, 2)`. Local coordinates have x forward and y up,
in the unit of the maker; `place` takes them to pixels with y down.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trifocal.playground.palette import RGB

FloatArray = NDArray[np.float64]

__all__ = [
    "FloatArray",
    "Part",
    "bar",
    "blob",
    "capsule",
    "disc",
    "extent",
    "panel",
    "place",
    "points",
    "rigid",
    "rotate",
    "still",
]

_HALF = np.linspace(-np.pi / 2, np.pi / 2, 6)


@dataclass(frozen=True, slots=True)
class Part:
    """One filled outline over time.

    Attributes:
        fill: its colour.
        outline: `(T, n, 2)` float64.
        alpha: 0 .. 1; below 1 it is glass or a shadow, and does not count for the extent.
    """

    fill: RGB
    outline: FloatArray
    alpha: float = 1.0


def points(*xy: ArrayLike) -> FloatArray:
    """`(T, 2)` from an x and a y that are numbers or `(T,)` arrays."""
    x, y = np.broadcast_arrays(np.asarray(xy[0], dtype=np.float64), np.asarray(xy[1], dtype=np.float64))
    return np.stack([np.atleast_1d(x), np.atleast_1d(y)], axis=-1)


def capsule(start: FloatArray, end: FloatArray, r_start: float, r_end: float) -> FloatArray:
    """The hull of two discs, `(T, 12, 2)`, from `(T, 2)` centres: a limb."""
    axis = end - start
    length = np.hypot(axis[:, 0], axis[:, 1])[:, None]
    along = np.where(length > 1e-9, axis / np.maximum(length, 1e-9), [1.0, 0.0])
    across = np.stack([-along[:, 1], along[:, 0]], axis=-1)
    cos, sin = np.cos(_HALF)[None, :, None], np.sin(_HALF)[None, :, None]
    far = end[:, None] + r_end * (cos * along[:, None] + sin * across[:, None])
    near = start[:, None] - r_start * (cos * along[:, None] + sin * across[:, None])
    return np.concatenate([far, near], axis=1)


def blob(centre: FloatArray, rx: ArrayLike, ry: ArrayLike, *, angle: ArrayLike = 0.0, n: int = 18) -> FloatArray:
    """An ellipse `(T, n, 2)` about `(T, 2)` centres, turned by `angle` (radians, counter-clockwise with y up)."""
    turn = np.linspace(0, 2 * np.pi, n, endpoint=False)
    rx, ry = np.atleast_1d(np.asarray(rx, np.float64)), np.atleast_1d(np.asarray(ry, np.float64))
    ring = np.stack(np.broadcast_arrays(rx[:, None] * np.cos(turn), ry[:, None] * np.sin(turn)), axis=-1)
    return centre[:, None] + rotate(ring, angle)


def rigid(shape: Sequence[tuple[float, float]] | FloatArray, at: FloatArray, *, angle: ArrayLike = 0.0) -> FloatArray:
    """A fixed polygon `(n, 2)` carried to `(T, 2)` places and turned: `(T, n, 2)`."""
    return at[:, None] + rotate(np.asarray(shape, np.float64)[None], angle)


def rotate(shape: FloatArray, angle: ArrayLike) -> FloatArray:
    """`(T, n, 2)` turned about the origin by a number or `(T,)` radians, counter-clockwise with y up."""
    angle = np.atleast_1d(np.asarray(angle, np.float64))
    cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
    x, y = shape[..., 0], shape[..., 1]
    return np.stack([x * cos - y * sin, x * sin + y * cos], axis=-1)


def place(
    parts: Sequence[Part], *, x: FloatArray, y: FloatArray, scale: ArrayLike, facing: ArrayLike = 1.0
) -> list[Part]:
    """Take parts from local coordinates to pixels.

    Args:
        parts: with outlines `(T, n, 2)` or `(1, n, 2)`.
        x: `(T,)` pixel column of the local origin.
        y: `(T,)` pixel row of the local origin.
        scale: pixels per local unit, a number or `(T,)`.
        facing: 1 to the right, -1 to the left, in between while turning round.
    """
    scale = np.broadcast_to(np.asarray(scale, np.float64), x.shape)
    flip = scale * np.asarray(facing, np.float64)
    out = []
    for part in parts:
        local = part.outline
        moved = np.stack(
            [x[:, None] + flip[:, None] * local[..., 0], y[:, None] - scale[:, None] * local[..., 1]], axis=-1
        )
        out.append(replace(part, outline=moved))
    return out


def extent(parts: Sequence[Part], *, width: float, height: float) -> FloatArray:
    """The box around what of the parts lies inside the picture.

    Args:
        parts: in pixels, all with the same T; those of `alpha` below 1 do not count.
        width: of the picture.
        height: of the picture.

    Returns:
        `(T, 4)` boxes_xyxy; NaN where nothing lies inside.
    """
    solid = [part.outline for part in parts if part.alpha >= 1.0]
    low_x, high_x = _range_inside(solid, axis=0, limit=height)
    low_y, high_y = _range_inside(solid, axis=1, limit=width)
    box = np.stack(
        [np.maximum(low_x, 0), np.maximum(low_y, 0), np.minimum(high_x, width), np.minimum(high_y, height)], axis=-1
    )
    box[~((box[:, 2] > box[:, 0]) & (box[:, 3] > box[:, 1]))] = np.nan
    return box


def _range_inside(outlines: Sequence[FloatArray], *, axis: int, limit: float) -> tuple[FloatArray, FloatArray]:
    """Least and greatest coordinate along `axis` of the outlines cut to 0 .. `limit` along the other axis."""
    frames = len(outlines[0])
    low, high = np.full(frames, np.inf), np.full(frames, -np.inf)
    for outline in outlines:
        value, other = outline[..., axis], outline[..., 1 - axis]
        rows = np.flatnonzero((other.max(axis=1) >= 0) & (other.min(axis=1) <= limit))
        if not rows.size:
            continue
        v, o = value[rows], other[rows]
        inside = (o >= 0) & (o <= limit)
        least = np.where(inside, v, np.inf).min(axis=1)
        most = np.where(inside, v, -np.inf).max(axis=1)
        if not inside.all():
            step_v, step_o = np.roll(v, -1, axis=1) - v, np.roll(o, -1, axis=1) - o
            for border in (0.0, limit):
                share = (border - o) / np.where(step_o == 0, 1.0, step_o)
                crosses = (share >= 0) & (share <= 1) & (step_o != 0)
                cut = v + share * step_v
                least = np.minimum(least, np.where(crosses, cut, np.inf).min(axis=1))
                most = np.maximum(most, np.where(crosses, cut, -np.inf).max(axis=1))
        low[rows] = np.minimum(low[rows], least)
        high[rows] = np.maximum(high[rows], most)
    return low, high


def still(fill: RGB, *xy: tuple[float, float], alpha: float = 1.0) -> Part:
    """A polygon that does not move, from its corners."""
    return Part(fill, np.array([xy], dtype=np.float64), alpha)


def panel(fill: RGB, x0: float, y0: float, x1: float, y1: float, *, round_by: float = 0.0, alpha: float = 1.0) -> Part:
    """An upright rectangle that does not move, its corners cut by `round_by`."""
    if round_by <= 0:
        return still(fill, (x0, y0), (x1, y0), (x1, y1), (x0, y1), alpha=alpha)
    turn = np.linspace(0, np.pi / 2, 4)
    corners = []
    for cx, cy, start in (
        (x1 - round_by, y1 - round_by, 0.0),
        (x0 + round_by, y1 - round_by, np.pi / 2),
        (x0 + round_by, y0 + round_by, np.pi),
        (x1 - round_by, y0 + round_by, 1.5 * np.pi),
    ):
        corners += [(cx + round_by * np.cos(a), cy + round_by * np.sin(a)) for a in start + turn]
    return Part(fill, np.array([corners], dtype=np.float64), alpha)


def disc(fill: RGB, x: float, y: float, r: float, *, ry: float | None = None, alpha: float = 1.0, n: int = 20) -> Part:
    """An ellipse that does not move."""
    return Part(fill, blob(points(x, y), r, r if ry is None else ry, n=n), alpha)


def bar(fill: RGB, x0: float, y0: float, x1: float, y1: float, r: float) -> Part:
    """A rod with round ends that does not move."""
    return Part(fill, capsule(points(x0, y0), points(x1, y1), r, r))
