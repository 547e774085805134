"""What comes back when a video is asked something: the text, what it rests on, what it cost.

`Answer` is data only: frozen, the same in Python, in JSON and on a page. Evidence names the frames that the model
looked at for the question, in seconds, so that a reader can look for themselves; attention is a hint at what was used,
not a proof. A model's `caveat` travels with every answer it gives.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, Literal

from trifocal.errors import InvalidInput

__all__ = ["Answer", "Evidence", "Timing", "TokenUse"]


@dataclass(frozen=True, slots=True)
class Evidence:
    """A frame that the model looked at for the question.

    Args:
        time_s: when the frame is shown, in seconds.
        weight: its share among all frames, from 0 to 1.
    """

    time_s: float
    weight: float

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not math.isfinite(self.time_s):
            raise InvalidInput(f"time_s is {self.time_s}", remedy="Give a finite number of seconds.")
        if not 0.0 <= self.weight <= 1.0:
            raise InvalidInput(f"weight is {self.weight}", remedy="Give a share from 0 to 1.")


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of wall time by part; what a prefilled video had already paid for is not counted again.

    Args:
        decode_s: reading the frames from the file.
        vision_s: from frames to video tokens.
        merge_s: merging video tokens.
        prefill_s: running system prompt, video and question through the language model, without the merging.
        generate_s: choosing the words of the answer.
        evidence_s: finding the frames that the model looked at, which the text of the answer does not need.
    """

    decode_s: float = 0.0
    vision_s: float = 0.0
    prefill_s: float = 0.0
    generate_s: float = 0.0
    merge_s: float = 0.0
    evidence_s: float = 0.0

    @property
    def total_s(self) -> float:
        """The sum of the parts."""
        return self.decode_s + self.vision_s + self.merge_s + self.prefill_s + self.generate_s + self.evidence_s


@dataclass(frozen=True, slots=True)
class TokenUse:
    """How many tokens an answer took.

    Args:
        video: tokens that stand for the video, before merging.
        prompt: all tokens before the answer, the video's among them, before merging.
        cached: those of `prompt` that an earlier question had already run through the model.
        answer: tokens generated, the end mark among them.
        merged_away: how many of `video` merging took away.
    """

    video: int = 0
    prompt: int = 0
    cached: int = 0
    answer: int = 0
    merged_away: int = 0

    @property
    def kept(self) -> int:
        """Tokens that stand for the video after merging."""
        return self.video - self.merged_away


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer to one question about one video.

    Args:
        video: the path asked about, or "frames" when frames were given.
        text: the answer, without surrounding space.
        evidence: the frames looked at more than evenly, largest weight first, ties by time; empty when none stood out.
        timing: seconds by part.
        question: what was asked.
        model: which model answered.
        tokens: tokens by part.
        finished: "end" when the model ended the answer itself, "length" when it was cut at the limit.
        caveat: what the reader should know about this model's answers; empty when nothing.
        warnings: what went wrong in reading the video without making it useless, and what of it was not shown.
    """

    video: str
    text: str
    evidence: tuple[Evidence, ...]
    timing: Timing
    question: str = ""
    model: str = ""
    tokens: TokenUse = field(default_factory=TokenUse)
    finished: Literal["end", "length"] = "end"
    caveat: str = ""
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The answer as values that JSON knows; `timing` gains its `total_s`, `tokens` their `kept`."""
        values = dataclasses.asdict(self)
        values["evidence"] = [dataclasses.asdict(frame) for frame in self.evidence]
        values["warnings"] = list(self.warnings)
        values["timing"]["total_s"] = self.timing.total_s
        values["tokens"]["kept"] = self.tokens.kept
        return values
