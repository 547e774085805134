"""Octree: the joint spatio-temporal tree that the STTM paper compares with (arXiv 2507.07990, §4.3 and Tab. 6).

The video is cut into cubes of as many frames as the grid is wide, each with a mean pyramid of 2×2×2 children; a node
stands for its eight children by the same rule as in the quadtree. Frames that fill no cube go through the quadtree.
The paper found it worse than the two separate steps; `compat="reference"` has the published code's absent children too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from trifocal.errors import InvalidInput
from trifocal.merging.budget import trace
from trifocal.merging.config import (
    Compat,
    MergeConfig,
    check_budget,
    check_choice,
    check_threshold,
    check_video,
    token_budget,
)
from trifocal.merging.plan import Layout, lay_out, select
from trifocal.merging.result import MergedTokens, finish
from trifocal.merging.similarity import Similarities, measure

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch import Tensor

__all__ = ["OctreeConfig"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OctreeConfig(MergeConfig):
    """How to merge. Give a threshold or a budget.

    Attributes:
        spatial_threshold: a node stands for its children if its cosine with each is at least this.
        budget: a share or a number of tokens; the highest threshold that keeps at most that many.
        root_level: as in STTM, on the levels of the cube.
        compat: "default" leaves absent children out; "reference" compares with the corner instead.
    """

    method: ClassVar[str] = "octree"

    spatial_threshold: float | None = None
    budget: float | None = None
    root_level: int = 1
    compat: Compat = "default"

    def __post_init__(self) -> None:
        """Refuse values that cannot be used."""
        if (self.spatial_threshold is None) == (self.budget is None):
            raise InvalidInput("give either spatial_threshold or budget", remedy="Exactly one of the two decides.")
        if self.spatial_threshold is not None:
            check_threshold("spatial_threshold", self.spatial_threshold)
        if self.budget is not None:
            check_budget(self.budget)
        check_choice("compat", self.compat, ("default", "reference"))

    def merge(self, x: Tensor) -> MergedTokens:
        """Merge one video `x (T, H, W, C)`."""
        check_video(x)
        frames, height, width, channels = x.shape
        whole = frames // width * width
        pieces = [x[:whole].reshape(-1, width, height, width, channels)] if whole else []
        pieces += [x[whole:]] if whole < frames else []
        corner = self.compat == "reference"
        found = [measure(piece, root_level=self.root_level, temporal=False, corner=corner) for piece in pieces]
        support = [one.support(corner=corner) for one in found]
        threshold = self.spatial_threshold
        if threshold is None and self.budget is not None:
            threshold = _find_threshold(found, support, token_budget(self.budget, x[..., 0].numel()))
        layouts = [
            lay_out(select(one.tree, held, threshold=threshold or 0.0))
            for one, held in zip(found, support, strict=True)
        ]
        return finish(x, _join(layouts, width, height), method=self.method, spatial_threshold=threshold)


def _find_threshold(found: list[Similarities], support: list[npt.NDArray[np.floating]], tokens: int) -> float:
    """The highest threshold at which all pieces together keep at most `tokens`."""
    curves = [trace(one, held, path="spatial") for one, held in zip(found, support, strict=True)]
    points = np.unique(np.concatenate([curve.points for curve in curves]))[::-1]
    total = sum(curve.at(points) for curve in curves)
    fits = np.flatnonzero(total <= tokens)
    if not len(fits):
        cells = sum(one.frames * one.tree.cell_count for one in found)
        fewest = int(np.min(total))
        raise InvalidInput(
            f"the budget is {tokens} tokens, and the octree of this video keeps at least {fewest} "
            f"(a share of {fewest / cells:.3g})",
            remedy="Give more, or start from a coarser level with root_level=0.",
        )
    return float(points[fits[0]])


def _join(layouts: list[Layout], width: int, height: int) -> Layout:
    """Lay cubes and leftover frames out one after another, all boxes as t, y0, x0, y1, x1."""
    joined: Layout | None = None
    for layout in layouts:
        boxes = layout.boxes
        if boxes.shape[1] == 7:  # cube, f0, y0, x0, f1, y1, x1: the first frame says where the token is
            boxes = np.stack([boxes[:, 0] * width + boxes[:, 1], *boxes[:, [2, 3, 5, 6]].T], axis=1)
        if joined is None:
            joined = replace(layout, boxes=boxes)
            continue
        cells, tokens = len(joined.assignment), len(joined.flat)
        boxes = boxes + np.array([cells // (height * width), 0, 0, 0, 0])
        joined = Layout(
            boxes=np.concatenate([joined.boxes, boxes]),
            flat=np.concatenate([joined.flat, layout.flat + cells]),
            patch_counts=np.concatenate([joined.patch_counts, layout.patch_counts]),
            assignment=np.concatenate([joined.assignment, layout.assignment + tokens]),
            weights=np.concatenate([joined.weights, layout.weights]),
            order=np.concatenate([joined.order, layout.order + cells]),
            bounds=np.concatenate([joined.bounds[:-1], layout.bounds + joined.bounds[-1]]),
        )
    if joined is None:
        raise InvalidInput("the video has no frames", remedy="Give at least one.")
    return joined
