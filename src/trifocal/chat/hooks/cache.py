"""The cache layer that remembers what was merged, so that the memory travels with the cache and not with the model.

A `DynamicCache` may hold layers of unequal length. The first shortened one is a `MergedLayer`: an ordinary dynamic
layer that also holds how far positions moved, which entries are padding, and a `Record` of where each entry came from.
Copying, cropping, reordering and repeating the cache then do the right thing to it by themselves.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

from trifocal.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "MergedLayer",
    "Record",
    "another_question",
    "assisted_decoding",
    "check_cache",
    "fork",
    "merged_layer",
    "merged_state",
    "open_layer",
    "restore_merged",
]


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """Where the entries of the shortened layers came from; of the last prefill that merged.

    Attributes:
        source: `(B, S')` int64, the place of each entry in the prefill's sequence (a token's representative); -1 for
            padding.
        video: `(B, S')` int64, which of the prefill's videos; -1 for other tokens.
        frame: `(B, S')` int64, the frame of the representative; -1 for other tokens.
        assignments: for each video the token of every cell, `(T, H, W)` int64, -1 where none stands for it; token `n`
            is the `n`-th entry that `video` marks.
        next_position: `(B,)` int64, the position id that follows the prefill, as the model counts without merging.
        length: entries of an unshortened layer after the prefill.
        first: entries of a shortened layer before the prefill.
        merge_s: seconds that merging took.
        query_aware: whether what was kept depends on the question of that prefill.
    """

    source: torch.Tensor
    video: torch.Tensor
    frame: torch.Tensor
    assignments: tuple[torch.Tensor, ...]
    next_position: torch.Tensor
    length: int
    first: int
    merge_s: float = 0.0
    query_aware: bool = False

    def __deepcopy__(self, memo: dict[int, Any]) -> Record:
        """Itself: nothing in it is ever changed."""
        return self

    def rows(self, index: torch.Tensor) -> Record:
        """The record of other rows of the batch; the videos stay."""
        index = index.to(self.source.device)
        source, video, frame = (values.index_select(0, index) for values in (self.source, self.video, self.frame))
        following = self.next_position.index_select(0, index.to(self.next_position.device))
        return replace(self, source=source, video=video, frame=frame, next_position=following)


class MergedLayer(DynamicLayer):  # type: ignore[misc]
    """A dynamic layer with the memory of what was merged.

    Attributes:
        shift: `(B,)` int64, how much lower positions are in the shortened layers; None for not at all.
        keep: `(B, L)` bool, which entries are tokens and not padding; None for all of them.
        cut: entries that an unshortened first layer would have more. Set where the first layer itself is shortened, so
            that the cache reports the length that `generate` counts in.
        record: of the last prefill that merged; None before.
    """

    def __init__(self, *, cut_counts: bool) -> None:
        """Start empty; `cut_counts` for the first layer of a model."""
        super().__init__()
        self.cut_counts = cut_counts
        self.cut = 0
        self.shift: torch.Tensor | None = None
        self.keep: torch.Tensor | None = None
        self.record: Record | None = None

    def get_seq_length(self) -> int:
        """The entries, and for the first layer those that merging cut, too."""
        return self.entries + self.cut if self.cut_counts and self.entries else self.entries

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """The entries that attention sees after the next call, and their offset."""
        return self.entries + query_length, 0

    @property
    def entries(self) -> int:
        """How many keys there are."""
        return int(self.keys.shape[-2]) if self.is_initialized and self.keys.numel() else 0

    def reset(self) -> None:
        """Forget everything."""
        super().reset()
        self.cut, self.shift, self.keep, self.record = 0, None, None, None

    def activate_past_recording(self) -> None:
        """Refuse what asks for it.

        Raises:
            ModelError: always; only assisted decoding asks.
        """
        raise assisted_decoding()

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        """Take other rows, as a beam search does."""
        super().reorder_cache(beam_idx)
        self._take(beam_idx)

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Take some rows."""
        super().batch_select_indices(indices)
        self._take(torch.arange(self.rows)[indices.cpu()] if indices.dtype == torch.bool else indices)

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Take every row several times."""
        rows = torch.arange(self.rows).repeat_interleave(repeats)
        super().batch_repeat_interleave(repeats)
        self._take(rows)

    @property
    def rows(self) -> int:
        """The batch that the record is of."""
        return 0 if self.record is None else len(self.record.source)

    def _take(self, index: torch.Tensor) -> None:
        if self.shift is not None:
            self.shift = self.shift.index_select(0, index.to(self.shift.device))
        if self.keep is not None:
            self.keep = self.keep.index_select(0, index.to(self.keep.device))
        if self.record is not None:
            self.record = self.record.rows(index)


def assisted_decoding() -> ModelError:
    """The error for assisted decoding."""
    return ModelError(
        "Assisted decoding scores several tokens at a time, which a merged prompt does not support",
        remedy="Generate without an assistant model and without prompt_lookup_num_tokens, or remove() the hooks.",
    )


def another_question() -> ModelError:
    """The error for a second question behind a prefix that was shortened for the first."""
    return ModelError(
        "The video in the cache was shortened to what one question attends to, and is not there for another one",
        remedy="Prefill the video with each question anew; or merge with a method that does not look at the question, "
        "such as sttm.",
    )


def merged_layer(cache: object, layer: int) -> MergedLayer | None:
    """The memory in a cache, or None when nothing in it is merged."""
    if not isinstance(cache, DynamicCache) or layer >= len(cache.layers):
        return None
    held = cache.layers[layer]
    return held if isinstance(held, MergedLayer) and held.record is not None else None


def check_cache(cache: object) -> None:
    """Refuse a cache whose layers cannot be of unequal length.

    Raises:
        ModelError: it is static, quantised or of another unknown kind.
    """
    if cache is None:
        return
    plain = type(cache) is DynamicCache and all(
        type(held) in {DynamicLayer, MergedLayer} for held in getattr(cache, "layers", ())
    )
    if not plain:
        kinds = sorted({type(held).__name__ for held in getattr(cache, "layers", ())})
        raise ModelError(
            f"The cache is a {type(cache).__name__} ({', '.join(kinds) or 'no layers'}), whose layers cannot be of "
            "unequal length",
            remedy="Use a DynamicCache, the default of generate: leave cache_implementation out.",
        )


def open_layer(cache: Cache, layer: int) -> MergedLayer:
    """The `MergedLayer` at an index, put in the place of the plain one with what it holds."""
    while len(cache.layers) <= layer:
        cache.layers.append(DynamicLayer())
    held = cache.layers[layer]
    if isinstance(held, MergedLayer):
        return held
    merged = MergedLayer(cut_counts=layer == 0)
    if held.is_initialized:
        merged.dtype, merged.device = held.dtype, held.device
        merged.keys, merged.values, merged.is_initialized = held.keys, held.values, True
    cache.layers[layer] = merged
    return merged


def fork(cache: Cache) -> DynamicCache:
    """A cache that shares keys and values with another and grows on its own; as cheap as a list.

    A dynamic layer never writes into its tensors, it makes longer ones, so the other stays as it was.

    Raises:
        ModelError: the video was shortened for one question.
    """
    if _serves_one_question(cache):
        raise another_question()
    copied = DynamicCache()
    copied.layers = [copy.copy(held) for held in cache.layers]
    return copied


def merged_state(cache: Cache) -> dict[str, torch.Tensor]:
    """What a cache knows beyond keys and values, as tensors for a file; empty when nothing is merged.

    Raises:
        ModelError: the video was shortened for one question.
    """
    if _serves_one_question(cache):
        raise another_question()
    found = [held for held in cache.layers if isinstance(held, MergedLayer) and held.record is not None]
    if not found:
        return {}
    held = found[0]
    record = held.record
    assert record is not None
    tensors = {
        "numbers": torch.tensor([held.cut, record.length, record.first, record.merge_s], dtype=torch.float64),
        "source": record.source,
        "video": record.video,
        "frame": record.frame,
        "next_position": record.next_position,
    }
    tensors |= {f"assignment.{index}": cells for index, cells in enumerate(record.assignments)}
    tensors |= {name: value for name in ("shift", "keep") if (value := getattr(held, name)) is not None}
    return {name: value.contiguous() for name, value in tensors.items()}


def _serves_one_question(cache: Cache) -> bool:
    records = (held.record for held in cache.layers if isinstance(held, MergedLayer))
    return any(record is not None and record.query_aware for record in records)


def restore_merged(cache: Cache, *, layer: int, tensors: Mapping[str, torch.Tensor]) -> None:
    """Put back what `merged_state` gave, into a cache that holds the keys and values already.

    Raises:
        ModelError: something is missing from the tensors.
    """
    if not tensors:
        return
    try:
        cut, length, first, merge_s = tensors["numbers"].tolist()
        count = sum(name.startswith("assignment.") for name in tensors)
        record = Record(
            source=tensors["source"],
            video=tensors["video"],
            frame=tensors["frame"],
            assignments=tuple(tensors[f"assignment.{index}"] for index in range(count)),
            next_position=tensors["next_position"],
            length=int(length),
            first=int(first),
            merge_s=merge_s,
        )
    except (KeyError, ValueError) as error:
        raise ModelError(
            f"The state of a merged cache cannot be read ({error})", remedy="Prefill the video again."
        ) from error
    held = open_layer(cache, layer)
    held.cut, held.record = int(cut), record
    held.shift, held.keep = tensors.get("shift"), tensors.get("keep")
