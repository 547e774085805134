"""How the words of an answer are chosen: `Decoding`, shared by every chat model. Free of torch."""

from __future__ import annotations

from dataclasses import dataclass

from trifocal.errors import InvalidInput

__all__ = ["Decoding"]


@dataclass(frozen=True, slots=True)
class Decoding:
    """How the words of an answer are chosen.

    Args:
        max_new_tokens: cut the answer here.
        temperature: 0 takes the likeliest token each time; above 0 samples.
        repetition_penalty: divides the positive and multiplies the negative scores of tokens that the answer already
            has (Keskar et al. 2019, arXiv 1909.05858); 1 does nothing.
        no_repeat_ngram: never write the same run of so many tokens twice (Paulus et al. 2017, arXiv 1705.04304); 0 does
            nothing.
        seed: of the sampling.
    """

    max_new_tokens: int = 64
    temperature: float = 0.0
    repetition_penalty: float = 1.1
    no_repeat_ngram: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.max_new_tokens < 1:
            raise InvalidInput(f"max_new_tokens is {self.max_new_tokens}", remedy="Give a whole number of at least 1.")
        if self.temperature < 0.0:
            raise InvalidInput(f"temperature is {self.temperature}", remedy="Give 0, or a number above.")
        if self.no_repeat_ngram < 0:
            raise InvalidInput(
                f"no_repeat_ngram is {self.no_repeat_ngram}", remedy="Give a whole number, or 0 for none."
            )
        if self.repetition_penalty < 1.0:
            raise InvalidInput(f"repetition_penalty is {self.repetition_penalty}", remedy="Give 1, or a number above.")
