"""The table of supported models. A new family is a class in this folder and a line here, and inherits all tests."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from trifocal.chat.families.base import Family
from trifocal.chat.families.frames import InternVL, SmolVLM
from trifocal.chat.families.llava import LlavaNextVideo, LlavaOneVision
from trifocal.chat.families.qwen_vl import Qwen2VL, Qwen3VL
from trifocal.chat.families.text import MRopeText, Text
from trifocal.chat.families.video_llama3 import VideoLlama3
from trifocal.errors import ModelError

__all__ = ["FAMILIES", "Family", "family_of"]

FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        model_type: family
        for family in (
            LlavaOneVision(),
            LlavaNextVideo(),
            Qwen2VL(),
            Qwen3VL(),
            InternVL(),
            SmolVLM(),
            VideoLlama3(),
            Text(),
            MRopeText(),
        )
        for model_type in family.model_types
    }
)
"""Family by `config.model_type`."""


def family_of(model: Any) -> Family:
    """The family of a model.

    Raises:
        ModelError: it is of none; the supported ones are named.
    """
    model_type = str(getattr(getattr(model, "config", None), "model_type", None))
    if model_type not in FAMILIES:
        names = "; ".join(dict.fromkeys(family.name for family in FAMILIES.values()))
        raise ModelError(
            f"{type(model).__name__} (model_type {model_type!r}) is not a supported model",
            remedy=f"The supported ones are: {names}.",
        )
    return FAMILIES[model_type]
