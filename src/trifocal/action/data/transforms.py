"""What training does to a clip: flip, crop, colour; one draw per clip, the boxes with it.

As published: a flip of every second clip, a crop whose short side is `crop / resize` of the picture's, with its aspect
kept, and shifts of hue, saturation and value. (The published "lighting" is left out: it adds numbers of 0 to 1 to
pixels of 0 to 255 and so does nothing.) Mended: a box that the crop cuts away is dropped, not kept without area.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from trifocal.errors import InvalidInput

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from trifocal.action.data.targets import ClipTargets

__all__ = ["Augmentation", "augment", "crop", "flip", "jitter_hsv"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """How clips vary in training.

    Args:
        flip: chance of exchanging left and right; set it to 0 where the classes tell left from right.
        resize: the short side is `resize` times the final one before the crop (288 for 256 published for AVA).
        hue: largest shift in degrees.
        saturation: largest shift, in parts of the range.
        value: largest shift, in parts of the range.
        least_share: a box of which less than this is left after the crop is dropped.

    Raises:
        InvalidInput: a number out of range.
    """

    flip: float = 0.5
    resize: float = 1.125
    hue: float = 20.0
    saturation: float = 0.4
    value: float = 0.4
    least_share: float = 0.25

    def __post_init__(self) -> None:
        """Check the values."""
        within = {
            "flip": (0, 1),
            "resize": (1, 4),
            "hue": (0, 180),
            "saturation": (0, 1),
            "value": (0, 1),
            "least_share": (0, 1),
        }
        for name, (low, high) in within.items():
            value = getattr(self, name)
            if not (math.isfinite(value) and low <= value <= high):
                raise InvalidInput(f"{name} is {value}", remedy=f"Give a number from {low} to {high}.")


def augment(
    frames: Tensor, targets: ClipTargets, config: Augmentation, *, short_side: int, draw: np.random.Generator
) -> tuple[Tensor, ClipTargets]:
    """One random variant of a clip.

    Args:
        frames: uint8 (T, H, W, 3), with a short side of `resize` times the final one (or the final one itself).
        targets: of the clip.
        config: how it varies.
        short_side: of the result.
        draw: where the numbers come from; as many are drawn whatever the configuration.
    """
    chance, top, left, *shifts = draw.random(6)
    height, width = frames.shape[1:3]
    share = min(1.0, short_side / min(height, width))
    rows, columns = round(height * share), round(width * share)
    box = (round(top * (height - rows)), round(left * (width - columns)), rows, columns)
    frames, targets = crop(frames, targets, box=box, least_share=config.least_share)
    if chance < config.flip:
        frames, targets = flip(frames, targets)
    hue, saturation, value = (2 * shift - 1 for shift in shifts)
    return jitter_hsv(
        frames, hue=hue * config.hue, saturation=saturation * config.saturation, value=value * config.value
    ), targets


def flip(frames: Tensor, targets: ClipTargets) -> tuple[Tensor, ClipTargets]:
    """Exchange left and right."""
    boxes = targets.boxes_cxcywh.clone()
    boxes[..., 0] = torch.where(targets.valid, 1 - boxes[..., 0], boxes[..., 0])
    return frames.flip(2), replace(targets, boxes_cxcywh=boxes)


def crop(
    frames: Tensor, targets: ClipTargets, *, box: tuple[int, int, int, int], least_share: float
) -> tuple[Tensor, ClipTargets]:
    """Cut out a part of all frames.

    Args:
        frames: (T, H, W, 3).
        targets: of the clip.
        box: (top, left, rows, columns) in pixels.
        least_share: a box of which less than this part is left is not valid any more.
    """
    top, left, rows, columns = box
    height, width = frames.shape[1:3]
    centre, size = targets.boxes_cxcywh[..., :2], targets.boxes_cxcywh[..., 2:]
    origin = torch.tensor([left / width, top / height])
    extent = torch.tensor([columns / width, rows / height])
    low = ((centre - size / 2 - origin) / extent).clamp(0, 1)
    high = ((centre + size / 2 - origin) / extent).clamp(0, 1)
    left_over = ((high - low) * extent).prod(dim=-1)
    valid = targets.valid & (left_over > least_share * size.prod(dim=-1)) & ((high - low) > 1e-4).all(dim=-1)
    boxes = torch.cat([(low + high) / 2, high - low], dim=-1) * valid[..., None]
    cut = frames[:, top : top + rows, left : left + columns]
    return cut, replace(targets, boxes_cxcywh=boxes, valid=valid, actions=targets.actions * valid[..., None])


def jitter_hsv(frames: Tensor, *, hue: float, saturation: float, value: float) -> Tensor:
    """Shift hue (degrees), saturation and value (parts of their range) of uint8 (..., 3)."""
    if hue == saturation == value == 0:
        return frames
    pixels = frames.float() / 255
    high, which = pixels.max(dim=-1)
    spread = high - pixels.amin(dim=-1)
    red, green, blue = pixels.unbind(dim=-1)
    safe = spread.clamp(min=1e-6)
    sixth = torch.stack([(green - blue) / safe, 2 + (blue - red) / safe, 4 + (red - green) / safe], dim=-1)
    sixth = sixth.gather(-1, which[..., None])[..., 0] + hue / 60
    chroma = torch.where(high > 0, spread / high.clamp(min=1e-6), 0)
    grey = spread <= 0  # a grey pixel has no hue that a saturation could bring out
    new_saturation = torch.where(grey, 0, (chroma + saturation).clamp(0, 1))
    new_value = (high + value).clamp(0, 1)
    # f(n) = V - V S max(0, min(k, 4 - k, 1)), k = (n + H / 60°) mod 6, for n = 5, 3, 1 (red, green, blue).
    k = (torch.tensor([5.0, 3.0, 1.0]) + sixth[..., None]) % 6
    part = torch.minimum(k, 4 - k).clamp(0, 1)
    shifted = new_value[..., None] * (1 - new_saturation[..., None] * part)
    return (shifted * 255).round().to(torch.uint8)
