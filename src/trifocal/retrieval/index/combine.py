"""Several queries as one vector, which any engine can search with: all of these, and none of those.

The wanted unit vectors are summed, so that what is like all of them scores best; of the unwanted mean a part is taken
away (Rocchio's rule, 1971), so that what is like it falls behind. The result is of unit length again: its scores are
cosines with the combination, not with any one query.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from trifocal.errors import InvalidInput

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["combine_queries"]

# Two wishes that cancel out leave no direction; below this length it is noise.
_NO_DIRECTION = 1e-3


def combine_queries(
    wanted: ArrayLike, *, unwanted: ArrayLike | None = None, weight: float = 0.5
) -> NDArray[np.float32]:
    """One unit vector for several queries.

    Args:
        wanted: (N, D), unit vectors, at least one: a moment should be like all of them.
        unwanted: (M, D), unit vectors: a moment should be like none of them.
        weight: how much the unwanted count beside the wanted, at least 0.

    Returns:
        float32 (D,).

    Raises:
        InvalidInput: nothing wanted, shapes that do not fit, a weight below 0, or queries that cancel out.
    """
    rows = np.asarray(wanted, dtype=np.float64)
    if rows.ndim != 2 or not rows.size:
        raise InvalidInput(f"wanted has the shape {rows.shape}", remedy="Give at least one query that is wanted.")
    if not (math.isfinite(weight) and weight >= 0):
        raise InvalidInput(f"weight is {weight}", remedy="Give a finite number of at least 0.")
    total = rows.mean(axis=0)
    if unwanted is not None:
        others = np.asarray(unwanted, dtype=np.float64)
        if others.ndim != 2 or others.shape[1] != rows.shape[1]:
            raise InvalidInput(
                f"unwanted has the shape {others.shape}, wanted {rows.shape}", remedy="Encode them alike."
            )
        if len(others):
            total = total - weight * others.mean(axis=0)
    length = float(np.linalg.norm(total))
    if not length > _NO_DIRECTION:  # true for NaN as well
        raise InvalidInput("the queries cancel each other out", remedy="Leave one of them out.")
    combined: NDArray[np.float32] = (total / length).astype(np.float32)
    return combined
