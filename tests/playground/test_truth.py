"""Truth: labels against the spec, context against its deciding thing, captions against labels, JSON against arrays."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from trifocal.errors import InvalidInput
from trifocal.playground import ACTIONS, Gesture, Move, Truth, VideoSpec, compose, truth, truth_from_json, truth_to_json
from trifocal.playground.actions import ACTION_INDEX, ATTEND, CONTEXT
from trifocal.playground.captions import SHORTEST_S

CONTEXT_NAMES = {action.name for action in ACTIONS if action.kind == "context"}


def test_labels_are_what_the_spec_says_at_every_frame(minute: VideoSpec, minute_truth: Truth) -> None:
    for track in minute_truth.actors:
        scene = minute.scenes[track.scene]
        actor = next(a for a in scene.actors if a.id == track.id)
        for at in range(len(track.labels)):
            t = (track.first + at) / minute.fps
            both: tuple[Move | Gesture, ...] = (*actor.moves, *actor.gestures)
            acts = [a for a in both if a.start_s <= t < a.end_s]
            expected = {a.action for a in acts if a.action != ATTEND} if track.visible[at] else set()
            got = {action.name for i, action in enumerate(ACTIONS) if track.labels[at, i]}
            assert got - CONTEXT_NAMES == expected


@pytest.mark.parametrize("seed", [2, 11, 12])
def test_every_context_action_has_its_decider_in_view(seed: int) -> None:
    spec = compose(seed, duration_s=90, size=(120, 160), fps=5)
    facts = truth(spec)
    seen = 0
    for index in range(spec.frame_count):
        for now in facts.at(index):
            assert set(now.deciders) == set(now.actions) & CONTEXT_NAMES
            for action, (target, box) in now.deciders.items():
                assert box == facts.box(target, index)
                assert target != now.id
                movements = {movement for (movement, _), meaning in CONTEXT.items() if meaning == action} - {ATTEND}
                assert not movements or movements & set(now.actions)
                seen += 1
    assert seen > 100


def test_the_same_pose_means_something_else_without_the_thing() -> None:
    """Taking the thing away changes the context label and leaves box, pose and body labels of the figure alone."""
    spec = compose(11, duration_s=60, size=(120, 160), fps=5)
    facts = truth(spec)
    held = {d.target for t in facts.actors for d in t.deciders if d.action in ("phone", "read", "carry", "drink")}
    assert held
    scenes = []
    for scene in spec.scenes:
        actors = tuple(
            replace(a, gestures=tuple(replace(g, target=None) if g.target in held else g for g in a.gestures))
            for a in scene.actors
        )
        scenes.append(replace(scene, actors=actors, things=tuple(t for t in scene.things if t.id not in held)))
    bare = truth(replace(spec, scenes=tuple(scenes)))
    body = [i for i, action in enumerate(ACTIONS) if action.kind == "body"]
    for one, other in zip(facts.actors, bare.actors, strict=True):
        np.testing.assert_array_equal(one.boxes_xyxy, other.boxes_xyxy)
        np.testing.assert_array_equal(one.labels[:, body], other.labels[:, body])
        assert not other.labels[:, ACTION_INDEX["read"]].any()
    assert sum(int(t.labels.sum()) for t in bare.actors) < sum(int(t.labels.sum()) for t in facts.actors)


def test_captions_span_exactly_what_they_say(minute: VideoSpec, minute_truth: Truth) -> None:
    tracks = {(t.scene, t.id): t for t in minute_truth.actors}
    starts = [minute.frames_of(i)[0] for i in range(len(minute.scenes))]
    checked = 0
    for caption in minute_truth.captions:
        assert len(set(caption.sentences)) >= 3
        assert all(text[0].isupper() and text.endswith(".") and "{" not in text for text in caption.sentences)
        assert caption.end_s - caption.start_s >= SHORTEST_S - 1e-9 or caption.action == "scene"
        if caption.action not in ACTION_INDEX:
            continue
        first, stop = round(caption.start_s * minute.fps), round(caption.end_s * minute.fps)
        scene = int(np.searchsorted(starts, first, side="right")) - 1
        track = tracks[scene, caption.subject]
        rows = track.labels[first - track.first : stop - track.first]
        assert rows[:, ACTION_INDEX[caption.action]].all()
        for outside in (first - 1 - track.first, stop - track.first):
            if 0 <= outside < len(track.labels):
                assert (track.labels[outside] != rows[0]).any()
        look = next(a.look for a in minute.scenes[scene].actors if a.id == caption.subject)
        assert all(look.top in text and look.kind in text for text in caption.sentences)
        checked += 1
    assert checked > 20


def test_directions_are_those_of_the_picture(minute: VideoSpec, minute_truth: Truth) -> None:
    """Where a sentence says left or right, the subject's place on the stage goes that way."""
    checked = 0
    for caption in minute_truth.captions:
        sides = {side for side in ("left", "right") if any(f"to the {side}" in text for text in caption.sentences)}
        if not sides:
            continue
        (side,) = sides
        middle = (caption.start_s + caption.end_s) / 2
        scene = next(s for s in minute.scenes if s.start_s <= middle < s.end_s)
        spans = [m for a in scene.actors if a.id == caption.subject for m in a.moves]
        ways = [(m.start_s, m.end_s, m.x1 - m.x0) for m in spans]
        ways += [(m.start_s, m.end_s, m.x1 - m.x0) for t in scene.things if t.id == caption.subject for m in t.motions]
        way = next(way for start, end, way in ways if start <= middle < end)
        assert (way > 0) == (side == "right")
        checked += 1
    assert checked >= 4


def test_every_visible_stretch_of_an_action_is_captioned(minute: VideoSpec, minute_truth: Truth) -> None:
    """No context action of more than a second goes unmentioned."""
    for track in minute_truth.actors:
        for decider in track.deciders:
            if (decider.stop - decider.first) / minute.fps < 1.0:
                continue
            start, end = decider.first / minute.fps, decider.stop / minute.fps
            told = [c for c in minute_truth.captions if c.subject == track.id and c.start_s < end and c.end_s > start]
            assert told


def test_json_round_trip_keeps_everything(minute: VideoSpec, minute_truth: Truth) -> None:
    data = truth_to_json(minute_truth)
    again = truth_from_json(json.loads(json.dumps(data)))
    assert truth_to_json(again) == data
    for one, other in zip(minute_truth.actors, again.actors, strict=True):
        np.testing.assert_array_equal(one.boxes_xyxy, other.boxes_xyxy)
        np.testing.assert_array_equal(one.labels, other.labels)
        assert one.deciders == other.deciders
    for a, b in zip(minute_truth.things, again.things, strict=True):
        np.testing.assert_array_equal(a.boxes_xyxy, b.boxes_xyxy)
    assert [c.sentences for c in again.captions] == [c.sentences for c in minute_truth.captions]
    assert [q.text for q in again.questions] == [q.text for q in minute_truth.questions]


def test_a_frame_that_does_not_exist(minute_truth: Truth) -> None:
    with pytest.raises(InvalidInput, match="no frame 99999"):
        minute_truth.at(99_999)


def test_every_action_occurs() -> None:
    missing = {action.name for action in ACTIONS}
    for seed in range(40):
        facts = truth(compose(seed, duration_s=60, size=(96, 128), fps=2))
        missing -= {a.name for t in facts.actors for i, a in enumerate(ACTIONS) if t.labels[:, i].any()}
        if not missing:
            break
    assert not missing
