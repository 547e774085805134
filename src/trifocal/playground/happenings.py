"""What can happen in a scene: small stories for one or two actors and the things they use.

Each happening takes a `Shot`, a free lane and perhaps a free part of the picture, and lays moves, gestures and
motions into it that fit in time and place: the hand is at the ball when it flies. Half of the gestures that a thing
would give a meaning come without the thing, so that only what is outside the body can tell.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal

from trifocal.playground.pose import KICK_AT_S, THROW_AT_S
from trifocal.playground.shot import PACE_M_S, Shot, Track
from trifocal.playground.spec import Motion

__all__ = ["HAPPENINGS", "STATIONARY"]

STATIONARY = frozenset(
    {"solo", "seat", "read", "chat", "workout", "dance", "kick", "throw", "pet", "pick up", "fall", "cow", "sheep"}
)
"""Happenings that take a part of the picture for themselves."""

_PROPS = {"hand at head": "phone", "hand at mouth": "cup", "hands at chest": "book", "arms forward": "box"}
Side = Literal[-1, 1]


def _side(shot: Shot) -> Side:
    return 1 if shot.chance.happens(0.5) else -1


def _ends(shot: Shot, side: Side, margin: float) -> tuple[float, float]:
    """Start and goal of somebody who crosses the picture towards `side`."""
    left, right = shot.left - margin, shot.right + margin
    return (left, right) if side > 0 else (right, left)


def _prop_gesture(shot: Shot, track: Track, action: str, start_s: float, end_s: float, *, prop: bool) -> None:
    """A gesture with or without the thing that gives it a meaning."""
    end_s = min(end_s, shot.end_s)
    if end_s - start_s < 0.8:
        return
    target = None
    if prop:
        motion = Motion("held", round(start_s, 4), round(end_s, 4), by=track.id)
        target = shot.add_thing(
            _PROPS[action], (motion,), lane=track.lane, size=max(1.0, 1.3 if action == "hand at head" else 1.1)
        )
    track.gesture(action, start_s, end_s, target=target)


def _cross(shot: Shot) -> None:
    side, lane = _side(shot), shot.take_lane()
    begin, goal = _ends(shot, side, 0.3 * shot.metre(lane))
    action = "run" if shot.chance.happens(0.3) else "walk"
    speed = PACE_M_S[action] * shot.metre(lane)
    time = abs(goal - begin) / speed
    if time > shot.length_s:
        begin = goal - side * speed * shot.length_s * shot.chance.between(0.95, 1.1)
    track = Track(shot, lane=lane, x=begin, facing=side)
    if action == "walk" and shot.chance.happens(0.3):
        pause = shot.chance.between(0.4, 0.6)
        track.go("walk", begin + (goal - begin) * pause).stay("stand", shot.chance.between(1.6, 2.6))
        stop = track.t
        which = shot.chance.pick(("wave", "point", "cheer"))
        track.gesture(which, stop - 1.7, stop)
        track.go("walk", goal)
    else:
        track.go(action, goal)
        if action == "walk" and shot.chance.happens(0.65):
            which = shot.chance.pick(("hand at head", "arms forward", "hand at head", "arms forward", "wave"))
            if which == "wave":
                track.gesture("wave", shot.start_s + 0.3 * shot.length_s, shot.start_s + 0.7 * shot.length_s)
            else:
                _prop_gesture(shot, track, which, shot.start_s, shot.end_s, prop=shot.chance.happens(0.6))
    track.done()


def _routine(shot: Shot, track: Track, options: tuple[str, ...]) -> None:
    """Two or three things done on the spot, one after another."""
    count = 2 if shot.length_s < 6 else 3
    wanted = shot.chance.shuffled(options)[:count]
    each = track.left_s / len(wanted)
    for what in wanted:
        begin = track.t
        if what in ("jump", "dance", "squat", "crouch", "kick", "bend"):
            lasts = 1.35 if what == "kick" else each
            track.stay(what, lasts)
            if what == "kick":
                track.stay("stand", max(each - lasts, 0.1))
        else:
            track.stay("stand", each)
            if what in _PROPS:
                _prop_gesture(shot, track, what, begin + 0.2, track.t - 0.1, prop=shot.chance.happens(0.5))
            elif what != "stand":
                track.gesture(what, begin + 0.2, track.t - 0.1)


def _solo(shot: Shot) -> None:
    track = Track(shot, lane=shot.take_lane(), x=shot.take_zone(), facing=_side(shot))
    options = ("wave", "clap", "point", "cheer", "hand at head", "hand at mouth", "hands at chest", "arms forward")
    _routine(shot, track, (*options, "hand at head", "hands at chest", "crouch", "jump", "stand", "arm swing", "bend"))
    track.done()


def _workout(shot: Shot) -> None:
    track = Track(shot, lane=shot.take_lane(), x=shot.take_zone(), facing=_side(shot))
    _routine(shot, track, ("squat", "jump", "clap", "hand at mouth", "crouch", "squat", "jump", "kick"))
    track.done()


def _dance(shot: Shot) -> None:
    track = Track(shot, lane=shot.take_lane(), x=shot.take_zone(), facing=_side(shot))
    track.stay("dance", shot.length_s * shot.chance.between(0.6, 1.0))
    begin = track.t
    track.stay("stand")
    track.gesture(shot.chance.pick(("clap", "cheer", "wave")), begin + 0.2, track.t)
    track.done()


def _sit(shot: Shot, options: tuple[str, ...], *, prop_share: float) -> None:
    lane, x, side = shot.take_lane(), shot.take_zone(), _side(shot)
    track = Track(shot, lane=lane, x=x, facing=side)
    outside = shot.place in ("park", "beach", "meadow", "mountain", "street")
    kind, scale = ("bench" if outside else "chair"), track.look.height_m / 1.75
    where = x - side * 0.1 * shot.metre(lane)
    seat = shot.add_thing(kind, (shot.rest(where),), lane=lane - 0.004, facing=side, size=scale)
    stays = shot.length_s * (0.65 if shot.chance.happens(0.3) else 1.0)
    track.stay("sit", stays, target=seat)
    sat_until = track.t
    which = shot.chance.pick(options)
    begin = shot.start_s + shot.chance.between(0.1, 0.9)
    if which in _PROPS:
        _prop_gesture(shot, track, which, begin, sat_until - 0.2, prop=shot.chance.happens(prop_share))
    elif which != "stand":
        track.gesture(which, begin, sat_until - 0.3)
    if track.left_s > 1.0:
        track.go("walk", _ends(shot, side, 0.4)[1])
    track.done()


def _seat(shot: Shot) -> None:
    _sit(
        shot,
        ("hand at head", "hand at mouth", "hands at chest", "hands at chest", "wave", "stand", "clap"),
        prop_share=0.65,
    )


def _read(shot: Shot) -> None:
    _sit(shot, ("hands at chest",), prop_share=1.0)


def _chat(shot: Shot) -> None:
    lane, x = shot.take_lane(), shot.take_zone()
    apart = 0.55 * shot.metre(lane)
    left = Track(shot, lane=lane, x=x - apart, facing=1)
    right = Track(shot, lane=lane + 0.003, x=x + apart, facing=-1)
    speakers = (left, right) if shot.chance.happens(0.5) else (right, left)
    t, turn = shot.start_s + 0.3, 0
    while shot.end_s - t > 1.4:
        until = min(t + shot.chance.between(2.0, 3.6), shot.end_s - 0.1)
        if shot.end_s - until < 1.5:
            until = shot.end_s - 0.1
        talker, listener = speakers[turn % 2], speakers[(turn + 1) % 2]
        talker.gesture("gesture", t, until, target=listener.id)
        listener.gesture("attend", t, until, target=talker.id)
        t, turn = until + 0.15, turn + 1
    left.done()
    right.done()


def _fall(shot: Shot) -> None:
    side, lane, x = _side(shot), shot.take_lane(), shot.take_zone()
    metre = shot.metre(lane)
    action = "run" if shot.chance.happens(0.5) else "walk"
    lead = min(0.3 * shot.length_s, 2.2)
    begin = x - side * PACE_M_S[action] * metre * lead
    track = Track(shot, lane=lane, x=begin, facing=side)
    track.go(action, x).stay("fall", 1.2).stay("lie", shot.chance.between(1.4, 2.2)).stay("crouch", 0.8)
    track.stay("stand", 0.8).go("walk", _ends(shot, side, 0.4)[1])
    track.done()


def _spectator(shot: Shot, ball: str, *, lane: float, x: float, facing: Side) -> None:
    track = Track(shot, lane=lane, x=x, facing=facing)
    track.stay("stand")
    track.gesture("attend", shot.start_s + 0.2, shot.end_s - 0.1, target=ball)
    track.done()


def _kick(shot: Shot) -> None:
    side, lane, x = _side(shot), shot.take_lane(), shot.take_zone()
    metre = shot.metre(lane)
    ball_x = x + side * 0.42 * metre
    track = Track(shot, lane=lane, x=x - side * min(1.6, 0.25 * shot.length_s) * metre, facing=side)
    track.go("walk", x)
    start = track.t
    name = f"ball {shot.counts.get('ball', 0) + 1}"
    track.stay("kick", 1.35, target=name)
    hit, rolled = start + KICK_AT_S, min(start + KICK_AT_S + 2.2, shot.end_s)
    goal = ball_x + side * 2.6 * metre
    goal = min(max(goal, shot.left + 0.1), shot.right - 0.1) if abs(goal - ball_x) > metre else goal
    motions = [Motion("rest", shot.start_s, round(hit, 4), ball_x, ball_x)]
    motions.append(Motion("roll", round(hit, 4), round(rolled, 4), round(ball_x, 4), round(goal, 4)))
    if shot.end_s - rolled > 0.05:
        motions.append(Motion("rest", round(rolled, 4), shot.end_s, round(goal, 4), round(goal, 4)))
    assert shot.add_thing("ball", tuple(motions), lane=lane + 0.004, size=1.15) == name
    track.done()
    if shot.chance.happens(0.6):
        _spectator(shot, name, lane=lane - 0.006, x=x + side * 1.9 * metre, facing=-1 if side > 0 else 1)


def _throw(shot: Shot) -> None:
    side, lane, x = _side(shot), shot.take_lane(), shot.take_zone()
    metre = shot.metre(lane)
    x -= side * 0.5 * metre
    track = Track(shot, lane=lane, x=x, facing=side)
    wait = shot.chance.between(0.8, 0.3 * shot.length_s + 0.8)
    start = round(shot.start_s + min(wait, shot.length_s - 2.4), 4) if shot.length_s > 3.4 else shot.start_s
    away = round(min(start + THROW_AT_S, shot.end_s - 0.2), 4)
    lands = round(min(away + 0.85, shot.end_s), 4)
    goal = round(x + side * 2.4 * metre, 4)
    rolls = round(min(lands + 1.0, shot.end_s), 4)
    motions = [Motion("held", shot.start_s, away, by=track.id), Motion("thrown", away, lands, goal, goal, track.id)]
    rest_x = round(goal + side * 0.35 * metre, 4)
    if rolls - lands > 0.05:
        motions.append(Motion("roll", lands, rolls, goal, rest_x))
    if shot.end_s - rolls > 0.05:
        motions.append(Motion("rest", rolls, shot.end_s, rest_x, rest_x))
    ball = shot.add_thing("ball", tuple(motions), lane=lane + 0.004, size=1.0)
    track.stay("stand")
    track.gesture("arm swing", start, min(start + 1.5, shot.end_s), target=ball)
    track.done()
    if shot.chance.happens(0.6):
        _spectator(shot, ball, lane=lane - 0.006, x=x + side * 3.4 * metre, facing=-1 if side > 0 else 1)


def _pick_up(shot: Shot) -> None:
    side, lane, x = _side(shot), shot.take_lane(), shot.take_zone()
    metre = shot.metre(lane)
    kind = shot.chance.pick(("box", "book", "ball"))
    name = f"{kind} {shot.counts.get(kind, 0) + 1}"
    track = Track(shot, lane=lane, x=x - side * min(1.8, 0.25 * shot.length_s) * metre, facing=side)
    track.go("walk", x)
    start = track.t
    track.stay("bend", 1.2, target=name)
    lifted = round(min(start + 0.9, shot.end_s), 4)
    thing_x = round(x + side * 0.62 * metre, 4)
    motions = [Motion("rest", shot.start_s, lifted, thing_x, thing_x)]
    if shot.end_s - lifted > 0.05:
        motions.append(Motion("held", lifted, shot.end_s, by=track.id))
    assert shot.add_thing(kind, tuple(motions), lane=lane + 0.003) == name
    after = track.t
    if kind == "ball":
        track.stay("stand")
    elif kind == "book":
        track.stay("stand")
        track.gesture("hands at chest", after - 0.2, shot.end_s, target=name)
    else:
        track.stay("stand", 0.6).go("walk", _ends(shot, side, 0.5)[1])
        track.gesture("arms forward", after - 0.2, shot.end_s, target=name)
    track.done()


def _pet(shot: Shot) -> None:
    side, lane, x = _side(shot), shot.take_lane(), shot.take_zone()
    metre = shot.metre(lane)
    kind = "sheep" if shot.place == "meadow" else shot.chance.pick(("dog", "cat", "dog"))
    away: Side = -1 if side > 0 else 1
    gap = {"dog": 1.02, "cat": 0.86, "sheep": 1.25}[kind]
    pet_x = x + side * gap * metre
    animal = shot.add_thing(kind, (shot.rest(pet_x),), lane=lane + 0.003, facing=away)
    track = Track(shot, lane=lane, x=x - side * min(1.6, 0.2 * shot.length_s) * metre, facing=side)
    track.go("walk", x).stay("bend", 0.5 * shot.length_s, target=animal).stay("stand")
    track.done()


def _ride(shot: Shot, kind: str) -> None:
    side = _side(shot)
    lane = (0.8 if side < 0 else 0.87) if kind == "bicycle" and shot.place == "street" else shot.take_lane()
    metre = shot.metre(lane)
    begin, goal = _ends(shot, side, 1.2 * metre)
    speed = PACE_M_S["ride"] * metre * (0.7 if kind == "horse" else 0.85)
    time = abs(goal - begin) / speed
    if time > shot.length_s:
        begin = goal - side * speed * shot.length_s
        time = shot.length_s
    start = shot.start_s + (shot.length_s - time) * shot.chance.between(0.0, 0.8)
    start, end = round(start, 4), round(min(start + time, shot.end_s), 4)
    track = Track(shot, lane=lane, x=begin, facing=side)
    size = 1.0 if kind == "horse" else track.look.height_m / 1.75
    begin, goal = round(begin, 4), round(goal, 4)
    motion = Motion("travel", start, end, begin, goal)
    mount = shot.add_thing(kind, (motion,), lane=lane, facing=side, size=size)
    track.ride(start, end, goal, mount)


def _ride_bicycle(shot: Shot) -> None:
    _ride(shot, "bicycle")


def _ride_horse(shot: Shot) -> None:
    _ride(shot, "horse")


def _walk_dog(shot: Shot) -> None:
    side, lane = _side(shot), shot.take_lane()
    metre = shot.metre(lane)
    track = Track(shot, lane=lane, x=0.0, facing=side)
    speed = PACE_M_S["walk"] * metre * (0.8 + 0.2 * track.look.height_m / 1.75)
    begin, goal = _ends(shot, side, 0.3 * metre)
    goal += side * 1.2 * metre
    if abs(goal - begin) / speed > shot.length_s:
        begin = goal - side * speed * shot.length_s
    track.x = begin = round(begin, 4)
    goal = round(goal, 4)
    track.go("walk", goal)
    ahead = side * 0.95 * metre
    motion = Motion("travel", shot.start_s, track.t, round(begin + ahead, 4), round(track.x + ahead, 4))
    dog = shot.add_thing("dog", (motion,), lane=lane + 0.003, facing=side)
    track.gesture("hand low", shot.start_s, track.t, target=dog)
    track.done()


def _pass(
    shot: Shot,
    kind: str,
    *,
    lane: float,
    metres_s: float,
    margin_m: float,
    size: float = 1.0,
    height: float = 0.0,
    side: Side | None = None,
) -> None:
    """A thing that crosses the picture by itself."""
    side = side or _side(shot)
    metre = shot.metre(lane)
    begin, goal = _ends(shot, side, margin_m * metre * size)
    time = abs(goal - begin) / (metres_s * metre)
    if time < 0.75 * shot.length_s:  # rather slower than gone: an empty picture tells nothing
        metres_s = max(0.5 * metres_s, metres_s * time / (0.75 * shot.length_s))
        time = abs(goal - begin) / (metres_s * metre)
    if time > shot.length_s:
        begin = goal - side * metres_s * metre * shot.length_s * shot.chance.between(0.9, 1.2)
        goal = begin + side * metres_s * metre * shot.length_s
        start, end = shot.start_s, shot.end_s
    else:
        start = round(shot.start_s + (shot.length_s - time) * shot.chance.between(0.0, 0.9), 4)
        end = round(min(start + time, shot.end_s), 4)
    motion = Motion("travel", start, end, round(begin, 4), round(goal, 4), height=height)
    shot.add_thing(kind, (motion,), lane=lane, facing=side, size=size)


def _vehicle(kind: str, *, size: float, metres_s: float, margin_m: float) -> Callable[[Shot], None]:
    def happen(shot: Shot) -> None:
        side = _side(shot)
        lane = 0.785 if side < 0 else 0.855
        taken = {thing.lane for thing in shot.things}
        if lane in taken:
            side, lane = (1, 0.855) if side < 0 else (-1, 0.785)
        if lane not in taken:
            _pass(shot, kind, lane=lane, metres_s=metres_s, margin_m=margin_m, size=size, side=side)

    return happen


def _animal(kind: str, *, metres_s: float) -> Callable[[Shot], None]:
    def happen(shot: Shot) -> None:
        lane = shot.take_lane()
        if shot.chance.happens(0.5) and kind != "bird":
            shot.add_thing(kind, (shot.rest(shot.take_zone()),), lane=lane, facing=_side(shot), size=1.15)
        else:
            _pass(shot, kind, lane=lane, metres_s=metres_s, margin_m=1.2, size=1.15)

    return happen


def _herd(kind: str) -> Callable[[Shot], None]:
    def happen(shot: Shot) -> None:
        lane, x = shot.take_lane(), shot.take_zone()
        metre = shot.metre(lane)
        colour = None
        for i in range(1 + shot.chance.below(3)):
            side = _side(shot)
            at = x + (i - 0.7) * 2.0 * metre
            if shot.chance.happens(0.5):
                motion = shot.rest(at)
            else:
                motion = Motion(
                    "travel",
                    shot.start_s,
                    shot.end_s,
                    round(at, 4),
                    round(at + side * 0.25 * metre * shot.length_s * 0.6, 4),
                )
            name = shot.add_thing(kind, (motion,), lane=lane - 0.012 * i, colour=colour, facing=side)
            colour = next(thing.colour for thing in shot.things if thing.id == name)

    return happen


def _boat(shot: Shot) -> None:
    lane = 0.49 + 0.03 * sum(thing.kind == "boat" for thing in shot.things)
    _pass(shot, "boat", lane=lane, metres_s=3.2, margin_m=2.6, size=1.6)


def _bird(shot: Shot) -> None:
    lane = shot.take_lane()
    _pass(shot, "bird", lane=lane, metres_s=2.6, margin_m=0.8, size=1.3, height=shot.chance.between(1.2, 1.9))


HAPPENINGS: Mapping[str, Callable[[Shot], None]] = MappingProxyType(
    {
        "cross": _cross,
        "solo": _solo,
        "workout": _workout,
        "dance": _dance,
        "seat": _seat,
        "read": _read,
        "chat": _chat,
        "fall": _fall,
        "kick": _kick,
        "throw": _throw,
        "pick up": _pick_up,
        "pet": _pet,
        "ride bicycle": _ride_bicycle,
        "ride horse": _ride_horse,
        "walk dog": _walk_dog,
        "car": _vehicle("car", size=1.0, metres_s=4.5, margin_m=2.1),
        "bus": _vehicle("bus", size=0.72, metres_s=3.2, margin_m=4.8),
        "truck": _vehicle("truck", size=0.85, metres_s=3.6, margin_m=3.7),
        "boat": _boat,
        "bird": _bird,
        "dog": _animal("dog", metres_s=1.6),
        "cat": _animal("cat", metres_s=0.9),
        "horse": _animal("horse", metres_s=1.8),
        "sheep": _herd("sheep"),
        "cow": _herd("cow"),
    }
)
