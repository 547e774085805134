"""A labelled film: a bright square that walks, so that what is decoded can be compared with what is labelled."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from trifocal.action.labels import LabelMap, Labels, VideoLabels
from trifocal.video import write_mp4

FRAMES, HEIGHT, WIDTH, FPS = 40, 96, 128, 25.0


def square(index: int) -> tuple[int, int, int, int]:
    """Its box in a frame."""
    return 2 * index, 30, 2 * index + 24, 70


@pytest.fixture(scope="session")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the film `walk.mp4`."""
    folder = tmp_path_factory.mktemp("film")
    frames = []
    for index in range(FRAMES):
        picture = np.full((HEIGHT, WIDTH, 3), 20, np.uint8)
        x1, y1, x2, y2 = square(index)
        picture[y1:y2, x1:x2] = (230, 40 + 4 * index, 40)
        frames.append(picture)
    write_mp4(folder / "walk.mp4", frames, fps=FPS, crf=4)
    return folder


@pytest.fixture
def labels() -> Labels:
    """Its labels: the square is there from frame 5 on, walks, and waves in every second frame."""
    indices = np.arange(5, FRAMES)
    boxes = np.array([square(int(index)) for index in indices], np.float32)
    actions = np.stack([np.ones(len(indices), bool), indices % 2 == 0], axis=1)
    one = VideoLabels(
        "walk", indices, boxes, np.zeros(len(indices), np.int64), actions, FPS, WIDTH, HEIGHT,
        frame_count=FRAMES, labelled=np.arange(FRAMES),
    )  # fmt: skip
    return Labels(LabelMap.of(["walk", "wave"]), (one,))
