"""Who and what is where in every frame, and who does what: arrays computed from geometry, never from pixels.

A track is one actor or thing in one scene, from the scene's first frame to its last. Boxes are the extent of the
painted outlines inside the picture, hidden parts included, rounded to a tenth of a pixel; a frame without the thing
in view has NaN. A context action holds only while what decides it is in view. JSON holds runs: of equal boxes, of
labels.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trifocal.playground.actions import ACTION_INDEX, ACTIONS, ATTEND, context_action
from trifocal.playground.shapes import FloatArray, Part, extent
from trifocal.playground.stage import Stage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trifocal.playground.spec import Actor, Gesture, Move, VideoSpec

BoolArray = NDArray[np.bool_]

__all__ = ["ActorTrack", "Decider", "ThingTrack", "runs", "track_scene", "tracks_from_json", "tracks_to_json"]

LEAST_SHARE = 0.1
"""Share of the whole box that must lie inside the picture for somebody to count as in view."""
LEAST_SIDE = 1.0
"""Pixels that each side of a visible box must have."""


@dataclass(frozen=True, slots=True)
class Decider:
    """`target` (the id of a thing or an actor) makes `action` true in the frames `first` to `stop - 1`."""

    action: str
    target: str
    first: int
    stop: int


@dataclass(frozen=True, slots=True, eq=False)
class ActorTrack:
    """An actor in a scene.

    Attributes:
        id: the same in all scenes.
        scene: number of the scene.
        first: number of the first frame of the arrays.
        boxes_xyxy: `(n, 4)` float32 pixels, NaN where not in view.
        labels: `(n, A)` bool over `ACTIONS`, false where not in view.
        deciders: what makes the context actions true.
    """

    id: str
    scene: int
    first: int
    boxes_xyxy: NDArray[np.float32]
    labels: BoolArray
    deciders: tuple[Decider, ...]

    @property
    def visible(self) -> BoolArray:
        """`(n,)` whether in view."""
        return ~np.isnan(self.boxes_xyxy[:, 0])


@dataclass(frozen=True, slots=True, eq=False)
class ThingTrack:
    """An object, animal or vehicle in a scene; arrays as in `ActorTrack`."""

    id: str
    kind: str
    colour: str
    scene: int
    first: int
    boxes_xyxy: NDArray[np.float32]

    @property
    def visible(self) -> BoolArray:
        """`(n,)` whether in view."""
        return ~np.isnan(self.boxes_xyxy[:, 0])


def runs(flags: BoolArray) -> list[tuple[int, int]]:
    """Stretches of true as (first, stop)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def track_scene(spec: VideoSpec, number: int) -> tuple[list[ActorTrack], list[ThingTrack]]:
    """The tracks of one scene, actors and things each in the order of the spec."""
    stage = Stage(spec, number)
    scene, first, stop = stage.scene, stage.first, stage.stop
    if stop <= first:
        return [], []
    times = stage.times(first, stop)
    parts: dict[str, list[tuple[list[Part], BoolArray]]] = {}
    for sprite in stage.sprites(first, stop, details=False):
        parts.setdefault(sprite.id, []).append((sprite.parts, sprite.shown))
    left = stage.camera_px(times)
    for sprite in stage.still_sprites():
        moved = [Part(p.fill, p.outline - np.stack([left, 0 * left], axis=-1)[:, None], p.alpha) for p in sprite.parts]
        parts.setdefault(sprite.id, []).append((moved, np.ones(len(times), bool)))
    boxes = {name: _boxes(seen, spec, len(times)) for name, seen in parts.items() if "/" not in name}
    missing = np.full((len(times), 4), np.nan, np.float32)
    things = [ThingTrack(t.id, t.kind, t.colour, number, first, boxes.get(t.id, missing)) for t in scene.things]
    kinds = {t.id: t.kind for t in scene.things} | {a.id: "person" for a in scene.actors}
    seen = {name: ~np.isnan(box[:, 0]) for name, box in boxes.items()}
    actors = []
    for actor in scene.actors:
        labels, deciders = _labels(actor, times, seen, kinds, first)
        actors.append(ActorTrack(actor.id, number, first, boxes[actor.id], labels, deciders))
    return actors, things


def _boxes(sprites: Sequence[tuple[list[Part], BoolArray]], spec: VideoSpec, count: int) -> NDArray[np.float32]:
    """Extent of several sprites of one thing, where shown and enough of it is in the picture."""
    total = np.full((count, 4), np.nan)
    whole = np.full((count, 4), np.nan)
    for parts, shown in sprites:
        full = _full_extent(parts)
        inside = full.copy()
        cut = (full[:, 0] < 0) | (full[:, 1] < 0) | (full[:, 2] > spec.width) | (full[:, 3] > spec.height)
        rows = np.flatnonzero(cut & shown)
        if rows.size:
            pieces = [Part(p.fill, p.outline[rows if len(p.outline) > 1 else slice(None)], p.alpha) for p in parts]
            inside[rows] = extent(pieces, width=spec.width, height=spec.height)
        inside[~shown] = np.nan
        full[~shown] = np.nan
        total, whole = _union(total, inside), _union(whole, full)
    size, all_size = total[:, 2:] - total[:, :2], whole[:, 2:] - whole[:, :2]
    with np.errstate(invalid="ignore"):
        enough = (size.min(axis=1) >= LEAST_SIDE) & (size.prod(axis=1) >= LEAST_SHARE * all_size.prod(axis=1))
    total[~enough] = np.nan
    return np.round(total, 1).astype(np.float32)


def _full_extent(parts: Sequence[Part]) -> FloatArray:
    solid = np.concatenate([p.outline for p in parts if p.alpha >= 1.0], axis=1)
    # Frames last and contiguous: reducing over the first axis is then several times faster.
    solid = np.ascontiguousarray(solid.transpose(1, 2, 0))  # (points, 2, T)
    return np.concatenate([solid.min(axis=0), solid.max(axis=0)], axis=0).T.copy()


def _union(one: FloatArray, other: FloatArray) -> FloatArray:
    low, high = np.fmin(one[:, :2], other[:, :2]), np.fmax(one[:, 2:], other[:, 2:])
    return np.concatenate([low, high], axis=1)


def _labels(
    actor: Actor, times: FloatArray, seen: dict[str, BoolArray], kinds: dict[str, str], first: int
) -> tuple[BoolArray, tuple[Decider, ...]]:
    labels = np.zeros((len(times), len(ACTIONS)), bool)
    deciders = []
    acts: tuple[Move | Gesture, ...] = (*actor.moves, *actor.gestures)
    for act in acts:
        now = (times >= act.start_s - 1e-9) & (times < act.end_s - 1e-9) & seen[actor.id]
        if act.action != ATTEND:
            labels[now, ACTION_INDEX[act.action]] = True
        meaning = context_action(act.action, kinds[act.target]) if act.target is not None else None
        if meaning is not None and act.target is not None and act.target in seen:
            with_it = now & seen[act.target]
            labels[with_it, ACTION_INDEX[meaning]] = True
            deciders += [Decider(meaning, act.target, first + a, first + b) for a, b in runs(with_it)]
    deciders.sort(key=lambda d: (d.first, d.action, d.target))
    return labels, tuple(deciders)


def _box_runs(boxes: NDArray[np.float32]) -> list[list[float] | int]:
    """Runs of equal boxes: [frames, x0, y0, x1, y1], or the number of frames alone where not in view."""
    if not len(boxes):
        return []
    tenths = np.where(np.isnan(boxes), -1.0, np.round(boxes.astype(np.float64) * 10)).astype(np.int64)
    starts = [0, *(np.flatnonzero((tenths[1:] != tenths[:-1]).any(axis=1)) + 1).tolist(), len(boxes)]
    rows = tenths.tolist()
    out: list[list[float] | int] = []
    for a, b in itertools.pairwise(starts):
        out.append(b - a if np.isnan(boxes[a, 0]) else [b - a, *(value / 10 for value in rows[a])])
    return out


def _boxes_from_runs(data: Sequence[Sequence[float] | int]) -> NDArray[np.float32]:
    pieces = [np.full((run, 4), np.nan) if isinstance(run, int) else np.tile(run[1:], (int(run[0]), 1)) for run in data]
    return np.concatenate(pieces).astype(np.float32) if pieces else np.zeros((0, 4), np.float32)


def tracks_to_json(actors: Sequence[ActorTrack], things: Sequence[ThingTrack]) -> dict[str, Any]:
    """Tracks as plain data, with runs in place of arrays."""
    return {
        "actors": [
            {
                "id": t.id,
                "scene": t.scene,
                "first": t.first,
                "boxes": _box_runs(t.boxes_xyxy),
                "labels": {
                    action.name: [[t.first + a, t.first + b] for a, b in runs(t.labels[:, i])]
                    for i, action in enumerate(ACTIONS)
                    if t.labels[:, i].any()
                },
                "deciders": [[d.action, d.target, d.first, d.stop] for d in t.deciders],
            }
            for t in actors
        ],
        "things": [
            {
                "id": t.id,
                "kind": t.kind,
                "colour": t.colour,
                "scene": t.scene,
                "first": t.first,
                "boxes": _box_runs(t.boxes_xyxy),
            }
            for t in things
        ],
    }


def tracks_from_json(data: dict[str, Any]) -> tuple[tuple[ActorTrack, ...], tuple[ThingTrack, ...]]:
    """What `tracks_to_json` wrote."""
    actors = []
    for item in data["actors"]:
        boxes = _boxes_from_runs(item["boxes"])
        labels = np.zeros((len(boxes), len(ACTIONS)), bool)
        for name, spans in item["labels"].items():
            for a, b in spans:
                labels[a - item["first"] : b - item["first"], ACTION_INDEX[name]] = True
        deciders = tuple(Decider(*row) for row in item["deciders"])
        actors.append(ActorTrack(item["id"], item["scene"], item["first"], boxes, labels, deciders))
    things = [
        ThingTrack(t["id"], t["kind"], t["colour"], t["scene"], t["first"], _boxes_from_runs(t["boxes"]))
        for t in data["things"]
    ]
    return tuple(actors), tuple(things)
