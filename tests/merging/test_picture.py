"""The picture shows cells and groups."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from trifocal.errors import InvalidInput
from trifocal.merging import configure, draw, merge, sttm


def test_outlines_and_colours() -> None:
    x = torch.randn(3, 8, 8, 64, generator=torch.Generator().manual_seed(0))
    x[:, :4, :4] = x[0, 0, 0]  # one still, uniform corner
    tokens = sttm(x, spatial_threshold=0.9, temporal_threshold=0.9)
    images = np.full((3, 40, 60, 3), 90, np.uint8)
    drawn = draw(images, tokens=tokens, scale=16)
    assert drawn.shape == (3, 128, 128, 3)
    assert drawn.dtype == np.uint8
    corner, elsewhere = drawn[:, 8, 8], drawn[:, 100, 104]
    assert (corner == corner[0]).all()  # the same colour in all frames
    assert (corner[0] != 90).any()
    assert (elsewhere == 90).all()  # a cell by itself keeps the frame's colours
    assert (drawn[:, 64, 72] == 255).all()  # a line between two cells
    assert (drawn[:, 16, 4:28] != 255).any(axis=-1).all()  # none inside a kept cell


def test_dropped_cells_are_dark() -> None:
    x = torch.randn(2, 4, 4, 8)
    tokens = merge(x, configure("uniform", budget=16))
    drawn = draw(np.full((2, 16, 16, 3), 200, np.uint8), tokens=tokens)
    assert drawn.shape == (2, 32, 32, 3)
    kept = int(tokens.boxes[0, 0])
    assert drawn[kept, 4, 4].tolist() == [200] * 3
    assert drawn[1 - kept, 4, 4].tolist() == [50] * 3


@pytest.mark.parametrize(
    ("images", "options", "said"),
    [
        (np.zeros((2, 8, 8), np.uint8), {}, "RGB"),
        (np.zeros((2, 8, 8, 3), np.float32), {}, "uint8"),
        (np.zeros((3, 8, 8, 3), np.uint8), {}, "one image per frame"),
        (np.zeros((2, 8, 8, 3), np.uint8), {"scale": 1}, "at least 2"),
    ],
)
def test_pictures_that_cannot_be_drawn(images: np.ndarray, options: dict[str, int], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        draw(images, tokens=sttm(torch.randn(2, 4, 4, 8), spatial_threshold=0.5), **options)
