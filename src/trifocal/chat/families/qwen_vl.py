"""Qwen2-VL, Qwen2.5-VL and Qwen3-VL: grids are given, positions have three numbers (M-RoPE).

Qwen2-VL and 2.5 write a video's tokens in one stretch; Qwen3-VL writes each frame's time in front of it, so its cells
have gaps. Qwen3-VL also adds features of the vision tower behind its first layers (DeepStack); the hooks take that over
where it meets shortened states.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from trifocal.chat.families.base import GridFamily

if TYPE_CHECKING:
    from trifocal.chat.hooks.positions import Positions
    from trifocal.chat.hooks.spans import Call

__all__ = ["Qwen2VL", "Qwen3VL"]


class Qwen2VL(GridFamily):
    """Qwen2-VL and Qwen2.5-VL."""

    name: ClassVar[str] = "Qwen2-VL, Qwen2.5-VL"
    model_types: ClassVar[tuple[str, ...]] = ("qwen2_vl", "qwen2_5_vl")
    positions: ClassVar[Positions] = "survive"

    def merge_sizes(self, call: Call, *, videos: int) -> list[int]:
        """The vision tower joins the same number of patches everywhere."""
        return [int(call.config.vision_config.spatial_merge_size)] * videos


class Qwen3VL(Qwen2VL):
    """Qwen3-VL, dense and with experts."""

    name: ClassVar[str] = "Qwen3-VL"
    model_types: ClassVar[tuple[str, ...]] = ("qwen3_vl", "qwen3_vl_moe")
