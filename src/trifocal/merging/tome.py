"""ToMe on a whole video: token merging by bipartite matching (Bolya et al., ICLR 2023, arXiv 2210.09461).

Tokens are split into even and odd positions; every even token finds its most similar odd one, and the most similar
pairs merge, weighted by size, at most half of the tokens per round, until the target is met. The published video
variant puts the unmerged tokens first, in the order of their similarity, which shuffles the video; by default the
tokens keep their order in time and space here, in every round and in the result. The similarities are taken in blocks
of rows, so the memory does not grow with the square of the tokens (the time does).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch

from trifocal.merging.config import Compat, MergeConfig, check_budget, check_choice, check_video, token_budget
from trifocal.merging.kernels import accumulation_dtype, rows_of, weighted_sums
from trifocal.merging.plan import lay_out_cells
from trifocal.merging.result import MergedTokens, finish

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["TomeConfig"]

_BLOCK_NUMBERS = 1 << 22


@dataclass(frozen=True, slots=True, kw_only=True)
class TomeConfig(MergeConfig):
    """How to merge.

    Attributes:
        budget: a share of the tokens or their number; met exactly.
        compat: "default" keeps tokens in order; "reference" orders them as the published video variant does and
            rounds a share up.
    """

    method: ClassVar[str] = "tome"

    budget: float = 0.5
    compat: Compat = "default"

    def __post_init__(self) -> None:
        """Refuse values that cannot be used."""
        check_budget(self.budget)
        check_choice("compat", self.compat, ("default", "reference"))

    @torch.no_grad()
    def merge(self, x: Tensor) -> MergedTokens:
        """Merge one video `x (T, H, W, C)`."""
        check_video(x)
        rows = rows_of(x)
        reference = self.compat == "reference"
        target = token_budget(self.budget, len(rows))
        if reference and isinstance(self.budget, float):
            target = math.ceil(len(rows) * self.budget - 1e-6)
        values = rows.to(accumulation_dtype(x.dtype))
        place = torch.arange(len(rows), device=x.device)  # position of each token's representative
        token = place.clone()  # token of each cell
        size = torch.ones(len(rows), dtype=torch.float64, device=x.device)
        while len(values) > target:
            merged = min(len(values) // 2, len(values) - target)
            fresh, place = _match(values, place, merged, in_order=not reference)
            token = fresh[token]
            order = fresh.argsort(stable=True)
            counts = torch.bincount(fresh, minlength=len(place))
            bounds = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
            total = torch.zeros(len(place), dtype=size.dtype, device=x.device).index_add_(0, fresh, size)
            values = weighted_sums(values, order, bounds, (size / total[fresh])[order])
            size = total
        flat, assignment = place.cpu().numpy(), token.cpu().numpy()
        weights = 1.0 / np.bincount(assignment)[assignment]
        layout = lay_out_cells(height=x.shape[1], width=x.shape[2], flat=flat, assignment=assignment, weights=weights)
        return finish(x, layout, method=self.method)


def _match(values: Tensor, place: Tensor, merged: int, *, in_order: bool) -> tuple[Tensor, Tensor]:
    """One round: the new token of every token, and the positions of the new tokens' representatives."""
    unit = torch.nn.functional.normalize(values, dim=-1)
    even, odd = unit[0::2], unit[1::2]
    step = max(1, _BLOCK_NUMBERS // len(odd))
    found = [(block @ odd.T).max(dim=-1) for block in torch.split(even, step)]
    best, partner = torch.cat([one.values for one in found]), torch.cat([one.indices for one in found])
    order = best.argsort(descending=True, stable=True)
    source, rest = order[:merged], order[merged:]
    places = torch.cat([place[0::2][rest], place[1::2]])
    number = torch.arange(len(places), device=place.device)
    if in_order:
        ascending = places.argsort()
        places = places[ascending]
        number = torch.empty_like(number).scatter_(0, ascending, number)
    fresh = torch.empty_like(place)
    fresh[1::2] = number[len(rest) :]
    fresh[rest * 2] = number[: len(rest)]
    fresh[source * 2] = number[len(rest) + partner[source]]
    return fresh, places
