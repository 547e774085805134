"""What the generators work on: a video's encoded clips, and its tokens, the windows of clips (and frames, if asked).

A token is a mean of clips, and a mean commutes with an affine map. So keys and values are never computed of 528
windows: `project` maps the 32 clips and takes the windows' means of the outcome, a sixteenth of the work. Tokens know
which clips they cover, so that attention over tokens can be read as attention over time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from trifocal.retrieval.model.windows import span_means

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

__all__ = ["PrototypeSet", "VideoTokens"]


@dataclass(frozen=True, slots=True, eq=False)
class VideoTokens:
    """Tokens of B videos: V = windows (+ F frames where they count).

    Args:
        clips: (B, M, D), encoded clips; two videos' where they are mixed.
        spans: int64 (W, 2), first clip and end of every window.
        frames: (B, F, D), encoded frames that count as tokens; None for none.
        frame_mask: bool (B, F), False for padding.
    """

    clips: Tensor
    spans: Tensor
    frames: Tensor | None = None
    frame_mask: Tensor | None = None

    def project(self, affine: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """Tokens (B, V, D), or what an affine map makes of them."""
        windows = span_means(self.clips if affine is None else affine(self.clips), self.spans)
        if self.frames is None:
            return windows
        return torch.cat([windows, self.frames if affine is None else affine(self.frames)], dim=1)

    @property
    def mask(self) -> Tensor | None:
        """bool (B, V), False for padding; None where there is none."""
        if self.frame_mask is None:
            return None
        windows = self.frame_mask.new_ones(len(self.frame_mask), len(self.spans))
        return torch.cat([windows, self.frame_mask], dim=1)

    def all_spans(self) -> Tensor:
        """Start and end of every token in clips: float (B, V, 2)."""
        windows = self.spans.float().expand(len(self.clips), -1, -1)
        if self.frames is None or self.frame_mask is None:
            return windows
        step = self.clips.shape[1] / self.frame_mask.sum(dim=1, keepdim=True)  # clips a frame, (B, 1)
        first = torch.arange(self.frames.shape[1], device=step.device) * step
        each = torch.stack([first, first + step], dim=-1).clamp(max=self.clips.shape[1])
        return torch.cat([windows, each], dim=1)

    def beside(self, other: VideoTokens) -> VideoTokens:
        """The tokens of both, video by video: windows of one, windows of the other, then frames; none straddles."""
        M = self.clips.shape[1]
        both = self.frames is not None and other.frames is not None
        masks = self.frame_mask is not None and other.frame_mask is not None
        return VideoTokens(
            clips=torch.cat([self.clips, other.clips], dim=1),
            spans=torch.cat([self.spans, other.spans + M]),
            frames=torch.cat([self.frames, other.frames], dim=1) if both else None,  # type: ignore[list-item]
            frame_mask=torch.cat([self.frame_mask, other.frame_mask], dim=1) if masks else None,  # type: ignore[list-item]
        )

    def of(self, videos: Tensor) -> VideoTokens:
        """The same of other videos of the batch, by their indices."""
        return VideoTokens(
            clips=self.clips[videos],
            spans=self.spans,
            frames=None if self.frames is None else self.frames[videos],
            frame_mask=None if self.frame_mask is None else self.frame_mask[videos],
        )


@dataclass(frozen=True, slots=True, eq=False)
class PrototypeSet:
    """Prototypes of B videos.

    Args:
        vectors: (B, K, D), of any length.
        attention: (B, K, V), what each takes from each token, rows of sum 1; None where a prototype *is* its span.
        spans: float (B, K, 2), start and end of each in clips, where a prototype is a span; else None.
    """

    vectors: Tensor
    attention: Tensor | None = None
    spans: Tensor | None = None
