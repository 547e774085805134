"""Actors followed through moments: crossing, missed, doubled, faint, and none at all."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trifocal.action.tubes import FrameDetections, LinkConfig, OnlineLinker, Track, link, pairwise_iou, without_repeats
from trifocal.errors import InvalidInput


def moment(time_s: float, *actors: tuple[float, float, float]) -> FrameDetections:
    """Boxes of 10×20 at (left, top) with a score; the class score is the score too."""
    boxes = np.array([(x, y, x + 10, y + 20) for x, y, _ in actors], np.float32).reshape(-1, 4)
    scores = np.array([score for *_, score in actors], np.float32)
    return FrameDetections(time_s, boxes, scores, scores[:, None])


def online(frames: list[FrameDetections], config: LinkConfig | None = None) -> list[Track]:
    linker = OnlineLinker(config=config)
    tracks = [track for frame in frames for track in linker.add(frame)] + linker.finish()
    return sorted(tracks, key=lambda track: (track.times_s[0], track.times_s[-1], *track.boxes_xyxy[0, :2]))


LINKERS = pytest.mark.parametrize("linker", [lambda f, c=None: link(f, config=c), online], ids=["viterbi", "online"])


@LINKERS
def test_two_actors_stay_apart(linker) -> None:  # type: ignore[no-untyped-def]
    frames = [moment(t / 4, (2 * t, 0, 0.9), (100 - 2 * t, 50, 0.8)) for t in range(10)]
    first, second = linker(frames)
    assert len(first) == len(second) == 10
    assert first.boxes_xyxy[:, 0].tolist() == [2 * t for t in range(10)]
    assert second.boxes_xyxy[:, 0].tolist() == [100 - 2 * t for t in range(10)]
    assert first.times_s.tolist() == [t / 4 for t in range(10)]


@LINKERS
def test_a_missed_moment_does_not_cut_a_tube_and_a_long_gap_does(linker) -> None:  # type: ignore[no-untyped-def]
    frames = [moment(t, *([(0, 0, 0.9)] if t not in (3, 4) else [])) for t in range(8)]
    assert [len(track) for track in linker(frames)] == [6]
    assert [len(track) for track in linker(frames, LinkConfig(most_gap=1))] == [3, 3]


@LINKERS
def test_faint_detections_extend_a_tube_but_start_none(linker) -> None:  # type: ignore[no-untyped-def]
    frames = [moment(t, (0, 0, 0.9 if t == 0 else 0.4), (50, 0, 0.4)) for t in range(5)]
    (track,) = linker(frames)
    assert track.boxes_xyxy[:, 0].tolist() == [0] * 5


@LINKERS
def test_nothing_gives_nothing(linker) -> None:  # type: ignore[no-untyped-def]
    assert linker([]) == []
    assert linker([moment(0), moment(1)]) == []
    assert linker([moment(0, (0, 0, 0.9))]) == []  # shorter than the least length


@LINKERS
def test_a_cut_ends_every_tube(linker) -> None:  # type: ignore[no-untyped-def]
    frames = [moment(t, (0 if t < 4 else 80, 0, 0.9)) for t in range(8)]
    assert [track.times_s.tolist() for track in linker(frames)] == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_only_the_future_can_tell_whose_box_it_is() -> None:
    # At t=1 the actor is under two boxes; the next moments go on from the one that overlaps it less.
    frames = [moment(0, (0, 0, 0.9)), moment(1, (1, 0, 0.6), (-4, 0, 0.55)), moment(2, (-7, 0, 0.9))]
    frames += [moment(t, (-7, 0, 0.9)) for t in range(3, 6)]
    config = LinkConfig(most_repeat_iou=1.0, most_gap=0, least_iou=0.4)
    seen = [0, -4, -7, -7, -7, -7]
    assert any(track.boxes_xyxy[:, 0].tolist() == seen for track in link(frames, config=config))
    assert not any(track.boxes_xyxy[:, 0].tolist() == seen for track in online(frames, config))


def test_the_online_linker_holds_only_what_goes_on() -> None:
    linker = OnlineLinker()
    for t in range(200):
        linker.add(moment(t, (t * 100, 0, 0.9)))  # a new actor every moment
        assert linker.open_count <= 4


def test_repeats_give_way_to_the_surest() -> None:
    frame = moment(0, (0, 0, 0.5), (1, 0, 0.9), (100, 0, 0.4), (200, 0, 0.1))
    kept = without_repeats(frame, least_score=0.3, most_iou=0.7)
    assert kept.boxes_xyxy[:, 0].tolist() == [1, 100]


def test_overlap() -> None:
    boxes = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 20, 30]], np.float32)
    expected = np.array([[1, 1 / 3, 0], [1 / 3, 1, 0], [0, 0, 0]])
    assert np.allclose(pairwise_iou(boxes, boxes), expected)


@pytest.mark.parametrize(
    "call",
    [
        lambda: LinkConfig(least_iou=1.5),
        lambda: LinkConfig(most_gap=-1),
        lambda: LinkConfig(least_length=0),
        lambda: link([moment(1), moment(1)]),
        lambda: online([moment(1), moment(0)]),
        lambda: FrameDetections(0, np.zeros((2, 4), np.float32), np.zeros(1, np.float32), np.zeros((2, 3), np.float32)),
        lambda: moment(0, (np.nan, 0, 0.5)),
    ],
)
def test_what_cannot_be_is_told(call) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InvalidInput):
        call()


actors = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 10), st.floats(0.25, 1, width=32)), max_size=4)


@settings(max_examples=60, deadline=None)
@given(st.lists(actors, max_size=8))
def test_every_detection_is_in_one_tube_at_most(video: list[list[tuple[float, float, float]]]) -> None:
    frames = [moment(t, *seen) for t, seen in enumerate(video)]
    for tracks in (link(frames), online(frames)):
        used = [(t, tuple(box)) for track in tracks for t, box in zip(track.times_s, track.boxes_xyxy, strict=True)]
        given_ = {(frame.time_s, tuple(box)) for frame in frames for box in frame.boxes_xyxy}
        assert set(used) <= given_
        for track in tracks:
            assert (np.diff(track.times_s) > 0).all()
            assert track.actor_scores.max() >= 0.5
    assert [t.times_s.tolist() for t in link(frames)] == [t.times_s.tolist() for t in link(frames)]
