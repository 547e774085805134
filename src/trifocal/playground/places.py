"""What each place is like to film and what may happen there, and the themes: clear subjects for videos that a demo
can query.

Lanes are ground lines as a share of the picture's height, far to near; vehicles and boats have their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

__all__ = ["NEEDLE_KINDS", "PLACE_RULES", "THEMES", "PlaceRules", "Theme", "themes"]

NEEDLE_KINDS = ("trophy", "duck", "balloon", "suitcase", "traffic cone")
"""Kinds of things that appear only as needles: once in a video, for about two seconds."""


@dataclass(frozen=True, slots=True)
class PlaceRules:
    """A place: camera, lanes, what fills it, what happens in it, and how a sentence says so."""

    phrase: str
    horizon: float
    zoom: float
    lanes: tuple[float, ...]
    scenery: tuple[tuple[str, float, tuple[str, ...]], ...]
    happenings: tuple[str, ...]
    indoors: bool = False
    traffic: tuple[float, float] | None = None


_LIFE = ("cross", "cross", "solo", "solo", "chat", "dance")
_GREEN = ("green",)
PLACE_RULES: Mapping[str, PlaceRules] = MappingProxyType(
    {
        "park": PlaceRules(
            "in the park",
            0.42,
            1.05,
            (0.72, 0.83, 0.94),
            (("tree", 0.565, _GREEN), ("tree", 0.59, _GREEN), ("lamp", 0.615, ("grey",))),
            (
                *_LIFE,
                "seat",
                "kick",
                "throw",
                "pet",
                "ride bicycle",
                "walk dog",
                "fall",
                "pick up",
                "dog",
                "bird",
                "cat",
            ),
        ),
        "street": PlaceRules(
            "on the street",
            0.42,
            0.95,
            (0.665, 0.955, 0.97),
            (("lamp", 0.63, ("grey",)), ("tree", 0.625, _GREEN), ("lamp", 0.63, ("grey",))),
            (
                "cross",
                "cross",
                "solo",
                "chat",
                "walk dog",
                "fall",
                "car",
                "car",
                "bus",
                "truck",
                "ride bicycle",
                "bird",
            ),
            traffic=(0.785, 0.855),
        ),
        "beach": PlaceRules(
            "at the beach",
            0.43,
            1.0,
            (0.74, 0.84, 0.95),
            (("umbrella", 0.69, ("red", "blue", "yellow", "orange", "green")),),
            (
                *_LIFE,
                "kick",
                "throw",
                "fall",
                "pick up",
                "boat",
                "boat",
                "bird",
                "dog",
                "walk dog",
                "solo",
                "ride horse",
            ),
        ),
        "living room": PlaceRules(
            "in the living room",
            0.3,
            0.95,
            (0.81, 0.87, 0.95),
            (("table", 0.72, ("brown", "white", "black")),),
            ("seat", "seat", "solo", "solo", "chat", "cat", "pet", "pick up", "cross"),
            indoors=True,
        ),
        "kitchen": PlaceRules(
            "in the kitchen",
            0.3,
            0.92,
            (0.81, 0.87, 0.95),
            (("table", 0.74, ("brown", "white")),),
            ("solo", "solo", "chat", "seat", "cross", "cat", "fall", "pick up"),
            indoors=True,
        ),
        "gym": PlaceRules(
            "in the gym",
            0.36,
            0.95,
            (0.74, 0.83, 0.94),
            (("bench", 0.66, ("brown", "blue", "red")),),
            ("workout", "workout", "kick", "throw", "cross", "fall", "chat", "solo", "pick up", "dance"),
            indoors=True,
        ),
        "mountain": PlaceRules(
            "in the snowy mountains",
            0.42,
            1.0,
            (0.72, 0.83, 0.94),
            (("house", 0.6, ("brown", "red", "white")), ("snowman", 0.65, ("red", "blue", "green"))),
            (*_LIFE, "fall", "throw", "walk dog", "dog", "pick up", "bird"),
        ),
        "meadow": PlaceRules(
            "in the meadow",
            0.42,
            1.0,
            (0.72, 0.83, 0.94),
            (("tree", 0.57, _GREEN), ("house", 0.555, ("white", "yellow", "red"))),
            (
                "cross",
                "solo",
                "chat",
                "horse",
                "cow",
                "cow",
                "sheep",
                "sheep",
                "ride horse",
                "pet",
                "dog",
                "ride bicycle",
            ),
        ),
    }
)


@dataclass(frozen=True, slots=True)
class Theme:
    """A subject that every scene of a video shows, and the text that should find it."""

    name: str
    query: str
    place: str
    happenings: tuple[str, ...]
    time: str | None = "day"


THEMES: Mapping[str, Theme] = MappingProxyType(
    {
        theme.name: theme
        for theme in (
            Theme("dog in the park", "a dog in the park", "park", ("dog", "walk dog", "pet")),
            Theme("bus on the street", "a bus driving along a street", "street", ("bus", "bus", "car")),
            Theme("cars at night", "cars on a street at night", "street", ("car", "truck", "car"), "night"),
            Theme("people at the beach", "people at the beach by the sea", "beach", ("solo", "chat", "throw", "cross")),
            Theme("sailing boat", "a sailing boat on the sea", "beach", ("boat", "boat")),
            Theme("cyclist", "a person riding a bicycle", "street", ("ride bicycle",)),
            Theme("horse riding", "a person riding a horse", "meadow", ("ride horse", "horse")),
            Theme("sheep in the meadow", "sheep in a meadow", "meadow", ("sheep", "sheep")),
            Theme("cows in the meadow", "cows grazing in a meadow", "meadow", ("cow", "cow")),
            Theme("ball game in the gym", "people playing with a ball in a gym", "gym", ("throw", "kick")),
            Theme("exercise in the gym", "people exercising in a gym", "gym", ("workout", "workout")),
            Theme("reading at home", "somebody reading in the living room", "living room", ("read", "seat"), None),
            Theme("kitchen talk", "people talking in a kitchen", "kitchen", ("chat",), None),
            Theme("winter walk", "people walking in snowy mountains", "mountain", ("cross", "walk dog")),
            Theme("dancing", "people dancing", "living room", ("dance", "dance"), None),
            Theme("cat at home", "a cat in a room", "living room", ("cat", "pet"), None),
        )
    }
)


def themes() -> list[str]:
    """The names that `compose(theme=...)` knows, sorted."""
    return sorted(THEMES)
