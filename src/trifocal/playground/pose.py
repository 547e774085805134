"""From what a figure does to the angles of its joints.

A pose is an array `(T, CHANNELS)`. Each movement is a small function of a `Clock` that sets some channels; the rest
keep their value at ease. Angles are radians; arms and thighs hang down at 0 and swing forward for positive values,
elbows and knees flex for positive ones. Lengths are in body heights. Gestures write the arms over what the body
does, eased in and out; consecutive movements melt into each other. Reaching (to an ear, a pedal, a handlebar) is
solved exactly from the two bones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from trifocal.playground.shapes import FloatArray

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = [
    "BONES",
    "CHANNELS",
    "GESTURE_POSES",
    "INDEX",
    "KICK_AT_S",
    "MOVE_POSES",
    "STRIDE",
    "THROW_AT_S",
    "Clock",
    "ease",
    "gesture_pose",
    "move_pose",
]

BONES: Mapping[str, float] = MappingProxyType(
    {"foot": 0.035, "shin": 0.215, "thigh": 0.215, "torso": 0.285, "upper": 0.15, "lower": 0.145, "neck": 0.115}
)
"""Lengths in body heights; `foot` is the height of the ankle, `neck` reaches from the shoulders to mid-head."""

REST: Mapping[str, float] = MappingProxyType(
    {
        "torso": 0.0,  # lean forward
        "neck": 0.0,  # nod forward
        "turn": 0.45,  # 0 seen from the front, 1 in profile
        "near_upper": -0.14,
        "near_lower": 0.2,
        "far_upper": 0.12,
        "far_lower": 0.2,
        "near_thigh": -0.06,
        "near_knee": 0.02,
        "far_thigh": 0.05,
        "far_knee": 0.03,
        "toes": 0.0,  # both feet pitched up
        "tilt": 0.0,  # the whole body about the pelvis, forward
        "lift": 0.0,  # above the ground
        "saddle": 0.0,  # share of `seat` in the height of the pelvis; the ground decides the rest
        "seat": 0.5,
        "shift": 0.0,  # forward
        "mouth": 0.0,  # open
    }
)
CHANNELS: tuple[str, ...] = tuple(REST)
INDEX: Mapping[str, int] = MappingProxyType({name: i for i, name in enumerate(CHANNELS)})
STRIDE: Mapping[str, float] = MappingProxyType({"walk": 0.8, "run": 1.45, "ride": 2.4})
"""Body heights covered by one cycle of the legs."""

CRANK = (0.055, 0.17)  # middle of the pedals before the pelvis' foot point, and its height
CRANK_LENGTH = 0.085

Channels = dict[str, FloatArray | float]


class Clock(NamedTuple):
    """When within a movement: seconds since its start `t`, share of it `u`, leg cycles `cycles`; each `(T,)`."""

    t: FloatArray
    u: FloatArray
    cycles: FloatArray


def ease(x: ArrayLike) -> FloatArray:
    """0 below 0, 1 above 1, and smooth in between."""
    x = np.clip(np.asarray(x, np.float64), 0.0, 1.0)
    eased: FloatArray = x * x * (3.0 - 2.0 * x)
    return eased


def _reach(dx: ArrayLike, dy: ArrayLike, bone: float, other: float, bend: float) -> tuple[FloatArray, FloatArray]:
    """Angle of the first bone from straight down and flexion of the joint, so that the end lies at (dx, dy).

    `bend` is 1 for an elbow (it flexes forward) and -1 for a knee. Law of cosines; out of reach means stretched.
    """
    dx, dy = np.asarray(dx, np.float64), np.asarray(dy, np.float64)
    far = np.clip(np.hypot(dx, dy), abs(bone - other) + 1e-6, bone + other - 1e-6)
    direction = np.arctan2(dx, -dy)
    first = np.arccos(np.clip((bone**2 + far**2 - other**2) / (2 * bone * far), -1, 1))
    joint = np.arccos(np.clip((bone**2 + other**2 - far**2) / (2 * bone * other), -1, 1))
    return direction - bend * first, np.pi - joint


def _arm(dx: ArrayLike, dy: ArrayLike) -> tuple[FloatArray, FloatArray]:
    return _reach(dx, dy, BONES["upper"], BONES["lower"], 1.0)


def _both(dx: ArrayLike, dy: ArrayLike) -> Channels:
    upper, lower = _arm(dx, dy)
    return {"near_upper": upper, "near_lower": lower, "far_upper": upper + 0.05, "far_lower": lower}


def _stand(c: Clock) -> Channels:
    return {"torso": 0.015 * np.sin(2.1 * c.t), "near_upper": -0.14 + 0.03 * np.sin(1.7 * c.t)}


def _walk(c: Clock) -> Channels:
    swing = 2 * np.pi * c.cycles
    return {
        "turn": 0.8,
        "torso": 0.06,
        "near_thigh": 0.48 * np.sin(swing),
        "far_thigh": -0.48 * np.sin(swing),
        "near_knee": 0.1 + 0.85 * np.maximum(np.cos(swing), 0) ** 1.5,
        "far_knee": 0.1 + 0.85 * np.maximum(-np.cos(swing), 0) ** 1.5,
        "near_upper": -0.5 * np.sin(swing),
        "far_upper": 0.5 * np.sin(swing),
        "near_lower": 0.3 - 0.15 * np.sin(swing),
        "far_lower": 0.3 + 0.15 * np.sin(swing),
    }


def _run(c: Clock) -> Channels:
    swing = 2 * np.pi * c.cycles
    return {
        "turn": 0.85,
        "torso": 0.24,
        "near_thigh": 0.2 + 0.85 * np.sin(swing),
        "far_thigh": 0.2 - 0.85 * np.sin(swing),
        "near_knee": 0.3 + 1.5 * np.maximum(np.cos(swing + 0.3), 0) ** 1.3,
        "far_knee": 0.3 + 1.5 * np.maximum(-np.cos(swing + 0.3), 0) ** 1.3,
        "near_upper": -0.15 - 0.85 * np.sin(swing),
        "far_upper": -0.15 + 0.85 * np.sin(swing),
        "near_lower": 1.55,
        "far_lower": 1.55,
        "lift": 0.035 * np.abs(np.cos(swing)),
    }


def _jump(c: Clock) -> Channels:
    p = np.mod(c.t / 1.1, 1.0)
    air = np.clip((p - 0.3) / 0.45, 0, 1)
    crouch = ease(p / 0.2) * (1 - ease((p - 0.22) / 0.1)) + ease((p - 0.72) / 0.06) * (1 - ease((p - 0.8) / 0.2))
    up = ease((p - 0.2) / 0.15) * (1 - ease((p - 0.7) / 0.2))
    return {
        "turn": 0.25,
        "torso": 0.35 * crouch,
        "near_thigh": 0.1 + 0.85 * crouch + 0.3 * up * np.sin(np.pi * air),
        "far_thigh": -0.05 + 0.85 * crouch,
        "near_knee": 0.05 + 1.5 * crouch + 0.55 * np.sin(np.pi * air),
        "far_knee": 0.05 + 1.5 * crouch + 0.4 * np.sin(np.pi * air),
        "near_upper": 0.5 * crouch - 2.5 * up - 0.1,
        "far_upper": 0.3 * crouch + 2.5 * up + 0.1,
        "lift": 0.3 * 4 * air * (1 - air),
        "toes": -0.5 * np.sin(np.pi * air),
    }


def _sit(c: Clock) -> Channels:
    hands: Channels = _both(0.15, -0.235)
    return hands | {
        "turn": 0.75,
        "torso": -0.04 + 0.01 * np.sin(1.9 * c.t),
        "near_thigh": 1.5,
        "far_thigh": 1.42,
        "near_knee": 1.5,
        "far_knee": 1.42,
    }


def _fall(c: Clock) -> Channels:
    trip, drop = ease(c.t / 0.35), ease((c.t - 0.25) / 0.75) ** 1.4
    return {
        "turn": 0.75,
        "torso": 0.25 * trip * (1 - drop),
        "neck": -0.25 * drop,
        "tilt": 1.5 * drop,
        "shift": 0.3 * drop,
        "near_upper": 0.1 + 1.8 * trip + 0.95 * drop + 0.5 * np.sin(14 * c.t) * trip * (1 - drop),
        "far_upper": -0.1 + 2.1 * trip + 1.0 * drop - 0.5 * np.sin(14 * c.t) * trip * (1 - drop),
        "near_lower": 0.3,
        "far_lower": 0.3,
        "near_thigh": 0.1 - 0.35 * trip + 0.2 * drop,
        "far_thigh": -0.1 - 0.5 * trip + 0.55 * drop,
        "near_knee": 0.1 + 0.7 * trip - 0.6 * drop,
        "far_knee": 0.1 + 0.3 * trip - 0.2 * drop,
        "mouth": 0.7 * trip * (1 - drop),
    }


def _lie(c: Clock) -> Channels:
    return {
        "turn": 0.75,
        "neck": -0.25,
        "tilt": 1.5,
        "shift": 0.3,
        "near_upper": 2.85,
        "far_upper": 3.0,
        "near_lower": 0.3,
        "far_lower": 0.3,
        "near_thigh": -0.05,
        "far_thigh": -0.05,
        "near_knee": 0.2,
        "far_knee": 0.2 + 0.03 * np.sin(1.5 * c.t),
    }


def _crouch(c: Clock) -> Channels:
    hands: Channels = _both(0.16, -0.19)
    return hands | {
        "turn": 0.7,
        "torso": 0.42 + 0.02 * np.sin(1.9 * c.t),
        "near_thigh": 1.75,
        "far_thigh": 1.6,
        "near_knee": 2.35,
        "far_knee": 2.2,
    }


def _bend(c: Clock) -> Channels:
    down = ease(c.t / 0.5)
    stroke = 0.12 * np.sin(5.0 * c.t) * down
    return {
        "turn": 0.75,
        "torso": 1.15 * down,
        "neck": -0.35 * down,
        "near_thigh": 0.55 * down,
        "far_thigh": 0.35 * down,
        "near_knee": 0.75 * down,
        "far_knee": 0.6 * down,
        "near_upper": 0.1 + 0.3 * down + stroke,
        "near_lower": 0.15,
        "far_upper": -0.1 + 0.35 * down,
        "far_lower": 0.2,
    }


def _dance(c: Clock) -> Channels:
    beat = 2 * np.pi * c.t / 0.9
    sway = np.sin(beat / 2)
    bounce = np.abs(np.sin(beat / 2))
    return {
        "turn": 0.15,
        "tilt": 0.1 * sway,
        "torso": -0.16 * sway,
        "neck": 0.16 * sway,
        "near_thigh": -0.25 - 0.4 * np.maximum(-sway, 0),
        "far_thigh": 0.25 + 0.4 * np.maximum(sway, 0),
        "near_knee": -0.25 - 0.8 * np.maximum(-sway, 0),
        "far_knee": 0.25 + 0.8 * np.maximum(sway, 0),
        "near_upper": -1.5 + 0.9 * sway,
        "near_lower": -0.9 - 0.4 * sway,
        "far_upper": 1.5 + 0.9 * sway,
        "far_lower": 0.9 - 0.4 * sway,
        "lift": 0.03 * bounce,
    }


def _squat(c: Clock) -> Channels:
    down = 0.5 - 0.5 * np.cos(2 * np.pi * c.t / 1.6)
    hands: Channels = _both(0.12 + 0.16 * down, -0.2 + 0.18 * down)
    return hands | {
        "turn": 0.75,
        "torso": 0.5 * down,
        "near_thigh": 1.5 * down,
        "far_thigh": 1.4 * down,
        "near_knee": 1.75 * down,
        "far_knee": 1.65 * down,
    }


KICK_AT_S = 0.62
"""Seconds into a kick at which the foot meets the ball."""


def _kick(c: Clock) -> Channels:
    back = ease(c.t / 0.42) * (1 - ease((c.t - 0.45) / 0.14))
    through = ease((c.t - 0.45) / 0.25) * (1 - ease((c.t - 0.85) / 0.4))
    return {
        "turn": 0.8,
        "torso": 0.15 * back - 0.25 * through,
        "near_thigh": -0.75 * back + 1.25 * through + 0.05,
        "near_knee": 1.1 * back + 0.1 * through,
        "far_thigh": 0.12 * back - 0.15 * through,
        "far_knee": 0.2 * back + 0.15,
        "near_upper": 0.6 * back - 0.9 * through,
        "far_upper": -0.6 * back + 1.2 * through,
        "near_lower": 0.3,
        "far_lower": 0.4,
    }


def _ride(c: Clock) -> Channels:
    """Feet on turning pedals and hands on a bar; a horse keeps the feet still because its `cycles` do not run."""
    turn = 2 * np.pi * c.cycles
    seat = 0.545
    legs: Channels = {}
    for side, phase in (("near", 0.0), ("far", np.pi)):
        dx = CRANK[0] + CRANK_LENGTH * np.sin(turn + phase)
        dy = CRANK[1] + CRANK_LENGTH * np.cos(turn + phase) + BONES["foot"] - seat
        thigh, knee = _reach(dx, dy, BONES["thigh"], BONES["shin"], -1.0)
        legs |= {f"{side}_thigh": thigh, f"{side}_knee": knee}
    lean = 0.42
    hands = _both(0.33 - BONES["torso"] * np.sin(lean) + 0 * c.t, 0.64 - seat - BONES["torso"] * np.cos(lean))
    return hands | legs | {"turn": 0.95, "torso": lean, "neck": -0.3, "saddle": 1.0, "seat": seat}


MOVE_POSES: Mapping[str, Callable[[Clock], Channels]] = MappingProxyType(
    {
        "stand": _stand,
        "walk": _walk,
        "run": _run,
        "jump": _jump,
        "sit": _sit,
        "fall": _fall,
        "lie": _lie,
        "crouch": _crouch,
        "bend": _bend,
        "dance": _dance,
        "squat": _squat,
        "kick": _kick,
        "ride": _ride,
    }
)

THROW_AT_S = 0.75
"""Seconds into a throw at which the ball leaves the hand."""


def _wave(c: Clock) -> Channels:
    return {"near_upper": -2.3 - 0.1 * np.sin(12 * c.t), "near_lower": -0.5 - 0.5 * np.sin(12 * c.t), "turn": 0.25}


def _clap(c: Clock) -> Channels:
    beat = np.sin(18 * c.t)
    near, far = _arm(0.19, -0.03 + 0.045 * beat), _arm(0.19, -0.03 - 0.045 * beat)
    return {"near_upper": near[0], "near_lower": near[1], "far_upper": far[0], "far_lower": far[1]}


def _point(c: Clock) -> Channels:
    return {"near_upper": 1.62 + 0.03 * np.sin(5 * c.t), "near_lower": 0.02, "turn": 0.7}


def _cheer(c: Clock) -> Channels:
    pump = np.sin(10 * c.t)
    return {
        "near_upper": -2.6 - 0.2 * pump,
        "near_lower": -0.25,
        "far_upper": 2.6 + 0.2 * pump,
        "far_lower": 0.25,
        "turn": 0.1,
        "mouth": 0.8,
    }


def _gesture(c: Clock) -> Channels:
    near = _arm(0.17 + 0.03 * np.sin(4.3 * c.t), -0.1 + 0.06 * np.sin(5.7 * c.t))
    far = _arm(0.15 + 0.03 * np.sin(3.1 * c.t + 1), -0.15 + 0.05 * np.sin(4.9 * c.t + 2))
    return {
        "near_upper": near[0],
        "near_lower": near[1],
        "far_upper": far[0],
        "far_lower": far[1],
        "turn": 0.75,
        "mouth": 0.5 + 0.5 * np.sin(15 * c.t) * np.sin(3.3 * c.t),
    }


def _hand_at_head(c: Clock) -> Channels:
    upper, lower = _arm(0.045 + 0 * c.t, 0.105)
    return {"near_upper": upper, "near_lower": lower, "neck": 0.08, "mouth": 0.35 + 0.35 * np.sin(13 * c.t)}


def _hand_at_mouth(c: Clock) -> Channels:
    sip = ease((np.mod(c.t, 2.4) - 0.1) / 0.5) * (1 - ease((np.mod(c.t, 2.4) - 1.5) / 0.5))
    upper, lower = _arm(0.17 - 0.06 * sip, -0.1 + 0.17 * sip)
    return {"near_upper": upper, "near_lower": lower, "turn": 0.75, "neck": -0.12 * sip}


def _hands_at_chest(c: Clock) -> Channels:
    return _both(0.165 + 0 * c.t, -0.07) | {"neck": 0.28, "turn": 0.8}


def _arms_forward(c: Clock) -> Channels:
    return _both(0.2 + 0 * c.t, -0.13) | {"turn": 0.85}


def _hand_low(c: Clock) -> Channels:
    upper, lower = _arm(0.15 + 0 * c.t, -0.21)
    return {"near_upper": upper, "near_lower": lower}


def _arm_swing(c: Clock) -> Channels:
    back = ease(c.t / 0.5)
    through = ease((c.t - 0.55) / 0.3)
    return {
        "near_upper": 0.1 + back * (-2.3) + through * 3.6 + ease((c.t - 1.0) / 0.4) * (-1.0),
        "near_lower": 0.2 + 1.2 * back * (1 - through),
        "far_upper": 1.0 * back - 1.2 * through,
        "torso": -0.2 * back + 0.45 * through,
        "turn": 0.8,
    }


GESTURE_POSES: Mapping[str, Callable[[Clock], Channels]] = MappingProxyType(
    {
        "wave": _wave,
        "clap": _clap,
        "point": _point,
        "cheer": _cheer,
        "gesture": _gesture,
        "hand at head": _hand_at_head,
        "hand at mouth": _hand_at_mouth,
        "hands at chest": _hands_at_chest,
        "arms forward": _arms_forward,
        "hand low": _hand_low,
        "arm swing": _arm_swing,
    }
)


def move_pose(name: str, clock: Clock) -> FloatArray:
    """The pose `(T, CHANNELS)` of a body that does `name`."""
    pose = np.tile(np.array(list(REST.values())), (len(clock.t), 1))
    for channel, value in MOVE_POSES[name](clock).items():
        pose[:, INDEX[channel]] = value
    return pose


def gesture_pose(pose: FloatArray, name: str, clock: Clock, weight: FloatArray) -> FloatArray:
    """`pose` with a gesture blended in by `weight` `(T,)`; lean and nod of the body are added to, not replaced."""
    out = pose.copy()
    for channel, value in GESTURE_POSES[name](clock).items():
        column = INDEX[channel]
        target = pose[:, column] + value if channel in ("torso", "neck") else value
        out[:, column] += weight * (target - pose[:, column])
    return out
