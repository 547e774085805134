"""LLaVA-OneVision, LLaVA-Video, LLaVA-NeXT-Video, InternVL3, SmolVLM2 and Idefics3: each frame a square of one size.

The first three write all tokens in one stretch (LLaVA-OneVision ends it with a line break that has its own embedding);
InternVL3 numbers its frames; SmolVLM2 and Idefics3 write the time in front of each. These three see frames as pictures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, ClassVar

import torch
from transformers.modeling_outputs import BaseModelOutputWithPooling

from trifocal.chat.hf.number_words import number_words
from trifocal.chat.hf.pictures import crop_centre, long_side_size, normalise, resize, short_side_size
from trifocal.chat.hf.processor import CLIP_MEAN, CLIP_STD, FrameProcessor, Grid, Seen

__all__ = [
    "Idefics3Processor",
    "InternVLProcessor",
    "LlavaNextVideoProcessor",
    "LlavaOneVisionProcessor",
    "SmolVLMProcessor",
]

_HALF = (0.5, 0.5, 0.5)


class _Squares(FrameProcessor):
    """What they have in common."""

    mean: ClassVar[Sequence[float]] = CLIP_MEAN
    std: ClassVar[Sequence[float]] = CLIP_STD

    @property
    def side(self) -> int:
        """Pixels a side, of the vision tower."""
        return _side(self.config.vision_config.image_size)

    @property
    def patches(self) -> int:
        """Patches a side, of the vision tower."""
        return self.side // _side(self.config.vision_config.patch_size)

    def picture_size(self, height: int, width: int, *, frames: int) -> tuple[int, int]:  # noqa: ARG002
        """The tower's square, whatever the shape of the video."""
        return self.side, self.side

    def pixels(self, images: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """Normalised pictures `(T, 3, H, W)` in the tower's type."""
        return normalise(resize(images, size), **self.colours(self.mean, self.std)).to(self.dtype)

    def output(self, seen: Seen) -> Any:
        """All tokens of one video, `(1, N, C)`."""
        return BaseModelOutputWithPooling(pooler_output=seen.features.flatten(0, 2)[None])

    def text(self, grid: Grid, *, times_s: Sequence[float], duration_s: float, token: str) -> str:  # noqa: ARG002
        """Nothing between the tokens."""
        return token * (grid[0] * grid[1] * grid[2] + self.trailing)


class LlavaOneVisionProcessor(_Squares):
    """LLaVA-OneVision, and LLaVA-Video in its layout."""

    trailing: ClassVar[int] = 1

    def cells(self, size: tuple[int, int]) -> tuple[int, int]:  # noqa: ARG002
        """The model halves the grid, rounded up."""
        return math.ceil(self.patches / 2), math.ceil(self.patches / 2)

    def see(self, images: torch.Tensor, size: tuple[int, int]) -> Seen:
        """A chunk through the tower; the line break that the model adds to it is for the end of the video."""
        out = self.model.model.get_video_features(self.pixels(images, size)[None], return_dict=True)
        return Seen(out.pooler_output[0, : -self.trailing].view(len(images), *self.cells(size), -1))

    def output(self, seen: Seen) -> Any:
        """The tokens and the line break."""
        tokens = seen.features.flatten(0, 2)
        newline = self.model.model.image_newline[None].to(tokens)
        return BaseModelOutputWithPooling(pooler_output=torch.cat([tokens, newline])[None])


class LlavaNextVideoProcessor(_Squares):
    """LLaVA-NeXT-Video: the shorter side is scaled and the middle cut out."""

    def cells(self, size: tuple[int, int]) -> tuple[int, int]:  # noqa: ARG002
        """The model pools the grid."""
        stride = int(self.config.spatial_pool_stride)
        return self.patches // stride, self.patches // stride

    def pixels(self, images: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """Scaled and cut."""
        scaled = resize(images, short_side_size(*images.shape[-2:], side=size[0]))
        return normalise(crop_centre(scaled, size), **self.colours(self.mean, self.std)).to(self.dtype)

    def see(self, images: torch.Tensor, size: tuple[int, int]) -> Seen:
        """A chunk through the tower."""
        out = self.model.model.get_video_features(self.pixels(images, size)[None], return_dict=True)
        return Seen(out.pooler_output[0].reshape(len(images), *self.cells(size), -1))

    def output(self, seen: Seen) -> Any:
        """The model flattens frames and tokens itself."""
        return BaseModelOutputWithPooling(pooler_output=seen.features.flatten(1, 2)[None])


class InternVLProcessor(_Squares):
    """InternVL3 and 3.5."""

    slot: ClassVar[str] = "image"
    placeholder_name: ClassVar[str] = "image_token_id"
    mean: ClassVar[Sequence[float]] = (0.485, 0.456, 0.406)
    std: ClassVar[Sequence[float]] = (0.229, 0.224, 0.225)

    def cells(self, size: tuple[int, int]) -> tuple[int, int]:  # noqa: ARG002
        """The pixel shuffle makes the grid smaller."""
        side = int(self.patches * self.config.downsample_ratio)
        return side, side

    def see(self, images: torch.Tensor, size: tuple[int, int]) -> Seen:
        """A chunk of pictures through the tower."""
        out = self.model.model.get_image_features(self.pixels(images, size), return_dict=True)
        return Seen(out.pooler_output.reshape(len(images), *self.cells(size), -1))

    def output(self, seen: Seen) -> Any:
        """Pictures with their tokens."""
        return BaseModelOutputWithPooling(pooler_output=seen.features.flatten(1, 2))

    def text(self, grid: Grid, *, times_s: Sequence[float], duration_s: float, token: str) -> str:  # noqa: ARG002
        """Frames are numbered from 1."""
        tokens = token * (grid[1] * grid[2])
        return "\n".join(f"Frame{frame + 1}: <img>{tokens}</img>" for frame in range(grid[0]))


class SmolVLMProcessor(_Squares):
    """SmolVLM2."""

    slot: ClassVar[str] = "image"
    placeholder_name: ClassVar[str] = "image_token_id"
    template: ClassVar[str] = (
        "<|im_start|>{% for message in messages %}{{ message['role'] | capitalize }}"
        "{{ ':' if message['content'][0]['type'] == 'image' else ': ' }}"
        "{% for part in message['content'] %}{{ part['text'] if part['type'] == 'text' else '<video>' }}{% endfor %}"
        "<end_of_utterance>\n{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
    )
    mean: ClassVar[Sequence[float]] = _HALF
    std: ClassVar[Sequence[float]] = _HALF

    def cells(self, size: tuple[int, int]) -> tuple[int, int]:  # noqa: ARG002
        """The pixel shuffle makes the grid smaller."""
        return self.patches // self.config.scale_factor, self.patches // self.config.scale_factor

    def pixels(self, images: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """Scaled twice, as the published processor does: to a longest side, then to the square."""
        longest = int((self.settings.get("size") or {}).get("longest_edge") or 4 * self.side)
        first = resize(images, long_side_size(*images.shape[-2:], side=longest), mode="lanczos")
        return super().pixels(resize(first, size, mode="lanczos"), size)

    def see(self, images: torch.Tensor, size: tuple[int, int]) -> Seen:
        """A chunk of pictures through the tower."""
        out = self.model.model.get_image_features(self.pixels(images, size)[None], return_dict=True)
        return Seen(torch.cat(list(out.pooler_output)).view(len(images), *self.cells(size), -1))

    def output(self, seen: Seen) -> Any:
        """All tokens of one prompt."""
        return BaseModelOutputWithPooling(pooler_output=[seen.features.flatten(0, 2)])

    def text(self, grid: Grid, *, times_s: Sequence[float], duration_s: float, token: str) -> str:
        """How many frames and how long, then the time of each."""
        tokens = f"<fake_token_around_image><global-img>{token * (grid[1] * grid[2])}<fake_token_around_image>"
        frames = "".join(
            f"\nFrame from {int(second // 60):02d}:{int(second % 60):02d}:{tokens}" for second in times_s[: grid[0]]
        )
        length = timedelta(seconds=int(duration_s))
        words = number_words(grid[0])
        return f"You are provided the following series of {words} frames from a {length} [H:MM:SS] video.\n{frames}\n\n"


class Idefics3Processor(SmolVLMProcessor):
    """Idefics3, which was published for pictures alone: frames are whole pictures, in the words of its successor."""

    template: ClassVar[str] = SmolVLMProcessor.template.replace("<|im_start|>", "<|begin_of_text|>", 1)


def _side(value: int | Sequence[int]) -> int:
    return int(value if isinstance(value, int) else value[0])
