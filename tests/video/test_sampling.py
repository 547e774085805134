"""Samplings are checked, survive JSON, and their selectors agree with the plain definition on any times."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trifocal.errors import InvalidInput
from trifocal.video import Sampling
from trifocal.video.sampling import Selector

seconds = st.floats(0, 100, allow_nan=False)
clocks = st.lists(st.integers(0, 4000), min_size=1, max_size=40, unique=True).map(
    lambda ticks: [tick / 40 for tick in sorted(ticks)]
)
sizes = st.none() | st.integers(1, 500) | st.tuples(st.integers(1, 500), st.integers(1, 500))


@st.composite
def samplings(draw: st.DrawFn) -> Sampling:
    span: dict[str, Any] = {}
    if draw(st.booleans()):
        start = draw(seconds)
        span = {"start_s": start, "end_s": start + draw(st.floats(0.001, 100))}
    size = draw(sizes)
    match draw(st.sampled_from(["uniform", "at_fps", "at_times", "every"])):
        case "uniform":
            return Sampling.uniform(draw(st.integers(1, 60)), size=size, **span)
        case "at_fps":
            most = draw(st.none() | st.integers(1, 30))
            return Sampling.at_fps(draw(st.floats(0.05, 60)), max_frames=most, size=size, **span)
        case "at_times":
            return Sampling.at_times(sorted(draw(st.lists(seconds, min_size=1, max_size=20))), size=size)
        case _:
            return Sampling.every(size=size, **span)


def select(sampling: Sampling, times: list[float], end_s: float) -> list[float]:
    """What a selector takes when every frame is offered, as the decoder offers them."""
    selector, shown = Selector(sampling, duration_s=end_s), None
    chosen: list[float] = []
    for time_s in times:
        if selector.done:
            return chosen
        current = time_s if shown is None else shown
        chosen += [current] * selector.settle(current, time_s)
        if selector.wants(time_s):
            chosen.append(time_s)
        shown = time_s
    assert shown is not None
    return chosen + [shown] * selector.finish(shown, end_s=end_s)


def shown_at(times: list[float], second: float) -> float:
    return max((t for t in times if t <= second), default=times[0])


def defined(sampling: Sampling, times: list[float], end_s: float) -> list[float]:
    """The definition, said without a selector."""
    if sampling.kind == "every":
        start, stop = sampling.start_s or 0.0, sampling.end_s or math.inf
        return [t for t in times if start <= t < stop]
    points = []
    for point in sampling.points_s(end_s):
        if sampling.kind == "at_fps" and point >= max(end_s, math.nextafter(times[-1], math.inf)):
            break
        points.append(point + (0.0005 if sampling.kind == "at_fps" else 0.0))
    found = [shown_at(times, point) for point in points]
    return found if sampling.kind == "at_times" else sorted(set(found))


@given(samplings(), clocks, st.floats(0, 3))
def test_selectors_follow_the_definition(sampling: Sampling, times: list[float], tail_s: float) -> None:
    end_s = times[-1] + 0.01 + tail_s
    assert select(sampling, times, end_s) == defined(sampling, times, end_s)


@given(samplings(), clocks)
def test_skipping_to_what_is_waited_for_changes_nothing(sampling: Sampling, times: list[float]) -> None:
    """Frames before the one shown at `next_s` may be left out, as a decoder that jumps leaves them out."""
    end_s = times[-1] + 0.5
    selector, shown = Selector(sampling, duration_s=end_s), None
    chosen: list[float] = []
    at = 0
    while at < len(times) and not selector.done:
        if selector.next_s > times[at] and selector.next_s >= times[0]:
            at = max(at, times.index(shown_at(times, selector.next_s)))
        current = times[at] if shown is None else shown
        chosen += [current] * selector.settle(current, times[at])
        if selector.wants(times[at]):
            chosen.append(times[at])
        shown = times[at]
        at += 1
    if shown is not None:
        chosen += [shown] * selector.finish(shown, end_s=end_s)
    assert chosen == defined(sampling, times, end_s)


@given(samplings())
def test_json_and_back(sampling: Sampling) -> None:
    assert Sampling.from_json(json.loads(json.dumps(sampling.to_json()))) == sampling


@given(st.integers(1, 200), st.floats(0.1, 1e4))
def test_uniform_points_are_the_centres(n: int, end_s: float) -> None:
    points = list(Sampling.uniform(n).points_s(end_s))
    assert len(points) == n
    assert points[0] == pytest.approx(end_s / (2 * n))
    assert points[-1] == pytest.approx(end_s - end_s / (2 * n))
    assert all(later > earlier for earlier, later in pairwise(points))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Sampling.uniform(0), "n is 0"),
        (lambda: Sampling.uniform(True), "n is True"),
        (lambda: Sampling.uniform(2.0), r"n is 2\.0"),  # type: ignore[arg-type]
        (lambda: Sampling.at_fps(0), "rate is 0"),
        (lambda: Sampling.at_fps(math.inf), "rate is inf"),
        (lambda: Sampling.at_fps(1e9), r"rate is 1000000000\.0"),
        (lambda: Sampling.at_fps(1, max_frames=0), "max_frames is 0"),
        (lambda: Sampling.at_times([]), "0 times are given"),
        (lambda: Sampling.at_times([2, 1]), "not ascending"),
        (lambda: Sampling.at_times([math.nan]), "not a second"),
        (lambda: Sampling.every(start_s=-1), r"start_s is -1"),
        (lambda: Sampling.every(start_s=2, end_s=2), "is empty"),
        (lambda: Sampling.every(size=0), "size is 0"),
        (lambda: Sampling.every(size=(1, 2, 3)), "size is"),  # type: ignore[arg-type]
        (lambda: Sampling.every(size=(10, 20_000)), "size is"),
        (lambda: Sampling(kind="never"), "kind is 'never'"),  # type: ignore[arg-type]
        (lambda: Sampling(kind="uniform"), "n is None for uniform"),
        (lambda: Sampling(kind="every", n=3), "n is 3 for every"),
        (lambda: Sampling(kind="every", max_frames=3), "max_frames is given"),
        (lambda: Sampling(kind="at_times", times_s=(1.0,), end_s=2), "takes no range"),
        (lambda: Sampling.from_json({"kind": "every", "colour": 1}), "no field colour"),
        (lambda: Sampling.from_json({}), "needs a kind"),
        (lambda: list(Sampling.every().points_s(1.0)), "every frame is wanted"),
    ],
)
def test_wrong_samplings_are_told(make: Any, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        make()
