"""A figure: from a pose to joints by forward kinematics, and from joints to a painted body.

Local coordinates: x forward, y up, in body heights, the origin on the ground below the figure. The pelvis hangs as
high as the lowest part of the body touching the ground allows, so feet never float and never sink. Parts come in
three layers, far limbs, body and near arm, so that a bicycle goes between the legs and a book between the hands.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from trifocal.playground.palette import COLOURS, HAIR, RGB, SKIN, mix, shade
from trifocal.playground.pose import BONES, INDEX, ease
from trifocal.playground.shapes import FloatArray, Part, blob, capsule, points, rotate

if TYPE_CHECKING:
    from trifocal.playground.spec import Look

__all__ = ["Figure", "Joints", "joints", "paint"]

HEAD_RADIUS = {"man": 0.082, "woman": 0.082, "boy": 0.104, "girl": 0.104}


@dataclass(frozen=True, slots=True)
class Joints:
    """Where the joints are, `(T, 2)` in body heights; `lean` of the torso and `nod` of the head, `(T,)` radians."""

    pelvis: FloatArray
    chest: FloatArray
    head: FloatArray
    near_hip: FloatArray
    far_hip: FloatArray
    near_shoulder: FloatArray
    far_shoulder: FloatArray
    near_elbow: FloatArray
    far_elbow: FloatArray
    near_hand: FloatArray
    far_hand: FloatArray
    near_knee: FloatArray
    far_knee: FloatArray
    near_ankle: FloatArray
    far_ankle: FloatArray
    near_pitch: FloatArray
    far_pitch: FloatArray
    lean: FloatArray
    nod: FloatArray
    turn: FloatArray
    mouth: FloatArray


@dataclass(frozen=True, slots=True)
class Figure:
    """The painted parts in three layers, back to front."""

    far: list[Part]
    body: list[Part]
    near: list[Part]


def _hang(start: FloatArray, angle: FloatArray, length: float) -> FloatArray:
    return start + length * np.stack([np.sin(angle), -np.cos(angle)], axis=-1)


def _foot_ends(ankle: FloatArray, pitch: FloatArray, turn: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Middle of heel and of toes, as the two ends of a capsule."""
    length = 0.035 + 0.055 * turn
    drop = BONES["foot"] - 0.022
    down = np.stack([np.sin(pitch), -np.cos(pitch)], axis=-1)
    forward = np.stack([np.cos(pitch), np.sin(pitch)], axis=-1)
    heel = ankle + drop * down - 0.01 * forward
    return heel, heel + length[:, None] * forward


def joints(pose: FloatArray, *, lift: float = 0.0) -> Joints:
    """Forward kinematics, with the figure put on the ground.

    Args:
        pose: `(T, CHANNELS)`.
        lift: raises everything, in body heights: the back of a horse.
    """
    c = {name: pose[:, i] for name, i in INDEX.items()}
    turn = np.clip(c["turn"], 0, 1)
    pelvis = points(np.zeros(len(pose)), 0.0)
    lean, nod = c["torso"], c["torso"] * 0.55 + c["neck"]
    chest = pelvis - BONES["torso"] * np.stack([-np.sin(lean), -np.cos(lean)], axis=-1)
    head = chest + BONES["neck"] * np.stack([np.sin(nod), np.cos(nod)], axis=-1)
    side = (1 - turn)[:, None]
    across = np.stack([np.cos(lean), -np.sin(lean)], axis=-1)
    below = chest - 0.03 * np.stack([np.sin(lean), np.cos(lean)], axis=-1)
    place = {
        "pelvis": pelvis,
        "chest": chest,
        "head": head,
        "near_shoulder": below - across * (0.085 * side + 0.012),
        "far_shoulder": below + across * (0.085 * side + 0.012),
        "near_hip": pelvis - across * (0.042 * side),
        "far_hip": pelvis + across * (0.042 * side),
    }
    pitch = {}
    for which in ("near", "far"):
        place[f"{which}_elbow"] = _hang(place[f"{which}_shoulder"], c[f"{which}_upper"], BONES["upper"])
        forearm = c[f"{which}_upper"] + c[f"{which}_lower"]
        place[f"{which}_hand"] = _hang(place[f"{which}_elbow"], forearm, BONES["lower"])
        shin = c[f"{which}_thigh"] - c[f"{which}_knee"]
        place[f"{which}_knee"] = _hang(place[f"{which}_hip"], c[f"{which}_thigh"], BONES["thigh"])
        place[f"{which}_ankle"] = _hang(place[f"{which}_knee"], shin, BONES["shin"])
        pitch[which] = 0.55 * np.clip(shin, -1.3, 0.3) + c["toes"]
    tilt = -c["tilt"]
    place = {name: rotate(at[:, None], tilt)[:, 0] for name, at in place.items()}
    pitch = {which: angle + tilt for which, angle in pitch.items()}

    lows = [place[f"{which}_knee"][:, 1] - 0.045 for which in ("near", "far")]
    lows += [place[name][:, 1] - r for name, r in (("pelvis", 0.07), ("head", 0.09), ("chest", 0.07))]
    lows += [place[f"{which}_hand"][:, 1] - 0.03 for which in ("near", "far")]
    for which in ("near", "far"):
        heel, toes = _foot_ends(place[f"{which}_ankle"], pitch[which], turn)
        lows += [heel[:, 1] - 0.024, toes[:, 1] - 0.02]
    ground = -np.min(lows, axis=0) + c["lift"]
    height = ground + c["saddle"] * (c["seat"] - ground) + lift
    move = points(c["shift"], height)
    placed = {name: at + move for name, at in place.items()}
    return Joints(
        **placed,
        near_pitch=pitch["near"],
        far_pitch=pitch["far"],
        lean=lean - tilt,
        nod=nod - tilt,
        turn=turn,
        mouth=np.clip(c["mouth"], 0, 1),
    )


def paint(look: Look, j: Joints, *, times_s: FloatArray, details: bool = True) -> Figure:
    """The body's parts in local coordinates.

    Args:
        look: colours and kind.
        j: joints of T frames.
        times_s: `(T,)`, for the blinking of the eyes.
        details: also what never reaches the rim of the figure, which its extent does not need: the face, shading.
    """
    skin, top, bottom = SKIN[look.skin], COLOURS[look.top], COLOURS[look.bottom]
    far = [*_leg(look, j, "far", bottom, skin), *_arm(look, j, "far", top, skin)]
    body = [*_torso(look, j, top, bottom, details=details), *_leg(look, j, "near", bottom, skin)]
    if look.wears == "skirt":
        body.append(_skirt(j, bottom))
    body += _head(look, j, skin, times_s, details=details)
    return Figure(far=far, body=body, near=_arm(look, j, "near", top, skin))


def _at(j: Joints, side: str, name: str) -> FloatArray:
    value: FloatArray = getattr(j, f"{side}_{name}")
    return value


def _leg(look: Look, j: Joints, side: str, cloth: RGB, skin: RGB) -> list[Part]:
    dim = -0.24 if side == "far" else 0.0
    hip, knee, ankle = (_at(j, side, name) for name in ("hip", "knee", "ankle"))
    heel, toes = _foot_ends(ankle, _at(j, side, "pitch"), j.turn)
    shoe = shade(COLOURS[look.shoes], dim)
    leg = shade(cloth, dim) if look.wears == "trousers" else shade(skin, dim)
    upper = shade(skin, dim) if look.wears == "skirt" else shade(cloth, dim)
    parts = [Part(leg, capsule(knee, ankle, 0.04, 0.027)), Part(upper, capsule(hip, knee, 0.056, 0.042))]
    if look.wears == "trousers":
        parts.append(Part(shade(cloth, dim - 0.14), capsule(ankle + 0.08 * (knee - ankle), ankle, 0.031, 0.031)))
    return [*parts, Part(shoe, capsule(heel, toes, 0.024, 0.019))]


def _arm(look: Look, j: Joints, side: str, cloth: RGB, skin: RGB) -> list[Part]:
    dim = -0.24 if side == "far" else -0.07
    shoulder, elbow, hand = (_at(j, side, name) for name in ("shoulder", "elbow", "hand"))
    sleeve = shade(cloth, dim)
    bare = shade(skin, dim if side == "far" else 0.0)
    lower = sleeve if look.sleeves == "long" else bare
    wrist = elbow + 0.88 * (hand - elbow)
    parts = [Part(lower, capsule(elbow, wrist, 0.029, 0.023)), Part(bare, blob(hand, 0.028, 0.028, n=12))]
    if look.sleeves == "long":
        return [*parts, Part(sleeve, capsule(shoulder, elbow, 0.038, 0.03))]
    cuff = shoulder + 0.62 * (elbow - shoulder)
    return [*parts, Part(bare, capsule(cuff, elbow, 0.028, 0.028)), Part(sleeve, capsule(shoulder, cuff, 0.04, 0.037))]


def _torso(look: Look, j: Joints, top: RGB, bottom: RGB, *, details: bool) -> list[Part]:
    spine = j.chest - j.pelvis
    waist, upper = j.pelvis + 0.16 * spine, j.pelvis + 0.8 * spine
    width = 0.072 if look.kind in ("man", "boy") else 0.064
    shoulders = capsule(j.near_shoulder, j.far_shoulder, 0.046, 0.046)
    neck = capsule(j.chest - 0.02 * spine, j.chest + 0.5 * (j.head - j.chest), 0.03, 0.028)
    hips = capsule(j.near_hip, j.far_hip, 0.06, 0.06)
    parts = [
        Part(shade(SKIN[look.skin], -0.12), neck),
        Part(bottom, hips),
        Part(top, shoulders),
        Part(top, capsule(waist, upper, width, width + 0.006)),
    ]
    if not details:
        return parts
    back = j.pelvis + 0.3 * spine
    shadow = back - np.stack([np.cos(j.lean), -np.sin(j.lean)], axis=-1) * 0.03
    belt = capsule(waist - 0.12 * spine, waist - 0.08 * spine, width - 0.006, width - 0.006)
    parts.append(Part(shade(top, -0.1), capsule(shadow, shadow + 0.42 * spine, 0.034, 0.038)))
    return [*parts, Part(shade(bottom, -0.3), belt)]


def _skirt(j: Joints, cloth: RGB) -> Part:
    knees = 0.5 * (j.near_knee + j.far_knee)
    hem = j.pelvis + 0.82 * (knees - j.pelvis)
    spread = 0.08 + 0.5 * np.hypot(*(j.near_knee - j.far_knee).T)
    along = hem - j.pelvis
    along = along / np.maximum(np.hypot(along[:, 0], along[:, 1]), 1e-6)[:, None]
    across = np.stack([along[:, 1], -along[:, 0]], axis=-1)
    up = np.stack([np.sin(j.lean), np.cos(j.lean)], axis=-1)
    waist = j.pelvis + 0.055 * up
    level = np.stack([np.cos(j.lean), -np.sin(j.lean)], axis=-1)
    wide = spread[:, None] * across
    corners = [waist - 0.06 * level, waist + 0.06 * level, hem - wide, hem + wide]
    flip = (np.einsum("tc,tc->t", across, level) > 0)[:, None]
    corners[2], corners[3] = np.where(flip, corners[3], corners[2]), np.where(flip, corners[2], corners[3])
    corners[2], corners[3] = np.where(flip, hem + wide, hem - wide), np.where(flip, hem - wide, hem + wide)
    return Part(cloth, np.stack(corners, axis=1))


def _head(look: Look, j: Joints, skin: RGB, times_s: FloatArray, *, details: bool) -> list[Part]:
    r = HEAD_RADIUS[look.kind]
    angle, turn = -j.nod, j.turn
    hair = HAIR[look.hair]

    def at(x: FloatArray | float, y: FloatArray | float) -> FloatArray:
        return j.head + rotate(points(np.zeros(len(turn)) + x, y)[:, None] * r, angle)[:, 0]

    blink = np.where(np.mod(times_s + 0.37 * look.skin, 2.9) < 0.13, 0.15, 1.0)
    face_x = 0.14 * turn
    parts: list[Part] = []
    if look.hair_style == "long":
        parts.append(
            Part(shade(hair, -0.12), capsule(at(-0.34 * turn, 0.1), at(-0.5 * turn, -1.0), 1.02 * r, 0.62 * r))
        )
    elif look.hair_style == "ponytail":
        sway = 0.12 * np.sin(6.0 * times_s)
        parts.append(Part(shade(hair, -0.12), capsule(at(-0.85, 0.35), at(-1.25 + sway, -0.75), 0.32 * r, 0.16 * r)))
    elif look.hair_style == "bun":
        parts.append(Part(shade(hair, -0.1), blob(at(-0.55 * turn, 1.02), 0.42 * r, 0.4 * r, n=12)))
    parts += [
        Part(hair, blob(at(-0.1 * turn, 0.1), 1.03 * r, 1.03 * r, angle=angle)),
        Part(skin, blob(at(face_x, -0.08), (0.98 - 0.06 * turn) * r, 0.94 * r, angle=angle)),
        Part(shade(skin, -0.14), blob(at(0.5 * turn + 0.55 * turn**2, -0.16), 0.13 * r, 0.12 * r, n=8)),
        Part(hair, _fringe(look, at, turn)),
    ]
    if not details:
        return parts
    parts.append(
        Part(shade(skin, -0.1), blob(at(-0.62 + 0.5 * turn, -0.12), 0.15 * r * ease(turn * 3 - 0.5), 0.2 * r, n=8))
    )
    spread, middle = 0.36 - 0.2 * turn, 0.48 * turn
    for eye in (middle - spread, middle + spread):
        parts.append(Part((34, 30, 36), blob(at(eye, 0.0), 0.095 * r, 0.14 * r * blink, n=8)))
    cheek = mix(skin, (226, 90, 90), 0.28)
    parts.append(Part(cheek, blob(at(middle - spread - 0.16, -0.32), 0.15 * r, 0.11 * r, n=8)))
    lips = mix(skin, (150, 40, 48), 0.7)
    parts.append(Part(lips, blob(at(0.54 * turn, -0.48), 0.22 * r, (0.05 + 0.17 * j.mouth) * r, angle=angle, n=10)))
    return parts


def _fringe(look: Look, at: object, turn: FloatArray) -> FloatArray:
    """Hair over the brow: an arc of the skull closed by a sloping hairline."""
    place = at
    assert callable(place)
    start, stop = (0.12, 1.04) if look.hair_style in ("short", "bun") else (0.08, 1.12)
    arc = np.linspace(start * np.pi, stop * np.pi, 9)
    rim = [place(-0.06 * turn + 1.03 * np.cos(a), 0.08 + 1.03 * np.sin(a)) for a in arc]
    line = [place(-0.52 - 0.02 * turn, 0.12), place(-0.3 + 0.1 * turn, 0.46), place(0.35 + 0.3 * turn, 0.52)]
    return np.stack(rim + line, axis=1)
