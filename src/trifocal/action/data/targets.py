"""Training targets: what the criterion compares a model's outputs with, for one clip and for a batch.

One form for both modes. A key frame has T = 1; a tube has a slot per actor that may be empty in some frames (`valid`).
Frames that only repeat the first or the last one, to fill a short clip, are `padded` and supervise nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from trifocal.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

__all__ = ["ClipTargets", "Targets"]


@dataclass(frozen=True, slots=True, eq=False)
class ClipTargets:
    """What is true of one clip; T frames (1 in keyframe mode), N actors, A action classes.

    Args:
        boxes_cxcywh: float32 (T, N, 4), centre and size in parts of the clip's own width and height, before padding.
        valid: bool (T, N); False where the actor has no box in this frame.
        actions: float32 (T, N, A), 1 where the actor does the action in this frame.
        padded: bool (T,); True for a frame that only fills the clip.

    Raises:
        InvalidInput: shapes or types that do not fit, or a valid box that is not finite or has no area.
    """

    boxes_cxcywh: Tensor
    valid: Tensor
    actions: Tensor
    padded: Tensor

    def __post_init__(self) -> None:
        """Check shapes, types and values."""
        shape = tuple(self.valid.shape)
        fits = (
            len(shape) == 2
            and tuple(self.boxes_cxcywh.shape) == (*shape, 4)
            and self.actions.ndim == 3
            and tuple(self.actions.shape[:2]) == shape
            and tuple(self.padded.shape) == shape[:1]
        )
        if not fits:
            raise InvalidInput(
                f"targets have the shapes {tuple(self.boxes_cxcywh.shape)}, {shape}, {tuple(self.actions.shape)} and "
                f"{tuple(self.padded.shape)}",
                remedy="Give boxes (T, N, 4), valid (T, N), actions (T, N, A) and padded (T,).",
            )
        if self.valid.dtype != torch.bool or self.padded.dtype != torch.bool:
            raise InvalidInput(
                f"valid is {self.valid.dtype} and padded {self.padded.dtype}", remedy="Give both as torch.bool."
            )
        known = self.boxes_cxcywh[self.valid]
        if not bool(torch.isfinite(known).all()) or bool((known[:, 2:] <= 0).any()):
            raise InvalidInput(
                "a valid target box is not finite or has no area", remedy="Mark it invalid, or correct the label."
            )

    @property
    def class_count(self) -> int:
        """A."""
        return int(self.actions.shape[2])


@dataclass(frozen=True, slots=True, eq=False)
class Targets:
    """`ClipTargets` of a batch, filled up to the clip with the most actors; what `collate` makes.

    Args:
        boxes_cxcywh: float32 (B, T, N, 4).
        valid: bool (B, T, N).
        actions: float32 (B, T, N, A).
        padded: bool (B, T).
    """

    boxes_cxcywh: Tensor
    valid: Tensor
    actions: Tensor
    padded: Tensor

    @classmethod
    def collate(cls, clips: Sequence[ClipTargets]) -> Targets:
        """Stack clips; slots that a clip does not use are not valid.

        Raises:
            InvalidInput: no clip, or clips of different lengths or numbers of classes.
        """
        kinds = {(len(clip.padded), clip.class_count) for clip in clips}
        if len(kinds) != 1:
            raise InvalidInput(
                f"clips with these (frames, classes) stand in one batch: {sorted(kinds)}",
                remedy="Give at least one clip, all of one length and one set of classes.",
            )
        (frames, classes) = kinds.pop()
        most = max(clip.valid.shape[1] for clip in clips)
        device = clips[0].boxes_cxcywh.device
        boxes = torch.zeros(len(clips), frames, most, 4, device=device)
        valid = torch.zeros(len(clips), frames, most, dtype=torch.bool, device=device)
        actions = torch.zeros(len(clips), frames, most, classes, device=device)
        for row, clip in enumerate(clips):
            count = clip.valid.shape[1]
            boxes[row, :, :count] = clip.boxes_cxcywh
            valid[row, :, :count] = clip.valid
            actions[row, :, :count] = clip.actions
        return cls(boxes, valid, actions, torch.stack([clip.padded for clip in clips]))

    def to(self, device: torch.device | str) -> Targets:
        """The same targets on another device."""
        parts = (self.boxes_cxcywh, self.valid, self.actions, self.padded)
        return Targets(*(part.to(device, non_blocking=True) for part in parts))

    def __len__(self) -> int:
        """B."""
        return len(self.padded)
