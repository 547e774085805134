"""Contact sheets: the right pictures at the right places, and labels that fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from trifocal.errors import InvalidInput
from trifocal.video import contact_sheet, timestamp


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00.0"), (7.46, "0:07.5"), (59.96, "1:00.0"), (750, "12:30.0"), (3723.4, "1:02:03.4"), (-1, "0:00.0")],
)
def test_timestamps(seconds: float, text: str) -> None:
    assert timestamp(seconds) == text


def test_pictures_stand_in_rows() -> None:
    images = np.stack([np.full((90, 160, 3), 20 + 30 * i, np.uint8) for i in range(5)])
    sheet = contact_sheet(images, columns=3, width=160)
    assert sheet.dtype == np.uint8
    found = [int(sheet[y, x, 0]) for y in (60, 160) for x in (80, 250, 420)]
    assert found[:5] == [20, 50, 80, 110, 140]
    assert found[5] > 240  # an empty place is paper


def test_labels_and_title_add_ink_and_room() -> None:
    images = [np.full((90, 160, 3), 128, np.uint8)] * 4
    plain = contact_sheet(images, width=160)
    labelled = contact_sheet(images, width=160, times_s=[0, 1.5, 3, 4.5], title="A walk in the park")
    assert labelled.shape[0] > plain.shape[0]
    assert labelled.shape[1] == plain.shape[1]
    assert (labelled < 60).any()
    assert not (plain < 60).any()
    long = contact_sheet(images, width=160, labels=["a very long caption that cannot possibly fit here"] * 4)
    assert long.shape[1] == plain.shape[1]


def test_pictures_of_several_shapes() -> None:
    images = [np.zeros((h, w, 3), np.uint8) for h, w in ((10, 100), (100, 10), (33, 51), (1, 1))]
    assert contact_sheet(images, width=64).ndim == 3


@pytest.mark.parametrize(
    ("images", "values", "words"),
    [
        ([], {}, "no pictures"),
        ([np.zeros((4, 4, 3), np.uint8)], {"labels": ["a", "b"]}, "2 labels are given for 1"),
        ([np.zeros((4, 4, 3), np.uint8)], {"columns": 0}, "columns is 0"),
        ([np.zeros((4, 4, 3), np.uint8)], {"width": 1}, "width is 1"),
        ([np.zeros((4, 4), np.uint8)], {}, r"a picture is uint8 \(4, 4\)"),
        ([np.zeros((4096, 4096, 3), np.uint8)] * 9, {"width": 4096}, "the sheet would have"),
    ],
)
def test_wrong_sheets_are_told(images: Any, values: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        contact_sheet(images, **values)
