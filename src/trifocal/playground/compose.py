"""Composing: from a seed to the description of a plausible video.

The length is cut into scenes of some seconds, each in another place; a small cast returns from scene to scene; each
scene gets a camera, light, scenery and a few happenings that do not get in each other's way. Everybody in a video
differs in kind or in the colour of the top, so that "the woman in the red top" is one person. Needles are things of
a kind that is nowhere else in the video, shown for about two seconds. All draws come from `Chance`, keyed by seed
and scene.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Literal, cast

from trifocal.errors import InvalidInput
from trifocal.playground.chance import Chance
from trifocal.playground.happenings import HAPPENINGS, STATIONARY
from trifocal.playground.places import NEEDLE_KINDS, PLACE_RULES, THEMES, Theme, themes
from trifocal.playground.shot import THING_COLOURS, Shot
from trifocal.playground.spec import PLACES, Camera, Light, Look, Motion, Scene, Thing, VideoSpec

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["compose"]

_EXTRAS = 4
_CAST, _CUT, _SCENE, _NEEDLE = 1, 2, 3, 4
_TOPS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white", "black", "grey")
_BOTTOMS = ("blue", "black", "brown", "grey", "green", "white", "purple")
SHORTEST_SCENE_S = 5.0


def compose(
    seed: int,
    *,
    duration_s: float = 30.0,
    size: tuple[int, int] = (240, 320),
    fps: float = 25.0,
    theme: str | None = None,
) -> VideoSpec:
    """Draw a video.

    Args:
        seed: a whole number of at least 0; the same one gives the same video.
        duration_s: 1 s to 4 h; made for 10 s to 10 min.
        size: (height, width) in pixels, each 32 to 8192.
        fps: frames per second, 0.1 to 240.
        theme: one of `themes()`, or None for anything.

    Raises:
        InvalidInput: a value is out of range, or there is no such theme.
    """
    if not _is_whole(seed) or seed < 0:
        raise InvalidInput(f"seed is {seed!r}", remedy="Give a whole number of at least 0.")
    if not (math.isfinite(duration_s) and 1.0 <= duration_s <= 4 * 3600):
        raise InvalidInput(f"duration_s is {duration_s}", remedy="Give 1 to 14400 seconds.")
    if theme is not None and theme not in THEMES:
        raise InvalidInput(f"there is no theme {theme!r}", remedy=f"Use one of: {', '.join(themes())}.")
    height, width = size
    if not (32 <= height <= 8192 and 32 <= width <= 8192):
        raise InvalidInput(f"size is {size}", remedy="Give (height, width) of 32 to 8192 pixels each.")
    about = None if theme is None else THEMES[theme]
    edges = _cuts(Chance(seed, _CUT), float(duration_s))
    cast_size = min(14, 4 + len(edges) // 2)
    everybody = _company(Chance(seed, _CAST), count=cast_size + _EXTRAS)
    company, extras = everybody[:cast_size], everybody[cast_size:]
    counts: dict[str, int] = {}
    places = _places(Chance(seed, _CUT, 1), len(edges) - 1, about)
    scenes = []
    for number, (start, end) in enumerate(itertools.pairwise(edges)):
        turn = 3 * number % len(company)
        # Whoever is called twice would be there twice, so a crowded scene goes on with extras.
        calls = iter([*company[turn:], *company[:turn], *extras])
        chance = Chance(seed, _SCENE, number)
        scenes.append(_scene(chance, places[number], start, end, width / height, calls, counts, about))
    scenes = _hide_needles(Chance(seed, _NEEDLE), scenes, counts, width / height, float(duration_s))
    return VideoSpec(seed, float(duration_s), width, height, float(fps), tuple(scenes), theme)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _cuts(chance: Chance, duration_s: float) -> list[float]:
    """Scene edges: 0, cuts at least `SHORTEST_SCENE_S` apart, and the end."""
    count = max(1, round(duration_s / chance.between(6.5, 9.0)))
    while count > 1 and duration_s / count < SHORTEST_SCENE_S:
        count -= 1
    length = duration_s / count
    room = max(0.0, min(0.25 * length, (length - SHORTEST_SCENE_S) / 2))
    inner = [round(length * i + chance.between(-1, 1) * room, 2) for i in range(1, count)]
    return [0.0, *inner, duration_s]


def _company(chance: Chance, *, count: int) -> list[tuple[str, Look]]:
    """People of whom no two share kind and colour of the top."""
    kinds: tuple[Literal["man", "woman", "boy", "girl"], ...] = ("man", "woman", "man", "woman", "boy", "girl")
    tops = {kind: chance.shuffled(_TOPS) for kind in ("man", "woman", "boy", "girl")}
    people = []
    for number in range(count):
        kind = chance.pick(kinds)
        if not tops[kind]:
            kind = max(kinds, key=lambda other: len(tops[other]))
        female, young = kind in ("woman", "girl"), kind in ("boy", "girl")
        top = tops[kind].pop()
        wears = chance.pick(("trousers", "skirt", "trousers") if female else ("trousers", "shorts", "trousers"))
        style = chance.pick(("long", "ponytail", "bun")) if female else "short"
        hair = chance.pick(("black", "brown", "blond", "red") if young else ("black", "brown", "blond", "red", "grey"))
        bottom = chance.pick([colour for colour in _BOTTOMS if colour != top])
        tall = chance.between(1.2, 1.4) if young else chance.between(1.6, 1.72) if female else chance.between(1.7, 1.88)
        look = Look(
            kind=kind,
            top=top,
            bottom=bottom,
            shoes=chance.pick(("black", "white", "red", "brown")),
            hair=hair,
            hair_style=cast("Literal['short', 'long', 'ponytail', 'bun']", style),
            wears=cast("Literal['trousers', 'shorts', 'skirt']", wears),
            sleeves="long" if chance.happens(0.5) else "short",
            skin=chance.below(5),
            height_m=round(tall, 2),
        )
        people.append((f"person {number + 1}", look))
    return people


def _places(chance: Chance, count: int, about: Theme | None) -> list[str]:
    """A place per scene; without a theme no two neighbours are alike and all are used before one returns."""
    if about is not None:
        return [about.place] * count
    out: list[str] = []
    while len(out) < count:
        fresh = chance.shuffled(PLACES)
        if out and fresh[0] == out[-1]:
            fresh.reverse()
        out += fresh
    return out[:count]


def _scene(
    chance: Chance,
    place: str,
    start_s: float,
    end_s: float,
    aspect: float,
    calls: Iterator[tuple[str, Look]],
    counts: dict[str, int],
    about: Theme | None,
) -> Scene:
    rules = PLACE_RULES[place]
    pan = aspect * chance.between(0.12, 0.3) if chance.happens(0.45) else 0.0
    ends = (0.0, round(pan, 4)) if chance.happens(0.5) else (round(pan, 4), 0.0)
    zoom = rules.zoom * chance.between(0.92, 1.08) * min(1.0, max(0.25, aspect / 1.1))
    camera = Camera(ends[0], ends[1], rules.horizon, round(zoom, 4))
    time = about.time if about is not None and about.time is not None else _time_of_day(chance, place)
    light = Light(cast("Literal['day', 'dusk', 'night']", time), round(chance.between(1.0, 3.0), 2))

    many = 1 + (chance.unit() < 0.85) + (chance.unit() < 0.35 and aspect > 1.0)
    if about is not None:
        many = max(many, 2)
        wanted = [about.happenings[(counts.get("scene", 0) + i) % len(about.happenings)] for i in range(many)]
        wanted[0] = about.happenings[counts.get("scene", 0) % len(about.happenings)]
    else:
        wanted = [chance.pick(rules.happenings) for _ in range(many)]
    counts["scene"] = counts.get("scene", 0) + 1
    still = sum(name in STATIONARY for name in wanted)
    low, high = max(ends) + 0.04 * aspect, min(ends) + 0.96 * aspect
    zones = [low + (high - low) * (i + 0.5) / max(still, 1) for i in range(max(still, 1))]
    zones = [round(zone + chance.between(-0.04, 0.04) * aspect, 4) for zone in zones]
    shot = Shot(
        place,
        start_s,
        end_s,
        aspect,
        camera,
        chance,
        calls,
        counts,
        chance.shuffled(zones),
        chance.shuffled(rules.lanes),
    )
    _dress(shot)
    for name in wanted:
        HAPPENINGS[name](shot)
    span = round(max(ends) + aspect, 4)
    return Scene(
        place, start_s, end_s, span, chance.below(1 << 30), camera, light, tuple(shot.actors), tuple(shot.things)
    )


def _time_of_day(chance: Chance, place: str) -> str:
    if PLACE_RULES[place].indoors:
        return "day"
    draw = chance.unit()
    night = 0.3 if place == "street" else 0.06
    return "night" if draw < night else "dusk" if draw < night + 0.14 else "day"


def _dress(shot: Shot) -> None:
    """Trees, lamps, tables: behind everybody, spread over the canvas."""
    pieces = PLACE_RULES[shot.place].scenery
    wide = shot.right - shot.left
    slots = shot.chance.shuffled(range(len(pieces)))
    for (kind, lane, colours), slot in zip(pieces, slots, strict=True):
        if shot.chance.happens(0.25) and kind != "lamp":
            continue
        x = shot.left + wide * (slot + shot.chance.between(0.25, 0.75)) / len(pieces)
        rest = shot.rest(x)
        shot.add_thing(kind, (rest,), lane=lane, colour=shot.chance.pick(colours), role="scenery")


def _hide_needles(
    chance: Chance, scenes: list[Scene], counts: dict[str, int], aspect: float, duration_s: float
) -> list[Scene]:
    """Put in things of kinds seen nowhere else, for about two seconds each; more in long videos."""
    wanted = 0 if duration_s < 15 else 1 if duration_s < 180 else 2
    kinds = chance.shuffled(NEEDLE_KINDS)[:wanted]
    hosts = chance.shuffled(range(len(scenes)))
    for kind, host in zip(kinds, hosts, strict=False):
        scene = scenes[host]
        length = scene.end_s - scene.start_s
        lasts = round(chance.between(1.8, 2.3), 2)
        start = round(scene.start_s + chance.between(0.3, max(0.35, length - lasts - 0.3)), 2)
        end = round(min(start + lasts, scene.end_s), 2)
        low, high = max(scene.camera.x0, scene.camera.x1), min(scene.camera.x0, scene.camera.x1) + aspect
        x = round(chance.between(low + 0.18 * (high - low), high - 0.18 * (high - low)), 4)
        counts[kind] = counts.get(kind, 0) + 1
        size = {"trophy": 0.75, "duck": 0.9, "balloon": 1.0, "suitcase": 1.0, "traffic cone": 0.9}[kind]
        lane = 0.975
        needle = Thing(
            f"{kind} {counts[kind]}",
            kind,
            chance.pick(THING_COLOURS[kind]),
            lane,
            (Motion("rest", start, end, x, x),),
            1,
            size,
            "needle",
        )
        scenes[host] = Scene(
            scene.place,
            scene.start_s,
            scene.end_s,
            scene.span,
            scene.seed,
            scene.camera,
            scene.light,
            scene.actors,
            (*scene.things, needle),
        )
    return scenes
