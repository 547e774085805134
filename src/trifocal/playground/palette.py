"""Colours: the named ones that captions and questions speak of, and the mixing that shades them.

Names are few and far apart, so that "which colour?" has one right answer for an eye as for the truth. Skin, hair,
wood and the like are never asked about and live beside what they paint.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

RGB = tuple[int, int, int]

__all__ = ["COLOURS", "GLOWING", "HAIR", "HEADLIGHT", "RGB", "SIGN", "SKIN", "TAIL_LIGHT", "mix", "shade"]

COLOURS: Mapping[str, RGB] = MappingProxyType(
    {
        "red": (208, 50, 47),
        "orange": (240, 138, 36),
        "yellow": (246, 208, 60),
        "green": (58, 148, 72),
        "blue": (44, 98, 190),
        "purple": (126, 70, 160),
        "pink": (240, 138, 178),
        "brown": (126, 82, 48),
        "white": (242, 240, 234),
        "black": (42, 42, 48),
        "grey": (140, 144, 150),
    }
)

SKIN: tuple[RGB, ...] = ((250, 214, 186), (236, 188, 150), (206, 148, 108), (158, 104, 70), (112, 72, 50))
HAIR: Mapping[str, RGB] = MappingProxyType(
    {
        "black": (38, 32, 34),
        "brown": (92, 58, 36),
        "blond": (224, 184, 98),
        "red": (176, 80, 36),
        "grey": (176, 174, 170),
    }
)

HEADLIGHT: RGB = (255, 244, 190)
TAIL_LIGHT: RGB = (216, 44, 38)
SIGN: RGB = (250, 214, 110)
GLOWING = frozenset({HEADLIGHT, TAIL_LIGHT, SIGN})
"""Colours that shine by themselves and so keep their brightness by night."""


def mix(one: RGB, other: RGB, share: float) -> RGB:
    """`one` with `share` (0 .. 1) of `other` in it."""
    a, b, c = (round(p + (q - p) * share) for p, q in zip(one, other, strict=True))
    return a, b, c


def shade(colour: RGB, amount: float) -> RGB:
    """Darker for a negative `amount` down to -1 (black), lighter for a positive one up to 1 (white)."""
    return mix(colour, (255, 255, 255) if amount > 0 else (12, 14, 30), abs(amount))
