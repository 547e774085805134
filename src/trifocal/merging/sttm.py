"""STTM: multi-granular spatio-temporal token merging (Hyun et al., ICCV 2025, arXiv 2507.07990).

Each frame becomes a quadtree of tokens, coarse where it is uniform; tokens of consecutive frames that lie inside one
another and agree become one. `compat="reference"` decides as the published code does. The default differs in what the
published code gets wrong; in brackets the tokens kept on the timing video at (.80, .60) and (.85, .65), `bench/merge`:

* an absent child of a border cell is left out, where the published code compares the frame's top-left cell instead and
  so splits the top row and left column too often (8,599 becomes 4,266; 16,592 becomes 11,859);
* groups follow the paper's directed rule, not a loop whose result depends on unrelated regions (4,306 and 11,861; full
  components would be 4,266 and 11,857);
* similarities and means of narrow input are kept in float32 (decides close calls only);
* `patch_weighting=True`, off as in the paper, lets every cell count the same (no change of the count on even levels).

The host waits for the device once, for the similarities; the plan goes back without waiting.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from trifocal.errors import InvalidInput
from trifocal.merging.budget import BudgetPath, settle
from trifocal.merging.config import (
    Compat,
    MergeConfig,
    check_budget,
    check_choice,
    check_threshold,
    check_video,
    token_budget,
)
from trifocal.merging.grouping import GROUPINGS, Grouping, group
from trifocal.merging.plan import candidates, lay_out, select
from trifocal.merging.result import finish
from trifocal.merging.similarity import Similarities, measure

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch import Tensor

    from trifocal.merging.plan import Selection
    from trifocal.merging.result import MergedTokens

    Floats = npt.NDArray[np.floating]
    Ints = npt.NDArray[np.int64]

__all__ = ["SttmConfig", "decide"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SttmConfig(MergeConfig):
    """How to merge. Give thresholds or a budget.

    Attributes:
        spatial_threshold: a coarse cell stands for its children if its cosine with each is at least this. The paper
            uses .80 for 30 % and .85 for 50 % of the tokens of LLaVA-Video-7B.
        temporal_threshold: nodes of consecutive frames are joined if their cosine is at least this (.60 and .65); None
            for no temporal step.
        budget: a share of the tokens (0.3) or their number (4000) instead of thresholds, which are then found per video
            along `temporal = 2 * spatial - 1`. At most that many remain, and fewer by at most one per frame.
        exact: exactly the budget: where thresholds cannot give it, the next-best nodes are joined (see `budget`).
        path: with a budget, "both" steps or only the "spatial" one.
        root_level: the coarsest cells: 0 the coarsest level there is, 1 the next, -1 the cells themselves.
        compat: "default", or "reference" for the published code's decisions.
        grouping: how joined nodes form groups; None for "directed", or "reference" under that compat.
        patch_weighting: means over cells instead of means over nodes.
        head_dim: compare per attention head of this width and average the cosines; None for one cosine.
    """

    method: ClassVar[str] = "sttm"

    spatial_threshold: float | None = None
    temporal_threshold: float | None = None
    budget: float | None = None
    exact: bool = False
    path: BudgetPath = "both"
    root_level: int = 1
    compat: Compat = "default"
    grouping: Grouping | None = None
    patch_weighting: bool = False
    head_dim: int | None = None

    def __post_init__(self) -> None:
        """Refuse values that cannot be used."""
        if (self.spatial_threshold is None) == (self.budget is None):
            given = "neither" if self.budget is None else "both"
            raise InvalidInput(
                f"{given} of spatial_threshold and budget are given", remedy="Give one: thresholds, or a budget."
            )
        if self.spatial_threshold is not None:
            check_threshold("spatial_threshold", self.spatial_threshold)
        if self.temporal_threshold is not None:
            check_threshold("temporal_threshold", self.temporal_threshold)
            if self.budget is not None:
                raise InvalidInput(
                    "temporal_threshold is given beside a budget",
                    remedy="Leave it out; the budget finds both thresholds.",
                )
        if self.budget is not None:
            check_budget(self.budget)
        elif self.exact:
            raise InvalidInput("exact is given without a budget", remedy="Give budget= too.")
        check_choice("path", self.path, ("both", "spatial"))
        check_choice("compat", self.compat, ("default", "reference"))
        check_choice("grouping", self.grouping, (None, *GROUPINGS))
        if isinstance(self.root_level, bool) or not isinstance(self.root_level, int):
            raise InvalidInput(
                f"root_level is {self.root_level!r}", remedy="Give a whole number, as an index of levels."
            )
        if self.head_dim is not None and (isinstance(self.head_dim, bool) or self.head_dim < 1):
            raise InvalidInput(f"head_dim is {self.head_dim!r}", remedy="Give the width of a head, at least 1.")

    @property
    def rule(self) -> Grouping:
        """The grouping that is meant."""
        return self.grouping or ("reference" if self.compat == "reference" else "directed")

    @property
    def temporal(self) -> bool:
        """Whether there is a temporal step."""
        return self.temporal_threshold is not None if self.budget is None else self.path == "both"

    def measure(self, x: Tensor) -> tuple[Similarities, Floats]:
        """The similarities of one video and how well each coarse node is supported by its children."""
        check_video(x)
        if self.head_dim is not None and x.shape[-1] % self.head_dim:
            raise InvalidInput(
                f"head_dim is {self.head_dim} and x has {x.shape[-1]} channels",
                remedy="Give a divisor of the channels.",
            )
        reference = self.compat == "reference"
        similar = measure(
            x,
            # The published code compares only widths, so a grid one cell wide is never pooled.
            root_level=-1 if reference and x.shape[2] == 1 else self.root_level,
            temporal=self.temporal,
            head_dim=self.head_dim,
            sums=self.patch_weighting,
            corner=reference,
            round_levels=reference and x.element_size() < 4,
        )
        return similar, similar.support(corner=reference)

    def merge(self, x: Tensor) -> MergedTokens:
        """Merge one video `x (T, H, W, C)`."""
        similar, support = self.measure(x)
        spatial, temporal, extra = self.spatial_threshold, self.temporal_threshold, 0
        if self.budget is not None:
            tokens = token_budget(self.budget, similar.frames * similar.tree.cell_count)
            settled = settle(similar, support, tokens=tokens, path=self.path, rule=self.rule, exact=self.exact)
            spatial, temporal, extra = settled.spatial, settled.temporal, settled.extra_merges
            selection, representative = settled.selection, settled.representative
        elif spatial is not None:
            selection, representative = decide(similar, support, spatial, temporal, self.rule)
        # The similarities are many numbers per cell, and done with.
        del similar, support
        layout = lay_out(selection, representative, patch_weighting=self.patch_weighting)
        del selection, representative
        return finish(
            x,
            layout,
            method=self.method,
            spatial_threshold=spatial,
            temporal_threshold=temporal,
            extra_merges=extra,
        )


def decide(
    similar: Similarities, support: Floats, spatial: float, temporal: float | None, rule: Grouping
) -> tuple[Selection, Ints]:
    """Kept nodes and their representatives at two thresholds."""
    selection = select(similar.tree, support, threshold=spatial)
    if temporal is None:
        return selection, np.arange(len(selection.node))
    edges = candidates(similar, selection).edges(temporal)
    return selection, group(len(selection.node), edges=edges, rule=rule)
