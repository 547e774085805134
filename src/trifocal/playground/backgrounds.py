"""Painted places: sky, ground and what stands in the distance, with texture, on a canvas as wide as the camera
pans.

`paint_place` draws once per scene; frames are cut out of it. The ground's texture lies in perspective, by looking
up a tileable noise at the depth that each row sees. Lengths are in picture heights and times `unit` pixels; `edge`
is where the ground begins.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from trifocal.playground.chance import Chance
from trifocal.playground.palette import RGB, mix, shade

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from trifocal.playground.shapes import FloatArray

__all__ = ["EDGE", "paint_place"]

EDGE: Mapping[str, float] = MappingProxyType(
    {
        "park": 0.5,
        "street": 0.56,
        "beach": 0.62,
        "living room": 0.66,
        "kitchen": 0.68,
        "gym": 0.62,
        "mountain": 0.54,
        "meadow": 0.5,
    }
)
"""Height of the line where the ground of a place begins, in picture heights."""

TILE = 256


@dataclass(slots=True)
class _Canvas:
    """A picture in the making: `array` `(H, W, 3)` float32, then `image` to draw on."""

    image: Image.Image
    unit: float
    horizon: float
    edge: float
    chance: Chance

    @property
    def width(self) -> float:
        """In picture heights."""
        return self.image.width / self.unit

    @property
    def pen(self) -> ImageDraw.ImageDraw:
        return ImageDraw.Draw(self.image, "RGBA")

    def polygon(self, fill: RGB, *xy: tuple[float, float], alpha: float = 1.0) -> None:
        self.pen.polygon([(x * self.unit, y * self.unit) for x, y in xy], fill=(*fill, round(255 * alpha)))

    def box(self, fill: RGB, x0: float, y0: float, x1: float, y1: float, *, alpha: float = 1.0) -> None:
        self.polygon(fill, (x0, y0), (x1, y0), (x1, y1), (x0, y1), alpha=alpha)

    def disc(self, fill: RGB, x: float, y: float, rx: float, ry: float | None = None, *, alpha: float = 1.0) -> None:
        ry = rx if ry is None else ry
        u = self.unit
        self.pen.ellipse(((x - rx) * u, (y - ry) * u, (x + rx) * u, (y + ry) * u), fill=(*fill, round(255 * alpha)))

    def line(self, fill: RGB, *xy: tuple[float, float], width: float, alpha: float = 1.0) -> None:
        wide = max(1, round(width * self.unit))
        self.pen.line([(x * self.unit, y * self.unit) for x, y in xy], fill=(*fill, round(255 * alpha)), width=wide)


def _texture(seed: int, octaves: tuple[int, ...] = (8, 32, 128)) -> FloatArray:
    """Tileable noise `(TILE, TILE)` of mean 0 and deviation 1, coarse to fine."""
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, 77])))
    total = np.zeros((TILE, TILE))
    for weight, cells in zip((1.0, 0.8, 0.7), octaves, strict=False):
        grid = rng.random((cells, cells))
        ramp = np.arange(TILE) * cells / TILE
        low = ramp.astype(int)
        share = ramp - low
        share = share * share * (3 - 2 * share)
        high = (low + 1) % cells
        rows = grid[low] * (1 - share)[:, None] + grid[high] * share[:, None]
        total += weight * (rows[:, low] * (1 - share) + rows[:, high] * share)
    result: FloatArray = (total - total.mean()) / total.std()
    return result


def _put(c: _Canvas, rows: slice, values: NDArray[np.float32]) -> None:
    c.image.paste(Image.fromarray(np.clip(values, 0, 255).astype(np.uint8)), (0, rows.start))


def _gradient(c: _Canvas, top: float, bottom: float, upper: RGB, lower: RGB) -> None:
    rows = slice(round(top * c.unit), round(bottom * c.unit))
    share = np.linspace(0, 1, max(rows.stop - rows.start, 1), dtype=np.float32)[:, None, None]
    colours = np.array(upper, np.float32) * (1 - share) + np.array(lower, np.float32) * share
    _put(c, rows, np.broadcast_to(colours, (len(share), c.image.width, 3)))


def _ground(
    c: _Canvas, top: float, bottom: float, far: RGB, near: RGB, *, rough: float, grain: float, pattern: str = "noise"
) -> None:
    """Ground in perspective between two rows.

    Args:
        c: the canvas.
        top: upper edge.
        bottom: lower edge.
        far: colour at the top.
        near: colour at the bottom.
        rough: contrast of the texture, in 8-bit steps.
        grain: size of the texture on the ground.
        pattern: "noise", "tiles" or "planks".
    """
    rows = slice(round(top * c.unit), min(c.image.height, round(bottom * c.unit)))
    if rows.stop <= rows.start:
        return
    y = (np.arange(rows.start, rows.stop) + 0.5) / c.unit
    depth = 1.0 / np.maximum(y - c.horizon, 0.02)
    x = (np.arange(c.image.width) / c.unit - c.width / 2)[None, :] * depth[:, None]
    share = ((y - top) / max(bottom - top, 1e-6))[:, None, None]
    base = np.array(far) * (1 - share) + np.array(near) * share
    fade = np.clip((y - c.horizon) * 3.0, 0.15, 1.0)[:, None]
    tile = _texture(c.chance.below(1 << 30))
    u = (x * TILE / (8.0 * grain)).astype(np.int64) % TILE
    v = (depth * TILE / (3.0 * grain)).astype(np.int64) % TILE
    relief = tile[np.broadcast_to(v[:, None], u.shape), u] * rough * fade
    if pattern == "tiles":
        across, along = np.mod(x / 0.42, 1.0), np.mod(depth[:, None] / 0.26, 1.0)
        odd = (np.floor(x / 0.42) + np.floor(depth[:, None] / 0.26)) % 2
        joint = (across < 0.035) | (along < 0.05)
        relief = relief * 0.35 + np.where(joint, -22.0, 0.0) * fade + (odd - 0.5) * 16 * fade
    elif pattern == "planks":
        lane = np.floor(depth[:, None] / 0.14)
        offset = np.mod(lane * 0.37, 1.0)
        joint = (np.mod(depth[:, None] / 0.14, 1.0) < 0.08) | (np.mod(x / 1.4 + offset, 1.0) < 0.008)
        tone = np.mod(np.sin(lane * 12.9898 + np.floor(x / 1.4 + offset) * 78.233) * 43758.5453, 1.0) - 0.5
        relief = relief * 0.4 + np.where(joint, -26.0, 0.0) * fade + tone * 18
    _put(c, rows, (base + relief[..., None] * np.array([1.0, 1.0, 0.85])).astype(np.float32))


def _sky(c: _Canvas, upper: RGB = (104, 166, 224), lower: RGB = (214, 234, 246), *, clouds: int = 5) -> None:
    _gradient(c, 0.0, c.edge, upper, lower)
    for _ in range(clouds):
        x, y, size = c.chance.between(0, c.width), c.chance.between(0.04, 0.24), c.chance.between(0.05, 0.1)
        for dx, dy, r in ((-1.1, 0.1, 0.6), (-0.4, -0.2, 0.85), (0.4, -0.1, 0.75), (1.1, 0.15, 0.5), (0.0, 0.2, 0.9)):
            c.disc((250, 252, 255), x + dx * size, y + dy * size * 0.7, r * size, r * size * 0.62, alpha=0.85)


def _ridge(c: _Canvas, base: float, height: float, fill: RGB, *, waves: float = 2.0) -> None:
    phase = [c.chance.between(0, 6.28) for _ in range(3)]
    xs = np.linspace(0, c.width, 90)
    rise = 0.55 + 0.28 * np.sin(waves * xs + phase[0]) + 0.17 * np.sin(2.7 * waves * xs + phase[1])
    line = [(float(x), float(base - height * r)) for x, r in zip(xs, rise, strict=True)]
    c.polygon(fill, (0, base + 0.02), *line, (c.width, base + 0.02))


def _bushes(c: _Canvas, base: float, size: float, fill: RGB) -> None:
    x = -0.02
    while x < c.width:
        r = size * c.chance.between(0.6, 1.2)
        tone = shade(fill, c.chance.between(-0.12, 0.1))
        c.disc(tone, x, base - 0.4 * r, r, r * 0.9)
        c.disc(shade(tone, 0.12), x - 0.25 * r, base - 0.75 * r, 0.45 * r, 0.35 * r)
        x += r * 0.95


def _grass_tufts(c: _Canvas, count: int, colours: tuple[RGB, ...]) -> None:
    for _ in range(count):
        x, y = c.chance.between(0, c.width), c.chance.between(c.edge + 0.04, 1.0)
        s = 0.03 * (y - c.horizon)
        fill = c.chance.pick(colours)
        c.line(shade((70, 130, 56), -0.1), (x, y), (x, y - 1.3 * s), width=0.12 * s)
        c.disc(fill, x, y - 1.3 * s, 0.5 * s)


def _park(c: _Canvas) -> None:
    _sky(c)
    _ridge(c, c.edge, 0.14, (150, 190, 170))
    _bushes(c, c.edge, 0.09, (74, 130, 78))
    _ground(c, c.edge, 1.0, (126, 176, 92), (88, 148, 62), rough=9, grain=0.5)
    wide = c.width
    c.polygon((214, 198, 160), (0, 0.645), (wide, 0.615), (wide, 0.665), (0, 0.7))
    c.polygon((196, 178, 140), (0, 0.693), (wide, 0.659), (wide, 0.668), (0, 0.703))
    _grass_tufts(c, round(34 * wide), ((250, 236, 130), (250, 250, 250), (236, 150, 180)))


def _meadow(c: _Canvas) -> None:
    _sky(c, (120, 182, 232), (228, 240, 240), clouds=6)
    _ridge(c, c.edge, 0.2, (142, 186, 132), waves=1.6)
    _ridge(c, c.edge, 0.1, (112, 168, 98), waves=2.3)
    x = c.chance.between(0.1, 0.7) * c.width
    c.box((168, 62, 50), x, c.edge - 0.13, x + 0.2, c.edge)
    c.polygon((104, 56, 48), (x - 0.02, c.edge - 0.125), (x + 0.1, c.edge - 0.22), (x + 0.22, c.edge - 0.125))
    c.box((244, 236, 226), x + 0.07, c.edge - 0.09, x + 0.13, c.edge)
    _ground(c, c.edge, 1.0, (146, 186, 88), (104, 160, 58), rough=11, grain=0.45)
    for post in np.arange(0.0, c.width, 0.16):
        c.box((150, 120, 88), float(post), c.edge - 0.03, float(post) + 0.014, c.edge + 0.065)
    for rail in (0.0, 0.03):
        c.box((166, 136, 102), 0, c.edge - 0.015 + rail, c.width, c.edge - 0.003 + rail)
    _grass_tufts(c, round(60 * c.width), ((250, 226, 90), (252, 252, 252), (226, 90, 80), (150, 120, 210)))


def _street(c: _Canvas) -> None:
    _sky(c, clouds=3)
    x = -0.05
    walls: tuple[RGB, ...] = (
        (206, 150, 116),
        (226, 206, 168),
        (176, 110, 92),
        (190, 196, 204),
        (222, 182, 132),
        (158, 176, 170),
    )
    while x < c.width:
        wide, top = c.chance.between(0.26, 0.46), c.chance.between(0.06, 0.24)
        wall = c.chance.pick(walls)
        c.box(wall, x, top, x + wide, c.edge)
        c.box(shade(wall, -0.25), x, top, x + wide, top + 0.018)
        c.box(shade(wall, -0.2), x + wide - 0.012, top, x + wide, c.edge)
        columns = max(2, round(wide / 0.095))
        step = wide / columns
        y = top + 0.05
        while y + 0.07 < c.edge - 0.1:
            for i in range(columns):
                left = x + (i + 0.24) * step
                lit = (250, 224, 150) if c.chance.happens(0.25) else (120, 152, 176)
                c.box(shade(wall, 0.3), left - 0.006, y - 0.006, left + 0.52 * step + 0.006, y + 0.066)
                c.box(lit, left, y, left + 0.52 * step, y + 0.06)
            y += 0.105
        shop = c.chance.pick(((60, 100, 110), (130, 60, 60), (70, 90, 60), (90, 80, 120)))
        c.box(shade(shop, -0.2), x + 0.02, c.edge - 0.115, x + wide - 0.03, c.edge)
        c.box((176, 206, 214), x + 0.035, c.edge - 0.08, x + wide * 0.6, c.edge - 0.02)
        c.box((84, 58, 46), x + wide * 0.68, c.edge - 0.085, x + wide * 0.84, c.edge)
        stripes = 8
        for i in range(stripes):
            a, b = x + 0.02 + (wide - 0.05) * i / stripes, x + 0.02 + (wide - 0.05) * (i + 1) / stripes
            fill = shop if i % 2 else (240, 236, 228)
            c.polygon(fill, (a, c.edge - 0.12), (b, c.edge - 0.12), (b, c.edge - 0.088), (a, c.edge - 0.088))
        x += wide
    _ground(c, c.edge, 0.7, (184, 180, 174), (198, 194, 188), rough=5, grain=0.3, pattern="tiles")
    c.box((222, 220, 214), 0, 0.7, c.width, 0.712)
    c.box((128, 126, 124), 0, 0.712, c.width, 0.73)
    _ground(c, 0.73, 0.905, (92, 94, 100), (80, 82, 88), rough=6, grain=0.25)
    c.box((132, 130, 128), 0, 0.905, c.width, 0.918)
    c.box((226, 224, 218), 0, 0.918, c.width, 0.932)
    _ground(c, 0.932, 1.0, (192, 188, 182), (200, 196, 190), rough=5, grain=0.3, pattern="tiles")
    for left in np.arange(0.0, c.width, 0.34):
        x0 = float(left)
        c.polygon((238, 236, 226), (x0, 0.81), (x0 + 0.18, 0.81), (x0 + 0.185, 0.821), (x0 + 0.002, 0.821))


def _beach(c: _Canvas) -> None:
    sea = 0.43
    _sky(c, (92, 172, 232), (226, 242, 250), clouds=4)
    c.disc((255, 246, 204), c.width * c.chance.between(0.15, 0.85), 0.13, 0.06)
    _gradient(c, sea, c.edge + 0.02, (46, 128, 176), (104, 190, 204))
    for _ in range(round(70 * c.width)):
        x, y = c.chance.between(0, c.width), c.chance.between(sea + 0.01, c.edge)
        wide = c.chance.between(0.02, 0.07) * (0.4 + 6 * (y - sea))
        c.line((226, 244, 246), (x, y), (x + wide, y), width=0.0035, alpha=0.55)
    _ground(c, c.edge, 1.0, (232, 210, 158), (240, 218, 166), rough=7, grain=0.22)
    xs = np.linspace(0, c.width, 80)
    foam = [(float(x), float(c.edge + 0.012 * np.sin(5 * x) + 0.006 * np.sin(13 * x))) for x in xs]
    c.polygon((104, 190, 204), (0, c.edge - 0.01), *foam, (c.width, c.edge - 0.01))
    c.line((250, 252, 252), *foam, width=0.012)
    c.line((210, 186, 134), *[(x, y + 0.014) for x, y in foam], width=0.012, alpha=0.7)
    for _ in range(round(16 * c.width)):
        x, y = c.chance.between(0, c.width), c.chance.between(c.edge + 0.06, 1.0)
        s = 0.018 * (y - c.horizon)
        c.disc(c.chance.pick(((250, 240, 226), (226, 150, 120), (200, 170, 140))), x, y, s, 0.6 * s)


def _room(c: _Canvas, wall: RGB, *, stripes: bool) -> None:
    _gradient(c, 0.0, c.edge, shade(wall, -0.06), wall)
    if stripes:
        for left in np.arange(0.0, c.width, 0.1):
            c.box(shade(wall, 0.12), float(left), 0.0, float(left) + 0.045, c.edge, alpha=0.6)
    c.box((240, 234, 224), 0, c.edge - 0.035, c.width, c.edge)
    c.box((204, 196, 184), 0, c.edge - 0.007, c.width, c.edge)


def _window(c: _Canvas, x: float, y: float, wide: float, high: float) -> None:
    c.box((250, 248, 242), x - 0.018, y - 0.018, x + wide + 0.018, y + high + 0.018)
    c.box((160, 208, 238), x, y, x + wide, y + high)
    c.box((132, 178, 110), x, y + 0.7 * high, x + wide, y + high)
    c.disc((110, 160, 96), x + 0.3 * wide, y + 0.72 * high, 0.2 * wide, 0.12 * high)
    c.box((250, 248, 242), x + wide / 2 - 0.006, y, x + wide / 2 + 0.006, y + high)
    c.box((250, 248, 242), x, y + high / 2 - 0.006, x + wide, y + high / 2 + 0.006)
    c.box((226, 218, 206), x - 0.03, y + high + 0.016, x + wide + 0.03, y + high + 0.034)


def _living_room(c: _Canvas) -> None:
    _room(c, c.chance.pick(((226, 208, 178), (196, 212, 206), (222, 196, 186))), stripes=True)
    x = c.chance.between(0.05, 0.2)
    slot = 0
    while x + 0.3 < c.width:
        if slot % 3 == 0:
            _window(c, x, 0.12, 0.26, 0.28)
            drape = (176, 96, 84)
            for side, at in ((-1, x - 0.05), (1, x + 0.31)):
                c.polygon(
                    drape,
                    (at - 0.03, 0.08),
                    (at + 0.03, 0.08),
                    (at + 0.025 + 0.01 * side, 0.5),
                    (at - 0.035 + 0.01 * side, 0.5),
                )
            c.box((120, 88, 60), x - 0.1, 0.07, x + 0.36, 0.085)
        elif slot % 3 == 1:
            c.box((110, 78, 50), x, 0.16, x + 0.2, 0.34)
            c.box((186, 214, 226), x + 0.015, 0.175, x + 0.185, 0.325)
            c.polygon(
                (120, 150, 110),
                (x + 0.015, 0.325),
                (x + 0.08, 0.23),
                (x + 0.13, 0.285),
                (x + 0.155, 0.26),
                (x + 0.185, 0.325),
            )
        else:
            c.box((128, 90, 58), x, 0.2, x + 0.24, c.edge)
            for shelf in range(4):
                y = 0.225 + shelf * (c.edge - 0.22) / 4
                c.box((86, 58, 38), x + 0.012, y, x + 0.228, y + (c.edge - 0.22) / 4 - 0.02)
                at = x + 0.018
                while at < x + 0.2:
                    thick, tall = c.chance.between(0.012, 0.022), c.chance.between(0.055, 0.08)
                    tone = c.chance.pick(((176, 70, 60), (70, 110, 140), (200, 170, 90), (90, 130, 90), (120, 90, 130)))
                    floor = y + (c.edge - 0.22) / 4 - 0.02
                    c.box(tone, at, floor - tall, at + thick, floor)
                    at += thick + 0.002
        x += 0.42 + c.chance.between(0, 0.1)
        slot += 1
    _ground(c, c.edge, 1.0, (176, 130, 88), (188, 142, 98), rough=8, grain=0.4, pattern="planks")
    middle = c.width / 2
    c.disc((150, 66, 62), middle, 0.87, 0.62, 0.09)
    c.disc((206, 170, 130), middle, 0.87, 0.56, 0.078)
    c.disc((160, 76, 70), middle, 0.87, 0.5, 0.068)


def _kitchen(c: _Canvas) -> None:
    _room(c, c.chance.pick(((236, 226, 196), (206, 224, 220), (230, 214, 206))), stripes=False)
    low, high = 0.3, 0.46
    c.box((240, 242, 240), 0, low, c.width, high)
    for x in np.arange(0.0, c.width, 0.06):
        c.line((206, 212, 212), (float(x), low), (float(x), high), width=0.003)
    for y in np.arange(low, high + 0.001, 0.0533):
        c.line((206, 212, 212), (0, float(y)), (c.width, float(y)), width=0.003)
    front = c.chance.pick(((120, 160, 168), (214, 168, 110), (150, 168, 130)))
    for x in np.arange(0.0, c.width, 0.22):
        a = float(x)
        c.box(front, a + 0.006, high + 0.03, a + 0.214, c.edge)
        c.box(shade(front, 0.18), a + 0.022, high + 0.05, a + 0.198, c.edge - 0.025)
        c.box((90, 90, 92), a + 0.095, high + 0.06, a + 0.125, high + 0.068)
        if round(a / 0.22) % 4 != 1:
            c.box(front, a + 0.006, 0.04, a + 0.214, 0.22)
            c.box(shade(front, 0.18), a + 0.022, 0.058, a + 0.198, 0.202)
        else:
            _window(c, a - 0.05, 0.05, 0.24, 0.2)
    c.box((196, 180, 160), 0, high, c.width, high + 0.032)
    c.box((150, 134, 114), 0, high + 0.026, c.width, high + 0.034)
    x = c.chance.between(0.1, 0.3) * c.width
    c.box((222, 226, 230), x, 0.1, x + 0.26, c.edge)
    c.box((176, 182, 188), x, 0.3, x + 0.26, 0.308)
    c.box((120, 126, 132), x + 0.02, 0.33, x + 0.032, 0.46)
    c.box((120, 126, 132), x + 0.02, 0.2, x + 0.032, 0.28)
    pot = x + 0.5
    c.box((150, 60, 52), pot, high - 0.06, pot + 0.1, high)
    c.box((40, 40, 44), pot - 0.02, high - 0.048, pot + 0.12, high - 0.04)
    _ground(c, c.edge, 1.0, (206, 196, 182), (222, 212, 198), rough=5, grain=0.4, pattern="tiles")


def _gym(c: _Canvas) -> None:
    _gradient(c, 0.0, c.edge, (206, 214, 220), (226, 230, 230))
    c.box((70, 110, 160), 0, c.edge - 0.2, c.width, c.edge)
    c.box((236, 190, 70), 0, c.edge - 0.215, c.width, c.edge - 0.2)
    for x in np.arange(0.06, c.width, 0.3):
        a = float(x)
        c.box((150, 176, 196), a, 0.05, a + 0.2, 0.17)
        c.box((236, 242, 246), a, 0.05, a + 0.2, 0.075)
        c.line((200, 206, 212), (a + 0.1, 0.05), (a + 0.1, 0.17), width=0.006)
    for x in np.arange(0.1, c.width, 0.95):
        a = float(x)
        c.box((250, 250, 250), a, 0.2, a + 0.2, 0.33)
        c.box((206, 60, 50), a + 0.065, 0.265, a + 0.135, 0.31)
        c.box((250, 250, 250), a + 0.073, 0.272, a + 0.127, 0.31)
        c.line((226, 96, 40), (a + 0.06, 0.325), (a + 0.14, 0.325), width=0.011)
        for i in range(5):
            c.line((244, 244, 244), (a + 0.064 + i * 0.018, 0.33), (a + 0.076 + i * 0.012, 0.39), width=0.003)
    _ground(c, c.edge, 1.0, (206, 158, 100), (220, 172, 112), rough=6, grain=0.4, pattern="planks")
    c.line((246, 244, 238), (0, 0.69), (c.width, 0.69), width=0.012)
    middle = c.width / 2
    pen, u = c.pen, c.unit
    pen.ellipse(
        ((middle - 0.42) * u, 0.78 * u, (middle + 0.42) * u, 0.95 * u),
        outline=(246, 244, 238),
        width=max(1, round(0.012 * u)),
    )
    c.line((246, 244, 238), (middle, 0.69), (middle, 1.0), width=0.012)


def _mountain(c: _Canvas) -> None:
    _sky(c, (110, 168, 226), (232, 240, 248), clouds=3)
    x = -0.2
    while x < c.width + 0.2:
        half, top = c.chance.between(0.28, 0.46), c.chance.between(0.08, 0.24)
        rock = mix((118, 132, 158), (150, 164, 188), c.chance.unit())
        c.polygon(rock, (x - half, c.edge), (x, top), (x + half, c.edge))
        c.polygon(shade(rock, -0.16), (x, top), (x + half, c.edge), (x + 0.1 * half, c.edge))
        snow = 0.36
        y = top + (c.edge - top) * snow
        c.polygon(
            (250, 252, 255),
            (x, top),
            (x + half * snow, y),
            (x + 0.16 * half, y - 0.02),
            (x + 0.02, y + 0.02),
            (x - 0.14 * half, y - 0.015),
            (x - half * snow, y),
        )
        x += half * c.chance.between(0.8, 1.3)
    _ridge(c, c.edge + 0.01, 0.06, (228, 236, 246), waves=2.4)
    x = 0.0
    while x < c.width:
        tall = c.chance.between(0.07, 0.13)
        for level in range(3):
            y = c.edge + 0.02 - tall * (0.12 + 0.27 * level)
            half = tall * (0.34 - 0.08 * level)
            c.polygon((52, 92, 78), (x - half, y), (x + half, y), (x, y - 0.42 * tall))
            c.polygon(
                (232, 240, 246),
                (x - 0.4 * half, y - 0.25 * tall),
                (x + 0.4 * half, y - 0.25 * tall),
                (x, y - 0.42 * tall),
            )
        x += c.chance.between(0.05, 0.2)
    _ground(c, c.edge, 1.0, (226, 234, 246), (244, 248, 254), rough=5, grain=0.8)


_PAINTERS: Mapping[str, Callable[[_Canvas], None]] = MappingProxyType(
    {
        "park": _park,
        "street": _street,
        "beach": _beach,
        "living room": _living_room,
        "kitchen": _kitchen,
        "gym": _gym,
        "mountain": _mountain,
        "meadow": _meadow,
    }
)


def paint_place(place: str, *, width: int, height: int, horizon: float, seed: int) -> Image.Image:
    """A place by daylight, without actors and things.

    Args:
        place: one of `spec.PLACES`.
        width: of the canvas in pixels; a wider one shows more of the place.
        height: of the canvas in pixels.
        horizon: where lines of the ground meet, in picture heights.
        seed: decides the details.

    Returns:
        An RGB image `(height, width)`.
    """
    canvas = _Canvas(Image.new("RGB", (width, height)), float(height), horizon, EDGE[place], Chance(seed, 5))
    _PAINTERS[place](canvas)
    return canvas.image
