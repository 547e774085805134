"""One forward call of the text model on its way through the layers.

A `Run` is made for each call that merges, or that goes on from a cache with something merged in it; other calls are not
touched. It travels to the layers as a keyword argument, so nothing is kept in the model and calls may run at the same
time. The first shortened layer fills in what all later ones get: positions, mask, and in a prefill the memory in the
cache.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from transformers.masking_utils import create_causal_mask

from trifocal.chat.hooks.cache import MergedLayer, Record, check_cache, merged_layer, open_layer
from trifocal.chat.hooks.positions import average_rotation, following_id, reassign
from trifocal.chat.hooks.shorten import MergedVideo, Shortened, shorten

if TYPE_CHECKING:
    from transformers.cache_utils import Cache

    from trifocal.chat.hooks.positions import Positions
    from trifocal.chat.hooks.spans import VideoSpan
    from trifocal.merging import MergeConfig

__all__ = ["DeepStack", "Plan", "Run", "Usage"]

Rotation = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a handle was told.

    Attributes:
        config: how to merge.
        layer: in front of which layer.
        positions: which positions the shortened sequence has.
        mended: whether generated tokens continue where the merged prompt ends.
    """

    config: MergeConfig
    layer: int
    positions: Positions
    mended: bool


@dataclass(frozen=True, slots=True, eq=False)
class Usage:
    """What the last prefill with a video came to, over all rows of its batch.

    Attributes:
        video_tokens_before: cells of the videos.
        video_tokens_after: tokens that stand for them.
        prompt_tokens_before: places of the prefill, padding included.
        prompt_tokens_after: the same in the shortened layers.
        merge_s: seconds that merging took.
        videos: each of them.
    """

    video_tokens_before: int
    video_tokens_after: int
    prompt_tokens_before: int
    prompt_tokens_after: int
    merge_s: float
    videos: tuple[MergedVideo, ...]

    @property
    def share(self) -> float:
        """Video tokens kept."""
        return self.video_tokens_after / self.video_tokens_before


@dataclass(slots=True, eq=False)
class DeepStack:
    """Visual features that a model adds behind its first layers, taken over where these are shortened.

    Attributes:
        is_visual: `(B, S)` bool.
        features: for each of the first layers `(visual tokens, C)`.
    """

    is_visual: torch.Tensor
    features: list[torch.Tensor]

    def add(self, hidden: torch.Tensor, *, layer: int, short: Shortened | None) -> torch.Tensor:
        """The output of a layer with its features, merged as the video was once it is."""
        is_visual, features = self.is_visual.to(hidden.device), self.features[layer].to(hidden)
        if short is None:
            hidden = hidden.clone()
            hidden[is_visual] = hidden[is_visual] + features
            return hidden
        dense = hidden.new_zeros(*is_visual.shape, hidden.shape[-1])
        dense[is_visual] = features
        added = short.gather(dense)  # (B, S', C)
        for video in short.videos:
            cells = dense[video.span.row, video.span.cells.to(dense.device)].view(*video.span.grid, -1)
            added[video.span.row, video.columns] = video.tokens.pool(cells)
        real = short.pads()
        return hidden + (added if real is None else added * real[..., None])


@dataclass(slots=True, eq=False)
class Run:
    """See the module."""

    plan: Plan
    config: Any
    rotary: Any
    spans: tuple[VideoSpan, ...]
    position_ids: torch.Tensor
    attention_mask: torch.Tensor | None
    deepstack: DeepStack | None = None
    attention: torch.Tensor | None = None
    short: Shortened | None = None
    usage: Usage | None = None
    _shared: dict[str, Any] = field(default_factory=dict)

    def enter(self, layer: int, hidden: torch.Tensor, options: dict[str, Any]) -> torch.Tensor:
        """What a layer gets: its hidden states, and its keyword arguments changed in place."""
        if self.deepstack is not None and 0 < layer <= len(self.deepstack.features):
            hidden = self.deepstack.add(hidden, layer=layer - 1, short=self.short)
        if layer < self.plan.layer:
            return hidden
        if layer == self.plan.layer:
            hidden = self._begin(hidden, options)
        options.update(self._shared)
        return hidden

    def real_keys(self, count: int) -> torch.Tensor | None:
        """Which of the first `count` keys of an unshortened layer are no padding, `(B, count)` bool; None for all."""
        mask = self.attention_mask
        return None if mask is None else mask[:, :count].bool()

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _begin(self, hidden: torch.Tensor, options: dict[str, Any]) -> torch.Tensor:
        cache: Cache | None = options.get("past_key_values")
        memory = merged_layer(cache, self.plan.layer)
        cosines, sines = options["position_embeddings"]
        rotation: Rotation = (cosines.to(hidden.device), sines.to(hidden.device))
        ids = self.position_ids.to(hidden.device)
        if memory is not None and memory.shift is not None:
            ids = ids - memory.shift.to(ids.device)[:, None]
            rotation = self.rotary(hidden, ids)
        shift: torch.Tensor | None = None
        new = self._new_columns(hidden)
        if self.spans:
            self.short = short = shorten(hidden, spans=self.spans, config=self.plan.config, attention=self.attention)
            self.attention = None
            if self.plan.positions == "reassign":
                ids, shift = reassign(ids.expand(*ids.shape[:-2], len(hidden), ids.shape[-1]), short=short)
                rotation = self.rotary(short.hidden, ids)
            elif self.plan.positions == "survive":
                rotation = (short.gather(rotation[0]), short.gather(rotation[1]))
            else:
                rotation = (
                    average_rotation(rotation[0], short=short),
                    average_rotation(rotation[1], short=short),
                )
            new = self._shortened_columns(new, short)
            self.usage = _usage(short, before=hidden.shape[:2])
        seen = _keys(cache, self.plan.layer)
        length = hidden.shape[1]
        if self.short is not None:
            hidden = self.short.hidden
            # What comes after needs to know places and sizes, and the states would stay until the last layer is done.
            self.short = replace(self.short, hidden=hidden.new_empty(*hidden.shape[:2], 0))
        past = _past_columns(memory, self.attention_mask, seen=seen, device=hidden.device)
        keep = _joined(past, new, like=hidden, seen=seen)
        mask = create_causal_mask(
            config=self.config,
            inputs_embeds=hidden,
            attention_mask=keep,
            past_key_values=_Lengths(seen),
            layer_idx=self.plan.layer,
        )
        if self.short is not None and cache is not None:
            self._remember(open_layer(cache, self.plan.layer), shift=shift, seen=seen, length=length)
        if (kept := merged_layer(cache, self.plan.layer)) is not None:
            kept.keep = keep
        # Positions reached the layers through the rotation. Attention backends would take gaps for packed sequences.
        self._shared = {"attention_mask": mask, "position_embeddings": rotation, "position_ids": None}
        return hidden

    def _new_columns(self, hidden: torch.Tensor) -> torch.Tensor | None:
        """Which of this call's tokens are no padding, `(B, S)` bool; None for all."""
        mask = self.attention_mask
        if mask is None or (hidden.shape[1] == 1 and not self.spans):
            return None
        new = mask[:, -hidden.shape[1] :].to(device=hidden.device, dtype=torch.bool)
        return None if bool(new.all()) else new

    @staticmethod
    def _shortened_columns(new: torch.Tensor | None, short: Shortened) -> torch.Tensor | None:
        pads = short.pads()
        if new is None:
            return pads
        new = short.gather(new)
        return new if pads is None else new & pads

    def _remember(self, memory: MergedLayer, *, shift: torch.Tensor | None, seen: int, length: int) -> None:
        short = self.short
        assert short is not None
        ids = self.position_ids.to(short.source.device)
        if self.plan.mended and shift is not None:
            memory.shift = shift if memory.shift is None else memory.shift.to(shift.device) + shift
        following = following_id(ids[..., -1], three=ids.dim() == 3)  # (B,)
        source, pads = short.source, short.pads()
        video = torch.full_like(source, -1)
        frame = torch.full_like(source, -1)
        for index, found in enumerate(short.videos):
            video[found.span.row, found.columns] = index
            frame[found.span.row, found.columns] = found.tokens.boxes[:, 0]
        memory.cut += length - short.hidden.shape[1]
        memory.record = Record(
            source=source if pads is None else source.masked_fill(~pads, -1),
            video=video,
            frame=frame,
            assignments=tuple(found.tokens.assignment for found in short.videos),
            next_position=following.expand(len(source)),
            length=seen + memory.cut + short.hidden.shape[1],
            first=seen,
            merge_s=short.merge_s,
            query_aware=self.plan.config.query_aware,
        )


@dataclass(frozen=True, slots=True)
class _Lengths:
    """As much of a cache as the making of a mask asks for: every layer's, and the shortened ones', lengths differ."""

    seen: int
    is_compileable: bool = False

    def get_query_offset(self, _layer: int) -> int:
        """How many keys are there already."""
        return self.seen

    def get_mask_sizes(self, query_length: int, _layer: int) -> tuple[int, int]:
        """How many keys attention will see."""
        return self.seen + query_length, 0


def _keys(cache: Cache | None, layer: int) -> int:
    check_cache(cache)
    if cache is None or layer >= len(cache.layers):
        return 0
    held = cache.layers[layer]
    return held.entries if isinstance(held, MergedLayer) else int(held.get_seq_length())


def _past_columns(
    memory: MergedLayer | None, attention_mask: torch.Tensor | None, *, seen: int, device: torch.device
) -> torch.Tensor | None:
    """Which keys of earlier calls are no padding, `(B, seen)` bool; None for all."""
    if not seen:
        return None
    if memory is not None:
        return None if memory.keep is None else memory.keep[:, :seen].to(device)
    # Nothing was merged so far, so the mask of the whole prompt has a column for each key.
    if attention_mask is None or bool(attention_mask[:, :seen].all()):
        return None
    return attention_mask[:, :seen].to(device=device, dtype=torch.bool)


def _joined(
    past: torch.Tensor | None, new: torch.Tensor | None, *, like: torch.Tensor, seen: int
) -> torch.Tensor | None:
    """Both stretches of columns for the hidden states `like (B, S, C)`, `(B, seen + S)`; None for no padding at all."""
    if past is None and new is None:
        return None
    ones = partial(torch.ones, dtype=torch.bool, device=like.device)
    past = ones(len(like), seen) if past is None else past
    new = ones(*like.shape[:2]) if new is None else new
    return torch.cat([past, new], dim=1)


def _usage(short: Shortened, *, before: tuple[int, ...]) -> Usage:
    return Usage(
        video_tokens_before=sum(len(video.span.cells) for video in short.videos),
        video_tokens_after=sum(len(video.columns) for video in short.videos),
        prompt_tokens_before=before[0] * before[1],
        prompt_tokens_after=short.hidden.shape[0] * short.hidden.shape[1],
        merge_s=short.merge_s,
        videos=short.videos,
    )
