from __future__ import annotations

import numpy as np
import pytest
import torch

from trifocal.chat.small.cells import COLOURS, cell_colours, cell_inputs
from trifocal.errors import InvalidInput

RED, WHITE = 4 * 25, 124


def test_a_cell_has_the_colours_of_its_pixels() -> None:
    images = np.zeros((2, 8, 12, 3), np.uint8)
    images[1, :4, 6:, 0] = 255  # the right upper cell of the second frame is red
    images[1, 4:, :3] = 255  # half of the left lower one is white
    colours = cell_colours(images, grid=2)
    assert colours.shape == (2, 2, 2, COLOURS)
    assert colours.dtype == torch.float32
    torch.testing.assert_close(colours.norm(dim=-1), torch.ones(2, 2, 2))
    assert torch.all(colours[0, :, :, 0] == 1)
    assert colours[1, 0, 1, RED] == 1
    torch.testing.assert_close(colours[1, 1, 0, [0, WHITE]], torch.full((2,), 0.5**0.5))


def test_pixels_that_do_not_divide_are_all_counted_once() -> None:
    images = np.random.default_rng(0).integers(0, 256, (1, 7, 10, 3), dtype=np.uint8)
    squares = cell_colours(images, grid=3).square()
    torch.testing.assert_close(squares.sum(-1), torch.ones(1, 3, 3))


def test_inputs_are_features_then_colours() -> None:
    images = np.zeros((2, 8, 8, 3), np.uint8)
    feature_map = torch.arange(2 * 3 * 4 * 4, dtype=torch.float32).view(2, 3, 4, 4)
    cells = cell_inputs(feature_map, images, grid=2)
    assert cells.shape == (2, 2, 2, 3 + COLOURS)
    torch.testing.assert_close(cells[1, 0, 1, :3], feature_map[1, :, :2, 2:].mean(dim=(1, 2)))
    torch.testing.assert_close(cells[..., 3:], cell_colours(images, grid=2))


@pytest.mark.parametrize(
    ("images", "grid"),
    [
        (np.zeros((2, 8, 8), np.uint8), 2),
        (np.zeros((2, 8, 8, 3), np.float32), 2),
        (np.zeros((2, 8, 3, 3), np.uint8), 4),
        (np.zeros((2, 8, 8, 3), np.uint8), 0),
    ],
)
def test_what_cannot_be_used_is_refused(images: np.ndarray, grid: int) -> None:
    with pytest.raises(InvalidInput):
        cell_colours(images, grid=grid)


def test_features_of_other_frames_are_refused() -> None:
    with pytest.raises(InvalidInput, match="for 3 frames"):
        cell_inputs(torch.zeros(2, 3, 4, 4), np.zeros((3, 8, 8, 3), np.uint8), grid=2)
