"""From clips and attention to time: where a prototype looks, and which seconds a clip covers.

A prototype that is a window of clips covers exactly that window. One that attends is read through its tokens: each
token spreads its weight evenly over the clips it covers, and the prototype's span is the shortest run of clips that
holds half of the weight.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from trifocal.errors import InvalidInput
from trifocal.retrieval.model.batch import clip_edges
from trifocal.retrieval.model.windows import window_spans

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray
    from torch import Tensor

    from trifocal.retrieval.model.tokens import PrototypeSet, VideoTokens

__all__ = ["attended_spans", "clip_shares", "clip_times", "shortest_spans"]

_HALF = 0.5


def clip_times(times_s: ArrayLike, *, count: int, start_s: float, end_s: float) -> NDArray[np.float64]:
    """Seconds at which the uniform clips begin, and the end: (count + 1,), rising where the frames' times do.

    A frame owns the time from midway to the frame before to midway to the frame after. Where there are fewer frames
    than clips, several clips hold the same frame, and each has an equal part of its time.

    Args:
        times_s: (T,), the frames' seconds, never falling, within start and end.
        count: M, clips.
        start_s: where the video starts.
        end_s: where it ends.

    Raises:
        InvalidInput: no times, times that fall or are not finite, or a start or end that does not enclose them.
    """
    times = np.asarray(times_s, dtype=np.float64)
    if times.ndim != 1 or not times.size or not np.isfinite(times).all() or (np.diff(times) < 0).any():
        raise InvalidInput("times_s fall, are not finite, or there are none", remedy="Give (T,) rising seconds.")
    if not (np.isfinite([start_s, end_s]).all() and 0 <= start_s <= times[0] and times[-1] <= end_s):
        raise InvalidInput(
            f"the frames lie from {times[0]:.3f} s to {times[-1]:.3f} s, the video from {start_s} s to {end_s} s",
            remedy="Give 0 <= start_s <= the first time and end_s >= the last.",
        )
    bounds = np.concatenate([[start_s], (times[1:] + times[:-1]) / 2, [end_s]])  # (T + 1,)
    first = clip_edges(len(times), count=count)[:-1]  # (M,), the frame that each clip begins with
    held, opening = np.unique(first, return_index=True)  # frames that a clip begins with, and the first such clip
    edges: NDArray[np.float64] = np.interp(
        np.arange(count + 1), np.append(opening, count), np.append(bounds[held], end_s)
    )
    return edges


def clip_shares(made: PrototypeSet, video: VideoTokens, *, clips: int) -> Tensor:
    """What each prototype takes from each clip: (B, K, M), rows of sum 1."""
    place = torch.arange(clips, device=video.clips.device)

    def covered(spans: Tensor) -> Tensor:
        """Share of each span that falls on each clip: (..., M)."""
        inside = torch.minimum(spans[..., 1:], place + 1.0) - torch.maximum(spans[..., :1], place.float())
        inside = inside.clamp(min=0)
        return inside / inside.sum(dim=-1, keepdim=True).clamp(min=1e-12)

    if made.attention is not None:
        return made.attention.float() @ covered(video.all_spans())
    assert made.spans is not None  # a set has one of the two
    return covered(made.spans.float())


def shortest_spans(shares: Tensor, *, mass: float = _HALF) -> Tensor:
    """The shortest run of clips that holds `mass` of each row: int64 (..., 2); of equals the heaviest, then earliest.

    Args:
        shares: (..., M), rows of sum 1.
        mass: above 0, below 1.
    """
    M = shares.shape[-1]
    runs = window_spans(M, longest=M).to(shares.device)  # (V, 2), shortest first
    sums = torch.cat([shares.new_zeros(*shares.shape[:-1], 1), shares.cumsum(dim=-1)], dim=-1)
    held = sums[..., runs[:, 1]] - sums[..., runs[:, 0]]  # (..., V)
    length = (runs[:, 1] - runs[:, 0]).to(held)
    enough = held >= mass - 1e-6
    shortest = length.masked_fill(~enough, torch.inf).amin(dim=-1, keepdim=True)
    best = held.masked_fill(~enough | (length != shortest), -torch.inf).argmax(dim=-1)
    return runs[best]


def attended_spans(made: PrototypeSet, video: VideoTokens, *, clips: int) -> tuple[Tensor, Tensor, Tensor]:
    """Spans (B, K, 2) and peaks (B, K) as shares of the video, and what each takes from each clip (B, K, M)."""
    shares = clip_shares(made, video, clips=clips)
    if made.spans is not None:
        spans = made.spans.float()
        peak = spans.mean(dim=-1)
    else:
        spans = shortest_spans(shares).float()
        peak = shares.argmax(dim=-1).float() + 0.5
    return spans / clips, peak / clips, shares
