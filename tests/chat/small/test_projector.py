from __future__ import annotations

import pytest
import torch

from trifocal.chat.prompt import PromptStyle, Tokens, Words
from trifocal.chat.small.field import field_parts, joined, video_field
from trifocal.chat.small.projector import Projector, ProjectorConfig
from trifocal.errors import InvalidInput
from trifocal.merging import METHODS, configure

CONFIG = ProjectorConfig(features=6, colours=3, width=8)


@pytest.fixture
def projector() -> Projector:
    torch.manual_seed(0)
    made = Projector(CONFIG)
    torch.nn.init.normal_(made.linear.weight)
    torch.nn.init.normal_(made.place.weight)
    return made


def test_untrained_it_gives_nothing() -> None:
    made = Projector(CONFIG)
    assert not made(torch.randn(2, 3, 3, 9)).any()
    assert not made.places([0.5, 1.5], grid=(3, 3)).any()


def test_a_token_is_of_its_cell_and_its_frame(projector: Projector) -> None:
    cells = torch.randn(2, 2, 3, 9)
    tokens = projector(cells)
    assert tokens.shape == (2, 2, 3, 8)
    by_hand = torch.cat([cells[1, 0, 2], cells[1, ..., :6].mean(dim=(0, 1))])
    torch.testing.assert_close(tokens[1, 0, 2], projector.linear(by_hand))
    changed = cells.clone()
    changed[1, 1, 1] += 1
    assert torch.equal(projector(changed)[0], tokens[0])
    assert not torch.allclose(projector(changed)[1, 0, 0], tokens[1, 0, 0])


def test_half_precision_cells_are_taken(projector: Projector) -> None:
    cells = torch.randn(1, 2, 2, 9).half()
    torch.testing.assert_close(projector(cells), projector(cells.float()))


def test_places_differ_by_time_row_and_column(projector: Projector) -> None:
    places = projector.places([0.5, 4.0, 9.5], grid=(2, 2)).flatten(0, 2)
    assert places.shape == (12, 8)
    distances = torch.cdist(places, places) + 10 * torch.eye(12)
    assert distances.min() > 1e-3


@pytest.mark.parametrize("shape", [(2, 3, 9), (2, 3, 3, 8), (0, 3, 3, 9)])
def test_another_shape_is_refused(projector: Projector, shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidInput, match="Give"):
        projector(torch.zeros(shape))


def test_bad_sizes_are_refused() -> None:
    with pytest.raises(InvalidInput, match="width is 0"):
        ProjectorConfig(width=0)


@pytest.mark.parametrize("method", sorted(METHODS))
def test_a_merged_field_is_means_of_cells(projector: Projector, method: str) -> None:
    cells, times_s = torch.randn(8, 4, 4, 9), [float(second) for second in range(8)]
    budget = 1.0 if method == "octree" else 0.5
    config = configure(method, budget=budget)
    field = video_field(projector, cells, times_s=times_s, merge=config)
    assert field.cells == 128
    assert len(field.tokens) <= 128 * budget
    assert field.frame_of.tolist() == sorted(field.frame_of.tolist())
    merged = config.merge(projector(cells).detach())
    expected = merged.features + merged.pool(projector.places(times_s, grid=(4, 4)))
    torch.testing.assert_close(field.tokens, expected, atol=1e-4, rtol=1e-4)
    assert field.tokens.requires_grad


def test_time_does_not_keep_a_still_picture_from_merging(projector: Projector) -> None:
    still = torch.randn(1, 4, 4, 9).expand(8, -1, -1, -1)
    merge = configure("sttm", spatial_threshold=1.0, temporal_threshold=0.9999)
    field = video_field(projector, still, times_s=range(8), merge=merge)
    assert len(field.tokens) == 16


def test_parts_follow_the_frames() -> None:
    tokens = torch.arange(2 * 1 * 2 * 4, dtype=torch.float32).view(2, 1, 2, 4)
    field = joined(tokens, torch.zeros_like(tokens))
    names = torch.ones(2, 4)
    parts = field_parts(PromptStyle(), field, names=names)
    style = PromptStyle()
    words = [part.text for part in parts if isinstance(part, Words)]
    assert words == [style.video, style.separator, style.video_end, style.frames]
    assert [part.frame for part in parts if isinstance(part, Tokens)] == [-1, -1, 0, 1]
    assert torch.equal(parts[-1].embeddings, tokens[1, 0])  # type: ignore[union-attr]  # the last part is tokens
    assert isinstance(field_parts(style, field, names=names[:0])[0], Words)
