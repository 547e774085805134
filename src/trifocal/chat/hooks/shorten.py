"""Shorten the hidden states of a batch: merge each video where it stands and close the gaps.

Rows may shrink by different amounts; the shorter ones are padded at the left, where padding disturbs nobody: a row's
last token stays last. Sizes are known from what merging returns, so nothing here waits for the device but the merging.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from trifocal.merging import FastvConfig

if TYPE_CHECKING:
    from trifocal.chat.hooks.spans import VideoSpan
    from trifocal.merging import MergeConfig, MergedTokens

__all__ = ["MergedVideo", "Shortened", "shorten"]


@dataclass(frozen=True, slots=True, eq=False)
class MergedVideo:
    """One video after merging.

    Attributes:
        span: where it was.
        tokens: what merging gave, without the features.
        slots: `(n,)` int64, the places in the original sequence that the tokens take, rising. A method that returns
            tokens out of order fills them in its order.
        columns: `(n,)` int64, where the tokens are in the shortened sequence.
    """

    span: VideoSpan
    tokens: MergedTokens
    slots: torch.Tensor
    columns: torch.Tensor

    @property
    def source(self) -> torch.Tensor:
        """The place of each token's representative in the original sequence, `(n,)`."""
        return self.span.cells.to(self.tokens.flat_index.device)[self.tokens.flat_index]


@dataclass(frozen=True, slots=True, eq=False)
class Shortened:
    """A batch after merging.

    Attributes:
        hidden: `(B, S', C)`.
        source: `(B, S')` int64, the place of each entry in the original sequence; 0 for padding.
        lengths: of the rows, without the padding that was added.
        videos: in the order of the spans.
        merge_s: seconds that merging took; on a GPU until the work was handed over.
    """

    hidden: torch.Tensor
    source: torch.Tensor
    lengths: tuple[int, ...]
    videos: tuple[MergedVideo, ...]
    merge_s: float

    def pads(self) -> torch.Tensor | None:
        """`(B, S')` bool, true for entries that are not padding that was added; None when none was."""
        longest = self.hidden.shape[1]
        if min(self.lengths) == longest:
            return None
        first = torch.tensor([longest - length for length in self.lengths], device=self.hidden.device)
        return torch.arange(longest, device=self.hidden.device) >= first[:, None]  # (B, S')

    def gather(self, values: torch.Tensor) -> torch.Tensor:
        """What has one entry per original place, `(B or 1, S, ...)`, at each entry's source: `(B, S', ...)`."""
        values = values.expand(len(self.lengths), *values.shape[1:])
        return torch.stack([row[source] for row, source in zip(values, self.source, strict=True)])


def shorten(
    hidden: torch.Tensor, *, spans: tuple[VideoSpan, ...], config: MergeConfig, attention: torch.Tensor | None = None
) -> Shortened:
    """Merge the videos of a batch.

    Args:
        hidden: `(B, S, C)`.
        spans: at least one; none overlap.
        config: how to merge; each video on its own.
        attention: what each row's last token attends to, `(B, S)`; for a method that is aware of the query.
    """
    device, length = hidden.device, hidden.shape[1]
    merged: list[tuple[MergedTokens, torch.Tensor]] = []
    started = time.perf_counter()
    for span in spans:
        places = span.cells.to(device, non_blocking=True)
        video = _video(hidden, span)
        if attention is not None and isinstance(config, FastvConfig):
            tokens = config.prune(video, attention=attention[span.row, places])
        else:
            tokens = config.merge(video)
        merged.append((tokens, places[tokens.flat_index.sort().values]))
    merge_s = time.perf_counter() - started
    rows, sources, columns = [], [], [torch.empty(0)] * len(spans)
    for row in range(hidden.shape[0]):
        here = [index for index, span in enumerate(spans) if span.row == row]
        is_text = torch.ones(length, dtype=torch.bool)
        for index in here:
            is_text[spans[index].cells] = False
        text = is_text.nonzero().flatten().to(device, non_blocking=True)
        slots = torch.cat([text, *(merged[index][1] for index in here)])
        order = slots.argsort()
        parts = [hidden[row].index_select(0, text), *(merged[index][0].features for index in here)]
        rows.append(torch.cat(parts).index_select(0, order) if here else hidden[row])
        source = torch.cat([text, *(_source(spans[index], merged[index][0], device) for index in here)])
        sources.append(source[order])
        place = order.argsort()
        first = len(text)
        for index in here:
            columns[index] = place[first : first + len(merged[index][0])]
            first += len(merged[index][0])
    lengths = tuple(len(row) for row in rows)
    longest = max(lengths)
    # A copy of the row's first entry pads better than zeros: it has the size that norms expect.
    padded = [torch.cat([row[:1].expand(longest - len(row), -1), row]) if len(row) < longest else row for row in rows]
    filled = [torch.nn.functional.pad(source, (longest - len(source), 0)) for source in sources]
    videos = tuple(
        MergedVideo(span, _without_features(tokens), slots, columns[index] + (longest - lengths[span.row]))
        for index, (span, (tokens, slots)) in enumerate(zip(spans, merged, strict=True))
    )
    # One row, the usual case, needs no copy more.
    states = padded[0][None] if len(padded) == 1 else torch.stack(padded)
    return Shortened(states, torch.stack(filled), lengths, videos, merge_s)


def _video(hidden: torch.Tensor, span: VideoSpan) -> torch.Tensor:
    row = hidden[span.row]
    if span.is_contiguous:
        first = int(span.cells[0])
        cells = row[first : first + len(span.cells)]
    else:
        cells = row.index_select(0, span.cells.to(row.device, non_blocking=True))
    return cells.view(*span.grid, -1)  # (T, H, W, C)


def _source(span: VideoSpan, tokens: MergedTokens, device: torch.device) -> torch.Tensor:
    return span.cells.to(device, non_blocking=True)[tokens.flat_index]


def _without_features(tokens: MergedTokens) -> MergedTokens:
    return replace(tokens, features=tokens.features.new_empty(len(tokens), 0))
