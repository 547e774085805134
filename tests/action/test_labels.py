"""Labels in memory: frames counted on another grid."""

from __future__ import annotations

import numpy as np
import pytest

from trifocal.action.labels import VideoLabels
from trifocal.errors import InvalidInput


def seconds(*at: float, rate: float = 1000.0) -> VideoLabels:
    """A box in each second, and one more second that was looked at."""
    indices = np.rint(np.array(at) * rate).astype(np.int64)
    rows = len(indices)
    return VideoLabels(
        "v", indices, np.ones((rows, 4), np.float32), np.zeros(rows, np.int64), np.ones((rows, 1), np.bool_), rate,
        labelled=np.array([int(3 * rate)]), excluded=np.array([int(2 * rate)]),
    )  # fmt: skip


def test_seconds_become_frames_of_the_video() -> None:
    moved = seconds(0.04, 2.0).on_grid(25.0)
    assert (moved.indices.tolist(), moved.rate, moved.rate_told) == ([1, 50], 25.0, True)
    assert moved.labelled is not None
    assert moved.labelled.tolist() == [1, 50, 75]
    assert moved.excluded.tolist() == [50]


def test_a_video_that_was_cut_out_of_a_film() -> None:
    assert seconds(2.5).on_grid(10.0, start_s=-2.0).indices.tolist() == [5]
    with pytest.raises(InvalidInput, match=r"v has a label at -1\.500 s"):
        seconds(0.5).on_grid(10.0, start_s=-2.0)


def test_two_moments_of_one_frame_are_refused() -> None:
    with pytest.raises(InvalidInput, match=r"the seconds 1\.0000 and 1\.0100 of v fall on one frame at 25 a second"):
        seconds(1.0, 1.01).on_grid(25.0)
