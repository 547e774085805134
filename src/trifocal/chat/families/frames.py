"""InternVL3, SmolVLM2 and Idefics3: a video is a series of pictures in the prompt, each with words in front.

These models have one placeholder for pictures and frames alike, so a video is known by its form: at least two stretches
of exactly one picture's tokens, as far apart as the processor writes them. A single picture, and the tiles of a large
one, are left alone. Where the form does not tell, the caller names the videos with `video_spans`.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from trifocal.chat.families.base import Family
from trifocal.chat.hooks.spans import VideoSpan, runs_of

if TYPE_CHECKING:
    from trifocal.chat.hooks.spans import Call

__all__ = ["InternVL", "SmolVLM"]

Run = tuple[int, int]


class _Pictures(Family):
    """A family whose frames are pictures.

    Attributes:
        gap: fewest and most tokens that the processor writes between two frames.
        numbered: whether the words in front of a frame differ from frame to frame, so that a repeated one is the first
            or second frame of another video.
    """

    placeholder: ClassVar[str] = "image_token_id"
    gap: ClassVar[tuple[int, int]]
    numbered: ClassVar[bool]

    @abstractmethod
    def side(self, config: Any) -> int:
        """Tokens a side of each frame."""

    def locate(self, call: Call) -> tuple[VideoSpan, ...]:
        """Series of frames in each row."""
        is_picture, side = self.is_video(call), self.side(call.config)
        spans = []
        for row, marked in enumerate(is_picture):
            for series in self._series(runs_of(marked.nonzero().flatten()), call.input_ids[row], side * side):
                cells = torch.cat([torch.arange(start, end) for start, end in series])
                spans.append(VideoSpan(cells, (len(series), side, side), row))
        return tuple(spans)

    def _series(self, runs: list[Run], ids: torch.Tensor, count: int) -> list[list[Run]]:
        """Stretches that belong together; at least two each."""
        series: list[list[Run]] = []
        words: list[tuple[int, ...]] = []
        for before, run in pairwise([(0, -self.gap[1] - 1), *runs]):
            between = tuple(ids[before[1] : run[0]].tolist()) if before[1] > 0 else ()
            follows = self.gap[0] <= run[0] - before[1] <= self.gap[1] and before[1] - before[0] == count
            if run[1] - run[0] != count:
                words = []
                continue
            if not (follows and series and series[-1][-1] == before):
                series.append([run])
                words = []
            elif self.numbered and between in words:
                # The second frame of another video; its first was taken for a later frame of this one.
                series.append([series[-1].pop(), run])
                words = [between]
            else:
                series[-1].append(run)
                words.append(between)
        return [found for found in series if len(found) > 1]


class InternVL(_Pictures):
    """InternVL3 and 3.5: `Frame1: <img>…</img>` and a line break."""

    name: ClassVar[str] = "InternVL3"
    model_types: ClassVar[tuple[str, ...]] = ("internvl",)
    gap: ClassVar[tuple[int, int]] = (3, 16)
    numbered: ClassVar[bool] = True

    def side(self, config: Any) -> int:
        """The vision tower's grid after the pixel shuffle."""
        size, patch = config.vision_config.image_size, config.vision_config.patch_size
        size = size[0] if isinstance(size, list | tuple) else size
        patch = patch[0] if isinstance(patch, list | tuple) else patch
        return int(size // patch * config.downsample_ratio)


class SmolVLM(_Pictures):
    """SmolVLM2 and Idefics3: `Frame from 00:01:` in front; tiles of a picture stand closer together."""

    name: ClassVar[str] = "SmolVLM2, Idefics3"
    model_types: ClassVar[tuple[str, ...]] = ("smolvlm", "idefics3")
    gap: ClassVar[tuple[int, int]] = (5, 32)
    numbered: ClassVar[bool] = False

    def side(self, config: Any) -> int:
        """The vision tower's grid after the pixel shuffle."""
        patches = config.vision_config.image_size // config.vision_config.patch_size
        return math.isqrt(patches * patches // config.scale_factor**2)
