"""Pictures: random access equals streaming, repeatable, any size, and what the truth says is painted where it says."""

from __future__ import annotations

import numpy as np
import pytest

from trifocal.errors import InvalidInput
from trifocal.playground import Renderer, Truth, VideoSpec, compose, frame, render, truth


def test_streaming_equals_random_access_in_any_order() -> None:
    spec = compose(6, duration_s=14, size=(60, 80), fps=12)
    streamed = list(render(spec))
    assert len(streamed) == spec.frame_count == 168
    order = np.random.Generator(np.random.PCG64(1)).permutation(168)[:60]
    for index in order:
        np.testing.assert_array_equal(frame(spec, int(index)), streamed[index])
    for index in order[:6]:
        np.testing.assert_array_equal(Renderer(spec).frame(int(index)), streamed[index])


def test_two_renders_are_equal_and_two_seeds_are_not() -> None:
    one, again, other = (compose(seed, duration_s=3, size=(48, 64), fps=4) for seed in (1, 1, 2))
    first = np.stack(list(render(one)))
    np.testing.assert_array_equal(first, np.stack(list(render(again))))
    assert (first != np.stack(list(render(other)))).mean() > 0.5


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (57, 101), (240, 320), (480, 64), (64, 480), (720, 1280)])
def test_any_size(size: tuple[int, int]) -> None:
    spec = compose(3, duration_s=6, size=size, fps=2)
    picture = frame(spec, spec.frame_count - 1)
    assert picture.shape == (*size, 3)
    assert picture.dtype == np.uint8
    assert picture.std() > 8
    facts = truth(spec)
    for track in facts.actors:
        seen = track.boxes_xyxy[track.visible]
        assert (seen >= 0).all()
        assert (seen[:, 2:] <= np.array([size[1], size[0]])).all()


@pytest.mark.parametrize("place_seed", range(6))
def test_scenes_are_lit_noisy_and_moving(place_seed: int) -> None:
    spec = compose(place_seed, duration_s=8, size=(90, 120), fps=10)
    a, b = frame(spec, 10).astype(int), frame(spec, 11).astype(int)
    assert 25 < a.mean() < 235
    assert 0.2 < np.abs(a - b).mean() < 25


def test_a_frame_that_does_not_exist(minute: VideoSpec) -> None:
    for index in (-1, minute.frame_count):
        with pytest.raises(InvalidInput, match=f"no frame {index}"):
            frame(minute, index)


def mask_box(mask: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> tuple[float, float, float, float] | None:
    ys, xs = np.nonzero(mask)
    return (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1) if len(xs) else None


@pytest.mark.parametrize("seed", [0, 21, 22, 23, 24])
def test_boxes_fit_the_painted_masks_of_actors(seed: int) -> None:
    spec = compose(seed, duration_s=40, size=(180, 240), fps=6)
    facts, renderer = truth(spec), Renderer(spec)
    checked = 0
    for track in facts.actors:
        for at in range(0, len(track.labels), 7):
            box = mask_box(renderer.mask(track.first + at, track.id))
            if not track.visible[at]:
                assert box is None or (box[2] - box[0]) * (box[3] - box[1]) < 0.12 * 180 * 240
                continue
            assert box is not None
            np.testing.assert_allclose(track.boxes_xyxy[at], box, atol=2.0, err_msg=f"{track.id} at {track.first + at}")
            checked += 1
    assert checked > 40


def test_boxes_fit_the_painted_masks_of_things(minute: VideoSpec, minute_truth: Truth) -> None:
    renderer, checked = Renderer(minute), set()
    for track in minute_truth.things:
        for at in range(0, len(track.boxes_xyxy), 9):
            if track.visible[at]:
                box = mask_box(renderer.mask(track.first + at, track.id))
                if box is None:  # a rod thinner than a pixel covers no pixel by half
                    continue
                np.testing.assert_allclose(
                    track.boxes_xyxy[at], box, atol=2.0, err_msg=f"{track.id} {track.first + at}"
                )
                checked.add(track.kind)
    assert len(checked) >= 6


def test_an_actor_is_really_seen_in_its_box(minute: VideoSpec, minute_truth: Truth) -> None:
    """The colour of the top is found inside the box of its wearer by day."""
    from trifocal.playground.palette import COLOURS

    found, tried = 0, 0
    for track in minute_truth.actors:
        scene = minute.scenes[track.scene]
        look = next(actor.look for actor in scene.actors if actor.id == track.id)
        seen = np.flatnonzero(track.visible)
        if scene.light.time != "day" or not len(seen):
            continue
        at = int(seen[len(seen) // 2])
        x0, y0, x1, y1 = track.boxes_xyxy[at].astype(int)
        inside = frame(minute, track.first + at)[y0 : y1 + 1, x0 : x1 + 1].reshape(-1, 3).astype(int)
        near = np.abs(inside - np.array(COLOURS[look.top])).max(axis=1) < 30
        tried += 1
        found += bool(near.mean() > 0.02)
    assert tried >= 5
    assert found >= tried - 1


def test_memory_does_not_grow_with_length() -> None:
    import tracemalloc

    spec = compose(2, duration_s=120, size=(48, 64), fps=3)
    stream = render(spec)
    peaks = []
    tracemalloc.start()
    for index, _ in enumerate(stream):
        if index in (60, 350):
            peaks.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert peaks[1] < peaks[0] + 3_000_000
