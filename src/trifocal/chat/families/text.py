"""A text model on its own: where its videos are, only the caller knows.

For models that are fed embeddings, the project's own small one too: `model(inputs_embeds=..., video_spans=[...])`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from trifocal.chat.families.base import Family

if TYPE_CHECKING:
    from trifocal.chat.hooks.positions import Positions
    from trifocal.chat.hooks.spans import Call, VideoSpan

__all__ = ["MRopeText", "Text"]


class Text(Family):
    """A text model with one position per token."""

    name: ClassVar[str] = "text models of Llama's and Qwen2's shape, with video_spans"
    model_types: ClassVar[tuple[str, ...]] = ("llama", "qwen2", "qwen3", "mistral")

    def locate(self, call: Call) -> tuple[VideoSpan, ...]:  # noqa: ARG002, nothing tells
        """None that could be known."""
        return ()


class MRopeText(Text):
    """The text model of a Qwen-VL on its own."""

    name: ClassVar[str] = "text models of Qwen-VL, with video_spans"
    model_types: ClassVar[tuple[str, ...]] = ("qwen2_vl_text", "qwen2_5_vl_text", "qwen3_vl_text", "qwen3_vl_moe_text")
    positions: ClassVar[Positions] = "survive"
