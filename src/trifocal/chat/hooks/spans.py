"""Where a video lies in a prompt: the places of its cells, their grid, and the runs that they form.

A `VideoSpan` is what a family finds in a call and all that the hooks need to know of it. The places are kept on the
host: they are found once per prefill, and slices and runs can then be told without waiting for the device.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from trifocal.errors import InvalidInput, ModelError

__all__ = ["Call", "VideoSpan", "check_spans", "runs_of", "spans_by_count"]

Grid = tuple[int, int, int]


@dataclass(frozen=True, slots=True, eq=False)
class VideoSpan:
    """One video in one row of a batch.

    Attributes:
        cells: `(T*H*W,)` int64 on the CPU, the place of each cell in the sequence of this call, frame by frame and row
            by row; rising, with gaps where a model writes something between the frames.
        grid: `(T, H, W)`.
        row: which row of the batch.

    Raises:
        InvalidInput: the places and the grid do not fit each other, or the places do not rise.
    """

    cells: torch.Tensor
    grid: Grid
    row: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be a video."""
        count = self.grid[0] * self.grid[1] * self.grid[2]
        if min(self.grid) < 1 or self.cells.shape != (count,):
            raise InvalidInput(
                f"A video of the grid {self.grid} has {self.cells.numel()} places", remedy=f"Give {count} of them."
            )
        if self.row < 0 or int(self.cells[0]) < 0 or bool((self.cells.diff() < 1).any()):
            raise InvalidInput(
                "The places of a video do not rise, or one is negative", remedy="Give them in the order of the prompt."
            )

    @classmethod
    def contiguous(cls, start: int, grid: Grid, *, row: int = 0) -> VideoSpan:
        """A video whose tokens follow one another from `start`."""
        return cls(torch.arange(start, start + grid[0] * grid[1] * grid[2]), grid, row)

    @property
    def is_contiguous(self) -> bool:
        """Whether nothing stands between the frames."""
        return int(self.cells[-1]) - int(self.cells[0]) == len(self.cells) - 1


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """What a model was called with, as far as a family needs it.

    Attributes:
        input_ids: `(B, S)` on the CPU.
        arguments: everything by name.
        config: the model's.
    """

    input_ids: torch.Tensor
    arguments: Mapping[str, Any]
    config: Any

    def rows_of(self, name: str) -> list[list[int]]:
        """A grid argument such as `video_grid_thw` as lists of numbers; empty when it was not given."""
        value = self.arguments.get(name)
        if value is None:
            return []
        return [[int(number) for number in row] for row in torch.as_tensor(value).tolist()]


def runs_of(places: torch.Tensor) -> list[tuple[int, int]]:
    """Half-open stretches of consecutive numbers in a rising `(N,)`."""
    if not len(places):
        return []
    breaks = (places.diff() != 1).nonzero().flatten() + 1
    starts = torch.cat([breaks.new_zeros(1), breaks])
    ends = torch.cat([breaks, breaks.new_tensor([len(places)])]) - 1
    return [(int(start), int(end) + 1) for start, end in zip(places[starts], places[ends], strict=True)]


def spans_by_count(
    is_video: torch.Tensor, grids: list[Grid], *, extra: int = 0, what: str = "video tokens"
) -> tuple[VideoSpan, ...]:
    """Give the marked places to videos in turn, row after row.

    Args:
        is_video: `(B, S)` bool.
        grids: of every video in order. A later turn of a conversation may name the videos of earlier ones too; then the
            last ones are meant.
        extra: places behind each video's cells that are marked and not part of it.
        what: how an error names them.

    Raises:
        ModelError: the numbers do not fit, or a video would lie across two rows.
    """
    rows, columns = is_video.nonzero(as_tuple=True)
    counts = [t * h * w + extra for t, h, w in grids]
    repeats = len(columns) // max(sum(counts), 1)
    if repeats > 1 and sum(counts) * repeats == len(columns) and len(is_video) % repeats == 0:
        # Beams and several answers repeat each row of a prompt, and not always the grids.
        first = spans_by_count(is_video[::repeats], grids, extra=extra, what=what)
        return tuple(replace(span, row=span.row * repeats + copy) for span in first for copy in range(repeats))
    while counts and sum(counts) > len(columns):
        counts, grids = counts[1:], grids[1:]
    if sum(counts) != len(columns):
        raise ModelError(
            f"The prompt has {len(columns)} {what} and the grids of the videos have "
            f"{', '.join('×'.join(map(str, grid)) for grid in grids) or 'none'}",
            remedy="Pass the grids of the videos that the prompt holds, whole videos at a time.",
        )
    spans, place = [], 0
    for count, grid in zip(counts, grids, strict=True):
        row = int(rows[place])
        if int(rows[place + count - 1]) != row:
            raise ModelError(
                f"A video of the grid {grid} lies across two rows of the batch",
                remedy="Order the grids as the videos stand in the batch.",
            )
        spans.append(VideoSpan(columns[place : place + count - extra], grid, row))
        place += count
    return tuple(spans)


def check_spans(spans: tuple[VideoSpan, ...], *, batch: int, length: int) -> None:
    """Refuse videos outside a sequence of `(batch, length)`, and two that overlap.

    Raises:
        InvalidInput: one does.
    """
    for span in spans:
        if span.row >= batch or int(span.cells[-1]) >= length:
            raise InvalidInput(
                f"A video ends at place {int(span.cells[-1])} of row {span.row} and the input has {batch} rows of "
                f"{length} places",
                remedy="Give places of this call's sequence.",
            )
    for row in {span.row for span in spans}:
        places = torch.cat([span.cells for span in spans if span.row == row])
        if bool((places.sort().values.diff() == 0).any()):
            raise InvalidInput(f"Two videos of row {row} share places", remedy="Give each video its own.")
