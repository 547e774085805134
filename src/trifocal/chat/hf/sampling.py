"""Which frames a model is shown: as many as are wanted, as many as fit, by one stated rule.

Wanted are `fps` frames a second, at most `max_frames`, spread evenly. If they do not fit into the context, either the
most frames that do are taken, again spread evenly over the whole video, or the video is refused, as the configuration
says. What fits is counted exactly, with the words between the frames. Where tokens are merged before the first layer to
a budget, a share or a number, the merged tokens count, since no layer ever holds more.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trifocal.errors import ModelError
from trifocal.video import Sampling

if TYPE_CHECKING:
    from trifocal.chat.hf.config import HFChatConfig
    from trifocal.chat.hf.processor import FrameProcessor
    from trifocal.chat.hf.prompt import ChatPrompt
    from trifocal.video import VideoInfo

__all__ = ["Room", "plan", "tokens_for"]


@dataclass(frozen=True, slots=True)
class Room:
    """How much of the context a video may take.

    Args:
        context: positions that the model was made for.
        reserved: of those, for question and answer.
        budget: what merging before the first layer leaves of the video: a share of its tokens (float) or their number
            (int); None for all.
        trailing: those of the video's tokens that are never merged.
    """

    context: int
    reserved: int
    budget: float | None = None
    trailing: int = 0

    def fits(self, video: int, words: int) -> bool:
        """Whether so many video tokens, before merging, and words fit."""
        return self.kept(video) + words + self.reserved <= self.context

    def kept(self, video: int) -> int:
        """The most that merging leaves of so many video tokens."""
        if self.budget is None:
            return video
        if isinstance(self.budget, int):
            return min(video, self.budget + self.trailing)
        return math.ceil(video * self.budget)


def tokens_for(
    frames: int, *, height: int, width: int, processor: FrameProcessor, prompt: ChatPrompt, duration_s: float
) -> tuple[int, int]:
    """Tokens of a video of so many evenly spaced frames: those of the video, and those of the words round it."""
    rows, columns = processor.cells(processor.picture_size(height, width, frames=frames))
    cells = -(-frames // processor.pair)
    times = [(frame + 0.5) * duration_s / frames for frame in range(frames)]
    words = prompt.before(processor.text((cells, rows, columns), times_s=times, duration_s=duration_s, token=""))
    return cells * rows * columns + processor.trailing, len(words)


def plan(
    info: VideoInfo, *, config: HFChatConfig, processor: FrameProcessor, prompt: ChatPrompt, room: Room
) -> tuple[Sampling, int, int]:
    """Which frames of a video are shown.

    Returns:
        The sampling; how many frames it is made for, though the video may have fewer; and how many were wanted.

    Raises:
        ModelError: they do not fit and the configuration says to refuse, or not even the least does.
    """

    def cost(frames: int) -> tuple[int, int]:
        return tokens_for(
            frames,
            height=info.height,
            width=info.width,
            processor=processor,
            prompt=prompt,
            duration_s=info.duration_s,
        )

    wanted = min(config.max_frames, max(processor.pair, math.ceil(info.duration_s * config.fps - 1e-9)))
    if info.frame_count:
        wanted = min(wanted, max(processor.pair, info.frame_count))
    shown = wanted
    if not room.fits(*cost(wanted)):
        if config.too_long == "refuse" or not room.fits(*cost(processor.pair)):
            raise _too_long(wanted, cost(wanted), room)
        shown = _most(processor.pair, wanted, lambda frames: room.fits(*cost(frames)))
    return Sampling.at_fps(config.fps, max_frames=shown), shown, wanted


def _most(low: int, high: int, fits: Callable[[int], bool]) -> int:
    """The largest number from `low`, which fits, to below `high`, which does not."""
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _too_long(frames: int, tokens: tuple[int, int], room: Room) -> ModelError:
    return ModelError(
        f"{frames} frames take {tokens[0]:,} video tokens and {tokens[1]:,} of words, and with {room.reserved:,} for "
        f"question and answer the model has room for {room.context:,}",
        remedy="Use fewer frames (fps, max_frames), let them be sampled (too_long='sample'), or merge at layer 0.",
    )
