"""Whole numbers in English words, as SmolVLM2's prompt counts its frames: `twenty-one`, `one hundred and five`."""

from __future__ import annotations

from trifocal.errors import InvalidInput

__all__ = ["number_words"]

_SMALL = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
_TENS = ("", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_MOST = 999_999


def number_words(number: int) -> str:
    """A whole number from 0 to 999,999 in words.

    Raises:
        InvalidInput: it is outside of that.
    """
    if not 0 <= number <= _MOST:
        raise InvalidInput(f"number is {number}", remedy=f"Give a whole number from 0 to {_MOST:,}.")
    if number < 20:
        return _SMALL[number]
    if number < 100:
        tens, rest = divmod(number, 10)
        return _TENS[tens] + (f"-{_SMALL[rest]}" if rest else "")
    if number < 1000:
        hundreds, rest = divmod(number, 100)
        return f"{_SMALL[hundreds]} hundred" + (f" and {number_words(rest)}" if rest else "")
    thousands, rest = divmod(number, 1000)
    joint = ", " if rest >= 100 else " and "
    return f"{number_words(thousands)} thousand" + (f"{joint}{number_words(rest)}" if rest else "")
