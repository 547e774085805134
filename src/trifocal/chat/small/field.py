"""The video as the language model gets it: a field of tokens, merged where asked to be, with when and where each is.

Merging looks at what is seen only, so that a wall is one token however long it is shown; the time and the place are
added after, as means over what a token stands for. Positions are those of "reassign": the tokens left stand one after
the other.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from trifocal.chat.prompt import Part, PromptStyle, Tokens, Words

if TYPE_CHECKING:
    from trifocal.chat.small.projector import Projector
    from trifocal.merging import MergeConfig

__all__ = ["Field", "field_parts", "joined", "video_field"]


@dataclass(frozen=True, slots=True, eq=False)
class Field:
    """Tokens of a video.

    Args:
        tokens: `(N, C)`, in order of time, then row by row.
        frame_of: the frame that each is of, or begins in, `(N,)` int64.
        cells: how many tokens there were before merging.
        merge_s: seconds that merging took.
    """

    tokens: torch.Tensor
    frame_of: torch.Tensor
    cells: int
    merge_s: float = 0.0


def video_field(
    projector: Projector, cells: torch.Tensor, *, times_s: Sequence[float], merge: MergeConfig | None = None
) -> Field:
    """From cells to tokens.

    Args:
        projector: makes the tokens.
        cells: `(T, H, W, F + colours)`.
        times_s: when each frame is shown.
        merge: how tokens are merged; `None` keeps all.

    Raises:
        InvalidInput: the shape is not the projector's, or the budget cannot be reached on this video.
    """
    return joined(projector(cells), projector.places(times_s, grid=(cells.shape[1], cells.shape[2])), merge=merge)


def joined(tokens: torch.Tensor, places: torch.Tensor, *, merge: MergeConfig | None = None) -> Field:
    """What is seen and where it is, merged by what is seen.

    Args:
        tokens: `(T, H, W, C)`.
        places: `(T, H, W, C)`.
        merge: how; `None` keeps all.
    """
    placed = (tokens + places).flatten(0, 2)  # (THW, C)
    if merge is None:
        frame_of = torch.arange(len(tokens)).repeat_interleave(tokens.shape[1] * tokens.shape[2])
        return Field(tokens=placed, frame_of=frame_of, cells=len(placed))
    started = time.perf_counter()
    merged = merge.merge(tokens.detach())
    # The same means that made the merged features, written so that gradients pass.
    owner = merged.assignment.flatten()
    kept = owner >= 0
    weights = merged.cell_weights.flatten()[kept, None].to(placed)
    means = placed.new_zeros(len(merged), placed.shape[1]).index_add(0, owner[kept], placed[kept] * weights)
    return Field(
        tokens=means, frame_of=merged.boxes[:, 0].cpu(), cells=len(placed), merge_s=time.perf_counter() - started
    )


def field_parts(style: PromptStyle, field: Field, *, names: torch.Tensor) -> list[Part]:
    """The video as parts of a prompt: the names that the classifier gives it, then its field.

    Args:
        style: the words; those between two tokens stand between names only.
        field: from `video_field`.
        names: the embeddings of the likeliest classes, `(M, C)`; M may be 0.
    """
    parts: list[Part] = []
    if len(names):
        parts.append(Words(style.video))
        for number, name in enumerate(names):
            parts += [Words(style.separator)] * (number > 0)
            parts.append(Tokens(name[None], frame=-1))
        parts.append(Words(style.video_end))
    parts.append(Words(style.frames))
    # One part for each stretch of tokens of one frame; merging keeps them in order of time.
    _, lengths = torch.unique_consecutive(field.frame_of, return_counts=True)
    start = 0
    for length in lengths.tolist():
        parts.append(Tokens(field.tokens[start : start + length], frame=int(field.frame_of[start])))
        start += length
    return parts
