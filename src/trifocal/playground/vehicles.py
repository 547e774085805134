"""Vehicles: bicycle, car, bus, truck and sailing boat. Metres, on the ground or the water line, facing right."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from trifocal.playground.palette import HEADLIGHT, RGB, SIGN, TAIL_LIGHT, shade
from trifocal.playground.pose import CRANK, CRANK_LENGTH
from trifocal.playground.shapes import Part, bar, blob, capsule, disc, panel, points, rotate, still
from trifocal.playground.things import METAL, Motor, wheel

__all__ = ["RIDER_M", "VEHICLES"]

GLASS: RGB = (168, 206, 224)
RIDER_M = 1.75
"""Height of the rider a bicycle of size 1 is made for; `Thing.size` scales it to others."""


def _bicycle(colour: RGB, motor: Motor) -> list[Part]:
    r = 0.33
    x_crank, y_crank = CRANK[0] * RIDER_M, CRANK[1] * RIDER_M
    rear, front = x_crank - 0.46, x_crank + 0.62
    parts: list[Part] = []
    for x in (rear, front):
        spin = -motor.metres / r
        parts.append(_ring((44, 44, 48), x, r))
        for a in (0.0, np.pi / 3, 2 * np.pi / 3):
            arm = points(0.8 * r * np.cos(spin + a), 0.8 * r * np.sin(spin + a))
            centre = np.array([x, r])
            parts.append(Part((120, 124, 130), capsule(centre - arm, centre + arm, 0.008, 0.008)))
    turn = 2 * np.pi * motor.metres / (2.4 * RIDER_M)
    crank = points(x_crank + 0 * turn, y_crank)
    pedal = CRANK_LENGTH * RIDER_M * np.stack([np.sin(turn), np.cos(turn)], axis=-1)
    saddle, head = (-0.06, 0.84), (x_crank + 0.42, 0.92)
    parts += [
        bar(colour, rear, r, x_crank, y_crank, 0.022),
        bar(colour, rear, r, -0.02, 0.7, 0.02),
        bar(colour, x_crank, y_crank, *saddle, 0.026),
        bar(colour, -0.02, 0.7, x_crank + 0.43, 0.78, 0.026),
        bar(colour, x_crank, y_crank, x_crank + 0.44, 0.72, 0.028),
        bar(METAL, *head, front, r, 0.024),
        bar(METAL, *head, x_crank + 0.36, 1.1, 0.02),
        bar((36, 36, 40), x_crank + 0.36, 1.1, x_crank + 0.5, 1.11, 0.026),
        bar((36, 36, 40), -0.16, 0.86, 0.1, 0.86, 0.036),
        disc(METAL, x_crank, y_crank, 0.07),
        Part(shade(METAL, -0.3), capsule(crank - pedal, crank + pedal, 0.016, 0.016)),
    ]
    return parts


def _ring(fill: RGB, x: float, r: float) -> Part:
    """A tyre one can look through: the rim outwards and back inwards, as one outline."""
    turn = np.linspace(0, 2 * np.pi, 25)
    rim = np.stack([np.cos(turn), np.sin(turn)], axis=-1)
    ring = np.concatenate([r * rim, 0.86 * r * rim[::-1]])
    return Part(fill, (ring + np.array([x, r]))[None])


def _car(colour: RGB, motor: Motor) -> list[Part]:
    dark = shade(colour, -0.25)
    return [
        still(dark, (-1.35, 0.85), (-0.95, 1.38), (0.35, 1.38), (0.95, 0.85)),
        still(GLASS, (-1.12, 0.88), (-0.85, 1.28), (-0.28, 1.28), (-0.28, 0.88)),
        still(GLASS, (-0.18, 0.88), (-0.18, 1.28), (0.3, 1.28), (0.76, 0.88)),
        still(shade(GLASS, 0.5), (0.02, 0.9), (0.2, 1.26), (0.28, 1.26), (0.14, 0.9)),
        still(
            colour,
            (-1.95, 0.32),
            (-1.98, 0.8),
            (-1.8, 0.92),
            (-0.2, 0.92),
            (0.9, 0.9),
            (1.8, 0.76),
            (1.96, 0.6),
            (1.96, 0.32),
        ),
        still(dark, (-1.95, 0.32), (-1.96, 0.46), (1.96, 0.46), (1.96, 0.32)),
        panel(shade(colour, -0.35), -0.26, 0.4, -0.23, 0.88),
        bar(shade(colour, -0.5), -0.1, 0.76, 0.05, 0.76, 0.025),
        bar(shade(colour, -0.5), -0.98, 0.76, -0.84, 0.76, 0.025),
        disc(HEADLIGHT, 1.86, 0.66, 0.1, ry=0.08),
        panel(TAIL_LIGHT, -1.98, 0.62, -1.86, 0.78),
        disc(shade(colour, -0.6), -1.2, 0.36, 0.4),
        disc(shade(colour, -0.6), 1.22, 0.36, 0.4),
        *wheel(-1.2, 0.34, motor),
        *wheel(1.22, 0.34, motor),
    ]


def _bus(colour: RGB, motor: Motor) -> list[Part]:
    parts = [
        panel(colour, -4.6, 0.45, 4.6, 3.15, round_by=0.28),
        panel(shade(colour, -0.22), -4.6, 0.45, 4.6, 0.85),
        panel(shade(colour, 0.5), -4.58, 1.2, 4.58, 1.34),
        panel((40, 48, 58), -4.35, 1.6, 4.5, 2.72, round_by=0.08),
    ]
    parts += [panel(GLASS, x, 1.68, x + 1.12, 2.64, round_by=0.05) for x in (-4.26, -3.02, -1.78, -0.54, 0.7)]
    parts += [
        panel((40, 48, 58), 1.98, 0.6, 3.16, 2.72, round_by=0.06),
        panel(GLASS, 2.06, 0.72, 2.53, 2.62, round_by=0.04),
        panel(GLASS, 2.61, 0.72, 3.08, 2.62, round_by=0.04),
        panel(GLASS, 3.34, 1.5, 4.5, 2.64, round_by=0.06),
        panel(SIGN, 3.3, 2.78, 4.4, 3.04, round_by=0.04),
        disc(HEADLIGHT, 4.5, 0.95, 0.13, ry=0.11),
        panel(TAIL_LIGHT, -4.6, 0.9, -4.46, 1.15),
        disc(shade(colour, -0.65), -2.7, 0.5, 0.58),
        disc(shade(colour, -0.65), 3.5 - 0.2, 0.5, 0.58),
    ]
    return [*parts, *wheel(-2.7, 0.48, motor), *wheel(3.3, 0.48, motor)]


def _truck(colour: RGB, motor: Motor) -> list[Part]:
    return [
        panel((60, 62, 68), -3.4, 0.5, 3.2, 0.78),
        panel((236, 234, 228), -3.5, 0.78, 1.2, 3.2, round_by=0.06),
        panel(shade(colour, 0.1), -3.5, 1.5, 1.2, 2.1),
        *(panel((204, 202, 196), x, 0.82, x + 0.04, 3.16) for x in (-2.4, -1.2, 0.0)),
        still(colour, (1.4, 0.6), (1.4, 2.7), (2.6, 2.7), (3.2, 1.7), (3.3, 0.6)),
        still(GLASS, (1.9, 1.7), (1.9, 2.5), (2.5, 2.5), (2.98, 1.7)),
        panel(shade(colour, -0.25), 1.4, 0.6, 3.3, 0.85),
        disc(HEADLIGHT, 3.2, 1.05, 0.11),
        bar(METAL, 1.34, 2.4, 1.34, 3.3, 0.06),
        *wheel(-2.5, 0.46, motor),
        *wheel(-1.4, 0.46, motor),
        *wheel(2.4, 0.46, motor),
    ]


def _boat(colour: RGB, motor: Motor) -> list[Part]:
    rock = 0.035 * np.sin(1.3 * motor.times_s)

    def tilted(fill: RGB, *xy: tuple[float, float]) -> Part:
        return Part(fill, rotate(np.array([xy], np.float64), rock))

    hull = ((-2.3, 0.85), (2.7, 0.95), (2.0, 0.0), (-1.8, 0.0))
    wake = np.sin(2.0 * motor.times_s)
    return [
        tilted((116, 78, 48), (-0.05, 0.8), (0.05, 0.8), (0.04, 5.6), (-0.04, 5.6)),
        tilted((250, 248, 240), (-0.14, 1.2), (-0.14, 5.3), (-1.2, 3.0), (-2.1, 1.25)),
        tilted((226, 226, 222), (-0.14, 1.2), (-0.14, 2.6), (-1.1, 1.25)),
        tilted(shade(colour, 0.15), (0.16, 1.3), (0.16, 4.9), (2.3, 1.35)),
        tilted(colour, *hull),
        tilted(shade(colour, -0.3), (-2.02, 0.38), (2.26, 0.38), (2.0, 0.0), (-1.8, 0.0)),
        tilted((250, 248, 240), (-2.28, 0.76), (2.63, 0.84), (2.7, 0.95), (-2.3, 0.85)),
        Part((236, 246, 250), blob(points(-0.2 + 0.1 * wake, 0.02), 2.6, 0.09), 0.6),
    ]


VEHICLES: Mapping[str, Callable[[RGB, Motor], list[Part]]] = MappingProxyType(
    {"bicycle": _bicycle, "car": _car, "bus": _bus, "truck": _truck, "boat": _boat}
)
