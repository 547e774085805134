"""From a spec to pictures.

A scene's place is painted once, at twice the size, and each frame is cut from it; what moves is drawn on the cut at
twice the size and the whole is halved, which smooths every edge. Light tints both. Then the sensor's
noise is added: one noise picture per video, shifted by a hash of (seed, index), so that any frame can be had alone.
`Renderer` keeps one scene and one block of it; memory does not grow with the length.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw

from trifocal.errors import InvalidInput
from trifocal.playground.backgrounds import paint_place
from trifocal.playground.palette import GLOWING
from trifocal.playground.stage import BLOCK, Sprite, Stage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trifocal.playground.palette import RGB
    from trifocal.playground.spec import VideoSpec

ByteArray = NDArray[np.uint8]

__all__ = ["Renderer", "frame", "render"]

SUPER = 2
TINT = {"day": (1.0, 1.0, 1.0), "dusk": (1.0, 0.8, 0.68), "night": (0.44, 0.5, 0.7)}
_SPREAD = 61


class Renderer:
    """Draws the frames of one video, in any order; fastest in order.

    Args:
        spec: the video.
    """

    def __init__(self, spec: VideoSpec) -> None:
        """Prepare; nothing is painted yet."""
        self.spec = spec
        self._starts = np.array([spec.frames_of(i)[0] for i in range(len(spec.scenes))])
        self._scene = -1
        self._stage: Stage
        self._canvas: Image.Image
        self._block = (-1, -1)
        self._sprites: list[Sprite] = []
        self._grain: dict[float, Image.Image] = {}

    def frame(self, index: int) -> ByteArray:
        """Frame `index` as `(H, W, 3)` uint8 RGB.

        Raises:
            InvalidInput: there is no such frame.
        """
        if not 0 <= index < self.spec.frame_count:
            remedy = f"Ask for 0 to {self.spec.frame_count - 1}."
            raise InvalidInput(f"the video has no frame {index}", remedy=remedy)
        self._enter(int(np.searchsorted(self._starts, index, side="right")) - 1, index)
        at = index - self._block[0]
        left = float(self._stage.camera_px(np.array([index / self.spec.fps]))[0])
        width, height = self.spec.width * SUPER, self.spec.height * SUPER
        edge = round(left * SUPER)
        picture = self._canvas.crop((edge, 0, edge + width, height))
        _draw(picture, self._sprites, at, None)
        picture = picture.reduce(SUPER)
        return np.asarray(self._with_noise(picture, index))

    def mask(self, index: int, name: str) -> NDArray[np.bool_]:
        """Where the actor or thing `name` alone would be painted in a frame, hidden or not: `(H, W)` bool.

        A pixel counts when half of it is covered.
        """
        self._enter(int(np.searchsorted(self._starts, index, side="right")) - 1, index)
        sprites = [s for s in (*self._stage.still_sprites(), *self._sprites) if s.id == name]
        ink = Image.new("L", (self.spec.width * SUPER, self.spec.height * SUPER))
        left = float(self._stage.camera_px(np.array([index / self.spec.fps]))[0])
        for sprite in sprites:
            still = len(sprite.shown) == 1 and self._block[1] - self._block[0] > 1
            _draw(ink, [sprite], 0 if still else index - self._block[0], 255, shift=-left if still else 0.0)
        return np.asarray(ink.reduce(SUPER)) >= 128

    def _enter(self, number: int, index: int) -> None:
        """Make the scene and the block of a frame the current ones."""
        if number != self._scene:
            self._stage = Stage(self.spec, number)
            self._canvas = self._paint_canvas()
            self._scene, self._block = number, (-1, -1)
        if not self._block[0] <= index < self._block[1]:
            first = self._stage.first + (index - self._stage.first) // BLOCK * BLOCK
            self._block = (first, min(first + BLOCK, self._stage.stop))
            tint = TINT[self._stage.scene.light.time]
            self._sprites = [_tinted(sprite, tint) for sprite in self._stage.sprites(*self._block)]

    def _paint_canvas(self) -> Image.Image:
        scene, height = self._stage.scene, self.spec.height
        width = max(round(scene.span * height), self.spec.width) + 1
        canvas = paint_place(
            scene.place, width=width * SUPER, height=height * SUPER, horizon=scene.camera.horizon, seed=scene.seed
        )
        _draw(canvas, self._stage.still_sprites(), 0, None)
        if scene.light.time == "day":
            return canvas
        light = self._paint_light(canvas.width // SUPER, height)
        return ImageChops.multiply(canvas, light.resize(canvas.size, Image.Resampling.BILINEAR))

    def _paint_light(self, width: int, height: int) -> Image.Image:
        """What the light lets through at each pixel of the canvas: a tint, and pools of warm light about the lamps."""
        scene = self._stage.scene
        tint = TINT[scene.light.time]
        y, x = np.mgrid[0:height, 0:width].astype(np.float32) / height
        through = np.broadcast_to(np.array(tint, np.float32), (height, width, 3)).copy()
        warm = np.array([1.0, 0.92, 0.68], np.float32)
        for thing in scene.things:
            if thing.kind != "lamp":
                continue
            metre = self._stage.metre(thing.lane) * thing.size / height
            lamp_x = thing.motions[0].x0 + 0.5 * metre * thing.facing
            bulb_y, floor_y = thing.lane - 3.1 * metre, thing.lane
            glow = np.exp(-(((x - lamp_x) / 0.11) ** 2) - ((y - bulb_y) / 0.11) ** 2)
            pool = 0.85 * np.exp(-(((x - lamp_x) / 0.42) ** 2) - ((y - floor_y) / 0.16) ** 2)
            reach = np.maximum(glow, pool)[..., None] * (1.0 if scene.light.time == "night" else 0.5)
            through += reach * (warm - through)
        return Image.fromarray((np.clip(through, 0, 1) * 255).astype(np.uint8))

    def _with_noise(self, picture: Image.Image, index: int) -> Image.Image:
        sigma = self._stage.scene.light.noise
        if sigma <= 0:
            return picture
        width, height = picture.size
        if sigma not in self._grain:
            rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([self.spec.seed, 9])))
            size = (height + _SPREAD, width + _SPREAD, 3)
            values = rng.standard_normal(size, dtype=np.float32) * sigma + 128.5
            self._grain = {sigma: Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))}
        word = _hash(self.spec.seed, index)
        x, y = word % _SPREAD, (word >> 16) % _SPREAD
        grain = self._grain[sigma].crop((x, y, x + width, y + height))
        if word >> 40 & 1:
            grain = grain.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if word >> 41 & 1:
            grain = grain.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
        return ImageChops.add(picture, grain, 1, -128)


def _draw(image: Image.Image, sprites: list[Sprite], at: int, ink: int | None, *, shift: float = 0.0) -> None:
    """Fill the outlines of frame `at` of the block; with `ink` every solid part in that one value."""
    pen = ImageDraw.Draw(image)
    glaze = ImageDraw.Draw(image, "RGBA") if ink is None else None
    for sprite in sprites:
        if not sprite.shown[at]:
            continue
        for part in sprite.parts:
            corners = ((part.outline[at] + (shift, 0.0)) * SUPER).ravel().tolist()
            if part.alpha >= 1.0:
                pen.polygon(corners, fill=part.fill if ink is None else ink)
            elif glaze is not None:
                glaze.polygon(corners, fill=(*part.fill, round(255 * part.alpha)))


def _tinted(sprite: Sprite, tint: tuple[float, float, float]) -> Sprite:
    """The sprite as it looks in the light of the scene."""
    if tint == (1.0, 1.0, 1.0):
        return sprite

    def lit(fill: RGB) -> RGB:
        if fill in GLOWING:
            return fill
        r, g, b = (round(value * share) for value, share in zip(fill, tint, strict=True))
        return r, g, b

    return replace(sprite, parts=[replace(part, fill=lit(part.fill)) for part in sprite.parts])


def _hash(seed: int, index: int) -> int:
    """64 well-mixed bits of a pair (the finaliser of SplitMix64)."""
    mask = (1 << 64) - 1
    z = (seed * 0x9E3779B97F4A7C15 + (index + 1) * 0xD1B54A32D192ED03) & mask
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & mask
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & mask
    return z ^ (z >> 31)


def render(spec: VideoSpec) -> Iterator[ByteArray]:
    """All frames of a video in order, each `(H, W, 3)` uint8 RGB; memory does not grow with its length."""
    renderer = Renderer(spec)
    return (renderer.frame(index) for index in range(spec.frame_count))


@lru_cache(maxsize=2)
def _renderer(spec: VideoSpec) -> Renderer:
    return Renderer(spec)


def frame(spec: VideoSpec, index: int) -> ByteArray:
    """Frame `index` alone, `(H, W, 3)` uint8 RGB, the same as `render` gives it.

    The two videos asked for last keep their current scene ready.
    """
    return _renderer(spec).frame(index)
