"""Pixels as networks trained on ImageNet's statistics take them."""

from __future__ import annotations

import torch
from torch import Tensor

from trifocal.errors import InvalidInput

__all__ = ["MEAN", "STD", "normalize_clip"]

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


def normalize_clip(frames: Tensor, *, mean: tuple[float, ...] = MEAN, std: tuple[float, ...] = STD) -> Tensor:
    """Frames as a clip.

    Args:
        frames: uint8 (T, H, W, 3), RGB.
        mean: of each colour, in shares of 255.
        std: of each colour, likewise.

    Returns:
        float32 (3, T, H, W).

    Raises:
        InvalidInput: another shape or dtype.
    """
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != torch.uint8:
        raise InvalidInput(
            f"frames is {str(frames.dtype).removeprefix('torch.')} {tuple(frames.shape)}",
            remedy="Give uint8 of shape (T, H, W, 3).",
        )
    clip = frames.permute(3, 0, 1, 2).float().div_(255)
    return clip.sub_(clip.new_tensor(mean).view(3, 1, 1, 1)).div_(clip.new_tensor(std).view(3, 1, 1, 1))
