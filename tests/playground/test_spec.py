"""Descriptions: round trip through JSON, and a clear error for every wrong value."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trifocal.errors import InvalidInput
from trifocal.playground import (
    Actor,
    Camera,
    Gesture,
    Light,
    Look,
    Motion,
    Move,
    Scene,
    Thing,
    VideoSpec,
    compose,
    from_json,
    to_json,
)

LOOK = Look("man", "red", "blue", "black", "brown")
STAND = Move("stand", 0.0, 4.0, 0.5, 0.5)
ACTOR = Actor("a", LOOK, 0.8, (STAND,))
THING = Thing("t", "ball", "red", 0.8, (Motion("rest", 0.0, 4.0, 0.5, 0.5),))
SCENE = Scene("park", 0.0, 4.0, 1.4, 1, Camera(), Light(), (ACTOR,), (THING,))
SPEC = VideoSpec(1, 4.0, 64, 48, 10.0, (SCENE,))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**40), duration=st.floats(1, 90), theme=st.sampled_from([None, "cyclist", "cat at home"]))
def test_json_round_trip(seed: int, duration: float, theme: str | None) -> None:
    spec = compose(seed, duration_s=duration, size=(48, 64), fps=8, theme=theme)
    text = json.dumps(to_json(spec))
    again = from_json(VideoSpec, json.loads(text))
    assert again == spec
    assert hash(again) == hash(spec)


@pytest.mark.parametrize(
    ("record", "change", "names"),
    [
        (LOOK, {"top": "mauve"}, "mauve"),
        (LOOK, {"skin": 9}, "skin"),
        (LOOK, {"height_m": 9.0}, "height_m"),
        (LOOK, {"kind": "robot"}, "robot"),
        (STAND, {"action": "swim"}, "swim"),
        (STAND, {"end_s": 0.0}, "stand"),
        (STAND, {"start_s": float("nan")}, "nan"),
        (STAND, {"facing": 0}, "facing"),
        (ACTOR, {"moves": ()}, "no moves"),
        (ACTOR, {"lane": 3.0}, "lane"),
        (ACTOR, {"moves": (STAND, replace(STAND, start_s=5.0, end_s=6.0))}, "gap"),
        (ACTOR, {"gestures": (Gesture("wave", 0, 2), Gesture("clap", 1, 3))}, "overlap"),
        (Gesture("wave", 0, 1), {"action": "walk"}, "walk"),
        (Motion("rest", 0, 1), {"what": "orbit"}, "orbit"),
        (Motion("rest", 0, 1), {"what": "held"}, "nobody"),
        (THING, {"kind": "dragon"}, "dragon"),
        (THING, {"size": 0.0}, "size"),
        (THING, {"motions": ()}, "no motion"),
        (Camera(), {"x1": -1.0}, "camera"),
        (Camera(), {"zoom": 99.0}, "zoom"),
        (Light(), {"time": "noon"}, "noon"),
        (Light(), {"noise": -1.0}, "noise"),
        (SCENE, {"place": "moon"}, "moon"),
        (SCENE, {"actors": (ACTOR, ACTOR)}, "twice"),
        (SCENE, {"actors": (replace(ACTOR, gestures=(Gesture("wave", 0, 1, "ghost"),)),)}, "ghost"),
        (SCENE, {"things": (replace(THING, motions=(Motion("held", 0, 1, by="t"),)),)}, "held by 't'"),
        (SPEC, {"seed": -1}, "seed"),
        (SPEC, {"width": 31}, "width"),
        (SPEC, {"height": 9000}, "height"),
        (SPEC, {"fps": 0.0}, "fps"),
        (SPEC, {"scenes": ()}, "no scenes"),
        (SPEC, {"duration_s": 5.0}, "end at"),
        (SPEC, {"scenes": (replace(SCENE, start_s=1.0),)}, "starts at"),
        (SPEC, {"version": 99}, "99"),
    ],
)
def test_a_wrong_value_is_refused_by_name(record: Any, change: dict[str, Any], names: str) -> None:
    with pytest.raises(InvalidInput, match=names) as caught:
        replace(record, **change)
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("damage", "names"),
    [
        (lambda d: d.pop("seed"), "lacks seed"),
        (lambda d: d.update(colour="red"), "unknown keys colour"),
        (lambda d: d.update(width="wide"), "width is 'wide'"),
        (lambda d: d.update(width=True), "width is True"),
        (lambda d: d.update(scenes={}), "not a list"),
        (lambda d: d["scenes"][0].update(camera=3), "camera is not an object"),
        (lambda d: d["scenes"][0]["actors"][0]["look"].update(kind="elf"), r"actors\[0\].look.kind is 'elf'"),
    ],
)
def test_damaged_json_is_refused_with_its_place(damage: Any, names: str) -> None:
    data = json.loads(json.dumps(to_json(SPEC)))
    damage(data)
    with pytest.raises(InvalidInput, match=names):
        from_json(VideoSpec, data)


def test_frames_of_scenes_fill_the_video() -> None:
    for fps in (1.0, 7.3, 25.0, 29.97):
        spec = compose(4, duration_s=47.3, size=(32, 32), fps=fps)
        edges = [spec.frames_of(i) for i in range(len(spec.scenes))]
        assert edges[0][0] == 0
        assert edges[-1][1] == spec.frame_count
        assert all(a[1] == b[0] for a, b in itertools.pairwise(edges))
