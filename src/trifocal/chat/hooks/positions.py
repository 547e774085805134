"""Which positions the shortened sequence has: `reassign`, `survive` or `average` (paper, Table 8).

* reassign: a video's tokens are numbered on from where it starts, and what follows moves up. With one-dimensional
  positions the prompt is then numbered without gaps. With three (M-RoPE) a token has the same number in all of them.
* survive: a token keeps the position of its representative, text keeps its own.
* average: as survive, but a token's rotation is the mean of its members' cosines and sines.

Positions stay those of the whole prompt outside the shortened layers; `shift` says by how much a row moved up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch

from trifocal.chat.hooks.spans import runs_of

if TYPE_CHECKING:
    from trifocal.chat.hooks.shorten import Shortened

__all__ = ["POSITIONS", "Positions", "average_rotation", "following_id", "reassign"]

Positions = Literal["reassign", "survive", "average"]
POSITIONS = ("reassign", "survive", "average")


def reassign(position_ids: torch.Tensor, *, short: Shortened) -> tuple[torch.Tensor, torch.Tensor]:
    """Number the shortened sequence on.

    Args:
        position_ids: `(B, S)`, or `(P, B, S)` where there are several per token; text has the same in all.
        short: the batch after merging.

    Returns:
        Positions `(..., B, S')` and how much lower the row's following ones are, `(B,)`.
    """
    first = position_ids.reshape(-1, *position_ids.shape[-2:])[0]  # (B, S)
    gathered = torch.stack(
        [ids[..., source] for ids, source in zip(position_ids.unbind(-2), short.source, strict=True)], dim=-2
    )  # (..., B, S')
    shifts = []
    for row in range(first.shape[0]):
        videos = [video for video in short.videos if video.span.row == row]
        if not videos:
            shifts.append(first.new_zeros(()))
            continue
        ids, shift = _number_row(first[row], position_ids[..., row, :], gathered[..., row, :], short, row)
        gathered[..., row, :] = ids
        shifts.append(shift)
    return gathered, torch.stack(shifts)


def _number_row(
    first: torch.Tensor, all_ids: torch.Tensor, gathered: torch.Tensor, short: Shortened, row: int
) -> tuple[torch.Tensor, torch.Tensor]:
    device, length = first.device, first.shape[0]
    videos = [video for video in short.videos if video.span.row == row]
    runs = runs_of(torch.cat([video.span.cells for video in videos]).sort().values)
    starts = torch.tensor([start for start, _ in runs], device=device)
    ends = torch.tensor([end for _, end in runs], device=device)
    slots, order = torch.cat([video.slots for video in videos]).sort()
    columns = torch.cat([video.columns for video in videos])[order]
    # What a run of cells advances the counting by: up to the token behind it, or to where one would stand.
    last_end = runs[-1][1]
    past_end = (
        following_id(all_ids[..., last_end - 1], three=all_ids.dim() == 2) if last_end == length else first[last_end]
    )
    following = torch.cat([first[ends[:-1]], past_end[None]])
    begun = torch.searchsorted(slots, starts)  # tokens in front of each run
    kept = torch.searchsorted(slots, ends) - begun
    saved = (following - first[starts] - kept).cumsum(0)  # (runs,)
    before = torch.nn.functional.pad(saved[:-1], (1, 0))
    moved = torch.nn.functional.pad(saved, (1, 0))[torch.searchsorted(ends, short.source[row], right=True)]
    ids = gathered - moved
    run = torch.searchsorted(starts, slots, right=True) - 1
    ids[..., columns] = first[starts][run] - before[run] + torch.arange(len(slots), device=device) - begun[run]
    return ids, saved[-1]


def following_id(last: torch.Tensor, *, three: bool) -> torch.Tensor:
    """The position of text behind a token at `last`, `(...)`, or `(3, ...)` with `three` positions (M-RoPE).

    Behind a video, M-RoPE goes on from its height and width, however many frames it has.
    """
    return (last[1:].amax(dim=0) if three else last) + 1


def average_rotation(rotation: torch.Tensor, *, short: Shortened) -> torch.Tensor:
    """The mean cosine or sine of each token's members.

    Args:
        rotation: cosines or sines, `(B or 1, S, D)`.
        short: the batch after merging.

    Returns:
        `(B, S', D)`; text keeps its own.
    """
    averaged = short.gather(rotation)
    for video in short.videos:
        row = rotation[video.span.row if rotation.shape[0] > 1 else 0]
        cells = row[video.span.cells.to(row.device)].view(*video.span.grid, -1)  # (T, H, W, D)
        averaged[video.span.row, video.columns] = video.tokens.pool(cells)
    return averaged
