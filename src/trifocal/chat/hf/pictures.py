"""Pictures as the vision towers want them: sizes, scaling, colours and patches, with torch alone.

The processors of transformers need torchvision for videos; these few functions do what they do, on a batch of frames at
a time. Scaling works on uint8 with antialiasing, as theirs does: on floats it would differ by up to a quarter of a
colour step after rounding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F

from trifocal.errors import InvalidInput

__all__ = ["area_size", "crop_centre", "long_side_size", "normalise", "patchify", "resize", "short_side_size"]

_MOST_ASPECT = 200.0


def area_size(
    height: int, width: int, *, factor: int, least: int, most: int, frames: float = 1, rounded_frames: int = 1
) -> tuple[int, int]:
    """The nearest size whose sides are multiples of `factor` and whose area lies between two bounds.

    Args:
        height: rows of the picture.
        width: columns of the picture.
        factor: both sides become multiples of it.
        least: fewest pixels.
        most: most pixels.
        frames: count the pixels of so many pictures together.
        rounded_frames: the same as the vision tower pads it; decides whether a bound is broken.

    Returns:
        `(height, width)`.

    Raises:
        InvalidInput: one side is more than 200 times the other.
    """
    if max(height, width) > _MOST_ASPECT * min(height, width):
        raise InvalidInput(
            f"The picture is {width}×{height}", remedy=f"Give one with sides of at most {_MOST_ASPECT:g} to 1."
        )
    rounded_height, rounded_width = round(height / factor) * factor, round(width / factor) * factor
    if rounded_frames * rounded_height * rounded_width > most:
        scale = math.sqrt(frames * height * width / most)
        return (
            max(factor, math.floor(height / scale / factor) * factor),
            max(factor, math.floor(width / scale / factor) * factor),
        )
    if rounded_frames * rounded_height * rounded_width < least:
        scale = math.sqrt(least / (frames * height * width))
        return math.ceil(height * scale / factor) * factor, math.ceil(width * scale / factor) * factor
    return rounded_height, rounded_width


def short_side_size(height: int, width: int, *, side: int) -> tuple[int, int]:
    """The size whose shorter side is `side`, the longer one in proportion and rounded down."""
    if height <= width:
        return side, int(side * width / height)
    return int(side * height / width), side


def long_side_size(height: int, width: int, *, side: int) -> tuple[int, int]:
    """The size whose longer side is `side`, the shorter one in proportion, rounded down and made even upwards."""
    if width >= height:
        other = int(side / (width / height))
        return max(1, other + other % 2), side
    other = int(side * (width / height))
    return side, max(1, other + other % 2)


def resize(
    images: torch.Tensor, size: tuple[int, int], *, mode: Literal["bicubic", "lanczos"] = "bicubic"
) -> torch.Tensor:
    """Scale pictures `(T, 3, H, W)` uint8 to `(height, width)`, antialiased, rounded to uint8.

    Lanczos is computed on the CPU, the one place where torch has it.
    """
    if tuple(images.shape[-2:]) == size:
        return images
    if mode == "lanczos":
        return F.interpolate(images.cpu(), size=size, mode="lanczos", antialias=True).to(images.device)
    return F.interpolate(images, size=size, mode="bicubic", antialias=True, align_corners=False)


def crop_centre(images: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """The middle of pictures `(T, 3, H, W)`, which are at least as large as `size`."""
    height, width = images.shape[-2:]
    top, left = round((height - size[0]) / 2), round((width - size[1]) / 2)
    return images[..., top : top + size[0], left : left + size[1]]


def normalise(images: torch.Tensor, *, mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
    """Colours `(T, 3, H, W)` uint8 to float32 with the mean and deviation that the tower was trained with."""
    # Scaled to 0…255 once instead of scaling every pixel to 0…1.
    scaled_mean = images.new_tensor(mean, dtype=torch.float32) * 255.0
    scaled_std = images.new_tensor(std, dtype=torch.float32) * 255.0
    return (images.float() - scaled_mean[:, None, None]) / scaled_std[:, None, None]


def patchify(images: torch.Tensor, *, patch: int, merge: int, temporal: int) -> torch.Tensor:
    """Cut pictures into patches, those that will become one token next to each other.

    Args:
        images: `(T, 3, H, W)` with sides that are multiples of `patch * merge`; the last picture is repeated until T is
            a multiple of `temporal`.
        patch: pixels a side.
        merge: patches a side of a token.
        temporal: pictures of a patch.

    Returns:
        `(t * h * w, 3 * temporal * patch * patch)` for a grid of `t × h × w` patches.
    """
    if missing := -len(images) % temporal:
        images = torch.cat([images, images[-1:].expand(missing, -1, -1, -1)])
    frames, channels, height, width = images.shape
    split = images.reshape(
        frames // temporal, temporal, channels,
        height // (patch * merge), merge, patch,
        width // (patch * merge), merge, patch,
    )  # fmt: skip
    # (t, temporal, C, h, merge, patch, w, merge, patch) to (t, h, w, merge, merge, C, temporal, patch, patch)
    ordered = split.permute(0, 3, 6, 4, 7, 2, 1, 5, 8)
    return ordered.reshape(-1, channels * temporal * patch * patch)
