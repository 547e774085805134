"""A small detector with random weights, and a labelled film."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from trifocal.action import DetectorConfig, VitConfig
from trifocal.action.labels import LabelMap, Labels, VideoLabels
from trifocal.action.losses import CriterionConfig
from trifocal.action.recipes import DetectRecipe
from trifocal.training import TrainConfig
from trifocal.video import write_mp4

FRAMES, HEIGHT, WIDTH, FPS = 24, 64, 96, 10.0


@pytest.fixture(scope="session")
def tiny() -> DetectorConfig:
    """The smallest detector that has all parts."""
    return DetectorConfig(
        backbone=VitConfig(width=48, depth=1, heads=4, grid=14, drop_path=0.0),
        frames=4,
        frame_stride=1,
        short_side=32,
        classes=2,
        actors=2,
        width=32,
        heads=4,
        feedforward=32,
        encoder_layers=1,
        decoder_layers=2,
        points=2,
    )


@pytest.fixture(scope="session")
def quick(tiny: DetectorConfig) -> DetectRecipe:
    """Two short epochs with it."""
    return DetectRecipe(
        detector=tiny,
        criterion=CriterionConfig.preset("ava"),
        train=TrainConfig(epochs=2, lr=1e-3, monitor="frame_map", mode="max"),
        augmentation=None,
        batch=4,
        fps=FPS,
    )


@pytest.fixture(scope="session")
def tube_recipe(quick: DetectRecipe) -> DetectRecipe:
    return replace(
        quick, detector=replace(quick.detector, mode="tube"), criterion=CriterionConfig.preset("jhmdb"), fps=None
    )


@pytest.fixture(scope="session")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two films of a bright square that walks right, `a.mp4`, or left, `b.mp4`."""
    folder = tmp_path_factory.mktemp("films")
    for name in ("a", "b"):
        frames = []
        for index in range(FRAMES):
            picture = np.full((HEIGHT, WIDTH, 3), 30, np.uint8)
            x1, y1, x2, y2 = walker(name, index)
            picture[y1:y2, x1:x2] = (220, 60, 60)
            frames.append(picture)
        write_mp4(folder / f"{name}.mp4", frames, fps=FPS, crf=10)
    return folder


def walker(name: str, index: int) -> tuple[int, int, int, int]:
    left = 2 * index if name == "a" else WIDTH - 24 - 2 * index
    return left, 12, left + 24, 52


@pytest.fixture(scope="session")
def walking() -> Labels:
    """Labels of both films: class 0 walks right, class 1 walks left."""
    videos = []
    for place, name in enumerate(("a", "b")):
        boxes = np.array([walker(name, index) for index in range(FRAMES)], np.float32)
        actions = np.zeros((FRAMES, 2), np.bool_)
        actions[:, place] = True
        tracks = np.zeros(FRAMES, np.int64)
        one = VideoLabels(name, np.arange(FRAMES), boxes, tracks, actions, FPS, WIDTH, HEIGHT, frame_count=FRAMES)
        videos.append(one)
    return Labels(LabelMap.of(["walk right", "walk left"]), tuple(videos))
