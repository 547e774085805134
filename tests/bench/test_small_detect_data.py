"""Clips that the small detector trains on: an interrupted run goes on, to the clips that one run gives."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from trifocal.bench import small_detect_data
from trifocal.bench.small_detect import SMALL
from trifocal.bench.small_detect_data import ClipSet, SplitPlan, make_clips
from trifocal.errors import InvalidInput

if TYPE_CHECKING:
    from pathlib import Path

PLAN = SplitPlan(first_seed=5, videos=2, clips=1, duration_s=4.0, balanced=True)


def assert_same(left: ClipSet, right: ClipSet) -> None:
    for name in (field.name for field in fields(ClipSet) if field.init and field.name != "maps"):
        np.testing.assert_array_equal(getattr(left, name), getattr(right, name), err_msg=name)
    for here, there in zip(left.maps, right.maps, strict=True):
        np.testing.assert_array_equal(here, there)


def test_an_interrupted_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(small_detect_data, "_PART", 1)
    told: list[int] = []

    def stop_late(done: int, _: int) -> None:
        told.append(done)
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_clips(tmp_path / "parts", PLAN, SMALL, workers=1, progress=stop_late)
    parts = make_clips(tmp_path / "parts", PLAN, SMALL, workers=1, progress=lambda done, _: told.append(done))
    assert told == [1, 2, 2]  # the second video was not safe yet, the first was
    monkeypatch.undo()
    whole = make_clips(tmp_path / "whole", PLAN, SMALL, workers=2)
    assert_same(parts, whole)
    assert len(whole) == 2
    assert whole.valid.any()
    assert all(np.isfinite(level).all() and np.ptp(level) > 0 for level in whole.maps)

    with pytest.raises(InvalidInput, match="holds other clips"):
        make_clips(tmp_path / "whole", replace(PLAN, videos=3), SMALL)
