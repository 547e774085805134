"""The vocabulary of actions: what a body does, and what only something outside the body decides.

A figure's spec names movements ("bend", "hand at head"): these are the `body` classes, told from the pose alone.
With a target they also carry a `context` class: a hand at the head is "phone" with a phone in it and just that
without; whoever faces somebody who talks is listening. The pose is the same in both cases, pixel for pixel, and the
deciding object's box is in the truth. `CONTEXT` is the whole rule.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Kind = Literal["body", "context"]

__all__ = ["ACTIONS", "ACTION_INDEX", "ATTEND", "CONTEXT", "GESTURES", "MOVES", "Action", "Kind", "context_action"]


@dataclass(frozen=True, slots=True)
class Action:
    """A class of action.

    Attributes:
        name: of the class, as in the truth.
        kind: "body" if the pose tells it, "context" if only something outside does.
        doing: the gerund that captions use; `{target}` stands for the deciding object.
        does: the third person.
    """

    name: str
    kind: Kind
    doing: str
    does: str


ACTIONS: tuple[Action, ...] = (
    Action("stand", "body", "standing", "stands"),
    Action("walk", "body", "walking", "walks"),
    Action("run", "body", "running", "runs"),
    Action("jump", "body", "jumping", "jumps"),
    Action("sit", "body", "sitting", "sits"),
    Action("fall", "body", "falling down", "falls down"),
    Action("lie", "body", "lying on the ground", "lies on the ground"),
    Action("crouch", "body", "crouching", "crouches"),
    Action("bend", "body", "bending down", "bends down"),
    Action("dance", "body", "dancing", "dances"),
    Action("squat", "body", "doing squats", "does squats"),
    Action("kick", "body", "kicking", "kicks"),
    Action("ride", "body", "riding", "rides"),
    Action("wave", "body", "waving", "waves"),
    Action("clap", "body", "clapping", "claps"),
    Action("point", "body", "pointing", "points"),
    Action("cheer", "body", "cheering with both arms up", "cheers with both arms up"),
    Action("gesture", "body", "speaking with the hands", "speaks with the hands"),
    Action("hand at head", "body", "holding a hand to the head", "holds a hand to the head"),
    Action("hand at mouth", "body", "raising a hand to the mouth", "raises a hand to the mouth"),
    Action("hands at chest", "body", "looking down at the hands", "looks down at the hands"),
    Action("arms forward", "body", "holding both arms out", "holds both arms out"),
    Action("hand low", "body", "holding one hand out", "holds one hand out"),
    Action("arm swing", "body", "swinging an arm", "swings an arm"),
    Action("phone", "context", "talking on the phone", "talks on the phone"),
    Action("drink", "context", "drinking from {target}", "drinks from {target}"),
    Action("read", "context", "reading {target}", "reads {target}"),
    Action("carry", "context", "carrying {target}", "carries {target}"),
    Action("throw", "context", "throwing {target}", "throws {target}"),
    Action("kick ball", "context", "kicking {target}", "kicks {target}"),
    Action("pick up", "context", "picking up {target}", "picks up {target}"),
    Action("pet", "context", "petting {target}", "pets {target}"),
    Action("talk to", "context", "talking to {target}", "talks to {target}"),
    Action("listen to", "context", "listening to {target}", "listens to {target}"),
    Action("watch ball", "context", "watching {target}", "watches {target}"),
    Action("ride bicycle", "context", "riding {target}", "rides {target}"),
    Action("ride horse", "context", "riding {target}", "rides {target}"),
    Action("walk dog", "context", "walking {target}", "walks {target}"),
)
ACTION_INDEX: Mapping[str, int] = MappingProxyType({action.name: i for i, action in enumerate(ACTIONS)})

MOVES: tuple[str, ...] = (
    "stand",
    "walk",
    "run",
    "jump",
    "sit",
    "fall",
    "lie",
    "crouch",
    "bend",
    "dance",
    "squat",
    "kick",
    "ride",
)
"""What the whole body does; a figure always does exactly one."""

ATTEND = "attend"
"""A gesture that moves nothing: it names whom or what somebody who merely stands attends to."""

GESTURES: tuple[str, ...] = (
    "wave",
    "clap",
    "point",
    "cheer",
    "gesture",
    "hand at head",
    "hand at mouth",
    "hands at chest",
    "arms forward",
    "hand low",
    "arm swing",
    ATTEND,
)
"""What the arms do on top of it."""

CONTEXT: Mapping[tuple[str, str], str] = MappingProxyType(
    {
        ("hand at head", "phone"): "phone",
        ("hand at mouth", "cup"): "drink",
        ("hands at chest", "book"): "read",
        ("arms forward", "box"): "carry",
        ("arm swing", "ball"): "throw",
        ("kick", "ball"): "kick ball",
        ("bend", "ball"): "pick up",
        ("bend", "box"): "pick up",
        ("bend", "book"): "pick up",
        ("bend", "dog"): "pet",
        ("bend", "cat"): "pet",
        ("bend", "sheep"): "pet",
        ("gesture", "person"): "talk to",
        (ATTEND, "person"): "listen to",
        (ATTEND, "ball"): "watch ball",
        ("ride", "bicycle"): "ride bicycle",
        ("ride", "horse"): "ride horse",
        ("hand low", "dog"): "walk dog",
    }
)
"""(movement, kind of its target) -> the action that the target makes of it."""


def context_action(movement: str, target_kind: str) -> str | None:
    """The context class that a target of this kind makes of a movement; None if it makes nothing of it."""
    return CONTEXT.get((movement, target_kind))
