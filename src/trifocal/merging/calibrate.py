"""One pair of thresholds for a set of videos, whose mean share of tokens meets a budget, as the paper's tables do.

Each video is read once; what stays of it is its curve of tokens along the path of `budget`, so a set of any size fits
in memory and the videos can come from a generator. The pair is the highest point of the path at which the mean over
videos of the share kept is within the budget. With a grouping other than "directed" there is no curve; the
similarities are kept, and the point is found by bisection.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from trifocal.errors import InvalidInput
from trifocal.merging.budget import count_at, other_ways, temporal_on_path, trace
from trifocal.merging.sttm import SttmConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import numpy.typing as npt
    from torch import Tensor

__all__ = ["Calibration", "calibrate"]


@dataclass(frozen=True, slots=True)
class Calibration:
    """A pair of thresholds for a set of videos.

    Attributes:
        spatial_threshold: for `sttm`.
        temporal_threshold: for `sttm`; None where the path was "spatial".
        shares: share of tokens that each video keeps with them.
    """

    spatial_threshold: float
    temporal_threshold: float | None
    shares: tuple[float, ...]

    @property
    def mean_share(self) -> float:
        """Mean of the shares over videos."""
        return sum(self.shares) / len(self.shares)


def calibrate(videos: Iterable[Tensor], *, budget: float, config: SttmConfig | None = None) -> Calibration:
    """Find thresholds whose mean share over a set meets a budget.

    Args:
        videos: each `(T, H, W, C)`; taken one at a time.
        budget: the share of tokens, in (0, 1].
        config: path, root level, compat, grouping, and how to compare; its own budget or thresholds are not looked at.

    Raises:
        InvalidInput: no video, or a share that the set cannot reach.
    """
    if isinstance(budget, bool) or not 0.0 < budget <= 1.0:
        raise InvalidInput(f"budget is {budget!r}", remedy="Give a mean share between 0 and 1.")
    base = config or SttmConfig(budget=1.0)
    config = replace(base, spatial_threshold=None, temporal_threshold=None, budget=1.0, exact=False)
    points: list[npt.NDArray[np.float64]] = []
    shares_at = []
    coarsest = True
    for video in videos:
        own, share, is_coarsest = _shares(video, config)
        points.append(own)
        shares_at.append(share)
        coarsest = coarsest and is_coarsest
    if not points:
        raise InvalidInput("there is no video to calibrate on", remedy="Give at least one.")
    joined = np.unique(np.concatenate(points))[::-1]

    def mean(some: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        total: npt.NDArray[np.float64] = np.mean([share(some) for share in shares_at], axis=0)
        return total

    if config.rule == "directed":
        fits = np.flatnonzero(mean(joined) <= budget)
        index = int(fits[0]) if len(fits) else None
    else:
        index = _bisect(lambda at: bool(mean(joined[at : at + 1])[0] <= budget), len(joined))
    if index is None:
        fewest = float(mean(joined[-1:])[0])
        raise InvalidInput(
            f"the budget is {budget}, and these videos keep a mean share of at least {fewest:.3g}",
            remedy=f"Give more{other_ways(coarsest, path=config.path)}.",
        )
    spatial = float(joined[index])
    return Calibration(
        spatial_threshold=spatial,
        temporal_threshold=temporal_on_path(spatial) if config.path == "both" else None,
        shares=tuple(float(share(joined[index : index + 1])[0]) for share in shares_at),
    )


def _shares(
    video: Tensor, config: SttmConfig
) -> tuple[npt.NDArray[np.float64], Callable[[npt.NDArray[np.float64]], npt.NDArray[Any]], bool]:
    """A video's points on the path, its share of tokens at any others, and whether its root is the coarsest level."""
    similar, support = config.measure(video)
    cells = similar.frames * similar.tree.cell_count
    curve = trace(similar, support, path=config.path)
    if config.rule == "directed":
        return curve.points, lambda some: curve.at(some) / cells, similar.tree.is_coarsest

    def share(some: npt.NDArray[np.float64]) -> npt.NDArray[Any]:
        counts = [count_at(similar, support, float(point), path=config.path, rule=config.rule) for point in some]
        return np.asarray(counts) / cells

    return curve.points, share, similar.tree.is_coarsest


def _bisect(fits: Callable[[int], bool], count: int) -> int | None:
    """The first index that fits, if those that do come last."""
    low, high = 0, count
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle) else (middle + 1, high)
    return low if low < count else None
