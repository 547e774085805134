"""Hidden states and positions of a shortened batch, against loops and hand-written numbers."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from trifocal.chat.hooks.positions import average_rotation, reassign
from trifocal.chat.hooks.shorten import shorten
from trifocal.chat.hooks.spans import VideoSpan
from trifocal.merging import METHODS, MergeConfig, configure, merge

HALF = configure("sttm", budget=0.5, root_level=0)


def batch(rows: int, length: int, channels: int = 8) -> torch.Tensor:
    random = torch.Generator().manual_seed(4)
    return torch.randn(rows, length, channels, generator=random)


def by_loop(row: torch.Tensor, spans: list[VideoSpan], config: MergeConfig) -> tuple[torch.Tensor, list[int]]:
    """Hidden states and sources, a place at a time."""
    taken: dict[int, tuple[torch.Tensor, int] | None] = {int(cell): None for span in spans for cell in span.cells}
    for span in spans:
        x = torch.stack([row[cell] for cell in span.cells]).view(*span.grid, -1)
        tokens = merge(x, config)
        slots = sorted(int(span.cells[flat]) for flat in tokens.flat_index)
        for slot, feature, flat in zip(slots, tokens.features, tokens.flat_index, strict=True):
            taken[slot] = (feature, int(span.cells[flat]))
    states, sources = [], []
    for place, state in enumerate(row):
        if place not in taken:
            states.append(state)
            sources.append(place)
        elif (kept := taken[place]) is not None:
            states.append(kept[0])
            sources.append(kept[1])
    return torch.stack(states), sources


GAPS = torch.cat([torch.arange(4, 8), torch.arange(10, 14), torch.arange(16, 20)])


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_closes_the_gaps(method: str) -> None:
    options: dict[str, Any] = {
        "sttm": {"budget": 0.5, "root_level": 0},
        "octree": {"spatial_threshold": 0.0, "root_level": 0},
        "pyramid": {"size": 2},
        "dycoke": {"budget": 0.75},
    }
    config = configure(method, **options.get(method, {"budget": 0.5}))
    hidden = batch(3, 60)
    spans = (
        VideoSpan.contiguous(2, (3, 4, 4), row=0),
        VideoSpan.contiguous(20, (2, 4, 4), row=2),
        VideoSpan(torch.arange(0, 48)[torch.arange(48) % 24 >= 8] // 1, (2, 4, 4), row=1),
    )
    short = shorten(hidden, spans=spans, config=config)
    longest = max(short.lengths)
    assert short.hidden.shape == (3, longest, 8)
    for row in range(3):
        states, sources = by_loop(hidden[row], [span for span in spans if span.row == row], config)
        pad = longest - len(states)
        assert short.lengths[row] == len(states)
        assert torch.equal(short.hidden[row, pad:], states)
        assert short.source[row, pad:].tolist() == sources
    for video in short.videos:
        assert short.source[video.span.row, video.columns].tolist() == video.source.tolist()


def test_two_videos_in_a_row_and_none_in_another() -> None:
    hidden = batch(2, 40)
    spans = (VideoSpan(GAPS, (3, 2, 2)), VideoSpan.contiguous(24, (2, 2, 2)))
    short = shorten(hidden, spans=spans, config=HALF)
    states, sources = by_loop(hidden[0], list(spans), HALF)
    pads = short.pads()
    assert pads is not None
    assert short.lengths == (len(states), 40)
    assert pads.sum(1).tolist() == list(short.lengths)
    assert torch.equal(short.hidden[1], hidden[1])
    assert torch.equal(short.hidden[0][pads[0]], states)
    assert short.source[0][pads[0]].tolist() == sources


def uniform(*spans: VideoSpan, length: int, rows: int = 1) -> Any:
    """Keep the middle one of three frames: kept places are known without looking."""
    return shorten(batch(rows, length), spans=spans, config=configure("uniform", budget=1 / 3))


def test_reassigned_positions_have_no_gaps() -> None:
    short = uniform(VideoSpan.contiguous(2, (3, 1, 2)), VideoSpan.contiguous(9, (3, 1, 1)), length=14)
    ids, shift = reassign(torch.arange(14)[None], short=short)
    assert ids.tolist() == [list(range(8))]
    assert shift.tolist() == [6]
    later, shift = reassign(torch.arange(100, 114)[None], short=short)
    assert later.tolist() == [list(range(100, 108))]
    assert shift.tolist() == [6]


def test_reassigned_positions_with_text_between_frames() -> None:
    span = VideoSpan(torch.tensor([1, 2, 4, 5, 7, 8]), (3, 1, 2))
    ids, shift = reassign(torch.arange(10)[None], short=uniform(span, length=10))
    assert ids.tolist() == [[0, 1, 2, 3, 4, 5]]
    assert shift.tolist() == [4]


def test_reassigned_positions_of_padded_rows() -> None:
    """A row's padding has no position of its own; its text counts from 0."""
    ids = torch.tensor([[0, 0, 0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5, 6, 7]])
    short = uniform(VideoSpan.contiguous(3, (3, 1, 1), row=0), length=8, rows=2)
    new, shift = reassign(ids, short=short)
    assert new[0, 2:].tolist() == [0, 0, 0, 1, 2, 3]
    assert new[1].tolist() == list(range(8))
    assert shift.tolist() == [2, 0]


def test_reassigned_positions_in_three_numbers() -> None:
    """A 3×1×2 video from position 2 on takes 2 positions of M-RoPE (its width); two tokens kept take two."""
    video = torch.tensor([[2, 2, 3, 3, 4, 4], [2, 2, 2, 2, 2, 2], [2, 3, 2, 3, 2, 3]])
    ids = torch.cat([torch.arange(2).expand(3, -1), video, torch.arange(4, 7).expand(3, -1)], dim=1)[:, None]
    new, shift = reassign(ids, short=uniform(VideoSpan.contiguous(2, (3, 1, 2)), length=11))
    assert new[:, 0].tolist() == [[0, 1, 2, 3, 4, 5, 6]] * 3
    assert shift.tolist() == [0]
    ended, shift = reassign(ids[..., :8], short=uniform(VideoSpan.contiguous(2, (3, 1, 2)), length=8))
    assert ended[:, 0].tolist() == [[0, 1, 2, 3]] * 3
    assert shift.tolist() == [0]


def test_averaged_rotation_is_the_mean_over_members() -> None:
    hidden = torch.zeros(1, 20, 8)
    hidden[0, 4:20] = torch.eye(8)[torch.tensor([0, 0, 1, 1, 0, 0, 1, 1, 2, 2, 3, 3, 2, 2, 3, 3])]
    short = shorten(
        hidden,
        spans=(VideoSpan.contiguous(4, (1, 4, 4)),),
        config=configure("sttm", spatial_threshold=0.9, root_level=0),
    )
    assert short.hidden.shape[1] == 8
    rotation = torch.arange(20.0)[None, :, None].expand(1, 20, 2)
    averaged = average_rotation(rotation, short=short)
    expected = [0, 1, 2, 3, *(4 + (2 * a + 8 * b) + 2.5 for b in (0, 1) for a in (0, 1))]
    assert torch.allclose(averaged[0, :, 0], torch.tensor(expected))
