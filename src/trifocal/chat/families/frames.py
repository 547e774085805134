"""InternVL3, SmolVLM2 and Idefics3: a video is a series of pictures in the prompt, each with words in front.

These models have one placeholder for pictures and frames alike, so a video is known by the words that its processor
writes: `Frame1: `, `Frame2: ` and so on (InternVL), or a time that never goes back, `Frame from 00:07:` (SmolVLM). Only
token ids are at hand here; both families' tokenizers have one token per digit, the ten of them in a row, which is
enough to count. A series is at least two stretches of exactly one picture's tokens whose words fit. Everything else is
a picture and left alone: tiles of a large one, and several in a row whatever else stands between them. Where the words
do not tell, as in a prompt that the processor did not write, the caller names the videos with `video_spans`.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from itertools import product
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from trifocal.chat.families.base import Family
from trifocal.chat.hooks.spans import VideoSpan, runs_of

if TYPE_CHECKING:
    from trifocal.chat.hooks.spans import Call

__all__ = ["InternVL", "SmolVLM"]

Run = tuple[int, int]
Words = tuple[int, ...]

_ENDING = (1, 2)  # tokens behind a picture that belong to it: its closing token, and often a line break
_OPENING = (1, 2, 3)  # tokens between a number and the picture: a colon, perhaps a space, the opening token
_MOST_WORDS = 40
_DIGITS = 10


class _Pictures(Family):
    """A family whose frames are pictures."""

    placeholder: ClassVar[str] = "image_token_id"

    @abstractmethod
    def side(self, config: Any) -> int:
        """Tokens a side of each frame."""

    @abstractmethod
    def continues(self, words: list[Words], following: Words) -> bool:
        """Whether a picture is the next frame of a series.

        Args:
            words: the tokens in front of each frame so far; those of the first may begin with other text.
            following: what stands between the last of them and the picture in question.
        """

    def locate(self, call: Call) -> tuple[VideoSpan, ...]:
        """Series of frames in each row."""
        is_picture, side = self.is_video(call), self.side(call.config)
        spans = []
        for row, marked in enumerate(is_picture):
            ids: list[int] = call.input_ids[row].tolist()
            for series in self._series(runs_of(marked.nonzero().flatten()), ids, side * side):
                cells = torch.cat([torch.arange(start, end) for start, end in series])
                spans.append(VideoSpan(cells, (len(series), side, side), row))
        return tuple(spans)

    def _series(self, runs: list[Run], ids: list[int], count: int) -> list[list[Run]]:
        """Stretches that belong together; at least two each."""
        found: list[list[Run]] = []
        series: list[Run] = []
        words: list[Words] = []
        end = 0
        for run in runs:
            between = tuple(ids[max(end, run[0] - _MOST_WORDS) : run[0]])
            end = run[1]
            if run[1] - run[0] != count:
                series, words = [], []
            elif series and self.continues(words, between):
                series.append(run)
                words.append(between)
            else:
                series, words = [run], [between]
                found.append(series)
        return [series for series in found if len(series) > 1]


class InternVL(_Pictures):
    """InternVL3 and 3.5: `Frame1: <img>…</img>` and a line break; the number goes up by one."""

    name: ClassVar[str] = "InternVL3"
    model_types: ClassVar[tuple[str, ...]] = ("internvl",)

    def side(self, config: Any) -> int:
        """The vision tower's grid after the pixel shuffle."""
        size, patch = config.vision_config.image_size, config.vision_config.patch_size
        size = size[0] if isinstance(size, list | tuple) else size
        patch = patch[0] if isinstance(patch, list | tuple) else patch
        return int(size // patch * config.downsample_ratio)

    def continues(self, words: list[Words], following: Words) -> bool:
        """Whether the number behind the first frame's word is the next one; the first is 1."""
        first, number = words[0], str(len(words) + 1)
        for opening in _OPENING:
            if len(first) < opening + 2:
                continue
            word, one, rest = first[-opening - 2], first[-opening - 1], first[-opening:]
            label = (word, *(one - 1 + int(digit) for digit in number), *rest)
            ending = following[: -len(label)]
            if following[-len(label) :] == label and len(ending) in _ENDING:
                return len(words) == 1 or words[1][: len(ending)] == ending
        return False


class SmolVLM(_Pictures):
    """SmolVLM2 and Idefics3: `Frame from 00:01:` in front, several frames of the same second too."""

    name: ClassVar[str] = "SmolVLM2, Idefics3"
    model_types: ClassVar[tuple[str, ...]] = ("smolvlm", "idefics3")

    def side(self, config: Any) -> int:
        """The vision tower's grid after the pixel shuffle."""
        patches = config.vision_config.image_size // config.vision_config.patch_size
        return math.isqrt(patches * patches // config.scale_factor**2)

    def continues(self, words: list[Words], following: Words) -> bool:
        """Whether both have a time behind the same words, the later one not before the earlier."""
        last, begins = words[-1], len(words) == 1
        for opening, ending in product(_OPENING, _ENDING):
            before, after = _timed(last, opening), _timed(following, opening)
            if before is None or after is None:
                continue
            label = after[0][ending:]
            told = before[0][-len(label) :] if begins else before[0][ending:]
            digits = (*before[1], *after[1])
            same = told == label and bool(label) and last[-opening - 1 :] == following[-opening - 1 :]
            if same and before[1] <= after[1] and max(digits) - min(digits) < _DIGITS:
                return True
        return False


def _timed(words: Words, opening: int) -> tuple[Words, Words] | None:
    """The tokens in front of a time `MM:SS:` and its four digits, where one stands `opening` tokens before the end."""
    if len(words) < opening + 7:
        return None
    tens, ones, colon, ten, one, last = words[-opening - 6 : -opening]
    return (words[: -opening - 6], (tens, ones, ten, one)) if colon == last else None
