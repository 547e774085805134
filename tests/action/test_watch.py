"""Watching: windows at the ends, frames seen once, memory that does not grow, and one answer for file and stream."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch

from trifocal.action import (
    ActionModel,
    DetectConfig,
    Detector,
    DetectorConfig,
    FrameDetections,
    LinkConfig,
    VitConfig,
    WatchConfig,
    detect,
    heat,
    heatmaps,
    load_action_model,
    watch,
)
from trifocal.action.watch import Precision
from trifocal.errors import InvalidInput, WeightsCorrupt, WeightsUnavailable
from trifocal.video import Frames, PipedVideo, write_mp4

VIT = VitConfig(width=48, depth=1, heads=4, grid=14, drop_path=0.0)
TINY = DetectorConfig(
    backbone=VIT, frames=4, frame_stride=4, short_side=32, classes=3, actors=2, width=32, heads=4, feedforward=32,
    encoder_layers=1, decoder_layers=1, points=2,
)  # fmt: skip
EASY = LinkConfig(least_score=0.0, start_score=0.0, least_iou=0.0, most_repeat_iou=1.0)


@pytest.fixture(scope="module")
def keyframe() -> ActionModel:
    return _model(TINY)


@pytest.fixture(scope="module")
def tube() -> ActionModel:
    return _model(replace(TINY, mode="tube", frame_stride=1))


def _model(config: DetectorConfig) -> ActionModel:
    torch.manual_seed(0)
    detector = Detector(config).eval()
    with torch.no_grad():
        for one in detector.parameters():  # so that outputs depend on the pixels
            one.add_(0.05 * torch.randn_like(one))
    return ActionModel(detector, ("walk", "run", "wave"), fps=20.0, name="tiny")


def pictures(count: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).integers(0, 255, (count, 32, 48, 3), np.uint8)


def batches(count: int, *, each: int) -> Iterator[Frames]:
    images = pictures(count)
    for start in range(0, count, each):
        part = images[start : start + each]
        yield Frames(part, (start + np.arange(len(part))) / 5.0)


def test_a_keyframe_model_sees_each_moment_in_the_middle_of_its_window(keyframe: ActionModel) -> None:
    count, images = 7, pictures(7)
    found = list(watch(keyframe, batches(count, each=3), size=(64, 96), config=WatchConfig(every=2, batch=3)))
    assert [moment.time_s for moment in found] == [0.0, 0.4, 0.8, 1.2]
    for moment, key in zip(found, (0, 2, 4, 6), strict=True):
        window = np.clip(np.arange(key - 2, key + 2), 0, count - 1)
        with torch.inference_mode():
            alone = keyframe.detector(keyframe.prepare(images[window])[None])
        assert np.allclose(moment.class_scores, alone.class_scores[0].numpy(), atol=1e-5)
        centre = alone.boxes_cxcywh[0].numpy()
        corners = np.concatenate((centre[:, :2] - centre[:, 2:] / 2, centre[:, :2] + centre[:, 2:] / 2), 1).clip(0, 1)
        assert np.allclose(moment.boxes_xyxy, corners * [96, 64, 96, 64], atol=1e-3)


def test_a_tube_model_gives_every_frame_once(tube: ActionModel) -> None:
    found = list(watch(tube, batches(10, each=10), size=(32, 48), config=WatchConfig(batch=2)))
    assert np.allclose([moment.time_s for moment in found], np.arange(10) / 5)
    with torch.inference_mode():
        first = tube.detector(tube.prepare(pictures(10)[:4])[None])
    expected = first.class_scores[0, 1] * first.person_scores[0, 1][:, None]
    assert np.allclose(found[1].class_scores, expected.numpy(), atol=1e-5)


@pytest.mark.parametrize("each", [1, 2, 5, 100])
def test_how_frames_arrive_changes_nothing(keyframe: ActionModel, each: int) -> None:
    one, other = (
        list(watch(keyframe, batches(9, each=size), size=(32, 48), config=WatchConfig(batch=2))) for size in (9, each)
    )
    for left, right in zip(one, other, strict=True):
        assert np.allclose(left.class_scores, right.class_scores, atol=1e-5)


def test_no_frames_give_nothing(keyframe: ActionModel, tube: ActionModel) -> None:
    assert list(watch(keyframe, [], size=(32, 48))) == []
    assert list(watch(tube, [], size=(32, 48))) == []


def test_attention_comes_when_asked_for(keyframe: ActionModel) -> None:
    (moment,) = watch(keyframe, batches(1, each=1), size=(32, 48), config=WatchConfig(attention=True))
    assert moment.attention is not None
    assert moment.attention.shape[:2] == (2, 3)
    assert np.allclose(moment.attention.sum((-1, -2)), 1, atol=1e-4)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("film") / "v.mp4"
    write_mp4(path, pictures(40), fps=20)
    return path


@pytest.mark.parametrize("linker", ["viterbi", "online"])
def test_file_and_stream_give_the_same_tubes(keyframe: ActionModel, film: Path, linker: Any) -> None:
    config = DetectConfig(link=EASY, linker=linker, least_class_score=0.0)
    from_file = detect(film, model=keyframe, config=config, name="x")
    cat = "import sys, pathlib; sys.stdout.buffer.write(pathlib.Path(sys.argv[1]).read_bytes())"
    with subprocess.Popen([sys.executable, "-c", cat, film], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        with PipedVideo(process.stdout.fileno()) as stream:
            from_stream = detect(stream, model=keyframe, config=config, name="x")
    assert from_file.tubes
    assert from_file.to_dict() == from_stream.to_dict()


def test_the_end_of_what_is_looked_at(keyframe: ActionModel, film: Path) -> None:
    report = detect(film, model=keyframe, end_s=1.0, config=DetectConfig(watch=WatchConfig(every=1)))
    assert report.moments == 5
    assert report.end_s == pytest.approx(0.8)


def test_online_tubes_come_as_they_end(keyframe: ActionModel, film: Path) -> None:
    told: list[Any] = []
    config = DetectConfig(link=EASY, linker="online", least_class_score=0.0)
    report = detect(film, model=keyframe, config=config, on_tube=told.append)
    assert sorted(tube.actor for tube in told) == sorted(tube.actor for tube in report.tubes)


def test_heat_is_drawn_for_each_moment(keyframe: ActionModel, film: Path) -> None:
    config = DetectConfig(link=EASY, least_class_score=0.0)
    (tube, *_) = detect(film, model=keyframe, config=config).tubes
    drawn = list(heat(film, tube, model=keyframe, action="wave"))
    assert drawn
    assert all(picture.shape == (32, 48, 3) for _, picture in drawn)
    assert all(tube.start_s <= time_s <= tube.end_s for time_s, _ in drawn)
    with pytest.raises(InvalidInput, match="no action 'fly'"):
        next(heat(film, tube, model=keyframe, action="fly"))


@pytest.mark.parametrize("mode", ["keyframe", "tube"])
def test_a_sheet_shows_moments_of_the_film(
    keyframe: ActionModel, tube: ActionModel, film: Path, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = keyframe if mode == "keyframe" else tube
    config = DetectConfig(link=EASY, least_class_score=0.0)
    (actor, *_) = detect(film, model=model, config=config).tubes
    whole = dict(heat(film, actor, model=model, action="wave", config=WatchConfig(every=1)))
    seen: list[float] = []

    def counted(*given: Any, **settings: Any) -> Iterator[FrameDetections]:
        for moment in watch(*given, **settings):
            seen.append(moment.time_s)
            yield moment

    monkeypatch.setattr(heatmaps, "watch", counted)
    some = dict(heat(film, actor, model=model, action="wave", moments=3))
    assert len(some) == 3
    assert min(some) == pytest.approx(actor.start_s)
    assert max(some) == pytest.approx(actor.end_s)
    assert len(seen) <= 3 * (2 if mode == "keyframe" else TINY.frames)
    if mode == "keyframe":  # away from the ends, the window is the same
        middle = sorted(some)[1]
        assert np.array_equal(some[middle], whole[middle])
    with pytest.raises(InvalidInput, match="moments is 0"):
        next(heat(film, actor, model=model, action="wave", moments=0))


@pytest.mark.parametrize("mode", ["keyframe", "tube"])
def test_bfloat16_is_near(keyframe: ActionModel, tube: ActionModel, mode: str) -> None:
    model = keyframe if mode == "keyframe" else tube
    exact, rounded = (
        list(watch(model, batches(4, each=4), size=(32, 48), config=WatchConfig(every=1, precision=precision)))
        for precision in get_args(Precision)
    )
    assert len(exact) == 4
    for one, other in zip(exact, rounded, strict=True):
        assert other.class_scores.dtype == np.float32
        assert not np.array_equal(one.class_scores, other.class_scores)
        assert np.allclose(one.class_scores, other.class_scores, atol=0.03)
        assert np.allclose(one.actor_scores, other.actor_scores, atol=0.03)
        assert np.allclose(one.boxes_xyxy, other.boxes_xyxy, atol=0.03 * 48)


@pytest.mark.parametrize("half", [False, True])
def test_a_model_is_saved_and_loaded(keyframe: ActionModel, tmp_path: Path, half: bool) -> None:
    keyframe.save(tmp_path, half=half)
    again = load_action_model(tmp_path)
    assert (again.classes, again.fps, again.name) == (keyframe.classes, keyframe.fps, keyframe.name)
    clip = torch.rand(1, 3, 4, 32, 48)
    with torch.inference_mode():
        one, other = (model.detector(clip).class_logits for model in (keyframe, again))
    assert torch.allclose(one, other, atol=1e-2 if half else 0)


def test_a_folder_without_a_model_is_told(keyframe: ActionModel, tmp_path: Path) -> None:
    with pytest.raises(WeightsUnavailable, match=r"no config\.json"):
        load_action_model(tmp_path)
    keyframe.save(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(WeightsCorrupt):
        load_action_model(tmp_path)


def test_settings_are_checked(keyframe: ActionModel) -> None:
    for call in (
        lambda: WatchConfig(every=0),
        lambda: WatchConfig(keep_above=1.5),
        lambda: WatchConfig(precision="fp8"),  # type: ignore[arg-type]
        lambda: DetectConfig(linker="best"),  # type: ignore[arg-type]
        lambda: DetectConfig(least_class_score=2),
        lambda: ActionModel(keyframe.detector, ("one",), fps=20),
        lambda: ActionModel(keyframe.detector, keyframe.classes, fps=0),
    ):
        with pytest.raises(InvalidInput):
            call()
    assert keyframe.frame_size((720, 1280)) == (32, 56)
    assert keyframe.frame_size((1280, 720)) == (56, 32)
