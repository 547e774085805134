"""The table of frame processors, by the `model_type` of a model's configuration."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from trifocal.chat.hf.patches import Qwen3VLProcessor, QwenVLProcessor, VideoLlama3Processor
from trifocal.chat.hf.squares import (
    Idefics3Processor,
    InternVLProcessor,
    LlavaNextVideoProcessor,
    LlavaOneVisionProcessor,
    SmolVLMProcessor,
)
from trifocal.errors import ModelError

if TYPE_CHECKING:
    from trifocal.chat.hf.processor import FrameProcessor

__all__ = ["PROCESSORS", "processor_for"]

PROCESSORS: Mapping[str, type[FrameProcessor]] = MappingProxyType(
    {
        "idefics3": Idefics3Processor,
        "internvl": InternVLProcessor,
        "llava_next_video": LlavaNextVideoProcessor,
        "llava_onevision": LlavaOneVisionProcessor,
        "qwen2_5_vl": QwenVLProcessor,
        "qwen2_vl": QwenVLProcessor,
        "qwen3_vl": Qwen3VLProcessor,
        "qwen3_vl_moe": Qwen3VLProcessor,
        "smolvlm": SmolVLMProcessor,
        "video_llama_3": VideoLlama3Processor,
    }
)
"""How each supported model sees a video."""


def processor_for(model: Any, *, settings: Mapping[str, Any] | None = None) -> FrameProcessor:
    """The frame processor of a model.

    Args:
        model: a video language model of transformers.
        settings: of its processor; the family's defaults when left out.

    Raises:
        ModelError: the model is not supported; the supported ones are named.
    """
    kind = str(getattr(model.config, "model_type", ""))
    if kind not in PROCESSORS:
        raise ModelError(
            f"{type(model).__name__} (model_type {kind!r}) cannot be asked about videos here",
            remedy=f"The supported model types are: {', '.join(sorted(PROCESSORS))}.",
        )
    return PROCESSORS[kind](model, settings=settings or {})
