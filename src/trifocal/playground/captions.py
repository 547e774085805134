"""Sentences for every moment, from a small grammar over the tracks.

A moment is a stretch in which one subject does one thing: a run of equal labels of an actor, a thing that moves by
itself, a needle, or a whole scene. Each gets several sentences that differ in wording and say the same, with
colours, object, place and direction where there is one. Spans are those of the tracks, in seconds, end exclusive.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from trifocal.playground.actions import ACTION_INDEX, ACTIONS, GESTURES, MOVES
from trifocal.playground.animals import ANIMALS
from trifocal.playground.chance import Chance
from trifocal.playground.places import PLACE_RULES
from trifocal.playground.tracks import ActorTrack, ThingTrack, runs
from trifocal.playground.vehicles import VEHICLES

if TYPE_CHECKING:
    from trifocal.playground.spec import Look, Scene, VideoSpec

__all__ = ["Caption", "article", "describe_person", "describe_thing", "headline", "write_captions"]

SHORTEST_S = 0.5
_KEY = 11
_CONTEXT = tuple(action.name for action in ACTIONS if action.kind == "context")
_ARMS = tuple(name for name in GESTURES if name in ACTION_INDEX)

WORDINGS: Mapping[str, tuple[tuple[str, str], ...]] = MappingProxyType(
    {
        "stand": (("standing", "stands"), ("standing still", "stands still")),
        "walk": (("walking", "walks"), ("strolling", "strolls")),
        "run": (("running", "runs"), ("sprinting", "sprints")),
        "jump": (("jumping up and down", "jumps up and down"), ("jumping", "jumps")),
        "sit": (("sitting", "sits"), ("sitting on {target}", "sits on {target}")),
        "fall": (("falling down", "falls down"), ("tumbling to the ground", "tumbles to the ground")),
        "lie": (("lying on the ground", "lies on the ground"), ("lying flat", "lies flat")),
        "crouch": (("crouching", "crouches"), ("squatting low", "crouches low")),
        "bend": (("bending down", "bends down"), ("leaning down", "leans down")),
        "wave": (("waving", "waves"), ("waving a hand", "waves a hand")),
        "clap": (("clapping", "claps"), ("clapping hands", "claps hands")),
        "point": (("pointing", "points"), ("pointing with a straight arm", "points with a straight arm")),
        "phone": (
            ("talking on the phone", "talks on the phone"),
            ("making a phone call", "makes a phone call"),
            ("phoning", "phones"),
        ),
        "drink": (("drinking from {target}", "drinks from {target}"), ("sipping from {target}", "sips from {target}")),
        "read": (("reading {target}", "reads {target}"), ("looking into {target}", "looks into {target}")),
        "carry": (
            ("carrying {target}", "carries {target}"),
            ("holding {target} in both arms", "holds {target} in both arms"),
        ),
        "throw": (("throwing {target}", "throws {target}"), ("tossing {target}", "tosses {target}")),
        "pet": (("petting {target}", "pets {target}"), ("stroking {target}", "strokes {target}")),
        "pick up": (
            ("picking up {target}", "picks up {target}"),
            ("lifting {target} from the ground", "lifts {target} from the ground"),
        ),
        "talk to": (("talking to {target}", "talks to {target}"), ("chatting to {target}", "chats to {target}")),
        "ride bicycle": (("riding {target}", "rides {target}"), ("cycling on {target}", "cycles on {target}")),
        "walk dog": (
            ("walking {target}", "walks {target}"),
            ("taking {target} for a walk", "takes {target} for a walk"),
        ),
    }
)
_THING_VERBS: Mapping[str, tuple[tuple[str, str], ...]] = MappingProxyType(
    {
        "car": (("driving past", "drives past"), ("passing", "passes")),
        "bus": (("driving past", "drives past"), ("passing", "passes")),
        "truck": (("driving past", "drives past"), ("rolling by", "rolls by")),
        "boat": (("sailing", "sails"), ("gliding over the sea", "glides over the sea")),
        "bird": (("flying", "flies"), ("flapping through the air", "flaps through the air")),
        "dog": (("trotting", "trots"), ("walking", "walks")),
        "cat": (("walking", "walks"), ("strolling", "strolls")),
        "horse": (("trotting", "trots"), ("walking", "walks")),
        "sheep": (("walking", "walks"), ("wandering", "wanders")),
        "cow": (("walking", "walks"), ("wandering", "wanders")),
    }
)
_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


@dataclass(frozen=True, slots=True)
class Caption:
    """What happens in one moment.

    Attributes:
        start_s: of the moment.
        end_s: of the moment, exclusive.
        sentences: at least three wordings.
        subject: id of the actor or thing; empty for a whole scene.
        action: what the sentence is about: an action's name, "move", "rest", "needle" or "scene".
        target: id of what decides the action, if anything does.
    """

    start_s: float
    end_s: float
    sentences: tuple[str, ...]
    subject: str
    action: str
    target: str | None = None


def article(noun: str) -> str:
    """The noun with "a" or "an"."""
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def describe_person(look: Look, *, definite: bool = False) -> str:
    """Kind and colour of the top, which no two people of a video share."""
    text = f"{look.kind} in {article(look.top)} shirt"
    return f"the {text.replace(' in an ', ' in the ').replace(' in a ', ' in the ')}" if definite else f"a {text}"


def describe_thing(kind: str, colour: str) -> str:
    """Colour and kind with an article; a boat is a sailing boat and a book's colour is its cover's."""
    return article(f"{colour} {'sailing boat' if kind == 'boat' else kind}")


def headline(labels: Sequence[str]) -> tuple[str, str]:
    """What to say first of several labels, and the move to mention besides: (action, move)."""
    move = next((name for name in labels if name in MOVES), "stand")
    for group in (_CONTEXT, _ARMS):
        for name in labels:
            if name in group:
                return name, move
    return move, move


def write_captions(spec: VideoSpec, actors: Sequence[ActorTrack], things: Sequence[ThingTrack]) -> tuple[Caption, ...]:
    """All moments of a video in order of time."""
    out: list[Caption] = []
    for number, scene in enumerate(spec.scenes):
        people = [track for track in actors if track.scene == number]
        objects = [track for track in things if track.scene == number]
        names = {a.id: describe_person(a.look) for a in scene.actors}
        names |= {t.id: describe_thing(t.kind, t.colour) for t in scene.things}
        for track in people:
            out += _actor_moments(spec, scene, track, names)
        for thing in objects:
            out += _thing_moments(spec, scene, thing, names)
        out += _scene_moment(spec, number, people, objects)
    out.sort(key=lambda c: (c.start_s, c.end_s, c.subject, c.action))
    return tuple(out)


def _actor_moments(spec: VideoSpec, scene: Scene, track: ActorTrack, names: Mapping[str, str]) -> list[Caption]:
    look = next(actor.look for actor in scene.actors if actor.id == track.id)
    moves = next(actor.moves for actor in scene.actors if actor.id == track.id)
    code = np.where(track.visible, track.labels @ (1 << np.arange(len(ACTIONS), dtype=np.int64)), -1)
    cuts = [0, *(np.flatnonzero(np.diff(code)) + 1).tolist(), len(code)]
    out = []
    for a, b in itertools.pairwise(cuts):
        if code[a] < 0 or (b - a) / spec.fps < SHORTEST_S:
            continue
        labels = [action.name for i, action in enumerate(ACTIONS) if track.labels[a, i]]
        action, move = headline(labels)
        first, stop = track.first + a, track.first + b
        target = next((d.target for d in track.deciders if d.action == action and d.first <= first < d.stop), None)
        middle = (first + stop) / 2 / spec.fps
        now = next((m for m in moves if m.start_s <= middle < m.end_s), moves[-1])
        going = "" if now.x0 == now.x1 else " to the right" if now.facing > 0 else " to the left"
        seat = names.get(now.target or "", "")
        besides = ""
        if move in ("walk", "run") and action not in ("walk", "run", "walk dog"):
            besides = " while walking" if move == "walk" else " while running"
        elif move == "sit" and action != "sit":
            besides = f" while sitting on {seat}" if seat else " while sitting"
        chance = Chance(spec.seed, _KEY, first, sum(map(ord, track.id)))
        pairs = WORDINGS.get(action) or ((ACTIONS[ACTION_INDEX[action]].doing, ACTIONS[ACTION_INDEX[action]].does),)
        about = names.get(target or "", "") or (seat if action == "sit" else "")
        pairs = tuple(pair for pair in pairs if about or "{target}" not in pair[0])
        pairs = tuple((doing.format(target=about), does.format(target=about)) for doing, does in pairs)
        sentences = _person_sentences(chance, look, pairs, besides + going, PLACE_RULES[scene.place].phrase)
        out.append(Caption(first / spec.fps, stop / spec.fps, sentences, track.id, action, target))
    return out


def _person_sentences(
    chance: Chance, look: Look, pairs: Sequence[tuple[str, str]], tail: str, place: str
) -> tuple[str, ...]:
    someone = describe_person(look)
    forms = (
        "{a_person} is {doing}{tail} {place}.",
        "{A_place}, {a_person} {does}{tail}.",
        "There is {a_person} {doing}{tail} {place}.",
        "{a_person_wearing} {does}{tail} {place}.",
        "{a_person}, {place}, {doing}{tail}.",
        "{a_kind} {doing}{tail} {place}, dressed in {top}.",
    )
    out: list[str] = []
    for i, form in enumerate(chance.shuffled(forms)[:4]):
        doing, does = pairs[i % len(pairs)]
        text = form.format(
            a_person=someone,
            a_person_wearing=f"a {look.kind} wearing {article(look.top)} shirt",
            a_kind=f"a {look.kind}",
            A_place=place,
            place=place,
            top=look.top,
            doing=doing,
            does=does,
            tail=tail,
        )
        out.append(text[0].upper() + text[1:])
    return tuple(out)


def _thing_moments(spec: VideoSpec, scene: Scene, track: ThingTrack, names: Mapping[str, str]) -> list[Caption]:
    thing = next(item for item in scene.things if item.id == track.id)
    ridden = any(move.target == thing.id and move.action == "ride" for actor in scene.actors for move in actor.moves)
    alive, rolls = thing.kind in ANIMALS, thing.kind in VEHICLES
    if not (alive or rolls or thing.role == "needle") or ridden:
        return []
    place, it = PLACE_RULES[scene.place].phrase, names[track.id]
    times = (track.first + np.arange(len(track.boxes_xyxy))) / spec.fps
    out = []
    for motion in thing.motions:
        now = track.visible & (times >= motion.start_s - 1e-9) & (times < motion.end_s - 1e-9)
        for a, b in runs(now):
            start_s, end_s = (track.first + a) / spec.fps, (track.first + b) / spec.fps
            if end_s - start_s < SHORTEST_S:
                continue
            if thing.role == "needle":
                forms = (
                    f"{it} is shown for a moment {place}.",
                    f"For about two seconds {it} appears {place}.",
                    f"{it} is briefly seen {place}.",
                )
                out.append(Caption(start_s, end_s, _capitals(forms), track.id, "needle"))
                continue
            goes = motion.what == "travel" and motion.x0 != motion.x1
            side = " to the right" if motion.x1 > motion.x0 else " to the left"
            verbs = (
                _THING_VERBS.get(thing.kind, (("standing", "stands"),))
                if goes
                else (("standing", "stands"), ("waiting", "waits"))
            )
            one, other = verbs[0], verbs[-1]
            tail = side if goes else ""
            forms = (
                f"{it} is {one[0]}{tail} {place}.",
                f"{place}, {it} {other[1]}{tail}.",
                f"There is {it} {other[0]}{tail} {place}.",
            )
            out.append(Caption(start_s, end_s, _capitals(forms), track.id, "move" if goes else "rest"))
    return out


def _capitals(forms: Sequence[str]) -> tuple[str, ...]:
    return tuple(text[0].upper() + text[1:] for text in forms)


def _scene_moment(
    spec: VideoSpec, number: int, people: Sequence[ActorTrack], objects: Sequence[ThingTrack]
) -> list[Caption]:
    scene, (first, stop) = spec.scenes[number], spec.frames_of(number)
    if stop <= first:
        return []
    seen = [track for track in people if track.visible.sum() / spec.fps >= SHORTEST_S]
    count = len(seen)
    who = "nobody" if not count else "one person" if count == 1 else f"{_NUMBERS[min(count, 10)]} people"
    kinds: dict[str, int] = {}
    for track in objects:
        if (track.kind in ANIMALS or track.kind in VEHICLES) and track.visible.sum() / spec.fps >= SHORTEST_S:
            kinds[track.kind] = kinds.get(track.kind, 0) + 1
    extra = [
        article(k) if n == 1 else f"{_NUMBERS[min(n, 10)]} {k if k == 'sheep' else 'buses' if k == 'bus' else k + 's'}"
        for k, n in sorted(kinds.items())
    ]
    listed = [who, *extra] if count or not extra else extra
    what = listed[0] if len(listed) == 1 else ", ".join(listed[:-1]) + " and " + listed[-1]
    when = {"day": "by day", "dusk": "at dusk", "night": "at night"}[scene.light.time]
    place = PLACE_RULES[scene.place].phrase
    when = "" if PLACE_RULES[scene.place].indoors else f" {when}"
    forms = (f"{what} {place}{when}.", f"A scene {place}{when} with {what}.", f"{place}{when}: {what}.")
    return [Caption(first / spec.fps, stop / spec.fps, _capitals(forms), "", "scene")]
