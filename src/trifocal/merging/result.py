"""What merging gives: the tokens, where each came from, and the way back."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from trifocal.errors import InvalidInput
from trifocal.merging.kernels import rows_of, weighted_sums

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch import Tensor

    from trifocal.merging.plan import Layout

__all__ = ["MergedTokens", "finish"]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class MergedTokens:
    """`N` tokens that stand for a video of `T × H × W` cells, sorted by (t, y0, x0) of their representative.

    A method that merges gives every cell a token. One that drops cells gives a dropped cell the token that was similar
    enough to stand for it, or -1 where it has none.

    Attributes:
        features: `(N, C)` in the type and on the device of the input.
        boxes: `(N, 5)` int64, half-open box t, y0, x0, y1, x1 of the representative in cells.
        patch_counts: `(N,)` int64, how many cells the token stands for.
        flat_index: `(N,)` int64, `t*H*W + y0*W + x0` of the representative: the position it keeps in "survive" mode.
        assignment: `(T, H, W)` int64, the token of every cell, or -1.
        cell_weights: `(T, H, W)` float32, weight of each cell in its token's mean; 0 where it was dropped.
        method: name of the method.
        spatial_threshold: lowest parent-child cosine that was merged, where the method has one.
        temporal_threshold: lowest cosine between frames that was merged; None for no temporal step.
        extra_merges: how many more nodes were joined, next-best first, to meet an exact budget.
    """

    features: Tensor
    boxes: Tensor
    patch_counts: Tensor
    flat_index: Tensor
    assignment: Tensor
    cell_weights: Tensor
    method: str
    spatial_threshold: float | None = field(default=None, kw_only=True)
    temporal_threshold: float | None = field(default=None, kw_only=True)
    extra_merges: int = field(default=0, kw_only=True)

    def __len__(self) -> int:
        """Number of tokens, `N`."""
        return self.features.shape[0]

    def __repr__(self) -> str:
        """Method and sizes, no values."""
        grid = "×".join(map(str, self.assignment.shape))
        return (
            f"MergedTokens({self.method}: {len(self)} of {grid} cells, {self.share:.1%}, C={self.features.shape[-1]})"
        )

    @property
    def grid(self) -> tuple[int, int, int]:
        """`(T, H, W)` of the input."""
        frames, height, width = self.assignment.shape
        return frames, height, width

    @property
    def share(self) -> float:
        """Tokens kept, as a share of the cells."""
        return len(self) / self.assignment.numel()

    def pool(self, values: Tensor, *, weighting: Literal["features", "patches"] = "features") -> Tensor:
        """Merge anything else that has one value per cell, in the way the features were merged.

        Args:
            values: `(T, H, W, D)` floating, for example position embeddings.
            weighting: "features" for the weights that made the features; "patches" for a plain mean over cells.

        Returns:
            `(N, D)`.

        Raises:
            InvalidInput: `values` is not of this video's grid, or `weighting` is neither of the two.
        """
        if values.dim() != 4 or tuple(values.shape[:3]) != self.grid:
            raise InvalidInput(
                f"values has shape {tuple(values.shape)}", remedy=f"Give one value per cell, {(*self.grid, 'D')}."
            )
        if weighting not in {"features", "patches"}:
            raise InvalidInput(f"weighting is {weighting!r}", remedy="Use features or patches.")
        token = self.assignment.flatten()
        if weighting == "features":
            weights = self.cell_weights.flatten().double()
        else:
            weights = self.patch_counts.double().reciprocal()[token.clamp(min=0)]
        order = token.argsort(stable=True)
        held = torch.bincount(token + 1, minlength=len(self) + 1)  # -1, which no token holds, comes first
        bounds = held.cumsum(0)
        rows = values.reshape(-1, values.shape[-1])
        kept = order[held[0] :]
        return weighted_sums(rows, kept, bounds - held[0], weights[kept])

    def unmerge(self, values: Tensor) -> Tensor:
        """Give every cell its token's value: `(N, ...)` to `(T, H, W, ...)`; 0 where no token stands for the cell."""
        if len(values) != len(self):
            raise InvalidInput(f"values has {len(values)} rows", remedy=f"Give one for each of the {len(self)} tokens.")
        spread = values[self.assignment.clamp(min=0)]
        absent = self.assignment < 0
        return spread.masked_fill(absent.view(*self.grid, *(1,) * (values.dim() - 1)), 0)

    def to(self, device: torch.device | str) -> MergedTokens:
        """The same on another device."""
        names = ("features", "boxes", "patch_counts", "flat_index", "assignment", "cell_weights")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})


def finish(
    x: Tensor,
    layout: Layout,
    *,
    method: str,
    spatial_threshold: float | None = None,
    temporal_threshold: float | None = None,
    extra_merges: int = 0,
) -> MergedTokens:
    """Average the cells of every token and put the result on the input's device."""
    tokens = len(layout.flat)
    parts = (layout.order, layout.bounds, layout.boxes.ravel(), layout.patch_counts, layout.flat, layout.assignment)
    weights = (layout.weights[layout.order], layout.weights)
    whole, real = _moved(parts, x.device, torch.int64), _moved(weights, x.device, torch.float64)
    del weights
    order, bounds, boxes, counts, flat, assignment = torch.split(whole, [len(part) for part in parts])
    in_order, cell_weights = torch.split(real, [len(layout.order), len(layout.weights)])
    del parts
    return MergedTokens(
        features=weighted_sums(rows_of(x), order, bounds, in_order),
        boxes=boxes.view(tokens, 5),
        patch_counts=counts,
        flat_index=flat,
        assignment=assignment.view(x.shape[:3]),
        cell_weights=cell_weights.view(x.shape[:3]).to(torch.float32),
        method=method,
        spatial_threshold=spatial_threshold,
        temporal_threshold=temporal_threshold,
        extra_merges=extra_merges,
    )


def _moved(parts: tuple[npt.NDArray[Any], ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    """Arrays end to end on a device; written once, and on their way without waiting."""
    whole = torch.empty(sum(map(len, parts)), dtype=dtype, pin_memory=device.type == "cuda")
    np.concatenate(parts, out=whole.numpy())
    return whole.to(device, non_blocking=device.type == "cuda")
