"""How each benchmark asks, as published, and how an answer in words becomes a letter."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from trifocal.chat.evaluation.item import LETTERS, Item

__all__ = ["ask_text", "chosen"]

_LETTER_ONLY = "Answer with the option's letter from the given choices directly."
_VIDEOMME = (
    "Select the best answer to the following multiple-choice question based on the video. "
    "Respond with only the letter (A, B, C, or D) of the correct option."
)
_MLVU = (
    "Carefully watch this video and pay attention to every detail. "
    "Based on your observations, select the best option that accurately addresses the question."
)
_STYLES: Mapping[str, tuple[str, str, str]] = MappingProxyType(
    {
        # before, an option, after
        "vnbench": ("{question}", "{letter}. {option}", _LETTER_ONLY),
        "videomme": (f"{_VIDEOMME}\n{{question}}", "{letter}. {option}", "The best answer is:"),
        "mlvu": (f"{_MLVU}\nQuestion: {{question}}\nOptions:", "({letter}) {option}", "Best option: ("),
        "longvideobench": ("{question}", "{letter}. {option}", _LETTER_ONLY),
        "nextqa": ("{question}", "{letter}. {option}", _LETTER_ONLY),
        "egoschema": ("{question}", "{letter}. {option}", _LETTER_ONLY),
        "playground": ("{question}", "{letter}. {option}", _LETTER_ONLY),
    }
)


def ask_text(benchmark: str, item: Item) -> str:
    """The question with its options, as the benchmark words it."""
    before, option, after = _STYLES[benchmark]
    lines = [option.format(letter=LETTERS[place], option=text) for place, text in enumerate(item.options)]
    return "\n".join([before.format(question=item.question), *lines, after])


def chosen(text: str, options: tuple[str, ...]) -> int | None:
    """Which option an answer means; None where it cannot be told.

    A letter by itself at the beginning counts first, then "(B)", "answer is B" and the like, then an option's own words
    if no other option's words are there too, then a letter at the beginning whatever follows.
    """
    letters = LETTERS[: len(options)]
    patterns = (
        rf"\s*\(?([{letters}])(?:[).:,]|\s*$|\n)",
        rf".*?\(([{letters}])\)",
        rf".*?(?:answer|option|choice)\s*(?:is|:)?\s*\(?([{letters}])\b",
    )
    for number, pattern in enumerate(patterns):
        if found := re.match(pattern, text, re.DOTALL | (re.IGNORECASE if number else 0)):
            return LETTERS.index(found[1].upper())
    spoken = text.casefold()
    named = [place for place, option in enumerate(options) if re.search(rf"\b{re.escape(option.casefold())}\b", spoken)]
    # "dog" is in "hot dog" too: the longest option that is named stands for what it contains.
    longest = [
        place
        for place in named
        if not any(other != place and options[place].casefold() in options[other].casefold() for other in named)
    ]
    if longest:
        return longest[0] if len(longest) == 1 else None
    # Last, as "A" may be an article: a letter with more words behind it.
    loose = re.match(rf"\s*([{letters}])\s", text)
    return LETTERS.index(loose[1]) if loose else None
