"""A video as a model sees it: what an index takes, and what only measuring takes.

`Prototypes` are what a library keeps. Beside them a model may know where each prototype looks most, which need not be
the middle of its span, and may score one vector of the whole video too, which no index of prototypes holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from trifocal.errors import InvalidInput

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from trifocal.retrieval.prototypes import Prototypes

__all__ = ["Document"]


@dataclass(frozen=True, slots=True, eq=False)
class Document:
    """An encoded video.

    Args:
        prototypes: vectors and spans.
        peaks_s: (K,), the second at which each looks most; None where a prototype is its span and has no such place.
        whole: (D,), a unit vector of the whole video that is scored too; None without one.
        whole_share: the score is (1 − share) · max over prototypes + share · cosine with `whole`, 0 to 1.

    Raises:
        InvalidInput: shapes that do not fit.
    """

    prototypes: Prototypes
    peaks_s: NDArray[np.float32] | None = None
    whole: NDArray[np.float16] | None = None
    whole_share: float = 0.0

    def __post_init__(self) -> None:
        """Check the shapes."""
        K, D = self.prototypes.vectors.shape
        if self.peaks_s is not None and self.peaks_s.shape != (K,):
            raise InvalidInput(f"peaks_s have the shape {self.peaks_s.shape}", remedy=f"Give one a prototype, ({K},).")
        if self.whole is not None and self.whole.shape != (D,):
            raise InvalidInput(f"whole has the shape {self.whole.shape}", remedy=f"Give ({D},).")
