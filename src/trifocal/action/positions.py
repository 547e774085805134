"""Sines that say where: of a cell in a clip's grid, and of an actor's box.

`grid_code` follows the 3-D positional encoding of the published model: places count valid cells only and are scaled to
a full turn, a quarter of the channels speaks of time, three eighths each of rows and columns. `box_code` is that of
DAB-DETR (arXiv 2201.12329). The two differ in how the frequencies of a sine and its cosine relate; both as published.
"""

# Torch leaves the results of modules and `Tensor.unflatten` without types.
# mypy: allow-untyped-calls, disable-error-code="no-any-return"

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["box_code", "grid_code", "inverse_sigmoid"]

TEMPERATURE = 10000.0
FULL_TURN = 2 * math.pi


def grid_code(padding: Tensor, *, frames: int, width: int) -> Tensor:
    """Positional code of every cell.

    Args:
        padding: bool (B, H, W), True where a cell lies outside the clip; the same for all frames.
        frames: T.
        width: D, a multiple of 16.

    Returns:
        float32 (B, T, H, W, D): D/4 channels of t, 3D/8 of y, 3D/8 of x.
    """
    valid = (~padding).float()
    batch, height, across = valid.shape
    y, x = valid.cumsum(1), valid.cumsum(2)
    y = y / (y[:, -1:] + 1e-6) * FULL_TURN
    x = x / (x[:, :, -1:] + 1e-6) * FULL_TURN
    step = torch.arange(1, frames + 1, dtype=torch.float32, device=valid.device)
    count = step.view(1, frames, 1, 1) * valid[:, None]  # (B, T, H, W): padded cells count nothing
    t = count / (count[:, -1:] + 1e-6) * FULL_TURN
    shape = (batch, frames, height, across, -1)
    parts = (
        _waves(t, width // 4),
        _waves(y, width // 8 * 3)[:, None].expand(shape),
        _waves(x, width // 8 * 3)[:, None].expand(shape),
    )
    return torch.cat(parts, -1)


def _waves(angle: Tensor, channels: int) -> Tensor:
    """(...) to (..., channels): sines on even channels, cosines on odd ones, every channel with its own frequency."""
    index = torch.arange(channels, dtype=torch.float32, device=angle.device)
    phase = angle[..., None] / TEMPERATURE ** (index / channels)
    return torch.stack((phase[..., 0::2].sin(), phase[..., 1::2].cos()), -1).flatten(-2)


def box_code(boxes_cxcywh: Tensor, width: int) -> Tensor:
    """Sines of boxes.

    Args:
        boxes_cxcywh: (..., 4), 0 to 1.
        width: D; each coordinate gets D/2 channels.

    Returns:
        (..., 2D) in the order y, x, w, h.
    """
    half = width // 2
    index = torch.arange(half // 2, dtype=torch.float32, device=boxes_cxcywh.device).repeat_interleave(2)
    phase = boxes_cxcywh[..., None] * FULL_TURN / TEMPERATURE ** (2 * index / half)  # (..., 4, D/2)
    code = torch.stack((phase[..., 0::2].sin(), phase[..., 1::2].cos()), -1).flatten(-2)
    x, y, w, h = code.unbind(-2)
    return torch.cat((y, x, w, h), -1)


def inverse_sigmoid(share: Tensor, *, epsilon: float = 1e-5) -> Tensor:
    """The logit of a share from 0 to 1, kept finite at both ends."""
    share = share.clamp(0.0, 1.0)
    return (share.clamp(min=epsilon) / (1 - share).clamp(min=epsilon)).log()
