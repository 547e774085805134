"""The description of a video, complete: everything seen in it follows from a `VideoSpec` and nothing else.

A video is a row of `Scene`s that touch. A scene has a place, a camera, light, actors and things. Lengths on the
stage are in picture heights: `x` from the left edge of the scene's canvas, `lane` the height of the ground line a
figure stands on (0 top, 1 bottom). Times are seconds of the whole video. All of it is frozen, checked on
construction, and goes to JSON and back unchanged (`to_json`, `from_json`).
"""

from __future__ import annotations

import math
import types
import typing
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal, TypeVar

from trifocal.errors import InvalidInput
from trifocal.playground.actions import GESTURES, MOVES
from trifocal.playground.palette import COLOURS, HAIR, SKIN

__all__ = [
    "PLACES",
    "SPEC_VERSION",
    "THING_KINDS",
    "Actor",
    "Camera",
    "Gesture",
    "Light",
    "Look",
    "Motion",
    "Move",
    "Scene",
    "Thing",
    "VideoSpec",
    "from_json",
    "to_json",
]

SPEC_VERSION = 1
PLACES = ("park", "street", "beach", "living room", "kitchen", "gym", "mountain", "meadow")
THING_KINDS = (
    "ball", "balloon", "bench", "bicycle", "bird", "boat", "book", "box", "bus", "car", "cat", "chair", "cow", "cup",
    "dog", "duck", "horse", "house", "lamp", "phone", "sheep", "snowman", "suitcase", "table", "traffic cone", "tree",
    "trophy", "truck", "umbrella",
)  # fmt: skip

WhatMotion = Literal["rest", "travel", "roll", "held", "thrown"]
Record = TypeVar("Record")


def _check(condition: bool, message: str, remedy: str) -> None:
    if not condition:
        raise InvalidInput(message, remedy=remedy)


def _one_of(name: str, value: str, allowed: typing.Iterable[str]) -> None:
    allowed = tuple(allowed)
    _check(value in allowed, f"{name} is {value!r}", f"Use one of: {', '.join(allowed)}.")


def _span(name: str, start_s: float, end_s: float) -> None:
    right = math.isfinite(start_s) and math.isfinite(end_s) and 0 <= start_s < end_s
    _check(right, f"{name} lasts from {start_s} s to {end_s} s", "Give a start of at least 0 and a later end.")


def _within(name: str, value: float, low: float, high: float) -> None:
    _check(low <= value <= high, f"{name} is {value}", f"Use a number from {low} to {high}.")


@dataclass(frozen=True, slots=True)
class Look:
    """What somebody looks like; colours by name. `height_m` decides the size."""

    kind: Literal["man", "woman", "boy", "girl"]
    top: str
    bottom: str
    shoes: str
    hair: str
    hair_style: Literal["short", "long", "ponytail", "bun"] = "short"
    wears: Literal["trousers", "shorts", "skirt"] = "trousers"
    sleeves: Literal["long", "short"] = "long"
    skin: int = 0
    height_m: float = 1.75

    def __post_init__(self) -> None:
        """Check names and ranges."""
        _one_of("kind", self.kind, ("man", "woman", "boy", "girl"))
        for name in ("top", "bottom", "shoes"):
            _one_of(name, getattr(self, name), COLOURS)
        _one_of("hair", self.hair, HAIR)
        _one_of("hair_style", self.hair_style, ("short", "long", "ponytail", "bun"))
        _one_of("wears", self.wears, ("trousers", "shorts", "skirt"))
        _one_of("sleeves", self.sleeves, ("long", "short"))
        _within("skin", self.skin, 0, len(SKIN) - 1)
        _within("height_m", self.height_m, 0.5, 2.5)


@dataclass(frozen=True, slots=True)
class Move:
    """What the whole body does over a span, going from `x0` to `x1`; `target` is the id of what it does it with."""

    action: str
    start_s: float
    end_s: float
    x0: float
    x1: float
    facing: Literal[-1, 1] = 1
    target: str | None = None

    def __post_init__(self) -> None:
        """Check names and ranges."""
        _one_of("action of a move", self.action, MOVES)
        _span(f"move {self.action!r}", self.start_s, self.end_s)
        _one_of("facing", str(self.facing), ("-1", "1"))


@dataclass(frozen=True, slots=True)
class Gesture:
    """What the arms do over a span, on top of the moves; with a `target` it may mean something else."""

    action: str
    start_s: float
    end_s: float
    target: str | None = None

    def __post_init__(self) -> None:
        """Check names and ranges."""
        _one_of("action of a gesture", self.action, GESTURES)
        _span(f"gesture {self.action!r}", self.start_s, self.end_s)


@dataclass(frozen=True, slots=True)
class Actor:
    """Somebody in a scene. The same `id` in another scene is the same person with the same look."""

    id: str
    look: Look
    lane: float
    moves: tuple[Move, ...]
    gestures: tuple[Gesture, ...] = ()

    def __post_init__(self) -> None:
        """Check that moves touch one another and gestures do not overlap."""
        _check(len(self.moves) > 0, f"actor {self.id!r} has no moves", "Give at least one.")
        _within(f"lane of {self.id!r}", self.lane, 0.0, 1.5)
        for before, after in zip(self.moves, self.moves[1:], strict=False):
            touch = abs(before.end_s - after.start_s) < 1e-6
            _check(touch, f"moves of {self.id!r} leave a gap at {before.end_s} s", "Start each where the last ends.")
        for one, other in zip(self.gestures, self.gestures[1:], strict=False):
            apart = one.end_s <= other.start_s + 1e-6
            _check(apart, f"gestures of {self.id!r} overlap at {other.start_s} s", "Give them in order, apart.")


@dataclass(frozen=True, slots=True)
class Motion:
    """Where a thing is over a span.

    "rest" stays at `x0`; "travel" goes to `x1` at one speed, "roll" slows down; "held" hangs on the hands of `by`;
    "thrown" flies from the hand of `by` at the start to the ground at `x1`. `height` lifts it, in metres.
    """

    what: WhatMotion
    start_s: float
    end_s: float
    x0: float = 0.0
    x1: float = 0.0
    by: str | None = None
    height: float = 0.0

    def __post_init__(self) -> None:
        """Check names and ranges."""
        _one_of("motion", self.what, ("rest", "travel", "roll", "held", "thrown"))
        _span(f"motion {self.what!r}", self.start_s, self.end_s)
        needs = self.what in ("held", "thrown")
        _check(not needs or self.by is not None, f"a thing is {self.what} by nobody", "Name the actor in `by`.")


@dataclass(frozen=True, slots=True)
class Thing:
    """An object, an animal or a vehicle; shown while one of its motions lasts."""

    id: str
    kind: str
    colour: str
    lane: float
    motions: tuple[Motion, ...]
    facing: Literal[-1, 1] = 1
    size: float = 1.0
    role: Literal["", "needle", "scenery"] = ""

    def __post_init__(self) -> None:
        """Check names, ranges and the order of the motions."""
        _one_of("kind of a thing", self.kind, THING_KINDS)
        _one_of("colour", self.colour, COLOURS)
        _one_of("role", self.role, ("", "needle", "scenery"))
        _one_of("facing", str(self.facing), ("-1", "1"))
        _within("size", self.size, 0.05, 20)
        _within(f"lane of {self.id!r}", self.lane, 0.0, 1.5)
        _check(len(self.motions) > 0, f"thing {self.id!r} has no motion", "Give at least one; `rest` stands still.")
        for one, other in zip(self.motions, self.motions[1:], strict=False):
            apart = one.end_s <= other.start_s + 1e-6
            _check(apart, f"motions of {self.id!r} overlap at {other.start_s} s", "Give them in order, apart.")


@dataclass(frozen=True, slots=True)
class Camera:
    """How the stage is seen.

    `x0` and `x1` are the left edge of the picture at the start and the end of the scene (a pan), in picture heights;
    `horizon` is the height at which things shrink to nothing; `zoom` is how tall a person is (1.75 m) as a multiple
    of the distance from the horizon to their feet.
    """

    x0: float = 0.0
    x1: float = 0.0
    horizon: float = 0.42
    zoom: float = 1.0

    def __post_init__(self) -> None:
        """Check the ranges."""
        _check(min(self.x0, self.x1) >= 0, f"the camera pans from {self.x0} to {self.x1}", "Keep it right of 0.")
        _within("horizon", self.horizon, -1.0, 0.95)
        _within("zoom", self.zoom, 0.05, 4.0)


@dataclass(frozen=True, slots=True)
class Light:
    """Time of day, and the sensor's noise as a standard deviation in 8-bit steps."""

    time: Literal["day", "dusk", "night"] = "day"
    noise: float = 2.0

    def __post_init__(self) -> None:
        """Check names and ranges."""
        _one_of("time of day", self.time, ("day", "dusk", "night"))
        _within("noise", self.noise, 0.0, 40.0)


@dataclass(frozen=True, slots=True)
class Scene:
    """One shot. `span` is the width of the canvas in picture heights; `seed` decides the background's details."""

    place: str
    start_s: float
    end_s: float
    span: float
    seed: int
    camera: Camera
    light: Light
    actors: tuple[Actor, ...] = ()
    things: tuple[Thing, ...] = ()

    def __post_init__(self) -> None:
        """Check names, ids and references."""
        _one_of("place", self.place, PLACES)
        _span(f"scene in the {self.place}", self.start_s, self.end_s)
        ids = [actor.id for actor in self.actors] + [thing.id for thing in self.things]
        twice = sorted({name for name in ids if ids.count(name) > 1})
        _check(not twice, f"ids {', '.join(twice)} appear twice in one scene", "Give each actor and thing its own.")
        people = {actor.id for actor in self.actors}
        for actor in self.actors:
            acts: tuple[Move | Gesture, ...] = (*actor.moves, *actor.gestures)
            for act in acts:
                known = act.target is None or (act.target in ids and act.target != actor.id)
                _check(known, f"{actor.id!r} aims at {act.target!r}", "Name another actor or thing of the scene.")
        for thing in self.things:
            for motion in thing.motions:
                known = motion.by is None or motion.by in people
                _check(known, f"{thing.id!r} is {motion.what} by {motion.by!r}", "Name an actor of the scene.")


@dataclass(frozen=True, slots=True)
class VideoSpec:
    """A whole video. `fps` frames a second of `height` × `width` pixels, frame `i` showing the time `i / fps`."""

    seed: int
    duration_s: float
    width: int
    height: int
    fps: float
    scenes: tuple[Scene, ...]
    theme: str | None = None
    version: int = SPEC_VERSION

    def __post_init__(self) -> None:
        """Check sizes and that the scenes fill the video."""
        known = self.version == SPEC_VERSION
        _check(known, f"the spec has version {self.version}", f"This release reads {SPEC_VERSION}.")
        _check(self.seed >= 0, f"seed is {self.seed}", "Give a whole number of at least 0.")
        for name in ("width", "height"):
            _check(32 <= getattr(self, name) <= 8192, f"{name} is {getattr(self, name)}", "Use 32 to 8192 pixels.")
        _check(math.isfinite(self.fps) and 0.1 <= self.fps <= 240, f"fps is {self.fps}", "Use 0.1 to 240.")
        _span("the video", 0.0, self.duration_s)
        _check(len(self.scenes) > 0, "the video has no scenes", "Give at least one.")
        edges = [0.0, *(scene.end_s for scene in self.scenes)]
        for edge, scene in zip(edges, self.scenes, strict=False):
            touch = abs(scene.start_s - edge) < 1e-6
            _check(touch, f"a scene starts at {scene.start_s} s and not at {edge} s", "Let scenes touch, from 0 on.")
        fills = abs(edges[-1] - self.duration_s) < 1e-6
        _check(fills, f"the scenes end at {edges[-1]} s of {self.duration_s} s", "Let the last end with the video.")

    @property
    def frame_count(self) -> int:
        """Number of frames, at least 1."""
        return max(1, round(self.duration_s * self.fps))

    def frames_of(self, scene: int) -> tuple[int, int]:
        """First frame of a scene and the first after it."""
        count, last = self.frame_count, len(self.scenes) - 1

        def first(number: int) -> int:
            return 0 if number == 0 else min(count, math.ceil(self.scenes[number].start_s * self.fps - 1e-6))

        return first(scene), count if scene == last else first(scene + 1)


def to_json(record: object) -> Any:
    """Plain dicts, lists and scalars of a record of this module; fields at their default are left out."""
    if is_dataclass(record):
        out = {}
        for field in fields(record):
            value = getattr(record, field.name)
            if value != field.default or field.name == "version":
                out[field.name] = to_json(value)
        return out
    return [to_json(item) for item in record] if isinstance(record, tuple) else record


def from_json(kind: type[Record], data: Any, *, where: str = "spec") -> Record:
    """The record of `kind` that `to_json` gave.

    Args:
        kind: the class, `VideoSpec` for a whole video.
        data: parsed JSON.
        where: names the place in error messages.

    Raises:
        InvalidInput: a key is missing or unknown, or a value has the wrong type or range.
    """
    result: Record = _parse(kind, data, where)
    return result


def _parse(kind: Any, data: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        _check(isinstance(data, list), f"{where} is not a list", "Write it with `to_json`.")
        return tuple(_parse(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(data))
    if origin in (typing.Union, types.UnionType):
        return None if data is None else _parse(arguments[0], data, where)
    if origin is Literal:
        _check(data in arguments, f"{where} is {data!r}", f"Use one of: {', '.join(map(str, arguments))}.")
        return data
    if not is_dataclass(kind):
        fits = (int, float) if kind is float else kind
        right = isinstance(data, fits) and not isinstance(data, bool)
        _check(right, f"{where} is {data!r}", f"Give a {kind.__name__}.")
        return float(data) if kind is float else data
    _check(isinstance(data, dict), f"{where} is not an object", "Write it with `to_json`.")
    hints = typing.get_type_hints(kind)
    known = {field.name for field in fields(kind)}
    unknown = sorted(set(data) - known)
    _check(not unknown, f"{where} has unknown keys {', '.join(unknown)}", f"Known: {', '.join(sorted(known))}.")
    required = {f.name for f in fields(kind) if f.default is f.default_factory}
    missing = sorted(required - set(data))
    _check(not missing, f"{where} lacks {', '.join(missing)}", "Write it with `to_json`.")
    assert isinstance(kind, type)
    return kind(**{key: _parse(hints[key], value, f"{where}.{key}") for key, value in data.items()})
