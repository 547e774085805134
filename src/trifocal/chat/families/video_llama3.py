"""VideoLLaMA3: grids and how many patches are joined come with each video; each frame has its time written in front."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch

from trifocal.chat.families.base import GridFamily
from trifocal.errors import ModelError

if TYPE_CHECKING:
    from trifocal.chat.hooks.spans import Call, VideoSpan

__all__ = ["VideoLlama3"]


class VideoLlama3(GridFamily):
    """VideoLLaMA3."""

    name: ClassVar[str] = "VideoLLaMA3"
    model_types: ClassVar[tuple[str, ...]] = ("video_llama_3",)
    tower: ClassVar[str] = "vision_model"

    def merge_sizes(self, call: Call, *, videos: int) -> list[int]:
        """What came with the videos."""
        given = call.arguments.get("video_merge_sizes")
        if given is None or len(given) != videos:
            raise ModelError(
                f"video_merge_sizes has {0 if given is None else len(given)} entries for {videos} videos",
                remedy="Pass it as the processor returns it.",
            )
        return [int(size) for size in torch.as_tensor(given).tolist()]

    def locate(self, call: Call) -> tuple[VideoSpan, ...]:
        """By the grids, where the processor did not drop tokens already."""
        mask = call.arguments.get("video_compression_mask")
        if mask is not None and not bool(torch.as_tensor(mask).all()):
            raise ModelError(
                "The processor dropped tokens of the video (video_compression_mask), so it has no grid to merge on",
                remedy="Call the processor with use_token_compression=False; merging takes its place.",
            )
        return super().locate(call)
