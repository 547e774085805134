"""Procedural videos with exact truth, for tests, demos, training and benchmarks of all three lenses.

`compose(seed)` describes a video, `render` draws its frames and `truth` computes captions, questions, boxes and
actions from the same geometry. `write`, `load` and `regenerate` keep a video as mp4 and JSON; `make_collection`
makes a data set. Needs NumPy and Pillow only, and `trifocal.video` to write mp4.
"""

from __future__ import annotations

from trifocal.playground.actions import ACTIONS, Action
from trifocal.playground.captions import Caption
from trifocal.playground.collection import collection_specs, make_collection
from trifocal.playground.compose import compose
from trifocal.playground.places import THEMES, Theme, themes
from trifocal.playground.questions import QUESTION_TYPES, Question
from trifocal.playground.render import Renderer, frame, render
from trifocal.playground.spec import (
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
    from_json,
    to_json,
)
from trifocal.playground.store import Record, load, regenerate, write
from trifocal.playground.tracks import ActorTrack, Decider, ThingTrack
from trifocal.playground.truth import ActorNow, Truth, truth, truth_from_json, truth_to_json

__all__ = [
    "ACTIONS",
    "QUESTION_TYPES",
    "THEMES",
    "Action",
    "Actor",
    "ActorNow",
    "ActorTrack",
    "Camera",
    "Caption",
    "Decider",
    "Gesture",
    "Light",
    "Look",
    "Motion",
    "Move",
    "Question",
    "Record",
    "Renderer",
    "Scene",
    "Theme",
    "Thing",
    "ThingTrack",
    "Truth",
    "VideoSpec",
    "collection_specs",
    "compose",
    "frame",
    "from_json",
    "load",
    "make_collection",
    "regenerate",
    "render",
    "themes",
    "to_json",
    "truth",
    "truth_from_json",
    "truth_to_json",
    "write",
]
