"""How a Hugging Face model is shown a video and asked: `HFChatConfig`. Free of torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from trifocal.chat.decoding import Decoding
from trifocal.errors import InvalidInput

__all__ = ["HFChatConfig"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HFChatConfig:
    """How a video is shown and asked about.

    Args:
        fps: frames per second that are wanted.
        max_frames: the most frames, spread evenly over the video; the papers' setting is one a second, at most 128.
        too_long: what to do when so many frames do not fit into the model's context: "sample" takes the most frames
            that fit, spread evenly; "refuse" raises an error with both numbers.
        question_room: tokens of the context that are left for the question.
        chunk: frames that go through the vision tower at a time.
        system: the system message; empty leaves the model's own.
        decoding: how answers are written.
        evidence_depth: the layer whose attention names the frames, as a share of the depth. Never one below the layer
            where tokens are merged.
        evidence_from: whose attention names the frames: the "question"'s own words', which is the default because it is
            the one that was measured to find the right frame (on the small model; the answer's did no better there than
            chance, and neither has been measured on published checkpoints); or the "answer"'s, of the places where its
            tokens are written, which costs that one layer's attention again for every token.
    """

    fps: float = 1.0
    max_frames: int = 128
    too_long: Literal["sample", "refuse"] = "sample"
    question_room: int = 256
    chunk: int = 16
    system: str = ""
    decoding: Decoding = field(default_factory=lambda: Decoding(repetition_penalty=1.0, no_repeat_ngram=0))
    evidence_depth: float = 0.5
    evidence_from: Literal["question", "answer"] = "question"

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not 0.0 < self.fps <= 1000.0:
            raise InvalidInput(f"fps is {self.fps}", remedy="Give frames per second, above 0 and at most 1000.")
        for name, least in (("max_frames", 1), ("question_room", 1), ("chunk", 1)):
            if (value := getattr(self, name)) < least:
                raise InvalidInput(f"{name} is {value}", remedy=f"Give a whole number of at least {least}.")
        if self.too_long not in {"sample", "refuse"}:
            raise InvalidInput(f"too_long is {self.too_long!r}", remedy="Use sample or refuse.")
        if self.evidence_from not in {"question", "answer"}:
            raise InvalidInput(f"evidence_from is {self.evidence_from!r}", remedy="Use question or answer.")
        if not 0.0 <= self.evidence_depth <= 1.0:
            raise InvalidInput(f"evidence_depth is {self.evidence_depth}", remedy="Give a share from 0 to 1.")
