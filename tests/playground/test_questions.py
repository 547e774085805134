"""Questions, answered again from the tracks alone by other code, every choice of every question."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from trifocal.playground import ACTIONS, QUESTION_TYPES, Question, Truth, VideoSpec, compose, truth
from trifocal.playground.actions import ACTION_INDEX
from trifocal.playground.captions import article, describe_person
from trifocal.playground.places import PLACE_RULES
from trifocal.playground.questions import phrase

PHRASES = {phrase(action.name): action.name for action in ACTIONS}
PLACES = {rules.phrase: place for place, rules in PLACE_RULES.items()}


class Brute:
    """Frame by frame over the arrays: who does what where."""

    def __init__(self, spec: VideoSpec, facts: Truth) -> None:
        self.spec, self.facts = spec, facts
        self.place = [scene.place for scene in spec.scenes]
        self.looks = {a.id: a.look for s in spec.scenes for a in s.actors}

    def places_of(self, action: str, person: str | None = None) -> set[str]:
        i = ACTION_INDEX[action]
        tracks = [t for t in self.facts.actors if person in (None, t.id)]
        return {self.place[t.scene] for t in tracks if t.labels[:, i].any()}

    def doers(self, action: str) -> set[str]:
        return {t.id for t in self.facts.actors if t.labels[:, ACTION_INDEX[action]].any()}

    def done(self, person: str, start_s: float, end_s: float) -> set[str]:
        out: set[str] = set()
        for track in self.facts.actors:
            if track.id == person:
                times = (track.first + np.arange(len(track.labels))) / self.spec.fps
                rows = track.labels[(times >= start_s - 1e-6) & (times < end_s - 1e-6)]
                out |= {a.name for i, a in enumerate(ACTIONS) if rows[:, i].any()}
        return out

    def first_time(self, person: str, action: str) -> list[float]:
        out = []
        for t in self.facts.actors:
            flags = t.labels[:, ACTION_INDEX[action]] if t.id == person else np.zeros(0, bool)
            rising = np.flatnonzero(flags & ~np.concatenate([[False], flags[:-1]]))
            out += [(t.first + int(at)) / self.spec.fps for at in rising]
        return out

    def right(self, q: Question) -> set[str]:
        """All choices that are true."""
        about = dict(q.about)
        return {choice for choice in q.choices if getattr(self, "_" + q.type.replace(" ", "_"))(q, about, choice)}

    def _what(self, q: Question, about: dict[str, str], choice: str) -> bool:
        return about["place"] in self.places_of(PHRASES[choice], about["person"])

    def _colour(self, q: Question, about: dict[str, str], choice: str) -> bool:
        if "action" in about:
            return choice in {self.looks[name].top for name in self.doers(about["action"])}
        return choice in {t.colour for t in self.facts.things if t.kind == about["kind"] and t.visible.any()}

    def _how_many(self, q: Question, about: dict[str, str], choice: str) -> bool:
        wanted = [i for i, place in enumerate(self.place) if about["place"] in ("", place)]
        if about["kind"] == "person":
            seen = {t.id for t in self.facts.actors if t.scene in wanted and t.visible.any()}
        else:
            kind = about["kind"]
            seen = {t.id for t in self.facts.things if t.scene in wanted and t.kind == kind and t.visible.any()}
        return int(choice) == len(seen)

    def _order(self, q: Question, about: dict[str, str], choice: str) -> bool:
        starts = {}
        for key, value in about.items():
            if key.startswith("choice"):
                person, action = value.split("/")
                (start,) = self.first_time(person, action)
                starts[f"{describe_person(self.looks[person], definite=True)} {phrase(action)}"] = start
        best = min(starts.values()) if about["word"] == "first" else max(starts.values())
        assert sorted(starts.values()).count(best) == 1
        return starts[choice] == best

    def _next(self, q: Question, about: dict[str, str], choice: str, *, after: bool) -> bool:
        (start,) = self.first_time(about["person"], about["anchor"])
        t = start
        while about["anchor"] in self.done(about["person"], t, t + 1 / self.spec.fps):
            t += 1 / self.spec.fps
        window = (t, t + 1.0) if after else (start - 1.0, start)
        return PHRASES[choice] in self.done(about["person"], *window)

    def _after(self, q: Question, about: dict[str, str], choice: str) -> bool:
        return self._next(q, about, choice, after=True)

    def _before(self, q: Question, about: dict[str, str], choice: str) -> bool:
        return self._next(q, about, choice, after=False)

    def _where(self, q: Question, about: dict[str, str], choice: str) -> bool:
        return PLACES[choice] in self.places_of(about["action"], about["person"])

    def _yes_or_no(self, q: Question, about: dict[str, str], choice: str) -> bool:
        return (about["place"] in self.places_of(about["action"])) == (choice == "yes")

    def _needle(self, q: Question, about: dict[str, str], choice: str) -> bool:
        brief = [t for t in self.facts.things if t.id == about["thing"]]
        assert len(brief) == 1
        assert brief[0].visible.sum() / self.spec.fps < 2.6
        kinds = {article(t.kind) for t in self.facts.things}
        if about["asks"] == "kind":
            return choice in kinds
        return choice == brief[0].colour if about["asks"] == "colour" else PLACES[choice] == self.place[brief[0].scene]


@pytest.mark.parametrize(("seed", "duration_s"), [(1, 20), (2, 40), (3, 60), (4, 90), (5, 150), (6, 400), (7, 30)])
def test_each_question_has_exactly_its_one_right_answer(seed: int, duration_s: float) -> None:
    spec = compose(seed, duration_s=duration_s, size=(96, 128), fps=5)
    facts = truth(spec)
    brute = Brute(spec, facts)
    assert facts.questions
    for q in facts.questions:
        assert q.type in QUESTION_TYPES
        assert q.answer in q.choices
        assert len(set(q.choices)) == len(q.choices) == (2 if q.type == "yes or no" else 4)
        assert 0 <= q.start_s < q.end_s <= spec.duration_s + 1e-6
        assert brute.right(q) == {q.answer}, q
    texts = [q.text + str(sorted(q.choices)) for q in facts.questions]
    assert len(set(texts)) == len(texts)


def test_one_question_text_never_has_two_answers() -> None:
    for seed in range(5):
        facts = truth(compose(seed, duration_s=120, size=(96, 128), fps=5))
        answers: dict[str, set[str]] = {}
        for q in facts.questions:
            if q.type != "order":
                answers.setdefault(q.text, set()).add(q.answer)
        assert all(len(found) == 1 for found in answers.values())


def test_people_are_told_apart_by_their_description() -> None:
    for seed in range(10):
        spec = compose(seed, duration_s=200, size=(96, 128), fps=2)
        names = {a.id: describe_person(a.look, definite=True) for s in spec.scenes for a in s.actors}
        assert len(set(names.values())) == len(names)


def test_all_types_are_asked_and_no_place_of_the_answer_is_favoured() -> None:
    kinds: Counter[str] = Counter()
    places: Counter[int] = Counter()
    for seed in range(14):
        for q in truth(compose(seed, duration_s=40, size=(64, 96), fps=4)).questions:
            kinds[q.type] += 1
            if len(q.choices) == 4:
                places[q.choices.index(q.answer)] += 1
    assert set(kinds) == set(QUESTION_TYPES)
    total = sum(places.values())
    assert all(0.18 < places[i] / total < 0.32 for i in range(4))


def test_the_needle_is_seen_where_the_evidence_says() -> None:
    spec = compose(9, duration_s=300, size=(96, 128), fps=4)
    facts = truth(spec)
    needles = [q for q in facts.questions if q.type == "needle"]
    assert len(needles) >= 4
    for q in needles:
        thing = dict(q.about)["thing"]
        assert 1.0 < q.end_s - q.start_s < 2.6
        for index in range(spec.frame_count):
            inside = q.start_s - 1e-6 <= index / spec.fps < q.end_s - 1e-6
            assert (facts.box(thing, index) is not None) == inside
