"""How a model sees a video: what every family's frame processor offers, and its settings.

A processor turns frames into video tokens, a chunk of frames at a time, so that memory is bounded by the chunk and by
the tokens, never by the pixels of the video; and it says what text stands round those tokens in the prompt. One small
class per family, in the table of `trifocal.chat.hf.processors`. Chunks give what one pass would: the vision towers of
all supported families look at each frame (or pair of frames) alone.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch

from trifocal.errors import ModelError

__all__ = ["CLIP_MEAN", "CLIP_STD", "FrameProcessor", "Grid", "Seen", "read_settings"]

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)

Grid = tuple[int, int, int]
"""Frames (or pairs of them), rows and columns of a video's tokens."""

_SETTINGS = ("preprocessor_config.json", "video_preprocessor_config.json", "processor_config.json")


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What the vision tower made of some frames.

    Args:
        features: `(t, h, w, C)`.
        deep: features that some models add behind their first layers, each `(t, h, w, C)`.
    """

    features: torch.Tensor
    deep: tuple[torch.Tensor, ...] = ()

    @staticmethod
    def joined(parts: Sequence[Seen]) -> Seen:
        """Chunks one after the other."""
        deep = tuple(torch.cat(level) for level in zip(*(part.deep for part in parts), strict=True))
        return Seen(torch.cat([part.features for part in parts]), deep)


class FrameProcessor(ABC):
    """How one family sees.

    Args:
        model: with its configuration and vision tower.
        settings: of the processor, as `read_settings` gives them; what is missing has the family's default.

    Attributes:
        slot: which of the model's `mm_encoder_outputs` the tokens go to.
        placeholder_name: the attribute of the configuration with the id of a video token.
        pair: frames of one temporal cell.
        marker: stands for the video in a rendered chat template.
        trailing: video tokens behind the grid that belong to the model's format.
        template: chat template for videos, where the published one is not in the model's folder; else empty.
    """

    slot: ClassVar[str] = "video"
    placeholder_name: ClassVar[str] = "video_token_id"
    marker: ClassVar[str] = "<video>"
    trailing: ClassVar[int] = 0
    template: ClassVar[str] = ""

    def __init__(self, model: Any, *, settings: Mapping[str, Any]) -> None:
        self.model = model
        self.config = model.config
        self.settings = dict(settings)
        self.pair = 1

    @property
    def placeholder(self) -> int:
        """The id of a video token."""
        return int(getattr(self.config, self.placeholder_name))

    @property
    def dtype(self) -> torch.dtype:
        """Of the vision tower."""
        dtype: torch.dtype = self.model.dtype
        return dtype

    @abstractmethod
    def picture_size(self, height: int, width: int, *, frames: int) -> tuple[int, int]:
        """The size that frames are scaled to, `(height, width)`."""

    @abstractmethod
    def cells(self, size: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of tokens of a picture of that size."""

    @abstractmethod
    def see(self, images: torch.Tensor, size: tuple[int, int]) -> Seen:
        """Tokens of frames `(T, 3, H, W)` uint8, scaled to `size`; T is a multiple of `pair` but at the end."""

    @abstractmethod
    def text(self, grid: Grid, *, times_s: Sequence[float], duration_s: float, token: str) -> str:
        """What stands in the prompt for the video; `token` once for every token and for `trailing` ones."""

    @abstractmethod
    def output(self, seen: Seen) -> Any:
        """The tokens as the model takes them in `mm_encoder_outputs`."""

    def positions(self, ids: torch.Tensor, grid: Grid, *, times_s: Sequence[float]) -> torch.Tensor:  # noqa: ARG002
        """Position ids of the prefix, `(…, 1, N)`."""
        return torch.arange(ids.shape[1], device=ids.device)[None]

    def describe(self) -> dict[str, Any]:
        """What a prefix depends on, as JSON values."""
        return {"family": type(self).__name__, "settings": self.settings}

    def number(self, name: str, default: float) -> float:
        """A number of the settings."""
        value = self.settings.get(name, default)
        return float(default if value is None else value)

    def colours(self, mean: Sequence[float], std: Sequence[float]) -> dict[str, Sequence[float]]:
        """Mean and deviation of the settings, or the family's."""
        return {
            "mean": self.settings.get("image_mean") or mean,
            "std": self.settings.get("image_std") or std,
        }


def read_settings(folder: Path) -> dict[str, Any]:
    """The settings of a model folder's video processor; empty where it has none.

    Later files win: those for pictures, those for videos, and the video part of a combined file.

    Raises:
        ModelError: a file is not JSON.
    """
    settings: dict[str, Any] = {}
    for name in _SETTINGS:
        path = folder / name
        if not path.is_file():
            continue
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ModelError(f"{path} is not JSON: {error}", remedy="Fetch the model again.") from error
        part = values.get("video_processor", {}) if name == "processor_config.json" else values
        settings |= {key: value for key, value in part.items() if value is not None}
    return settings
