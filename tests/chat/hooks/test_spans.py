from __future__ import annotations

import pytest
import torch

from trifocal.chat.hooks.spans import VideoSpan, check_spans, runs_of, spans_by_count
from trifocal.errors import InvalidInput, ModelError


def test_a_contiguous_span() -> None:
    span = VideoSpan.contiguous(3, (2, 1, 2), row=1)
    assert span.cells.tolist() == [3, 4, 5, 6]
    assert span.row == 1
    assert span.is_contiguous
    assert not VideoSpan(torch.tensor([0, 2]), (2, 1, 1)).is_contiguous


@pytest.mark.parametrize(
    ("cells", "grid", "row"),
    [
        ([0, 1, 2], (1, 2, 2), 0),
        ([0, 2, 1, 3], (1, 2, 2), 0),
        ([0, 1, 1, 3], (1, 2, 2), 0),
        ([-1, 0], (1, 1, 2), 0),
        ([0, 1], (1, 1, 2), -1),
        ([], (0, 1, 1), 0),
    ],
)
def test_what_is_no_span(cells: list[int], grid: tuple[int, int, int], row: int) -> None:
    with pytest.raises(InvalidInput):
        VideoSpan(torch.tensor(cells, dtype=torch.long), grid, row)


def test_runs() -> None:
    assert runs_of(torch.tensor([2, 3, 4, 7, 9, 10])) == [(2, 5), (7, 8), (9, 11)]
    assert runs_of(torch.tensor([4])) == [(4, 5)]
    assert runs_of(torch.tensor([], dtype=torch.long)) == []


def marked(*rows: str) -> torch.Tensor:
    return torch.tensor([[letter == "v" for letter in row] for row in rows])


def test_places_go_to_videos_in_turn() -> None:
    found = spans_by_count(marked("avvvvb.vvn", "ccvvvvvv.."), [(1, 2, 2), (2, 1, 1), (3, 1, 2)])
    assert [(span.row, span.cells.tolist()) for span in found] == [
        (0, [1, 2, 3, 4]),
        (0, [7, 8]),
        (1, [2, 3, 4, 5, 6, 7]),
    ]


def test_what_follows_a_video_is_left_out() -> None:
    found = spans_by_count(marked("avvvvvvb"), [(1, 1, 2), (1, 1, 2)], extra=1)
    assert [span.cells.tolist() for span in found] == [[1, 2], [4, 5]]


def test_a_later_turn_may_name_earlier_videos() -> None:
    (span,) = spans_by_count(marked("abvvvvvv"), [(9, 9, 9), (3, 1, 2)])
    assert span.grid == (3, 1, 2)


def test_repeated_rows_share_their_grids() -> None:
    rows = ("vv.vvv", "vv.vvv", "..vvvv", "..vvvv")
    found = spans_by_count(marked(*rows), [(2, 1, 1), (3, 1, 1), (1, 2, 2)])
    assert sorted((span.row, span.grid) for span in found) == [
        (0, (2, 1, 1)),
        (0, (3, 1, 1)),
        (1, (2, 1, 1)),
        (1, (3, 1, 1)),
        (2, (1, 2, 2)),
        (3, (1, 2, 2)),
    ]


@pytest.mark.parametrize(
    ("rows", "grids", "message"),
    [
        (("avvvb",), [(1, 2, 2)], "3 video tokens and the grids of the videos have none"),
        (("avvvvvb",), [(1, 2, 2)], "5 video tokens and the grids of the videos have 1×2×2"),
        (("..vv", "vv.."), [(1, 2, 2)], "across two rows"),
    ],
)
def test_grids_that_do_not_fit(rows: tuple[str, ...], grids: list[tuple[int, int, int]], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        spans_by_count(marked(*rows), grids)


def test_spans_must_lie_in_the_input() -> None:
    one, other = VideoSpan.contiguous(2, (1, 2, 2)), VideoSpan.contiguous(5, (1, 2, 2))
    check_spans((one, VideoSpan.contiguous(6, (1, 2, 2))), batch=1, length=10)
    for spans, batch, length in (((one,), 1, 5), ((VideoSpan.contiguous(0, (1, 1, 1), row=1),), 1, 5)):
        with pytest.raises(InvalidInput, match="ends at place"):
            check_spans(spans, batch=batch, length=length)
    with pytest.raises(InvalidInput, match="share places"):
        check_spans((one, other), batch=1, length=20)
