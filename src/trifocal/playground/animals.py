"""Animals: four-legged ones from one plan of proportions, and birds that fly.

The legs swing with the way covered, so hooves do not slide; a resting animal stands and breathes, a dog wags.
Metres, the origin on the ground below the middle of the body, facing right.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from trifocal.playground.palette import RGB, mix, shade
from trifocal.playground.shapes import FloatArray, Part, blob, capsule, points, rigid

if TYPE_CHECKING:
    from trifocal.playground.things import Motor

__all__ = ["ANIMALS", "HORSE_BACK_M"]

HORSE_BACK_M = 1.36
"""Height of the horse's back, where a rider sits."""


@dataclass(frozen=True, slots=True)
class Build:
    """Proportions of a four-legged animal, in metres."""

    back: float
    belly: float
    length: float
    chest: float
    rump: float
    leg: float
    neck: float
    neck_angle: float
    neck_thick: float
    head: float
    muzzle: float
    tail: float
    tail_angle: float
    stride: float


BUILDS: Mapping[str, Build] = MappingProxyType(
    {
        "dog": Build(0.56, 0.33, 0.56, 0.14, 0.12, 0.042, 0.2, 0.85, 0.1, 0.115, 0.13, 0.3, 2.4, 0.6),
        "cat": Build(0.32, 0.18, 0.36, 0.085, 0.09, 0.026, 0.11, 0.8, 0.06, 0.09, 0.045, 0.36, 2.1, 0.36),
        "horse": Build(1.4, 0.86, 1.2, 0.29, 0.31, 0.085, 0.68, 0.85, 0.2, 0.155, 0.36, 0.75, 4.1, 1.7),
        "sheep": Build(0.78, 0.36, 0.72, 0.25, 0.27, 0.045, 0.2, 0.55, 0.1, 0.12, 0.13, 0.14, 3.9, 0.75),
        "cow": Build(1.36, 0.66, 1.3, 0.36, 0.34, 0.085, 0.42, 0.35, 0.21, 0.18, 0.24, 0.75, 4.5, 1.3),
    }
)


def _leg(x: float, hip: float, radius: float, swing: FloatArray, lift: FloatArray, fill: RGB, hoof: RGB) -> list[Part]:
    """A leg hung at (x, hip) whose hoof is `swing` ahead of it and `lift` above the ground."""
    top = points(np.full(len(swing), x), hip)
    foot = points(x + swing, lift + 0.5 * radius)
    knee = 0.5 * (top + foot) + np.stack([-0.25 * swing - 0.6 * lift, 0.1 * lift], axis=-1)
    return [
        Part(fill, capsule(top, knee, 1.7 * radius, radius)),
        Part(fill, capsule(knee, foot, radius, 0.75 * radius)),
        Part(hoof, capsule(foot, foot + np.array([0.5 * radius, 0.0]), 0.85 * radius, 0.7 * radius)),
    ]


def _body(kind: str, coat: RGB, motor: Motor) -> tuple[list[Part], list[Part], FloatArray]:
    """Far legs, then trunk, neck and near legs; and where the head is."""
    b = BUILDS[kind]
    phase = 2 * np.pi * motor.metres / b.stride
    sway = b.stride * 0.22 * motor.moving
    hoof = shade(coat, -0.55) if kind in ("horse", "cow", "sheep") else shade(coat, -0.2)
    dark = shade(coat, -0.26)
    leg_fill = (70, 62, 58) if kind == "sheep" else coat
    far: list[Part] = []
    near: list[Part] = []
    hip, half = b.belly + 0.55 * (b.back - b.belly), b.length / 2
    for x, offset, layer in (
        (-half, 0.0, near),
        (half, np.pi * 0.5, near),
        (-half, np.pi, far),
        (half, np.pi * 1.5, far),
    ):
        swing = sway * np.sin(phase + offset)
        lift = 0.1 * b.back * np.maximum(np.cos(phase + offset), 0) * motor.moving
        fill = shade(leg_fill, -0.26) if layer is far else leg_fill
        layer.extend(_leg(x + (0.04 * b.length if layer is far else 0.0), hip, b.leg, swing, lift, fill, hoof))
    bob = 0.015 * b.back * np.sin(2 * phase) * motor.moving + 0.004 * np.sin(2.2 * motor.times_s)
    rump, breast = points(-half, b.back - b.rump + bob), points(half, b.back - b.chest + bob)
    shoulder = breast + np.array([0.3 * b.chest, 0.45 * b.chest])
    nod = 0.08 * np.sin(phase) * motor.moving + 0.04 * np.sin(1.3 * motor.times_s)
    reach = b.neck_angle + nod
    head = shoulder + b.neck * np.stack([np.cos(reach), np.sin(reach)], axis=-1)
    trunk = [
        Part(coat, capsule(rump, breast, b.rump, b.chest)),
        Part(
            shade(coat, -0.12),
            capsule(
                rump + np.array([0, -0.45 * b.rump]),
                breast + np.array([0, -0.45 * b.chest]),
                0.5 * b.rump,
                0.48 * b.chest,
            ),
        ),
        Part(
            coat,
            capsule(shoulder - np.array([0.1 * b.chest, 0.3 * b.chest]), head, 1.25 * b.neck_thick, 0.8 * b.neck_thick),
        ),
    ]
    wag = 0.35 * np.sin(9 * motor.times_s) if kind == "dog" else 0.12 * np.sin(2.3 * motor.times_s)
    root = rump + np.array([-0.75 * b.rump, 0.5 * b.rump])
    tail_to = root + b.tail * np.stack([np.cos(b.tail_angle + wag), np.sin(b.tail_angle + wag)], axis=-1)
    thick = 0.05 * b.back
    far.insert(0, Part(dark if kind != "horse" else shade(coat, -0.5), capsule(root, tail_to, thick, 0.6 * thick)))
    return far, [*trunk, *near], head


def _muzzle(head: FloatArray, b: Build, coat: RGB, droop: float) -> list[Part]:
    nose = head + b.muzzle * np.array([np.cos(droop), np.sin(droop)])
    return [
        Part(coat, blob(head, b.head, b.head)),
        Part(coat, capsule(head, nose, 0.72 * b.head, 0.5 * b.head)),
        Part(shade(coat, -0.5), blob(nose + np.array([0.35 * b.head, 0.1 * b.head]), 0.2 * b.head, 0.2 * b.head, n=8)),
        Part((24, 22, 26), blob(head + np.array([0.3 * b.head, 0.32 * b.head]), 0.14 * b.head, 0.16 * b.head, n=8)),
    ]


def _dog(coat: RGB, motor: Motor) -> list[Part]:
    b = BUILDS["dog"]
    far, body, head = _body("dog", coat, motor)
    ear = [(-0.05, 0.09), (-0.14, 0.02), (-0.13, -0.11), (-0.05, -0.08), (0.0, 0.06)]
    neck = head - np.array([0.08, 0.1])
    collar = Part((206, 52, 46), blob(neck, 0.095, 0.03, angle=-0.7, n=10))
    return [*far, *body, collar, *_muzzle(head, b, coat, -0.25), Part(shade(coat, -0.38), rigid(ear, head))]


def _cat(coat: RGB, motor: Motor) -> list[Part]:
    b = BUILDS["cat"]
    far, body, head = _body("cat", coat, motor)
    ears = [[(-0.08, 0.03), (-0.075, 0.15), (-0.01, 0.08)], [(0.01, 0.08), (0.06, 0.15), (0.08, 0.03)]]
    stripes = [
        Part(shade(coat, -0.3), rigid([(x, 0.32), (x + 0.03, 0.33), (x + 0.02, 0.25)], points(0 * motor.metres, 0.0)))
        for x in (-0.16, -0.08, 0.0, 0.08)
    ]
    return [
        *far,
        *body,
        *stripes,
        *(Part(shade(coat, -0.1), rigid(e, head)) for e in ears),
        *_muzzle(head, b, coat, -0.2),
    ]


def _horse(coat: RGB, motor: Motor) -> list[Part]:
    b = BUILDS["horse"]
    far, body, head = _body("horse", coat, motor)
    mane = shade(coat, -0.5)
    crest = [(-0.1, 0.2), (-0.26, 0.08), (-0.62, -0.52), (-0.44, -0.56), (-0.16, -0.14), (-0.02, 0.1)]
    ear = [(-0.08, 0.1), (-0.05, 0.28), (0.02, 0.12)]
    saddle = Part(
        (112, 58, 40), rigid([(-0.28, 1.42), (0.24, 1.42), (0.2, 1.12), (-0.2, 1.12)], points(0 * motor.metres, 0.0))
    )
    return [
        *far,
        *body,
        saddle,
        *_muzzle(head, b, coat, -0.85),
        Part(mane, rigid(crest, head)),
        Part(coat, rigid(ear, head)),
    ]


def _sheep(coat: RGB, motor: Motor) -> list[Part]:
    b = BUILDS["sheep"]
    far, body, head = _body("sheep", coat, motor)
    wool = [
        Part(shade(coat, -0.05 if i % 2 else 0.12), blob(points(x + 0 * motor.metres, y), r, r, n=14))
        for i, (x, y, r) in enumerate(
            [
                (-0.42, 0.6, 0.2),
                (-0.2, 0.74, 0.19),
                (0.06, 0.76, 0.19),
                (0.3, 0.7, 0.19),
                (0.42, 0.54, 0.18),
                (-0.3, 0.46, 0.18),
                (0.0, 0.44, 0.2),
                (0.24, 0.46, 0.18),
                (0.0, 0.6, 0.24),
            ]
        )
    ]
    face = (66, 58, 56)
    ear = [(-0.06, 0.06), (-0.2, 0.05), (-0.1, -0.03)]
    snout = _muzzle(head, b, face, -0.55)
    snout[-1] = Part((240, 236, 228), snout[-1].outline)
    return [
        *far,
        *body,
        *wool,
        *snout,
        Part(face, rigid(ear, head)),
        Part(coat, blob(head + np.array([-0.05, 0.11]), 0.1, 0.07, n=10)),
    ]


def _cow(coat: RGB, motor: Motor) -> list[Part]:
    b = BUILDS["cow"]
    base = mix(coat, (250, 248, 242), 0.0)
    far, body, head = _body("cow", base, motor)
    spot = shade(coat, -0.75) if sum(coat) > 500 else (244, 240, 232)
    patches = [
        Part(spot, blob(points(x + 0 * motor.metres, y), rx, ry, n=12))
        for x, y, rx, ry in (
            (-0.5, 1.12, 0.24, 0.17),
            (0.12, 1.05, 0.27, 0.2),
            (0.56, 1.12, 0.14, 0.12),
            (-0.2, 0.85, 0.13, 0.09),
        )
    ]
    udder = Part((238, 170, 166), blob(points(-0.34 + 0 * motor.metres, 0.62), 0.15, 0.1, n=10))
    horn = [(-0.02, 0.15), (0.02, 0.34), (0.09, 0.16)]
    ear = [(-0.1, 0.1), (-0.34, 0.1), (-0.16, -0.02)]
    muzzle = _muzzle(head, b, base, -0.65)
    nose = head + 1.05 * b.muzzle * np.array([np.cos(-0.65), np.sin(-0.65)])
    return [
        *far,
        udder,
        *body,
        *patches,
        Part((232, 224, 204), rigid(horn, head)),
        *muzzle,
        Part((238, 176, 168), blob(nose, 0.11, 0.1, n=10)),
        Part(spot, rigid(ear, head)),
    ]


def _bird(coat: RGB, motor: Motor) -> list[Part]:
    flap = np.sin(2 * np.pi * 2.6 * motor.times_s + 0.3 * motor.metres) * np.clip(motor.moving, 0.0, 1)
    middle = points(0 * flap, 0.2 - 0.03 * flap)
    tip = np.stack([-0.2 - 0.06 * flap, 0.2 + 0.42 * flap + 0.05 * (1 - motor.moving)], axis=-1)
    wing = np.stack([middle + np.array([0.13, 0.05]), tip, middle + np.array([-0.16, 0.02])], axis=1)
    rear = np.stack(
        [middle + np.array([0.16, 0.04]), tip + np.array([0.14, 0.03]), middle + np.array([-0.08, 0.0])], axis=1
    )
    legs = [
        Part((226, 150, 60), capsule(points(x + 0 * flap, 0.0), points(0.3 * x + 0 * flap, 0.14), 0.012, 0.012))
        for x in (-0.04, 0.05)
    ]
    return [
        Part(shade(coat, -0.35), rear),
        *legs,
        Part(shade(coat, -0.2), rigid([(-0.18, 0.05), (-0.44, 0.1), (-0.42, -0.06)], middle)),
        Part(coat, blob(middle, 0.23, 0.12, angle=0.12)),
        Part(coat, blob(middle + np.array([0.22, 0.09]), 0.1, 0.095, n=14)),
        Part((240, 160, 50), rigid([(0.29, 0.12), (0.42, 0.07), (0.29, 0.05)], middle)),
        Part((24, 22, 26), blob(middle + np.array([0.25, 0.12]), 0.02, 0.02, n=6)),
        Part(shade(coat, -0.18), wing),
    ]


ANIMALS: Mapping[str, Callable[[RGB, Motor], list[Part]]] = MappingProxyType(
    {"dog": _dog, "cat": _cat, "horse": _horse, "sheep": _sheep, "cow": _cow, "bird": _bird}
)
