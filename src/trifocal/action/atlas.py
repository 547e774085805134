"""All levels of a clip in one table, so that a point's eight cells are one number and eight fixed steps apart.

The levels lie below one another in one volume, with cells of zeros around each; rows of the table are the volume's
cells, head after head. A place outside its level is drawn back to the zeros around it, which needs no mask. With the
corner's step moved into the view of the table, one index serves all eight corners.
"""

# Torch leaves the results of modules and `Tensor.unflatten` without types.
# mypy: allow-untyped-calls, disable-error-code="no-any-return"

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from trifocal.errors import InvalidInput

__all__ = ["Atlas", "LevelShape"]

LevelShape = tuple[int, int, int]
"""Frames, height and width of a level."""

_EXACT_INTEGERS = 2**24


@dataclass(frozen=True, slots=True)
class Atlas:
    """The table and how to find a cell in it.

    Args:
        table: (rows, D/M).
        steps: rows from a cell to the next in x, in y and in t.
        per_head: rows of one head.
        origin: float (3, L), where the first cell of each level lies in x, y and t.
        last: float (3, L), where the zeros behind each level lie.
        heads: M.
    """

    table: Tensor
    steps: tuple[int, int, int]
    per_head: int
    origin: Tensor
    last: Tensor
    heads: int

    @classmethod
    def of(cls, values: Tensor, shapes: list[LevelShape]) -> Self:
        """Lay out values.

        Args:
            values: (N, M, D/M), level after level, frame after frame, row after row.
            shapes: of the levels.

        Raises:
            InvalidInput: the clip is too large for exact indices.
        """
        exporting = torch.compiler.is_exporting()
        heads, depth = values.shape[1:]
        # Fine to coarse, the first level is the largest; while exporting, comparing open sizes would fix them.
        frames = (shapes[0][0] if exporting else max(shape[0] for shape in shapes)) + 2
        width = (shapes[0][2] if exporting else max(shape[2] for shape in shapes)) + 2
        height = sum(shape[1] + 1 for shape in shapes) + 1
        per_head = frames * height * width
        steps = (1, width, height * width)
        slack = sum(steps)  # a corner of weight zero may lie beyond the last cell
        if not exporting and per_head * heads + slack > _EXACT_INTEGERS:
            raise InvalidInput(
                f"levels of {shapes} cells are too large for one table",
                remedy='Give smaller clips, or sample by "grid".',
            )
        table = values.new_zeros(per_head * heads + slack, depth)
        volume = table[: per_head * heads].view(heads, frames, height, width, depth)
        row, start, rows = 1, 0, []
        for t, h, w in shapes:
            stop = start + t * h * w
            level = values[start:stop].view(t, h, w, heads, depth)
            volume[:, 1 : t + 1, row : row + h, 1 : w + 1] = level.permute(3, 0, 1, 2, 4)
            rows.append(row)
            row, start = row + h + 1, stop

        def vectors(numbers: list[list[int]]) -> Tensor:
            if exporting:
                lines = [torch.stack([torch.full((), n, dtype=torch.float32) for n in line]) for line in numbers]
                return torch.stack(lines)
            return torch.tensor(numbers, dtype=torch.float32, device=values.device)

        ones = [1] * len(shapes)
        origin = [ones, rows, ones]
        sides = [[shape[axis] for shape in shapes] for axis in (2, 1, 0)]
        last = [[first + side for first, side in zip(*line, strict=True)] for line in zip(origin, sides, strict=True)]
        return cls(table, steps, per_head, vectors(origin), vectors(last), heads)

    def sample(self, x: Tensor, y: Tensor, t: Tensor, weights: Tensor, *, bags: bool) -> Tensor:
        """Weighted sums of trilinear samples.

        Args:
            x: float (C, M * L * P), places in the atlas.
            y: likewise.
            t: likewise.
            weights: (C * M, L * P).
            bags: sum with `embedding_bag` instead of plain indexing.

        Returns:
            (C * M, D/M).
        """
        count, looks = x.shape[0], weights.shape[1]
        points = looks // self.origin.shape[1]
        low = (self.origin - 1).repeat_interleave(points, 1).repeat(1, self.heads)  # (3, M * L * P)
        high = self.last.repeat_interleave(points, 1).repeat(1, self.heads)
        head = torch.arange(self.heads, dtype=torch.float32, device=x.device).repeat_interleave(looks) * self.per_head
        index = head.expand(count, -1)
        shares = []
        for axis, place in enumerate((x, y, t)):
            place = torch.clamp(place, low[axis], high[axis])
            cell = place.floor()
            index = torch.add(index, cell, alpha=self.steps[axis])
            share = place - cell
            shares.append(((1 - share).view_as(weights), share.view_as(weights)))
        rows = index.to(torch.int32).flatten()
        offsets = torch.arange(0, len(rows), looks, dtype=torch.int32, device=x.device) if bags else None
        summed: Tensor | None = None
        for at_t, share_t in enumerate(shares[2]):
            of_t = share_t * weights
            for at_y, share_y in enumerate(shares[1]):
                of_y = of_t * share_y
                for at_x, share_x in enumerate(shares[0]):
                    step = at_x * self.steps[0] + at_y * self.steps[1] + at_t * self.steps[2]
                    share = (of_y * share_x).to(self.table.dtype)
                    part = self._sum(self.table[step:], rows, share, offsets)
                    summed = part if summed is None else summed + part
        assert summed is not None
        return summed

    @staticmethod
    def _sum(table: Tensor, rows: Tensor, share: Tensor, offsets: Tensor | None) -> Tensor:
        """(C * M, D/M): rows of the table, weighted and summed in groups of L * P."""
        if offsets is not None:
            # Mode 0 is the sum; asked for directly, because the functional form makes the offsets anew each time.
            bag: Tensor = torch.embedding_bag(table, rows, offsets, False, 0, False, share.flatten())[0]
            return bag
        found = table.index_select(0, rows).unflatten(0, share.shape)  # (C * M, L * P, D/M)
        return (share[:, None] @ found)[:, 0]
