"""One multiple-choice question about one video, whatever benchmark it comes from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from trifocal.errors import InvalidInput

__all__ = ["LETTERS", "Item"]

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A question.

    Args:
        id: unique within the benchmark.
        video: the file.
        question: without its options.
        options: what can be answered, without letters.
        answer: which of them is right, from 0.
        kind: the benchmark's own kind of question; accuracy is also given by it.
        group: questions that a strict score takes together (the four orders of one VNBench question); "" for none.
        seconds: length of the video as the annotation tells, 0 where it does not.

    Raises:
        InvalidInput: fewer than two options, or an answer that is none of them.
    """

    id: str
    video: Path
    question: str
    options: tuple[str, ...]
    answer: int
    kind: str = ""
    group: str = ""
    seconds: float = 0.0

    def __post_init__(self) -> None:
        """Check the options."""
        if not 2 <= len(self.options) <= len(LETTERS) or not 0 <= self.answer < len(self.options):
            raise InvalidInput(
                f"question {self.id} has {len(self.options)} options and the answer {self.answer}",
                remedy="Correct the annotation file.",
            )
        if not self.question.strip():
            raise InvalidInput(f"question {self.id} is empty", remedy="Correct the annotation file.")
