"""Tools for directing one scene: who is free, which lane and which part of the picture, and a track that keeps
time.

`Shot` collects actors and things while happenings are laid into it (`happenings.py`); `Track` writes the moves of
one actor so that they touch, walk at a human pace and end with the scene.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from trifocal.playground.places import PLACE_RULES
from trifocal.playground.spec import Actor, Camera, Gesture, Look, Motion, Move, Thing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trifocal.playground.chance import Chance

__all__ = ["ANIMAL_COLOURS", "THING_COLOURS", "Shot", "Track"]

PACE_M_S = {"walk": 1.3, "run": 3.3, "ride": 3.6}
_BRIGHT = ("red", "orange", "yellow", "green", "blue", "purple", "pink")
THING_COLOURS: dict[str, tuple[str, ...]] = {
    "ball": ("red", "orange", "yellow", "blue", "white", "purple", "green"),
    "bench": ("brown", "green"),
    "boat": ("red", "blue", "white", "green", "orange"),
    "box": ("brown", "white", "blue", "red", "green"),
    "bicycle": ("red", "blue", "green", "yellow", "black"),
    "bus": ("red", "yellow", "blue", "green", "orange"),
    "car": ("red", "blue", "white", "black", "yellow", "green", "grey"),
    "truck": ("red", "blue", "green", "orange"),
    "phone": ("black", "white", "pink"),
    "cup": ("red", "white", "blue", "yellow", "green"),
    "book": ("red", "blue", "green", "purple"),
    "chair": ("brown", "red", "blue", "white"),
    "suitcase": ("red", "blue", "purple", "yellow"),
    "duck": ("yellow", "pink", "white"),
    "trophy": ("yellow", "grey"),
    "umbrella": _BRIGHT,
    "balloon": _BRIGHT,
    "traffic cone": ("orange", "red"),
    "snowman": ("red", "blue", "green"),
}
ANIMAL_COLOURS: dict[str, tuple[str, ...]] = {
    "dog": ("brown", "black", "white", "grey", "orange"),
    "cat": ("orange", "black", "grey", "white"),
    "horse": ("brown", "black", "white", "grey"),
    "sheep": ("white", "grey"),
    "cow": ("white", "brown", "black"),
    "bird": ("blue", "red", "yellow", "white", "black"),
}


@dataclass(slots=True)
class Shot:
    """A scene in the making.

    Attributes:
        place: where.
        start_s: of the scene.
        end_s: of the scene.
        aspect: width of the picture in picture heights.
        camera: already decided.
        chance: draws for this scene.
        cast: whom to call next, as (id, look).
        counts: of the things made in the whole video so far, by kind; they number the ids.
        zones: middles of free parts of the picture, in canvas units.
        lanes: free ones.
    """

    place: str
    start_s: float
    end_s: float
    aspect: float
    camera: Camera
    chance: Chance
    cast: Iterator[tuple[str, Look]]
    counts: dict[str, int]
    zones: list[float]
    lanes: list[float]
    actors: list[Actor] = field(default_factory=list)
    things: list[Thing] = field(default_factory=list)

    @property
    def length_s(self) -> float:
        """Seconds of the scene."""
        return self.end_s - self.start_s

    @property
    def left(self) -> float:
        """Where the camera never looks further left."""
        return min(self.camera.x0, self.camera.x1)

    @property
    def right(self) -> float:
        """Where the camera never looks further right."""
        return max(self.camera.x0, self.camera.x1) + self.aspect

    def metre(self, lane: float) -> float:
        """A metre at a lane, in picture heights."""
        return self.camera.zoom * (lane - self.camera.horizon) / 1.75

    def take_lane(self) -> float:
        """A free lane, or one just beside a used one when all are taken."""
        if self.lanes:
            return self.lanes.pop(0)
        taken = {actor.lane for actor in self.actors} | {thing.lane for thing in self.things}
        lane = self.chance.pick(PLACE_RULES[self.place].lanes)
        while lane in taken:
            lane = round(lane + 0.008, 4)
        return lane

    def take_zone(self) -> float:
        """The middle of a free part of the picture."""
        if self.zones:
            return self.zones.pop(0)
        low, high = max(self.camera.x0, self.camera.x1), min(self.camera.x0, self.camera.x1) + self.aspect
        return self.chance.between(low + 0.25 * (high - low), high - 0.25 * (high - low))

    def add_thing(
        self,
        kind: str,
        motions: tuple[Motion, ...],
        *,
        lane: float,
        colour: str | None = None,
        facing: Literal[-1, 1] = 1,
        size: float = 1.0,
        role: Literal["", "needle", "scenery"] = "",
    ) -> str:
        """Put a thing into the scene and give its id."""
        self.counts[kind] = self.counts.get(kind, 0) + 1
        name = f"{kind} {self.counts[kind]}"
        palette = ANIMAL_COLOURS.get(kind) or THING_COLOURS.get(kind) or ("white",)
        tone = colour or self.chance.pick(palette)
        self.things.append(Thing(name, kind, tone, round(lane, 4), motions, facing, round(size, 4), role))
        return name

    def rest(self, x: float, *, start_s: float | None = None, end_s: float | None = None) -> Motion:
        """Standing at `x`, by default for the whole scene."""
        return Motion(
            "rest",
            self.start_s if start_s is None else start_s,
            self.end_s if end_s is None else end_s,
            round(x, 4),
            round(x, 4),
        )


class Track:
    """The moves and gestures of one actor, written in order; `done` puts the actor into the shot.

    Args:
        shot: the scene.
        lane: the actor's.
        x: where it begins, in canvas units.
        facing: where it looks at first.
    """

    def __init__(self, shot: Shot, *, lane: float, x: float, facing: Literal[-1, 1] = 1) -> None:
        """Call the next of the cast."""
        self.shot, self.lane, self.x, self.facing = shot, round(lane, 4), round(x, 4), facing
        self.id, self.look = next(shot.cast)
        self.t = shot.start_s
        self.height = shot.metre(lane) * self.look.height_m
        self._moves: list[Move] = []
        self._gestures: list[Gesture] = []

    @property
    def left_s(self) -> float:
        """Seconds until the scene ends."""
        return self.shot.end_s - self.t

    def go(self, action: str, x: float, *, target: str | None = None) -> Track:
        """Walk, run or ride to `x`, as far as the scene's time allows."""
        if self.left_s < 0.05 or abs(x - self.x) < 1e-3:
            return self
        speed = PACE_M_S[action] * (self.height / self.look.height_m) * (0.8 + 0.2 * self.look.height_m / 1.75)
        needed = abs(x - self.x) / speed
        lasts = min(needed, self.left_s)
        if self.left_s - lasts < 0.3:
            lasts = self.left_s
        reached = self.x + (x - self.x) * min(1.0, lasts / needed)
        self.facing = 1 if x > self.x else -1
        return self._append(action, lasts, reached, target)

    def stay(self, action: str, seconds: float | None = None, *, target: str | None = None) -> Track:
        """Do `action` on the spot, by default until the scene ends."""
        lasts = self.left_s if seconds is None else min(seconds, self.left_s)
        if lasts < 0.05:
            return self
        if self.left_s - lasts < 0.3:
            lasts = self.left_s
        return self._append(action, lasts, self.x, target)

    def turn(self, facing: Literal[-1, 1]) -> Track:
        """Look the other way from the next move on."""
        self.facing = facing
        return self

    def gesture(self, action: str, start_s: float, end_s: float, *, target: str | None = None) -> Track:
        """Move the arms over a span, cut to the scene; a span too short to see is left out."""
        start_s = max(start_s, self.shot.start_s, self._gestures[-1].end_s if self._gestures else 0.0)
        end_s = min(end_s, self.shot.end_s)
        if end_s - start_s >= 0.6:
            self._gestures.append(Gesture(action, round(start_s, 4), round(end_s, 4), target))
        return self

    def ride(self, start_s: float, end_s: float, x: float, mount: str) -> str:
        """Be there only while riding `mount` to `x`; puts the actor into the shot and gives its id."""
        self._moves = [Move("ride", start_s, end_s, self.x, x, self.facing, mount)]
        self.shot.actors.append(Actor(self.id, self.look, self.lane, tuple(self._moves)))
        return self.id

    def done(self) -> str:
        """Fill up with standing, put the actor into the shot and give its id."""
        self.stay("stand")
        self.shot.actors.append(Actor(self.id, self.look, self.lane, tuple(self._moves), tuple(self._gestures)))
        return self.id

    def _append(self, action: str, lasts: float, x: float, target: str | None) -> Track:
        end = self.shot.end_s if abs(self.shot.end_s - self.t - lasts) < 1e-3 else round(self.t + lasts, 4)
        x = round(x, 4)
        self._moves.append(Move(action, self.t, end, self.x, x, self.facing, target))
        self.t, self.x = end, x
        return self
