"""A stored decoder layer as the criterion takes it, with the gradients that came back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    import numpy as np

    from trifocal.bench.goldens.case import Arrays

__all__ = ["GoldenOutputs"]

_PARTS = ("pred_logits", "pred_boxes", "pred_logits_b")


class GoldenOutputs:
    """Leaves that collect gradients.

    Args:
        arrays: of the file.
        prefix: of the layer, such as `aux0.`; empty for the last.
    """

    def __init__(self, arrays: Arrays, prefix: str) -> None:
        """Copy the layer's three arrays."""
        self._prefix = prefix
        self._leaves = [torch.from_numpy(arrays[f"in.{prefix}{part}"]).clone().requires_grad_() for part in _PARTS]

    @property
    def class_logits(self) -> torch.Tensor:
        """(..., Q, A)."""
        return self._leaves[0]

    @property
    def boxes_cxcywh(self) -> torch.Tensor:
        """(..., Q, 4)."""
        return self._leaves[1]

    @property
    def person_logits(self) -> torch.Tensor:
        """(..., Q, 3)."""
        return self._leaves[2]

    def gradients(self) -> dict[str, np.ndarray[Any, Any]]:
        """By stored name; zeros where none came back."""
        return {
            self._prefix + part: (torch.zeros_like(leaf) if leaf.grad is None else leaf.grad).numpy()
            for part, leaf in zip(_PARTS, self._leaves, strict=True)
        }
