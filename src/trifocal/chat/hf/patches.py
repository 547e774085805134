"""Qwen2-VL, Qwen2.5-VL, Qwen3-VL and VideoLLaMA3: pictures of any size, cut into patches, a grid told to the model.

The Qwen models join two frames in each patch; Qwen2-VL and 2.5 write all tokens in one stretch, Qwen3-VL writes the
time in front of each pair, VideoLLaMA3 in front of each frame. VideoLLaMA3's own dropping of unchanged patches is left
out: merging takes its place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from transformers.modeling_outputs import BaseModelOutputWithPooling

from trifocal.chat.hf.pictures import area_size, normalise, patchify, resize
from trifocal.chat.hf.processor import CLIP_MEAN, CLIP_STD, FrameProcessor, Grid, Seen

__all__ = ["Qwen3VLProcessor", "QwenVLProcessor", "VideoLlama3Processor"]

_HALF = (0.5, 0.5, 0.5)


class _Patches(FrameProcessor):
    """What the four have in common."""

    defaults: ClassVar[tuple[int, int]]
    """Patch size and frames of a patch."""
    mean: ClassVar[Sequence[float]] = _HALF
    std: ClassVar[Sequence[float]] = _HALF

    def __init__(self, model: Any, *, settings: Mapping[str, Any]) -> None:
        super().__init__(model, settings=settings)
        vision = self.config.vision_config
        # The tower's own numbers count; a settings file that differs would not fit it.
        self.patch = int(getattr(vision, "patch_size", self.defaults[0]))
        self.pair = int(getattr(vision, "temporal_patch_size", self.defaults[1]))
        self.merge = int(getattr(vision, "spatial_merge_size", self.number("merge_size", 2)))

    @property
    def bounds(self) -> tuple[int, int]:
        """Fewest and most pixels, of a picture or of a video as the family counts."""
        size = self.settings.get("size") or {}
        unit = (self.patch * self.merge) ** 2
        least = size.get("shortest_edge") or self.settings.get("min_pixels") or 128 * unit
        most = size.get("longest_edge") or self.settings.get("max_pixels") or 768 * unit
        return int(least), int(most)

    def cells(self, size: tuple[int, int]) -> tuple[int, int]:
        """The tower joins `merge × merge` patches."""
        unit = self.patch * self.merge
        return size[0] // unit, size[1] // unit

    def pixels(self, images: torch.Tensor, size: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Patches, and the grid of patches `(1, 3)`."""
        scaled = normalise(resize(images, size), **self.colours(self.mean, self.std))
        patches = patchify(scaled, patch=self.patch, merge=self.merge, temporal=self.pair)
        grid = [-(-len(images) // self.pair), size[0] // self.patch, size[1] // self.patch]
        return patches, torch.tensor([grid], device=images.device)

    def features(self, patches: torch.Tensor, grid: torch.Tensor) -> Any:
        """What the model's vision tower gives."""
        return self.model.model.get_video_features(patches.to(self.dtype), grid, return_dict=True)

    def see(self, images: torch.Tensor, size: tuple[int, int]) -> Seen:
        """A chunk through the tower."""
        patches, grid = self.pixels(images, size)
        out = self.features(patches, grid)
        shape = (int(grid[0, 0]), *self.cells(size), -1)
        deep = getattr(out, "deepstack_features", None) or ()
        levels = tuple(torch.cat(list(level)).view(shape) for level in deep)
        return Seen(torch.cat(list(out.pooler_output)).view(shape), levels)

    def output(self, seen: Seen) -> Any:
        """One video's tokens."""
        return BaseModelOutputWithPooling(pooler_output=(seen.features.flatten(0, 2),))

    def rope_positions(self, ids: torch.Tensor, grids: torch.Tensor, **more: Any) -> torch.Tensor:
        """The model's own rule of positions, asked for directly so that it keeps nothing in itself."""
        kinds = (ids == self.placeholder).int() * 2  # 2 is a video
        positions: torch.Tensor = self.model.model.get_rope_index(
            ids, mm_token_type_ids=kinds, video_grid_thw=grids, **more
        )[0]
        return positions


class QwenVLProcessor(_Patches):
    """Qwen2-VL and Qwen2.5-VL."""

    marker: ClassVar[str] = "<|video_pad|>"
    defaults: ClassVar[tuple[int, int]] = (14, 2)
    mean: ClassVar[Sequence[float]] = CLIP_MEAN
    std: ClassVar[Sequence[float]] = CLIP_STD

    def picture_size(self, height: int, width: int, *, frames: int) -> tuple[int, int]:  # noqa: ARG002
        """Bounds count for each picture."""
        least, most = self.bounds
        return area_size(height, width, factor=self.patch * self.merge, least=least, most=most)

    def text(self, grid: Grid, *, times_s: Sequence[float], duration_s: float, token: str) -> str:  # noqa: ARG002
        """Nothing between the tokens."""
        return token * (grid[0] * grid[1] * grid[2])

    def positions(self, ids: torch.Tensor, grid: Grid, *, times_s: Sequence[float]) -> torch.Tensor:
        """Three numbers for each place; in Qwen2.5-VL the first grows with the seconds between two cells."""
        more: dict[str, Any] = {}
        if self.config.model_type == "qwen2_5_vl":
            cells = max(1, grid[0] - 1)
            apart = (times_s[(grid[0] - 1) * self.pair] - times_s[0]) / cells if grid[0] > 1 else 1.0
            more["second_per_grid_ts"] = torch.tensor([apart or 1.0])
        grids = torch.tensor([[grid[0], grid[1] * self.merge, grid[2] * self.merge]], device=ids.device)
        return self.rope_positions(ids, grids, **more)


class Qwen3VLProcessor(QwenVLProcessor):
    """Qwen3-VL."""

    marker: ClassVar[str] = "<|vision_start|><|video_pad|><|vision_end|>"
    defaults: ClassVar[tuple[int, int]] = (16, 2)
    mean: ClassVar[Sequence[float]] = _HALF
    std: ClassVar[Sequence[float]] = _HALF

    def picture_size(self, height: int, width: int, *, frames: int) -> tuple[int, int]:
        """Bounds count for the whole video."""
        least, most = self.bounds
        factor = self.patch * self.merge
        if height < factor or width < factor:
            scale = max(factor / height, factor / width)
            height, width = int(height * scale), int(width * scale)
        frames = max(frames, self.pair)
        rounded = round(frames / self.pair) * self.pair
        return area_size(height, width, factor=factor, least=least, most=most, frames=frames, rounded_frames=rounded)

    def text(self, grid: Grid, *, times_s: Sequence[float], duration_s: float, token: str) -> str:  # noqa: ARG002
        """The middle of each pair's seconds in front of its tokens."""
        last = len(times_s) - 1
        parts = []
        for cell in range(grid[0]):
            middle = (times_s[cell * self.pair] + times_s[min(last, cell * self.pair + self.pair - 1)]) / 2
            tokens = token * (grid[1] * grid[2])
            parts.append(f"<{middle:.1f} seconds><|vision_start|>{tokens}<|vision_end|>")
        return "".join(parts)

    def output(self, seen: Seen) -> Any:
        """The deep features too."""
        from transformers.models.qwen3_vl.modeling_qwen3_vl import BaseModelOutputWithDeepstackFeatures

        return BaseModelOutputWithDeepstackFeatures(
            pooler_output=(seen.features.flatten(0, 2),),
            deepstack_features=[(level.flatten(0, 2),) for level in seen.deep],
        )

    def positions(self, ids: torch.Tensor, grid: Grid, *, times_s: Sequence[float]) -> torch.Tensor:  # noqa: ARG002
        """Three numbers for each place; the model takes the grid of the video and splits it."""
        grids = torch.tensor([[grid[0], grid[1] * self.merge, grid[2] * self.merge]], device=ids.device)
        return self.rope_positions(ids, grids)


class VideoLlama3Processor(_Patches):
    """VideoLLaMA3."""

    marker: ClassVar[str] = "<|video_pad|>"
    defaults: ClassVar[tuple[int, int]] = (14, 1)

    def __init__(self, model: Any, *, settings: Mapping[str, Any]) -> None:
        super().__init__(model, settings=settings)
        self.merge = int(self.number("merge_size", 2))
        self.pair = 1

    def picture_size(self, height: int, width: int, *, frames: int) -> tuple[int, int]:
        """The most pixels are those of all frames together."""
        least, most = self.bounds
        each = max(1, most // max(1, frames))
        return area_size(height, width, factor=self.patch * self.merge, least=least, most=each)

    def features(self, patches: torch.Tensor, grid: torch.Tensor) -> Any:
        """The tower is told how many patches make a token."""
        merges = torch.full((len(grid),), self.merge, device=grid.device)
        return self.model.model.get_video_features(patches.to(self.dtype), grid, merges, return_dict=True)

    def text(self, grid: Grid, *, times_s: Sequence[float], duration_s: float, token: str) -> str:  # noqa: ARG002
        """The second in front of each frame."""
        tokens = token * (grid[1] * grid[2])
        return ",".join(f"Time {times_s[frame]:.1f}s:{tokens}" for frame in range(grid[0]))
