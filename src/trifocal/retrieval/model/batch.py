"""A training batch: some videos with all their captions, as tensors; and how a video becomes uniform clips.

Batches are made of videos, not of captions, because the losses need to know every caption of a video: they are
positives of one another's video. `uniform_clips` averages any number of frames to a fixed number of clips once, so that
training never touches frames again.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch

from trifocal.errors import InvalidInput

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray
    from torch import Tensor

__all__ = ["RetrievalBatch", "clip_edges", "uniform_clips"]


@dataclass(frozen=True, slots=True, eq=False)
class RetrievalBatch:
    """B videos and their N captions.

    Args:
        clips: float32 (B, M, video_dim), the videos' uniform clips.
        words: float32 (N, L, text_dim), word features as they come, zeros after the last.
        word_mask: bool (N, L), True where a word is; at least one a caption.
        owner: int64 (N,), the index 0..B−1 of the caption's video; every video has at least one.
        word_ids: int64 (N, L), equal where words are equal; None to compare the features instead.
        frames: float32 (B, F, video_dim), for models that look at frames too.
        frame_mask: bool (B, F), True where a frame is; at least one a video.
        spare: whether it only lets a process without a share take part; the others' negatives leave it out.

    Raises:
        InvalidInput: shapes or dtypes that do not fit together, or a video without a caption.
    """

    clips: Tensor
    words: Tensor
    word_mask: Tensor
    owner: Tensor
    word_ids: Tensor | None = None
    frames: Tensor | None = None
    frame_mask: Tensor | None = None
    spare: bool = False

    def __post_init__(self) -> None:
        """Check the shapes against each other."""
        B, N = self.clips.shape[0], self.words.shape[0]
        _fits("clips", self.clips, (B, None, None), floating=True)
        _fits("words", self.words, (N, None, None), floating=True)
        _fits("word_mask", self.word_mask, tuple(self.words.shape[:2]), dtype=torch.bool)
        _fits("owner", self.owner, (N,), dtype=torch.int64)
        if self.word_ids is not None:
            _fits("word_ids", self.word_ids, tuple(self.words.shape[:2]), dtype=torch.int64)
        if (self.frames is None) != (self.frame_mask is None):
            raise InvalidInput("only one of frames and frame_mask is given", remedy="Give both or neither.")
        if self.frames is not None and self.frame_mask is not None:
            _fits("frames", self.frames, (B, None, None), floating=True)
            _fits("frame_mask", self.frame_mask, tuple(self.frames.shape[:2]), dtype=torch.bool)
        if self.owner.is_cpu:  # reading values back from a device would make it wait in every step
            held = torch.bincount(self.owner.clamp(min=0), minlength=B) if N else torch.zeros(B)
            if len(held) != B or not bool(held.all()) or (N and int(self.owner.min()) < 0):
                raise InvalidInput(
                    f"owner does not name each of the {B} videos", remedy="Give every video at least one caption."
                )

    def __len__(self) -> int:
        """B, the number of videos."""
        return int(self.clips.shape[0])

    def to(self, device: str | torch.device) -> Self:
        """The same batch on a device."""
        held = {f.name: getattr(self, f.name) for f in fields(self)}
        moved: dict[str, Any] = {
            n: t.to(device, non_blocking=True) if isinstance(t, torch.Tensor) else t for n, t in held.items()
        }
        return type(self)(**moved)


def _fits(
    name: str,
    tensor: Tensor,
    shape: tuple[int | None, ...],
    *,
    dtype: torch.dtype | None = None,
    floating: bool = False,
) -> None:
    right = tensor.dim() == len(shape) and all(
        want in (None, got) for want, got in zip(shape, tensor.shape, strict=True)
    )
    typed = tensor.dtype == dtype if dtype is not None else tensor.is_floating_point() == floating
    if not (right and typed and tensor.numel()):
        wanted = "(" + ", ".join("any" if size is None else str(size) for size in shape) + ")"
        raise InvalidInput(
            f"{name} is {tensor.dtype} {tuple(tensor.shape)}",
            remedy=f"Give {dtype if dtype is not None else 'floating'} {wanted}, not empty.",
        )


def clip_edges(frames: int, *, count: int = 32) -> NDArray[np.int64]:
    """The first frame of every clip and the end of the last: (count + 1,), rounded half to even as the field does."""
    if frames < 1 or count < 1:
        raise InvalidInput(f"{frames} frames and {count} clips", remedy="Give at least one of each.")
    return np.minimum(np.round(np.arange(count + 1) / count * frames).astype(np.int64), frames - 1)


def uniform_clips(features: ArrayLike, *, count: int = 32) -> NDArray[np.float32]:
    """A video's frames averaged to `count` uniform clips (`average_to_fixed_length` of the field).

    Clip i is the mean of the frames from edge i to edge i + 1; where these are one (fewer frames than clips), the frame
    itself. As in the field, the very last frame belongs to no clip unless it stands alone.

    Args:
        features: (T, d), at least one row.
        count: M, clips wanted.

    Returns:
        float32 (M, d).

    Raises:
        InvalidInput: no frames, another shape, or values that are not finite.
    """
    rows = np.asarray(features, dtype=np.float32)
    if rows.ndim != 2 or not rows.size:
        raise InvalidInput(f"features have the shape {rows.shape}", remedy="Give (T, d) with at least one frame.")
    if not np.isfinite(rows).all():
        raise InvalidInput("features hold NaN or infinity", remedy="Leave those frames out, or compute them again.")
    edges = clip_edges(len(rows), count=count)
    first, last = edges[:-1], np.maximum(edges[1:], edges[:-1] + 1)
    sums = np.concatenate([np.zeros((1, rows.shape[1])), np.cumsum(rows, axis=0, dtype=np.float64)])  # (T+1, d)
    means: NDArray[np.float32] = ((sums[last] - sums[first]) / (last - first)[:, None]).astype(np.float32)
    return means
