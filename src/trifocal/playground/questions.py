"""Questions with one right answer, drawn from the tracks.

Every question is asked only where the truth leaves no second answer: a colour only of the one who does it, an
action only where somebody does a single thing, a count only where nobody shows for a mere blink. Wrong choices are
plausible and certainly wrong: an action that the person does not do at all there, a place where it never happens.
`about` holds in plain keys what a question refers to, so that answers can be derived again from the tracks by other
code. All questions have four choices, but those to be answered by yes or no.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from trifocal.playground.actions import ACTION_INDEX, ACTIONS, CONTEXT
from trifocal.playground.captions import SHORTEST_S, Caption, article, describe_person
from trifocal.playground.chance import Chance
from trifocal.playground.palette import COLOURS
from trifocal.playground.places import NEEDLE_KINDS, PLACE_RULES
from trifocal.playground.tracks import runs

if TYPE_CHECKING:
    from trifocal.playground.spec import Look, VideoSpec
    from trifocal.playground.tracks import ActorTrack, ThingTrack

__all__ = ["QUESTION_TYPES", "Question", "ask_questions", "phrase"]

QUESTION_TYPES = ("what", "colour", "how many", "order", "after", "before", "where", "yes or no", "needle")
_KEY = 12
_GENERIC: Mapping[str, str] = MappingProxyType(
    {
        "drink": "a cup",
        "read": "a book",
        "carry": "a box",
        "throw": "a ball",
        "kick ball": "a ball",
        "pick up": "something",
        "pet": "an animal",
        "talk to": "somebody",
        "listen to": "somebody",
        "watch ball": "a ball",
        "ride bicycle": "a bicycle",
        "ride horse": "a horse",
        "walk dog": "a dog",
    }
)
_ALIKE = (
    {"crouch", "squat", "bend", "pick up", "pet", "sit"},
    {"wave", "cheer", "point"},
    {"walk", "run", "walk dog"},
    {"hand low", "arms forward", "point", "gesture", "clap", "arm swing"},
    {"stand", "listen to", "watch ball"},
    {"gesture", "talk to", "listen to", "phone"},
    {"fall", "lie", "bend", "crouch"},
    {"kick", "jump", "dance"},
    {"ride", "sit", "ride bicycle", "ride horse"},
    {"hand at mouth", "drink"},
    {"throw", "arm swing"},
)
"""Actions an eye may take for one another: none of them is a wrong choice where another is true."""
_COUNTED: Mapping[str, str] = MappingProxyType(
    {
        "dog": "dogs",
        "cat": "cats",
        "horse": "horses",
        "sheep": "sheep",
        "cow": "cows",
        "bird": "birds",
        "car": "cars",
        "boat": "sailing boats",
    }
)
_VAGUE = frozenset({"stand", "ride", "hand low", "gesture"})
"""Labels too weak to be asked for or offered as a choice."""
_BASES = frozenset({"walk", "run", "sit"})
"""What goes on below something better worth naming."""


@dataclass(frozen=True, slots=True)
class Question:
    """A question about a video.

    Attributes:
        type: one of `QUESTION_TYPES`.
        text: the question.
        answer: one of the choices.
        choices: four, or "yes" and "no".
        start_s: where the evidence begins.
        end_s: where it ends.
        about: what it refers to, as (key, value).
    """

    type: str
    text: str
    answer: str
    choices: tuple[str, ...]
    start_s: float
    end_s: float
    about: tuple[tuple[str, str], ...]


def phrase(action: str) -> str:
    """An action as an answer: "reading a book"."""
    return ACTIONS[ACTION_INDEX[action]].doing.format(target=_GENERIC.get(action, ""))


class _Facts:
    """The tracks, looked at in the ways that questions need."""

    def __init__(
        self, spec: VideoSpec, actors: Sequence[ActorTrack], things: Sequence[ThingTrack], captions: Sequence[Caption]
    ) -> None:
        self.spec, self.actors, self.things = spec, actors, things
        self.places = [scene.place for scene in spec.scenes]
        self.moments = [c for c in captions if c.action in ACTION_INDEX]
        self.looks: dict[str, Look] = {actor.id: actor.look for scene in spec.scenes for actor in scene.actors}
        self.starts = [spec.frames_of(i)[0] / spec.fps for i in range(len(spec.scenes))]
        self.labels = {
            (t.scene, t.id): frozenset(a.name for i, a in enumerate(ACTIONS) if t.labels[:, i].any()) for t in actors
        }

    def scene_of(self, moment: Caption) -> int:
        """Number of the scene of a moment."""
        return int(np.searchsorted(self.starts, moment.start_s + 1e-6, side="right")) - 1

    def who(self, action: str) -> set[str]:
        """Ids of all who ever do it."""
        return {name for (_, name), labels in self.labels.items() if action in labels}

    def seconds(self, track: ActorTrack | ThingTrack) -> float:
        """How long a track is in view."""
        return float(track.visible.sum()) / self.spec.fps

    def once(self, place: str) -> int | None:
        """The number of the only scene in a place."""
        return self.places.index(place) if self.places.count(place) == 1 else None

    def lit(self, scene: int) -> bool:
        """Whether colours can be told there: only by day, for dusk and night tint them."""
        return self.spec.scenes[scene].light.time == "day"

    def the(self, name: str) -> str:
        """A person with the definite article."""
        return describe_person(self.looks[name], definite=True)


def ask_questions(
    spec: VideoSpec, actors: Sequence[ActorTrack], things: Sequence[ThingTrack], captions: Sequence[Caption]
) -> tuple[Question, ...]:
    """Questions of all types that the video allows, in order of their evidence."""
    facts = _Facts(spec, actors, things, captions)
    chance = Chance(spec.seed, _KEY)
    out = [
        *_what(facts, chance),
        *_colour(facts, chance),
        *_how_many(facts, chance),
        *_order(facts, chance),
        *_next(facts, chance),
        *_where(facts, chance),
        *_yes_or_no(facts, chance),
        *_needle(facts, chance),
    ]
    out.sort(key=lambda q: (q.start_s, q.type, q.text))
    return tuple(out)


def _choices(chance: Chance, answer: str, wrong: Sequence[str]) -> tuple[str, ...] | None:
    """Three wrong ones and the answer in random order; None if there are too few."""
    pool = [text for text in dict.fromkeys(wrong) if text != answer]
    if len(pool) < 3:
        return None
    return tuple(chance.shuffled([answer, *chance.shuffled(pool)[:3]]))


def _not_done(labels: frozenset[str]) -> list[str]:
    """Phrases of actions that are certainly not among the labels nor alike to one of them."""
    near = set(labels).union(*(group for group in _ALIKE if group & labels))
    return [phrase(a.name) for a in ACTIONS if a.name not in near and a.name not in _VAGUE]


def _what(facts: _Facts, chance: Chance) -> list[Question]:
    """What one person does in a place; of all they do there only one thing is among the choices."""
    out = []
    for (scene, name), labels in sorted(facts.labels.items()):
        place = facts.places[scene]
        there = [key for key, done in facts.labels.items() if key[1] == name and facts.places[key[0]] == place and done]
        if there != [(scene, name)]:
            continue
        moments = [m for m in facts.moments if m.subject == name and facts.scene_of(m) == scene]
        told = {m.action for m in moments} - _VAGUE
        told = told - _BASES if told - _BASES else told
        if len(told) != 1:
            continue
        action = next(iter(told))
        choices = _choices(chance, phrase(action), _not_done(labels))
        if choices is not None:
            span = [m for m in moments if m.action == action]
            text = f"What is {facts.the(name)} doing {PLACE_RULES[place].phrase}?"
            about = (("person", name), ("place", place), ("action", action))
            out.append(Question("what", text, phrase(action), choices, span[0].start_s, span[-1].end_s, about))
    return out


def _body_of(action: str) -> list[str]:
    """Body labels that come with a context action."""
    return [movement for (movement, _), meaning in CONTEXT.items() if meaning == action]


def _colour(facts: _Facts, chance: Chance) -> list[Question]:
    """The shirt of the only person who does something, and the only vehicle or animal of its kind."""
    out = []
    for action in ACTIONS:
        people = facts.who(action.name)
        if len(people) != 1 or action.name in _VAGUE or action.name in ("walk", "sit"):
            continue
        name = next(iter(people))
        moments = [m for m in facts.moments if m.subject == name and m.action == action.name]
        alike = set().union(*(group for group in _ALIKE if action.name in group)) - {
            action.name,
            *_body_of(action.name),
        }
        dark = not all(facts.lit(facts.scene_of(m)) for m in moments)
        if not moments or dark or any(facts.who(other) - {name} for other in alike):
            continue
        colour = facts.looks[name].top
        choices = _choices(chance, colour, [c for c in COLOURS if c != colour])
        if choices is not None:
            text = f"What colour is the shirt of the person who is {phrase(action.name)}?"
            about = (("person", name), ("action", action.name))
            out.append(Question("colour", text, colour, choices, moments[0].start_s, moments[0].end_s, about))
    for kind in ("bus", "car", "truck", "boat", "dog", "cat", "horse", "bicycle", "ball", "cup", "book", "box"):
        tracks = [t for t in facts.things if t.kind == kind and t.visible.any()]
        if len({t.id for t in tracks}) != 1 or facts.seconds(tracks[0]) < 1.0 or not facts.lit(tracks[0].scene):
            continue
        track = tracks[0]
        choices = _choices(chance, track.colour, [c for c in COLOURS if c != track.colour])
        if choices is not None:
            start, end = _span(facts, track)
            about = (("thing", track.id), ("kind", kind))
            noun = "sailing boat" if kind == "boat" else kind
            out.append(Question("colour", f"What colour is the {noun}?", track.colour, choices, start, end, about))
    return out


def _span(facts: _Facts, track: ActorTrack | ThingTrack) -> tuple[float, float]:
    seen = np.flatnonzero(track.visible)
    return (track.first + int(seen[0])) / facts.spec.fps, (track.first + int(seen[-1]) + 1) / facts.spec.fps


def _how_many(facts: _Facts, chance: Chance) -> list[Question]:
    """People of a place or of the whole video; animals and vehicles where the place is shown once."""
    out = []
    fps, end_s = facts.spec.fps, facts.spec.frame_count / facts.spec.fps
    for place in ("", *sorted(set(facts.places))):
        scenes = [i for i, other in enumerate(facts.places) if place in ("", other)]
        people = [t for t in facts.actors if t.scene in scenes and t.visible.any()]
        if people and (place or len(facts.places) > 1) and all(facts.seconds(t) >= SHORTEST_S for t in people):
            count = len({t.id for t in people})
            where = PLACE_RULES[place].phrase if place else "in the whole video"
            about = (("kind", "person"), ("place", place))
            start, end = (0.0, end_s) if len(scenes) != 1 else (i / fps for i in facts.spec.frames_of(scenes[0]))
            text = f"How many different people appear {where}?"
            out.append(Question("how many", text, str(count), _numbers(chance, count), start, end, about))
        if len(scenes) != 1 or not place:
            continue
        for kind, nouns in _COUNTED.items():
            shown = [t for t in facts.things if t.scene == scenes[0] and t.kind == kind and t.visible.any()]
            if shown and all(facts.seconds(t) >= SHORTEST_S for t in shown):
                start, end = (i / fps for i in facts.spec.frames_of(scenes[0]))
                text = f"How many {nouns} are seen {PLACE_RULES[place].phrase}?"
                about = (("kind", kind), ("place", place))
                answer, choices = str(len(shown)), _numbers(chance, len(shown))
                out.append(Question("how many", text, answer, choices, start, end, about))
    return out


def _numbers(chance: Chance, count: int) -> tuple[str, ...]:
    low = max(0, count - chance.below(4))
    return tuple(str(low + i) for i in range(4))


def _order(facts: _Facts, chance: Chance) -> list[Question]:
    """Which of four things that each happen once comes first, or last."""
    groups: dict[tuple[str, str], list[Caption]] = {}
    for moment in facts.moments:
        groups.setdefault((moment.subject, moment.action), []).append(moment)
    single = []
    for (name, action), moments in groups.items():
        begins = [
            (t.first + at) / facts.spec.fps
            for t in facts.actors
            if t.id == name
            for at, _ in runs(t.labels[:, ACTION_INDEX[action]])
        ]
        exact = len(moments) == len(begins) == 1 and abs(begins[0] - moments[0].start_s) < 1e-6
        if exact and action not in _VAGUE:
            single.append(moments[0])
    single.sort(key=lambda m: (m.start_s, m.subject))
    out = []
    for trial in range(min(6, len(single) // 4)):
        picked: list[Caption] = []
        for moment in chance.shuffled(single):
            if all(abs(moment.start_s - p.start_s) >= 1.5 for p in picked) and len(picked) < 4:
                picked.append(moment)
        if len(picked) < 4:
            continue
        texts = {m: f"{facts.the(m.subject)} {phrase(m.action)}" for m in picked}
        if len(set(texts.values())) < 4:
            continue
        word = "first" if trial % 2 == 0 else "last"
        key = min(picked, key=lambda m: m.start_s) if word == "first" else max(picked, key=lambda m: m.start_s)
        about = (("word", word), *((f"choice {i}", f"{m.subject}/{m.action}") for i, m in enumerate(picked)))
        choices = tuple(texts[m] for m in picked)
        text = f"Which of these begins {word}?"
        start, end = min(m.start_s for m in picked), max(m.end_s for m in picked)
        out.append(Question("order", text, texts[key], choices, start, end, about))
    unique: dict[tuple[str, ...], Question] = {}
    for question in out:
        unique.setdefault((question.text, *sorted(question.choices)), question)
    return list(unique.values())


def _next(facts: _Facts, chance: Chance) -> list[Question]:
    """What somebody does right after, or right before, something they do once."""
    out: list[Question] = []
    by_track: dict[tuple[int, str], list[Caption]] = {}
    for moment in facts.moments:
        by_track.setdefault((facts.scene_of(moment), moment.subject), []).append(moment)
    for (scene, name), moments in sorted(by_track.items()):
        for before, after in itertools.pairwise(moments):
            if (
                after.start_s - before.end_s > 0.3
                or {before.action, after.action} & _VAGUE
                or before.action == after.action
            ):
                continue
            for word, anchor, sought in (("after", before, after), ("before", after, before)):
                # The label may outlast the moment (somebody who sits goes on sitting while clapping): then there is
                # no "right after".
                spans = [
                    ((t.first + a) / facts.spec.fps, (t.first + b) / facts.spec.fps)
                    for t in facts.actors
                    if t.id == name
                    for a, b in runs(t.labels[:, ACTION_INDEX[anchor.action]])
                ]
                meets = spans[0][1] - anchor.end_s if word == "after" else spans[0][0] - anchor.start_s
                if len(spans) != 1 or abs(meets) > 1e-6 or (chance.happens(0.5) and len(out) > 12):
                    continue
                held = facts.labels[scene, name]
                choices = _choices(chance, phrase(sought.action), _not_done(held))
                if choices is None:
                    continue
                text = f"What does {facts.the(name)} do right {word} {phrase(anchor.action)}?"
                about = (("person", name), ("anchor", anchor.action), ("action", sought.action))
                start, end = before.start_s, after.end_s
                out.append(Question(word, text, phrase(sought.action), choices, start, end, about))
    return out


def _where(facts: _Facts, chance: Chance) -> list[Question]:
    """The place in which somebody does what they do in one place only; likewise the only vehicle of its kind."""
    out: list[Question] = []
    phrases = [rules.phrase for rules in PLACE_RULES.values()]
    for name in sorted(facts.looks):
        seen: dict[str, set[str]] = {}
        for track in facts.actors:
            if track.id == name:
                for action in facts.labels[track.scene, name]:
                    seen.setdefault(action, set()).add(facts.places[track.scene])
        for action in sorted(seen):
            moments = [m for m in facts.moments if m.subject == name and m.action == action]
            if len(seen[action]) != 1 or not moments or action in _VAGUE:
                continue
            alike = set().union(*(group for group in _ALIKE if action in group))
            place = next(iter(seen[action]))
            if any(seen.get(other, set()) - {place} for other in alike):
                continue
            answer = PLACE_RULES[place].phrase
            choices = _choices(chance, answer, phrases)
            if choices is not None:
                text = f"Where is {facts.the(name)} {phrase(action)}?"
                about = (("person", name), ("action", action), ("place", place))
                out.append(Question("where", text, answer, choices, moments[0].start_s, moments[0].end_s, about))
    return out


def _yes_or_no(facts: _Facts, chance: Chance) -> list[Question]:
    """Whether anybody does something in a place; as often no as yes."""
    out = []
    for place in sorted(set(facts.places)):
        keys = [key for key in facts.labels if facts.places[key[0]] == place]
        labels = frozenset().union(*(facts.labels[key] for key in keys))
        told = [m for m in facts.moments if facts.places[facts.scene_of(m)] == place and m.action not in _VAGUE]
        where = PLACE_RULES[place].phrase
        if told:
            moment = chance.pick(told)
            about = (("action", moment.action), ("place", place))
            text = f"Is anybody {phrase(moment.action)} {where}?"
            out.append(Question("yes or no", text, "yes", ("yes", "no"), moment.start_s, moment.end_s, about))
        near = set(labels).union(*(group for group in _ALIKE if group & labels))
        absent = [a.name for a in ACTIONS if a.name not in near and a.name not in _VAGUE]
        if absent:
            action = chance.pick(absent)
            about = (("action", action), ("place", place))
            scenes = [i for i, other in enumerate(facts.places) if other == place]
            start, end = facts.spec.frames_of(scenes[0])[0], facts.spec.frames_of(scenes[-1])[1]
            fps, text = facts.spec.fps, f"Is anybody {phrase(action)} {where}?"
            out.append(Question("yes or no", text, "no", ("yes", "no"), start / fps, end / fps, about))
    return out


def _needle(facts: _Facts, chance: Chance) -> list[Question]:
    """The thing that is shown for about two seconds: what it is, its colour, where it was."""
    out: list[Question] = []
    needles = {t.id: t for scene in facts.spec.scenes for t in scene.things if t.role == "needle"}
    tracks = [t for t in facts.things if t.id in needles and t.visible.any()]
    present = {t.kind for t in facts.things}
    for track in tracks:
        if sum(t.kind == track.kind for t in facts.things) != 1:
            continue
        start, end = _span(facts, track)
        place = facts.places[track.scene]
        where = PLACE_RULES[place].phrase
        absent: list[str] = [article(kind) for kind in NEEDLE_KINDS if kind not in present]
        absent += [article(kind) for kind in ("clock", "drum", "kite", "guitar", "ladder")]
        about = (("thing", track.id), ("place", place))
        choices = _choices(chance, article(track.kind), absent)
        if choices is not None and (len(tracks) == 1 or facts.once(place) is not None):
            text = "Which of these is shown for about two seconds" + ("?" if len(tracks) == 1 else f" {where}?")
            out.append(Question("needle", text, article(track.kind), choices, start, end, (*about, ("asks", "kind"))))
        choices = _choices(chance, track.colour, [c for c in COLOURS if c != track.colour])
        if choices is not None and facts.lit(track.scene):
            text = f"What colour is the {track.kind} that appears for a moment?"
            out.append(Question("needle", text, track.colour, choices, start, end, (*about, ("asks", "colour"))))
        choices = _choices(chance, where, [rules.phrase for rules in PLACE_RULES.values()])
        if choices is not None:
            text = f"Where does {article(track.kind)} appear for a moment?"
            out.append(Question("needle", text, where, choices, start, end, (*about, ("asks", "place"))))
    return out
