"""From several levels to one grid per frame: where the decoder looks.

Each axis is interpolated between two cells, so a level is resampled by three pairs of weighted selections. The
published places put cell j of n at -0.5 + j·S/(n - 1) of S source cells (`grid_sample` without aligned corners on a
grid with aligned ones): cells do not stay where they are and border cells lose half their weight; "aligned" mends that.
In keyframe mode only the middle frame is made. `read_cells` says which cells are read at all: the encoder's last layer
need not update the others.
"""

# Torch leaves the results of modules and `Tensor.unflatten` without types.
# mypy: allow-untyped-calls, disable-error-code="no-any-return"

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

if TYPE_CHECKING:
    from trifocal.action.atlas import LevelShape

__all__ = ["Taps", "axis_taps", "level_taps", "read_cells", "resample"]

Taps = tuple[Tensor, Tensor]
"""For each of n places on an axis: the two cells it lies between (n, 2), int64, and their weights (n, 2)."""


def axis_taps(
    source: int, target: int, *, mode: Literal["reference", "aligned"], device: torch.device, only: int | None = None
) -> Taps:
    """How `target` places read `source` cells.

    Args:
        source: cells there are, S.
        target: places to fill, n.
        mode: as `DetectorConfig.resample`.
        device: of the result.
        only: one place instead of all.
    """
    places = torch.arange(target, device=device) if only is None else torch.full((1,), only, device=device)
    if mode == "aligned":
        at = ((places + 0.5) * source / target - 0.5).clamp(min=0).clamp(max=source - 1)
    elif target == 1:
        at = torch.full((1,), -0.5, device=device)
    else:
        at = places * source / (target - 1) - 0.5
    low = at.floor()
    share = at - low
    index = torch.stack((low, low + 1), -1).long()
    inside = (index >= 0) & (index < source)
    weight = torch.stack((1 - share, share), -1) * inside
    return index.clamp(min=0).clamp(max=source - 1), weight


def level_taps(
    shape: LevelShape,
    target: LevelShape,
    *,
    mode: Literal["reference", "aligned"],
    device: torch.device,
    frame: int | None = None,
) -> tuple[Taps, Taps, Taps]:
    """Taps of the three axes of one level; `frame` picks one target frame."""
    frames = axis_taps(shape[0], target[0], mode=mode, device=device, only=frame)
    height, width = (axis_taps(shape[axis], target[axis], mode=mode, device=device) for axis in (1, 2))
    return frames, height, width


def resample(level: Tensor, taps: tuple[Taps, Taps, Taps]) -> Tensor:
    """A level (B, T, H, W, D) at the places of `taps`: (B, T', H', W', D)."""
    frames, height, width = taps
    # The axes that shrink go first, and time last unless only one frame is wanted.
    order = ((1, frames), (2, height), (3, width)) if len(frames[0]) == 1 else ((2, height), (3, width), (1, frames))
    for axis, (index, weight) in order:
        shape = [1] * level.ndim
        shape[axis] = -1
        weight = weight.to(level.dtype)
        low = level.index_select(axis, index[:, 0]) * weight[:, 0].view(shape)
        level = low + level.index_select(axis, index[:, 1]) * weight[:, 1].view(shape)
    return level


def read_cells(taps: tuple[Taps, Taps, Taps], shape: LevelShape) -> Tensor:
    """Flat indices, sorted, of the cells of a level that `resample` reads."""
    read = []
    for (index, weight), side in zip(taps, shape, strict=True):
        touched = torch.zeros(side, dtype=torch.bool, device=index.device)
        touched[index[weight > 0]] = True
        read.append(touched)
    frames, height, width = read
    return (frames[:, None, None] & height[:, None] & width).flatten().nonzero()[:, 0]
