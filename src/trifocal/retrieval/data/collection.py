"""One data set for training and evaluation: rows of videos, rows of words, and who says what in which split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from trifocal.errors import InvalidInput

if TYPE_CHECKING:
    from trifocal.retrieval.data.captions import CaptionSet
    from trifocal.retrieval.data.features import RowSource

__all__ = ["RetrievalData"]


@dataclass(frozen=True, slots=True)
class RetrievalData:
    """What retrieval is trained on and measured with.

    Args:
        name: what the set is called.
        features: rows (T, d_v) by video.
        words: rows (L, d_t) by caption id.
        splits: captions by the split's name, such as "train" and "test".
        dims: the widths (d_v, d_t) that the set should have, where that is known; `check` compares.
    """

    name: str
    features: RowSource
    words: RowSource
    splits: Mapping[str, CaptionSet] = field(default_factory=dict)
    dims: tuple[int, int] | None = None

    def split(self, name: str) -> CaptionSet:
        """The captions of a split.

        Raises:
            InvalidInput: there is no such split.
        """
        if name not in self.splits:
            raise InvalidInput(
                f"{self.name} has no split {name!r}", remedy=f"It has {', '.join(self.splits) or 'none'}."
            )
        return self.splits[name]

    def holding_out(
        self, share: float, *, seed: int = 0, source: str = "train", name: str = "held-out"
    ) -> RetrievalData:
        """The same with a share of the videos of one split moved into a new one."""
        kept, held = self.split(source).hold_out(share, seed=seed)
        return replace(self, splits={**self.splits, source: kept, name: held})
