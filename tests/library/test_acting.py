"""`find` where somebody does something, and the list of what they do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trifocal.action import action_spans
from trifocal.errors import InvalidInput
from trifocal.library import ActionSpan, Library, LibrarySettings, VideoFilter
from trifocal.library.acting import overlaps
from trifocal.retrieval import Moment


@pytest.fixture
def library(lab: Any, make_looker: Any) -> Library:
    for number in range(6):
        lab.video(f"{number}.mp4", seconds=8, seed=number)
    made: Library = lab.create()
    made.add(lab.home)
    made.detect(model=make_looker())
    return made


def spans_of(library: Library, actions: tuple[str, ...], least: float) -> dict[str, list[tuple[float, float]]]:
    """The truth, from the tubes."""
    out: dict[str, list[tuple[float, float]]] = {}
    for record in library.videos():
        for tube in library.tubes(record.id):
            for action, start, end, _ in action_spans(tube, least_score=least):
                if action in actions:
                    out.setdefault(record.id, []).append((start, min(end, record.duration_s)))
    return out


@pytest.mark.parametrize("actions", [("wave",), ("walk",), ("walk", "wave")])
@pytest.mark.parametrize("least", [0.2, 0.5, 0.7])
@pytest.mark.parametrize("per_video", [1, 3])
def test_a_filter_that_changes_nothing_else(
    library: Library, actions: tuple[str, ...], least: float, per_video: int
) -> None:
    """What is found is what is found without the filter, less what shares no time with the action."""
    truth = spans_of(library, actions, least)
    everything = library.find("x", top=1000, moments_per_video=100)
    expected: list[Moment] = []
    for moment in everything:
        meets = any(max(moment.start_s, start) < min(moment.end_s, end) for start, end in truth.get(moment.video, []))
        if meets and sum(one.video == moment.video for one in expected) < per_video:
            expected.append(moment)
    for top in (1, 2, 50):
        options: dict[str, Any] = {"actions": actions, "least_score": least, "moments_per_video": per_video}
        assert library.find("x", top=top, **options) == expected[:top]
    assert len(expected) < len(everything)


def test_other_filters_hold_too(library: Library, lab: Any) -> None:
    first = library.videos()[1]
    found = library.find("x", actions=["WAVE"], videos=[first.id])
    assert {moment.video for moment in found} == {first.id}
    assert library.find("x", actions=["wave"], where=VideoFilter(shortest_s=99)) == []
    assert library.find_actions("wave", where=VideoFilter(shortest_s=99)) == []
    Path(first.paths[0]).unlink()
    library.add(lab.home)
    assert first.id not in {span.video for span in library.find_actions("wave", top=100)}
    assert first.id in {span.video for span in library.find_actions("wave", top=100, include_missing=True)}
    assert first.id not in {moment.video for moment in library.find("x", top=100, actions=["wave"])}


def test_sharpened_moments_stay_with_the_action(lab: Any, make_looker: Any) -> None:
    for number in range(6):
        lab.video(f"{number}.mp4", seconds=8, seed=number)
    library = lab.create(settings=LibrarySettings(prototypes=4, batch_size=4, thumbnail_size=16, clip_tokens="int8"))
    library.add(lab.home)
    library.detect(model=make_looker())
    truth = spans_of(library, ("wave",), 0.5)
    for text in "abcdefgh":
        found = library.find(text, top=100, moments_per_video=4, actions=["wave"])
        assert found
        for moment in found:
            assert any(max(moment.start_s, a) < min(moment.end_s, b) for a, b in truth[moment.video])
        assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)


def test_the_list_of_what_is_done(library: Library) -> None:
    spans = library.find_actions(["wave"], top=100)
    assert [span.action for span in spans] == ["wave"] * 6
    names = [Path(library.video(span.video).paths[0]).name for span in spans]
    assert names == [f"{number}.mp4" for number in range(6)]  # by score: .9, .89, ...
    one = spans[2]
    assert (one.actor, one.start_s, one.end_s) == (1, 0.0, 1.25)
    assert one.score == pytest.approx(0.88)
    assert library.find_actions("wave", top=2) == spans[:2]
    both = library.find_actions(["wave", "walk"], least_score=0.3, top=100)
    assert {span.action for span in both} == {"wave", "walk"}
    assert both == sorted(both, key=lambda span: (-span.score, span.video, span.start_s))
    single = library.find_actions(["wave", "walk"], least_score=0.3, top=100, spans_per_video=1)
    assert len(single) == len({span.video for span in single}) == 6
    # A peak at the bound counts, although float32 may lie a step below it.
    assert len(library.find_actions("walk", least_score=0.45, top=100)) == 4
    assert all(type(value) in (str, int, float) for value in one.to_dict().values())


def test_equal_scores_go_by_video_then_start() -> None:
    def span(video: str, start_s: float, score: float) -> ActionSpan:
        return ActionSpan(video=video, action="a", actor=1, start_s=start_s, end_s=9.0, score=score, model="m")

    given = [span("b", 0, 0.5), span("a", 3, 0.5), span("a", 1, 0.5), span("c", 0, 0.9)]
    ordered = [(one.video, one.start_s) for one in sorted(given, key=ActionSpan.sort_key)]
    assert ordered == [("c", 0), ("a", 1), ("a", 3), ("b", 0)]


@pytest.mark.parametrize(
    ("start", "end", "meets"),
    [(0, 1, False), (0, 1.5, True), (2, 3, False), (1.2, 1.4, True), (0, 9, True), (1.5, 1.5, True), (3, 3, False)],
)
def test_what_overlaps(start: float, end: float, meets: bool) -> None:
    spans = {"a": np.array([(1.0, 2.0), (5.0, 6.0)])}
    assert overlaps(Moment("a", start, end, 0.0), spans) is meets
    assert overlaps(Moment("b", start, end, 0.0), spans) is False


def test_what_cannot_be_asked(library: Library, lab: Any) -> None:
    for name, remedy in (("wav", "wave"), ("walking", "walk"), ("zzz", "Known are walk, wave")):
        with pytest.raises(InvalidInput, match=remedy) as caught:
            library.find("x", actions=[name])
        assert repr(name) in caught.value.message
        with pytest.raises(InvalidInput):
            library.unseen([name])
    refused: list[dict[str, Any]] = [{"actions": []}, {"actions": ["wave"], "least_score": 1.5}]
    for options in refused:
        with pytest.raises(InvalidInput):
            library.find("x", **options)
    with pytest.raises(InvalidInput):
        library.find_actions("wave", top=0)
    with pytest.raises(InvalidInput):
        library.find_actions("wave", spans_per_video=0)
    with pytest.raises(InvalidInput, match="detect --all"):
        lab.create("empty").find("x", actions=["wave"])


def test_what_was_not_looked_at(library: Library, lab: Any, make_looker: Any) -> None:
    assert library.unseen() == []
    new = lab.video("new.mp4", seed=9)
    library.add(lab.home)
    assert library.unseen() == [library.video(new).id]
    library.detect(new, model=make_looker("other", classes=("run", "jump")))
    assert library.unseen() == []
    assert library.unseen(["wave"]) == [library.video(new).id]
    assert len(library.unseen(["jump"])) == 6
    assert library.unseen(["jump", "wave"]) == []
    new.unlink()
    library.add(lab.home)
    assert library.unseen(["wave"]) == []
