"""Things that stand, lie or are held: each kind is a few polygons in metres, its origin on the ground below it.

`THINGS` maps a kind to its maker, `maker(colour, motion) -> parts`; small things in a hand have their origin where
the hand holds them. Shapes are chosen for their silhouette: at fifty pixels a cup still is a cup.
"""

# ruff: noqa: ARG001 (every maker takes colour and motor, so that one table holds them all)
from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from trifocal.playground.palette import RGB, mix, shade
from trifocal.playground.shapes import FloatArray, Part, bar, blob, capsule, disc, panel, points, rigid, still

__all__ = ["HELD", "THINGS", "Motor", "wheel"]

WOOD: RGB = (150, 104, 62)
METAL: RGB = (86, 92, 102)
LEAF: RGB = (66, 124, 62)

HELD = frozenset({"phone", "book", "cup", "box", "ball", "suitcase", "umbrella"})
"""Kinds whose origin is where the hand is when somebody holds them."""


@dataclass(frozen=True, slots=True)
class Motor:
    """What a maker may animate by: metres covered `(T,)`, seconds `(T,)`, and how much it moves (0 .. 1) `(T,)`."""

    metres: FloatArray
    times_s: FloatArray
    moving: FloatArray


def _ball(colour: RGB, motor: Motor) -> list[Part]:
    spin = -motor.metres / 0.14
    centre = points(np.zeros(len(spin)), 0.14)
    patch = [(0.0, 0.055), (0.052, 0.017), (0.032, -0.045), (-0.032, -0.045), (-0.052, 0.017)]
    dots = [
        Part(
            shade(colour, -0.35), blob(points(0.1 * np.cos(spin + a), 0.14 + 0.1 * np.sin(spin + a)), 0.022, 0.022, n=8)
        )
        for a in (0.3, 2.4, 4.5)
    ]
    return [
        Part(shade(colour, -0.2), blob(centre, 0.14, 0.14)),
        Part(colour, blob(centre + np.array([-0.012, 0.014]), 0.118, 0.118)),
        Part(shade(colour, -0.35), rigid(patch, centre, angle=spin)),
        *dots,
        Part(shade(colour, 0.6), blob(centre + np.array([-0.05, 0.06]), 0.028, 0.022, n=8)),
    ]


def _balloon(colour: RGB, motor: Motor) -> list[Part]:
    bob = 0.05 * np.sin(1.7 * motor.times_s)
    top = points(0.06 * np.sin(1.1 * motor.times_s), 1.75 + bob)
    return [
        Part((120, 120, 120), capsule(points(np.zeros(len(bob)), 0.9), top, 0.012, 0.012)),
        Part(colour, blob(top, 0.36, 0.44)),
        Part(shade(colour, -0.25), rigid([(-0.06, -0.48), (0.06, -0.48), (0, -0.4)], top)),
        Part(shade(colour, 0.55), blob(top + np.array([-0.13, 0.17]), 0.07, 0.11, angle=-0.5, n=10)),
    ]


def _bench(colour: RGB, motor: Motor) -> list[Part]:
    dark = shade(colour, -0.3)
    return [
        bar(METAL, -0.72, 0.0, -0.66, 0.4, 0.03),
        bar(METAL, 0.72, 0.0, 0.66, 0.4, 0.03),
        panel(dark, -0.85, 0.5, 0.85, 0.6, round_by=0.02),
        panel(colour, -0.85, 0.66, 0.85, 0.78, round_by=0.02),
        bar(METAL, -0.68, 0.34, -0.7, 0.8, 0.025),
        bar(METAL, 0.68, 0.34, 0.7, 0.8, 0.025),
        panel(colour, -0.9, 0.3, 0.9, 0.37, round_by=0.02),
        panel(dark, -0.9, 0.26, 0.9, 0.3),
    ]


def _book(colour: RGB, motor: Motor) -> list[Part]:
    cover = [(-0.05, -0.13), (0.13, -0.02), (0.13, 0.16), (-0.05, 0.05)]
    return [
        still(shade(colour, -0.3), (-0.1, -0.08), (-0.05, -0.13), (-0.05, 0.05), (-0.1, 0.1)),
        still((244, 240, 226), (-0.1, 0.085), (-0.05, 0.035), (0.12, 0.15), (0.06, 0.19)),
        still(colour, *cover),
        still(shade(colour, 0.5), (0.0, 0.0), (0.09, 0.055), (0.09, 0.085), (0.0, 0.03)),
    ]


def _box(colour: RGB, motor: Motor) -> list[Part]:
    return [
        panel(shade(colour, -0.12), -0.24, -0.17, 0.24, 0.17, round_by=0.01),
        panel(colour, -0.24, -0.17, 0.24, 0.1),
        panel(shade(colour, 0.35), -0.24, 0.1, 0.24, 0.17),
        panel(shade(colour, 0.5), -0.04, -0.17, 0.04, 0.17),
        panel(shade(colour, -0.35), -0.2, -0.12, -0.1, -0.06),
    ]


def _chair(colour: RGB, motor: Motor) -> list[Part]:
    dark = shade(colour, -0.32)
    return [
        bar(dark, -0.16, 0.0, -0.17, 0.34, 0.022),
        bar(dark, 0.2, 0.0, 0.2, 0.34, 0.022),
        bar(colour, -0.25, 0.0, -0.22, 0.36, 0.026),
        bar(colour, 0.26, 0.0, 0.25, 0.36, 0.026),
        panel(colour, -0.27, 0.31, 0.29, 0.37, round_by=0.02),
        bar(colour, -0.24, 0.36, -0.31, 0.85, 0.026),
        bar(shade(colour, 0.15), -0.27, 0.56, -0.305, 0.84, 0.045),
    ]


def _cup(colour: RGB, motor: Motor) -> list[Part]:
    return [
        disc(shade(colour, -0.25), 0.06, 0.0, 0.045),
        disc(shade(colour, 0.5), 0.06, 0.0, 0.024),
        still(colour, (-0.055, 0.075), (0.055, 0.075), (0.042, -0.075), (-0.042, -0.075)),
        disc(shade(colour, -0.4), 0.0, 0.075, 0.055, ry=0.014),
    ]


def _duck(colour: RGB, motor: Motor) -> list[Part]:
    return [
        still(shade(colour, -0.1), (-0.55, 0.5), (-0.3, 0.28), (-0.2, 0.42)),
        disc(colour, -0.08, 0.27, 0.36, ry=0.27),
        disc(colour, 0.22, 0.62, 0.2),
        still((240, 130, 40), (0.38, 0.66), (0.58, 0.6), (0.38, 0.54)),
        disc(shade(colour, -0.2), -0.14, 0.3, 0.2, ry=0.12),
        disc((30, 30, 34), 0.27, 0.68, 0.035),
    ]


def _house(colour: RGB, motor: Motor) -> list[Part]:
    roof, glass = (150, 72, 54), (176, 208, 226)
    parts = [
        panel(shade(colour, -0.35), -1.55, 4.0, -1.1, 5.6),
        panel(colour, -2.6, 0.0, 2.6, 3.2),
        panel(shade(colour, -0.14), -2.6, 0.0, 2.6, 0.35),
        still(shade(roof, -0.3), (-3.0, 3.1), (3.0, 3.1), (2.9, 3.3), (-2.9, 3.3)),
        still(roof, (-2.95, 3.2), (2.95, 3.2), (0.0, 5.4)),
        panel((104, 66, 44), -0.5, 0.0, 0.5, 2.1, round_by=0.05),
        disc((232, 200, 96), 0.34, 1.0, 0.06),
    ]
    for x in (-1.65, 1.65):
        parts += [
            panel((248, 246, 240), x - 0.56, 1.1, x + 0.56, 2.3),
            panel(glass, x - 0.48, 1.18, x + 0.48, 2.22),
            panel((248, 246, 240), x - 0.04, 1.1, x + 0.04, 2.3),
            panel((248, 246, 240), x - 0.56, 1.66, x + 0.56, 1.74),
        ]
    return parts


def _lamp(colour: RGB, motor: Motor) -> list[Part]:
    return [
        panel(METAL, -0.16, 0.0, 0.16, 0.14, round_by=0.03),
        bar(METAL, 0.0, 0.1, 0.0, 3.1, 0.05),
        bar(METAL, 0.0, 3.1, 0.5, 3.25, 0.04),
        still(shade(METAL, -0.2), (0.24, 3.2), (0.76, 3.2), (0.62, 3.38), (0.38, 3.38)),
        disc((255, 240, 180), 0.5, 3.16, 0.17, ry=0.1),
    ]


def _phone(colour: RGB, motor: Motor) -> list[Part]:
    return [
        panel(shade(colour, -0.2), -0.042, -0.085, 0.046, 0.095, round_by=0.018),
        panel(mix(colour, (120, 200, 240), 0.65), -0.03, -0.06, 0.034, 0.07),
    ]


def _snowman(colour: RGB, motor: Motor) -> list[Part]:
    snow = (244, 248, 252)
    return [
        disc(shade(snow, -0.12), 0.0, 0.36, 0.46, ry=0.4),
        disc(snow, -0.03, 0.39, 0.41, ry=0.36),
        disc(shade(snow, -0.12), 0.0, 0.95, 0.33, ry=0.3),
        disc(snow, -0.02, 0.97, 0.29, ry=0.27),
        disc(snow, 0.0, 1.4, 0.24),
        bar(WOOD, 0.28, 1.0, 0.72, 1.3, 0.02),
        bar(WOOD, -0.28, 1.0, -0.72, 1.3, 0.02),
        panel(colour, -0.23, 1.14, 0.23, 1.22, round_by=0.03),
        panel(colour, 0.06, 0.85, 0.18, 1.18, round_by=0.02),
        still((236, 130, 40), (0.04, 1.44), (0.04, 1.36), (0.32, 1.38)),
        disc((30, 30, 34), 0.1, 1.5, 0.03),
        disc((30, 30, 34), -0.06, 1.5, 0.03),
        disc((30, 30, 34), 0.0, 1.02, 0.03),
        disc((30, 30, 34), 0.0, 0.86, 0.03),
        panel((40, 40, 46), -0.28, 1.56, 0.28, 1.61),
        panel((40, 40, 46), -0.18, 1.6, 0.18, 1.9),
    ]


def _suitcase(colour: RGB, motor: Motor) -> list[Part]:
    return [
        bar(METAL, -0.1, 0.52, -0.1, 0.7, 0.02),
        bar(METAL, 0.1, 0.52, 0.1, 0.7, 0.02),
        bar(METAL, -0.1, 0.7, 0.1, 0.7, 0.025),
        panel(colour, -0.36, 0.04, 0.36, 0.56, round_by=0.06),
        panel(shade(colour, -0.25), -0.24, 0.04, -0.18, 0.56),
        panel(shade(colour, -0.25), 0.18, 0.04, 0.24, 0.56),
        disc((40, 40, 44), -0.25, 0.04, 0.05),
        disc((40, 40, 44), 0.25, 0.04, 0.05),
    ]


def _table(colour: RGB, motor: Motor) -> list[Part]:
    dark = shade(colour, -0.3)
    return [
        panel(dark, -0.62, 0.0, -0.54, 0.66),
        panel(dark, 0.54, 0.0, 0.62, 0.66),
        panel(colour, -0.78, 0.0, -0.68, 0.68),
        panel(colour, 0.68, 0.0, 0.78, 0.68),
        panel(shade(colour, -0.15), -0.86, 0.64, 0.86, 0.71),
        panel(colour, -0.86, 0.68, 0.86, 0.74, round_by=0.02),
    ]


def _cone(colour: RGB, motor: Motor) -> list[Part]:
    return [
        panel(shade(colour, -0.2), -0.36, 0.0, 0.36, 0.09, round_by=0.03),
        still(colour, (-0.25, 0.09), (0.25, 0.09), (0.05, 0.88), (-0.05, 0.88)),
        still((250, 250, 250), (-0.19, 0.33), (0.19, 0.33), (0.135, 0.53), (-0.135, 0.53)),
    ]


def _tree(colour: RGB, motor: Motor) -> list[Part]:
    leaf = mix(colour, LEAF, 0.15)
    crown = [(-0.75, 2.6, 0.85), (0.8, 2.55, 0.8), (0.0, 3.4, 1.0), (-0.3, 2.3, 0.75), (0.4, 2.9, 0.85)]
    parts = [
        still(shade(WOOD, -0.25), (-0.26, 0.0), (0.28, 0.0), (0.14, 2.2), (-0.14, 2.2)),
        still(WOOD, (-0.2, 0.0), (0.04, 0.0), (0.02, 2.2), (-0.12, 2.2)),
    ]
    parts += [disc(shade(leaf, -0.22), x + 0.06, y - 0.1, r) for x, y, r in crown]
    parts += [disc(leaf, x - 0.05, y + 0.02, 0.86 * r) for x, y, r in crown]
    parts += [disc(shade(leaf, 0.18), x - 0.25, y + 0.28, 0.3 * r) for x, y, r in crown[:3]]
    return parts


def _trophy(colour: RGB, motor: Motor) -> list[Part]:
    return [
        panel((84, 58, 40), -0.26, 0.0, 0.26, 0.18, round_by=0.02),
        panel(shade(colour, -0.2), -0.06, 0.16, 0.06, 0.45),
        disc(shade(colour, -0.2), -0.27, 0.78, 0.15),
        disc(shade(colour, -0.2), 0.27, 0.78, 0.15),
        disc((236, 232, 220), -0.27, 0.78, 0.08),
        disc((236, 232, 220), 0.27, 0.78, 0.08),
        still(colour, (-0.3, 1.0), (0.3, 1.0), (0.24, 0.6), (0.1, 0.42), (-0.1, 0.42), (-0.24, 0.6)),
        still(shade(colour, 0.45), (-0.2, 0.95), (-0.1, 0.95), (-0.1, 0.55), (-0.16, 0.62)),
        disc(shade(colour, -0.3), 0.0, 1.0, 0.3, ry=0.05),
    ]


def _umbrella(colour: RGB, motor: Motor) -> list[Part]:
    turn = np.linspace(0, np.pi, 13)
    dome = [(float(0.95 * np.cos(a)), float(1.5 + 0.62 * np.sin(a))) for a in turn]
    parts = [bar(METAL, 0.0, 0.05, 0.0, 2.14, 0.03), still(colour, *dome)]
    for low, high, amount in ((3, 5, 0.45), (8, 10, 0.45)):
        parts.append(still(shade(colour, amount), dome[low], dome[high], (0.0, 2.1)))
    scallops = [disc(shade(colour, -0.2), x, 1.5, 0.24, ry=0.07) for x in (-0.71, -0.24, 0.24, 0.71)]
    return [*scallops, *parts]


def wheel(x: float, r: float, motor: Motor, *, tyre: RGB = (44, 44, 48), hub: RGB = (196, 200, 206)) -> list[Part]:
    """A wheel standing on the ground that turns with the way covered."""
    spin = -motor.metres / r
    centre = points(np.full(len(spin), x), r)
    spokes = [
        Part(
            shade(hub, -0.45),
            rigid(
                [(-0.08 * r, -0.55 * r), (0.08 * r, -0.55 * r), (0.08 * r, 0.55 * r), (-0.08 * r, 0.55 * r)],
                centre,
                angle=spin + a,
            ),
        )
        for a in (0.0, np.pi / 2)
    ]
    return [disc(tyre, x, r, r), disc(hub, x, r, 0.58 * r), *spokes, disc(tyre, x, r, 0.14 * r)]


THINGS: Mapping[str, Callable[[RGB, Motor], list[Part]]] = MappingProxyType(
    {
        "ball": _ball,
        "balloon": _balloon,
        "bench": _bench,
        "book": _book,
        "box": _box,
        "chair": _chair,
        "cup": _cup,
        "duck": _duck,
        "house": _house,
        "lamp": _lamp,
        "phone": _phone,
        "snowman": _snowman,
        "suitcase": _suitcase,
        "table": _table,
        "traffic cone": _cone,
        "tree": _tree,
        "trophy": _trophy,
        "umbrella": _umbrella,
    }
)
