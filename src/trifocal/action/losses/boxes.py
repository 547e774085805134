"""Box geometry of the losses, in torch: corners from centres, and the generalised IoU that stays finite.

`pairwise_giou` compares every box with every other (the matcher's cost), `paired_giou` row with row (the loss). Both
follow Rezatofighi et al. 2019; a box without area gives a finite number, never NaN.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["cxcywh_to_xyxy", "paired_giou", "pairwise_giou"]

_TINY = 1e-12


def cxcywh_to_xyxy(boxes: Tensor) -> Tensor:
    """(..., 4) centre and size to corners."""
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat([centre - half, centre + half], dim=-1)


def _giou(a: Tensor, b: Tensor) -> Tensor:
    """Over the last axis, the others broadcast."""
    area_a, area_b = _area(a), _area(b)
    shared = _extent(torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:]))
    hull = _extent(torch.minimum(a[..., :2], b[..., :2]), torch.maximum(a[..., 2:], b[..., 2:]))
    union = area_a + area_b - shared
    return shared / union.clamp(min=_TINY) - (hull - union) / hull.clamp(min=_TINY)


def _area(boxes: Tensor) -> Tensor:
    return (boxes[..., 2:] - boxes[..., :2]).prod(dim=-1)


def _extent(low: Tensor, high: Tensor) -> Tensor:
    return (high - low).clamp(min=0).prod(dim=-1)


def pairwise_giou(a_xyxy: Tensor, b_xyxy: Tensor) -> Tensor:
    """Generalised IoU, -1 to 1, of (..., Q, 4) with (..., N, 4): (..., Q, N)."""
    return _giou(a_xyxy[..., :, None, :], b_xyxy[..., None, :, :])


def paired_giou(a_xyxy: Tensor, b_xyxy: Tensor) -> Tensor:
    """Generalised IoU, -1 to 1, of (..., 4) with (..., 4): (...,)."""
    return _giou(a_xyxy, b_xyxy)
