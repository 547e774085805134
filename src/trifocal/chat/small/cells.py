"""What the trained projector is given of a frame: for each cell of a coarse grid, features and colours.

A classifier's last features say what is there and hardly which colour it has, for they were trained to see through
colour. So beside the features of a cell stands how much of it has each of 125 colours (a histogram of RGB in five
levels a channel, Swain and Ballard 1991), as square roots, so that a shirt of a few pixels counts beside a lawn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional as F

from trifocal.errors import InvalidInput

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["COLOURS", "cell_colours", "cell_inputs"]

LEVELS = 5
COLOURS = LEVELS**3


def cell_colours(images: NDArray[np.uint8], *, grid: int) -> torch.Tensor:
    """The colours of each cell.

    Args:
        images: `(T, H, W, 3)` uint8 RGB, at least `grid` pixels a side.
        grid: cells a side.

    Returns:
        `(T, grid, grid, 125)` float32, square roots of shares: each cell's vector has the length 1.

    Raises:
        InvalidInput: another shape or type, or fewer pixels than cells.
    """
    if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != np.uint8:
        raise InvalidInput(f"images is {images.dtype} {images.shape}", remedy="Give uint8 of shape (T, H, W, 3).")
    frames, height, width = images.shape[:3]
    if grid < 1 or min(height, width) < grid:
        raise InvalidInput(f"grid is {grid} for frames of {height}×{width}", remedy="Give 1 to the shorter side.")
    red, green, blue = np.moveaxis((images.astype(np.int64) * LEVELS) >> 8, -1, 0)  # (T, H, W) each
    colour = (red * LEVELS + green) * LEVELS + blue
    row, column = (np.arange(side) * grid // side for side in (height, width))
    cell = (np.arange(frames)[:, None, None] * grid + row[:, None]) * grid + column  # (T, H, W)
    counts = np.bincount((cell * COLOURS + colour).ravel(), minlength=frames * grid * grid * COLOURS)
    shares = torch.from_numpy(counts).float().view(frames, grid, grid, COLOURS)
    return (shares / shares.sum(-1, keepdim=True)).sqrt()


def cell_inputs(feature_map: torch.Tensor, images: NDArray[np.uint8], *, grid: int) -> torch.Tensor:
    """Features and colours of each cell, side by side.

    Args:
        feature_map: `(T, F, h, w)` of the same frames, at least `grid` a side.
        images: `(T, H, W, 3)` uint8 RGB.
        grid: cells a side.

    Returns:
        `(T, grid, grid, F + 125)` float32 on the feature map's device.

    Raises:
        InvalidInput: the two do not belong together, or there are fewer cells than asked for.
    """
    if feature_map.ndim != 4 or len(feature_map) != len(images) or min(feature_map.shape[2:]) < grid:
        raise InvalidInput(
            f"feature_map has shape {tuple(feature_map.shape)} for {len(images)} frames and a grid of {grid}",
            remedy="Give (T, F, h, w) of the same frames, at least the grid a side.",
        )
    features = F.adaptive_avg_pool2d(feature_map.float(), grid).permute(0, 2, 3, 1)  # (T, grid, grid, F)
    return torch.cat([features, cell_colours(images, grid=grid).to(features)], dim=-1)
