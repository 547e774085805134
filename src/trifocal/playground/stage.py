"""The stage: where everything of a scene is at given moments, in pixels, in the order it is painted.

Both the renderer and the truth read it, which is why boxes fit the picture. A scene is looked at in blocks of
`BLOCK` frames counted from its first, always the same ones, so that one frame asked for alone goes through exactly
the same arithmetic as in a stream. Nearer lanes are painted later; what is held or ridden goes between the limbs of
whoever holds or rides it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from trifocal.playground.actions import ATTEND
from trifocal.playground.animals import ANIMALS, HORSE_BACK_M
from trifocal.playground.figure import Figure, Joints, joints, paint
from trifocal.playground.palette import COLOURS
from trifocal.playground.pose import INDEX, REST, STRIDE, Clock, ease, gesture_pose, move_pose
from trifocal.playground.shapes import FloatArray, Part, blob, capsule, place, points
from trifocal.playground.things import HELD, THINGS, Motor
from trifocal.playground.vehicles import VEHICLES

if TYPE_CHECKING:
    from trifocal.playground.spec import Actor, Motion, Thing, VideoSpec

BoolArray = NDArray[np.bool_]

__all__ = ["BLOCK", "MAKERS", "STILL_KINDS", "Sprite", "Stage"]

BLOCK = 32
PERSON_M = 1.75
MAKERS = {**THINGS, **ANIMALS, **VEHICLES}
STILL_KINDS = frozenset({"bench", "chair", "house", "lamp", "snowman", "table", "tree", "traffic cone"})
"""Kinds that look the same at any time, so that they may be part of a cached background."""

LYING_M = {"box": 0.17, "book": 0.12, "phone": 0.09, "cup": 0.075}
"""How high the origin of a held thing is when it stands on the ground."""
HANDLE_M = {"ball": 0.14, "suitcase": 0.7, "umbrella": 0.75}
"""How far below the hand the origin of a thing on the ground is when somebody holds it."""
TWO_HANDED = frozenset({"box", "book"})
BLEND_S = {"lie": 0.7, "sit": 0.45, "ride": 0.05}


@dataclass(frozen=True, slots=True)
class Sprite:
    """Something painted: its parts in pixels over the frames of a block, and in which of them it shows."""

    id: str
    parts: list[Part]
    shown: BoolArray


@dataclass(frozen=True, slots=True)
class _Body:
    """An actor over a block: painted, its joints, and where its local origin is."""

    figure: Figure
    joints: Joints
    x: FloatArray
    facing: FloatArray
    scale: float
    shown: BoolArray


class Stage:
    """One scene of a video, ready to say where everything is.

    Args:
        spec: the video.
        number: of the scene.
    """

    def __init__(self, spec: VideoSpec, number: int) -> None:
        """Look up the scene."""
        self.spec, self.scene = spec, spec.scenes[number]
        self.first, self.stop = spec.frames_of(number)
        self._ridden = {m.target: a.id for a in self.scene.actors for m in a.moves if m.action == "ride" and m.target}

    @property
    def height(self) -> int:
        """Of the picture, in pixels; the unit of `x` and `lane`."""
        return self.spec.height

    def blocks(self) -> list[tuple[int, int]]:
        """The scene's blocks as (first frame, first frame after)."""
        return [(at, min(at + BLOCK, self.stop)) for at in range(self.first, self.stop, BLOCK)]

    def times(self, first: int, stop: int) -> FloatArray:
        """Seconds of the frames `first` to `stop - 1`."""
        return np.arange(first, stop, dtype=np.float64) / self.spec.fps

    def metre(self, lane: float) -> float:
        """Pixels a metre measures at a lane."""
        camera = self.scene.camera
        return max(camera.zoom * (lane - camera.horizon), 0.02) * self.height / PERSON_M

    def camera_px(self, times_s: FloatArray) -> FloatArray:
        """Left edge of the picture on the canvas, in pixels, to the half pixel: `(T,)`."""
        scene, camera = self.scene, self.scene.camera
        share = ease((times_s - scene.start_s) / (scene.end_s - scene.start_s))
        return np.round((camera.x0 + (camera.x1 - camera.x0) * share) * self.height * 2) / 2

    def is_still(self, thing: Thing) -> bool:
        """Whether a thing can be painted into the background: it never changes and nobody passes behind it."""
        if thing.kind not in STILL_KINDS or any(m.what != "rest" for m in thing.motions) or thing.role == "needle":
            return False
        scene = self.scene
        first, last = thing.motions[0], thing.motions[-1]
        if first.start_s > scene.start_s + 1e-6 or last.end_s < scene.end_s - 1e-6 or len(thing.motions) > 1:
            return False
        others = [a.lane for a in scene.actors] + [t.lane for t in scene.things if t.kind not in STILL_KINDS]
        return all(thing.lane < lane for lane in others)

    def still_sprites(self) -> list[Sprite]:
        """What `is_still`, back to front, in canvas pixels, one frame."""
        times = np.array([self.scene.start_s])
        still = sorted((t for t in self.scene.things if self.is_still(t)), key=lambda t: t.lane)
        return [s for t in still for s in self._thing_sprites(t, times, {}, np.zeros(1), held=False)]

    def sprites(self, first: int, stop: int, *, details: bool = True) -> list[Sprite]:
        """Everything that is not still, in painting order, in picture pixels, over some frames.

        Without `details` what the extents do not need is left out.
        """
        times = self.times(first, stop)
        camera = self.camera_px(times)
        bodies = {actor.id: self._body(actor, times, camera, details=details) for actor in self.scene.actors}
        entries: list[tuple[float, int, str, list[Sprite]]] = []
        loose = [t for t in self.scene.things if not self.is_still(t)]
        for actor in self.scene.actors:
            body = bodies[actor.id]
            layers = [
                place(p, x=body.x, y=self._ground(actor.lane, times), scale=body.scale, facing=body.facing)
                for p in (body.figure.far, body.figure.body, body.figure.near)
            ]
            stack = [Sprite(f"{actor.id}/shadow", self._actor_shadow(actor, body, times), body.shown)]
            stack.append(Sprite(actor.id, layers[0], body.shown))
            mounts = [t for t in loose if self._ridden.get(t.id) == actor.id]
            stack += [s for t in mounts for s in self._thing_sprites(t, times, bodies, camera, held=False)]
            stack.append(Sprite(actor.id, layers[1], body.shown))
            carried = [t for t in loose if any(m.by == actor.id and m.what == "held" for m in t.motions)]
            stack += [s for t in carried for s in self._thing_sprites(t, times, bodies, camera, held=True, by=actor.id)]
            stack.append(Sprite(actor.id, layers[2], body.shown))
            if details:
                stack += self._leashes(actor, body, times, camera)
            entries.append((actor.lane, 1, actor.id, stack))
        entries += [
            (t.lane, 0, t.id, self._thing_sprites(t, times, bodies, camera, held=False))
            for t in loose
            if t.id not in self._ridden
        ]
        entries.sort(key=lambda entry: entry[:3])
        return [sprite for entry in entries for sprite in entry[3]]

    def _ground(self, lane: float, times_s: FloatArray) -> FloatArray:
        return np.full(len(times_s), lane * self.height)

    # ---- actors

    def _body(self, actor: Actor, times_s: FloatArray, camera: FloatArray, *, details: bool) -> _Body:
        scale = self.metre(actor.lane) * actor.look.height_m
        pose, x, facing, mounted = self._motion_of(actor, times_s, scale)
        for gesture in actor.gestures:
            if gesture.action == ATTEND:
                continue
            weight = ease((times_s - gesture.start_s) / 0.25) * ease((gesture.end_s - times_s) / 0.25)
            if weight.any():
                t = np.clip(times_s - gesture.start_s, 0, gesture.end_s - gesture.start_s)
                clock = Clock(t, t / (gesture.end_s - gesture.start_s), 0 * t)
                pose = gesture_pose(pose, gesture.action, clock, weight)
        lift = 0.0
        if mounted:
            lift = HORSE_BACK_M / actor.look.height_m + 0.06 - 0.545
        j = joints(pose, lift=lift)
        shown = (times_s >= actor.moves[0].start_s - 1e-9) & (times_s < actor.moves[-1].end_s - 1e-9)
        return _Body(
            paint(actor.look, j, times_s=times_s, details=details), j, x * self.height - camera, facing, scale, shown
        )

    def _motion_of(
        self, actor: Actor, times_s: FloatArray, scale: float
    ) -> tuple[FloatArray, FloatArray, FloatArray, bool]:
        """Pose, x in picture heights, facing, and whether it sits on a horse."""
        kinds = {thing.id: thing.kind for thing in self.scene.things}
        pose = np.tile(np.array(list(REST.values())), (len(times_s), 1))
        x, facing = np.zeros(len(times_s)), np.ones(len(times_s))
        mounted = False
        for number, move in enumerate(actor.moves):
            is_last, is_first = number == len(actor.moves) - 1, number == 0
            begun = np.ones(len(times_s), bool) if is_first else times_s >= move.start_s
            ending = np.inf if is_last else actor.moves[number + 1].start_s + 1.0
            if not begun.any() or (times_s >= ending).all():
                continue
            t = np.clip(times_s - move.start_s, 0, None)
            u = np.clip(t / (move.end_s - move.start_s), 0, 1)
            way = abs(move.x1 - move.x0) * self.height * u / scale
            on_horse = move.action == "ride" and kinds.get(move.target or "") == "horse"
            mounted |= on_horse
            cycles = np.full(len(t), 0.25) if on_horse else way / STRIDE.get(move.action, 1.0)
            own = move_pose(move.action, Clock(t, u, cycles))
            if is_first:
                pose, facing = own, np.full(len(t), float(move.facing))
            else:
                blend = ease(t / BLEND_S.get(move.action, 0.3))
                blend = np.where(begun, blend, 0.0)
                pose = pose + blend[:, None] * (own - pose)
                pose[:, INDEX["shift"]] = np.where(begun, own[:, INDEX["shift"]], pose[:, INDEX["shift"]])
                facing = np.where(begun, facing + (move.facing - facing) * ease(t / 0.22), facing)
            x = np.where(begun, move.x0 + (move.x1 - move.x0) * u, x)
        return pose, x, facing, mounted

    def _actor_shadow(self, actor: Actor, body: _Body, times_s: FloatArray) -> list[Part]:
        j = body.joints
        spots = np.stack([j.head[:, 0], j.near_ankle[:, 0], j.far_ankle[:, 0], j.pelvis[:, 0]], axis=-1)
        middle, half = (spots.max(axis=1) + spots.min(axis=1)) / 2, (spots.max(axis=1) - spots.min(axis=1)) / 2
        centre = points(body.x + body.facing * body.scale * middle, self._ground(actor.lane, times_s))
        shadow = blob(centre, (half + 0.09) * body.scale, 0.03 * body.scale)
        return [Part((14, 18, 40), shadow, 0.28)]

    def _leashes(self, actor: Actor, body: _Body, times_s: FloatArray, camera: FloatArray) -> list[Sprite]:
        """Lines from the hand to the collar of each dog that the actor walks."""
        out = []
        dogs = {thing.id: thing for thing in self.scene.things if thing.kind == "dog"}
        for gesture in actor.gestures:
            dog = dogs.get(gesture.target or "")
            if gesture.action != "hand low" or dog is None:
                continue
            motion, scale = dog.motions[0], self.metre(dog.lane) * dog.size
            u = np.clip((times_s - motion.start_s) / (motion.end_s - motion.start_s), 0, 1)
            x, y, facing, _ = self._whereabouts(dog, motion, u, {}, camera, scale)
            hand = points(
                body.x + body.facing * body.scale * body.joints.near_hand[:, 0],
                actor.lane * self.height - body.scale * body.joints.near_hand[:, 1],
            )
            collar = points(x + 0.42 * scale * facing, y - 0.64 * scale)
            shown = body.shown & (times_s >= gesture.start_s) & (times_s < gesture.end_s) & (times_s < motion.end_s)
            line = capsule(hand, collar, 0.012 * scale, 0.012 * scale)
            out.append(Sprite(f"{actor.id}/leash", [Part((70, 40, 34), line)], shown))
        return out

    # ---- things

    def _thing_sprites(
        self,
        thing: Thing,
        times_s: FloatArray,
        bodies: dict[str, _Body],
        camera: FloatArray,
        *,
        held: bool,
        by: str | None = None,
    ) -> list[Sprite]:
        """The thing in somebody's hands, or on its own, over the times at which it is so."""
        n = len(times_s)
        x, y, facing = np.zeros(n), np.zeros(n), np.full(n, float(thing.facing))
        metres, moving, shown = np.zeros(n), np.zeros(n), np.zeros(n, bool)
        scale = self.metre(thing.lane) * thing.size
        covered = 0.0
        for motion in thing.motions:
            in_hand = motion.what == "held"
            now = (times_s >= motion.start_s - 1e-9) & (times_s < motion.end_s - 1e-9)
            way = (
                abs(motion.x1 - motion.x0) * self.height / scale if motion.what in ("travel", "roll", "thrown") else 0.0
            )
            if now.any() and in_hand == held and (not held or motion.by == by):
                u = np.clip((times_s - motion.start_s) / (motion.end_s - motion.start_s), 0, 1)
                at_x, at_y, turn, share = self._whereabouts(thing, motion, u, bodies, camera, scale)
                x, y = np.where(now, at_x, x), np.where(now, at_y, y)
                facing = np.where(now, turn, facing)
                metres = np.where(now, covered + way * share, metres)
                pace = ease((times_s - motion.start_s + 0.05) / 0.3) * ease((motion.end_s - times_s + 0.05) / 0.3)
                moving = np.where(now, pace if motion.what == "travel" else 0.0, moving)
                shown |= now
            covered += way
        if not shown.any():
            return []
        parts = MAKERS[thing.kind](COLOURS[thing.colour], Motor(metres, times_s, moving))
        sprite = Sprite(thing.id, place(parts, x=x, y=y, scale=scale, facing=facing), shown)
        if held or thing.kind == "boat":
            return [sprite]
        local = np.concatenate([part.outline[0, :, 0] for part in parts])
        low_x, high_x = float(local.min()), float(local.max())
        if thing.kind in ("tree", "lamp", "umbrella", "balloon"):
            low_x, high_x = 0.35 * low_x, 0.35 * high_x
        centre = points(x + facing * scale * (low_x + high_x) / 2, thing.lane * self.height)
        half = 0.54 * scale * (high_x - low_x)
        shadow = Part((14, 18, 40), blob(centre, half, min(0.16 * half, 0.05 * self.metre(thing.lane) * 3)), 0.28)
        return [Sprite(f"{thing.id}/shadow", [shadow], shown), sprite]

    def _whereabouts(
        self,
        thing: Thing,
        motion: Motion,
        u: FloatArray,
        bodies: dict[str, _Body],
        camera: FloatArray,
        scale: float,
    ) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """x and y of the origin in pixels, facing, and the share of the way covered."""
        ground = thing.lane * self.height - LYING_M.get(thing.kind, 0.0) * scale
        facing = np.full(len(u), float(thing.facing))
        if motion.what == "held":
            assert motion.by is not None
            body = bodies[motion.by]
            hand = self._grip(thing.kind, body)
            drop = HANDLE_M.get(thing.kind, 0.0) * scale
            actor = self._actor(motion.by)
            x = body.x + body.facing * body.scale * hand[:, 0]
            y = actor.lane * self.height - body.scale * hand[:, 1] + drop
            return x, y, np.where(body.facing < 0, -1.0, 1.0), u
        if motion.what == "thrown":
            assert motion.by is not None
            start = np.array([motion.start_s])
            thrower = self._actor(motion.by)
            body = self._body(thrower, start, np.zeros(1), details=False)
            hand = self._grip(thing.kind, body)
            x0 = float((body.x + body.facing * body.scale * hand[:, 0])[0])
            h0 = float(body.scale * hand[0, 1]) - (thrower.lane - thing.lane) * self.height - 0.14 * scale
            apex = 9.81 * (motion.end_s - motion.start_s) ** 2 / 8 * scale
            x = x0 + (motion.x1 * self.height - x0) * u - camera
            return x, ground - (h0 * (1 - u) + 4 * apex * u * (1 - u)), facing, u
        share = u if motion.what == "travel" else 1 - (1 - u) ** 2
        x1 = motion.x0 if motion.what == "rest" else motion.x1
        if motion.what == "travel" and x1 != motion.x0:
            facing = np.full(len(u), 1.0 if x1 > motion.x0 else -1.0)
        x = (motion.x0 + (x1 - motion.x0) * share) * self.height - camera
        return x, np.full(len(u), ground - motion.height * self.metre(thing.lane)), facing, share

    def _grip(self, kind: str, body: _Body) -> FloatArray:
        """Where a thing of this kind is held, in body heights of the holder: `(T, 2)`."""
        j = body.joints
        if kind in TWO_HANDED:
            ahead = np.array([0.09, 0.03]) if kind == "box" else np.array([0.02, 0.03])
            middle: FloatArray = 0.5 * (j.near_hand + j.far_hand) + ahead
            return middle
        grip: FloatArray = j.near_hand + (np.array([0.012, 0.02]) if kind in HELD else 0.0)
        return grip

    def _actor(self, name: str) -> Actor:
        return next(actor for actor in self.scene.actors if actor.id == name)
