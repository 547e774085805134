"""LLaVA-OneVision (and LLaVA-Video in its classes) and LLaVA-NeXT-Video: every frame has the same square grid.

LLaVA-OneVision halves the vision tower's grid, rounded up, and appends one newline token to each video, which stays out
of the span. LLaVA-NeXT-Video pools by the stride of its configuration and appends nothing.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from trifocal.chat.families.base import Family
from trifocal.chat.hooks.spans import runs_of, spans_by_count
from trifocal.errors import ModelError

if TYPE_CHECKING:
    import torch

    from trifocal.chat.hooks.spans import Call, VideoSpan

__all__ = ["LlavaNextVideo", "LlavaOneVision"]


class _SquareFrames(Family):
    @abstractmethod
    def side(self, config: Any) -> int:
        """Tokens a side of each frame."""

    def locate(self, call: Call) -> tuple[VideoSpan, ...]:
        """Each row's videos, as many frames each as the pixels or, without them, the stretch of placeholders tell."""
        is_video = self.is_video(call)
        if not bool(is_video.any()):
            return ()
        side = self.side(call.config)
        pixels = call.arguments.get("pixel_values_videos")
        if pixels is not None:
            counts = [int(pixels.shape[1])] * int(pixels.shape[0])
        else:
            counts = [self._frames(end - start, side) for row in is_video for start, end in runs_of(_places(row))]
        return spans_by_count(is_video, [(frames, side, side) for frames in counts], extra=self.extra)

    def _frames(self, tokens: int, side: int) -> int:
        frames, rest = divmod(tokens - self.extra, side * side)
        if rest or not frames:
            raise ModelError(
                f"{tokens} video tokens in a row are not a number of frames of {side}×{side} and {self.extra} behind",
                remedy="Put something between two videos, or pass pixel_values_videos with the prompt.",
            )
        return frames


def _places(row: torch.Tensor) -> torch.Tensor:
    return row.nonzero().flatten()


class LlavaOneVision(_SquareFrames):
    """LLaVA-OneVision; LLaVA-Video-7B and 72B once `load_llava_video` has mapped their checkpoints."""

    name: ClassVar[str] = "LLaVA-OneVision, LLaVA-Video"
    model_types: ClassVar[tuple[str, ...]] = ("llava_onevision",)
    extra: ClassVar[int] = 1

    def side(self, config: Any) -> int:
        """Half the vision tower's, rounded up."""
        patches: int = config.vision_config.image_size // config.vision_config.patch_size
        return math.ceil(patches / 2)


class LlavaNextVideo(_SquareFrames):
    """LLaVA-NeXT-Video."""

    name: ClassVar[str] = "LLaVA-NeXT-Video"
    model_types: ClassVar[tuple[str, ...]] = ("llava_next_video",)

    def side(self, config: Any) -> int:
        """The vision tower's, pooled."""
        patches = config.vision_config.image_size // config.vision_config.patch_size
        return int(patches // config.spatial_pool_stride)
