"""Chance that is the same everywhere: draws made from the raw words of a PCG64 keyed by whole numbers.

NumPy promises that the bits of a bit generator never change, and does not promise it for `Generator`'s methods. So
a `Chance` takes 64-bit words and makes its few kinds of draw itself: a spec composed from a seed is the same on
every platform and with every version. Keys name what is drawn (`Chance(seed, SCENE, 3)`), so a new draw in one
place leaves the others alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

Item = TypeVar("Item")

__all__ = ["Chance"]


class Chance:
    """A stream of draws; two with the same keys give the same draws.

    Args:
        keys: whole numbers of at least 0; the first is usually the seed of the video.
    """

    def __init__(self, *keys: int) -> None:
        """Begin the stream."""
        self._bits = np.random.PCG64(np.random.SeedSequence(list(keys)))

    def unit(self) -> float:
        """A number in [0, 1), uniform, of 53 bits."""
        return (int(self._bits.random_raw()) >> 11) * 2.0**-53

    def between(self, low: float, high: float) -> float:
        """A uniform number in [low, high), rounded to 4 decimals so that specs stay short in JSON."""
        return round(low + (high - low) * self.unit(), 4)

    def below(self, n: int) -> int:
        """A whole number in 0 .. n - 1."""
        return int(self.unit() * n)

    def happens(self, probability: float) -> bool:
        """True with this probability."""
        return self.unit() < probability

    def pick(self, items: Sequence[Item]) -> Item:
        """One of the items, each equally likely."""
        return items[self.below(len(items))]

    def shuffled(self, items: Sequence[Item]) -> list[Item]:
        """The items in a random order (Fisher and Yates)."""
        out = list(items)
        for last in range(len(out) - 1, 0, -1):
            other = self.below(last + 1)
            out[last], out[other] = out[other], out[last]
        return out
