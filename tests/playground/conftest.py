"""Videos that several test modules look at."""

from __future__ import annotations

import pytest

from trifocal.playground import Truth, VideoSpec, compose, truth


@pytest.fixture(scope="session")
def minute() -> VideoSpec:
    return compose(11, duration_s=60, size=(120, 160), fps=10)


@pytest.fixture(scope="session")
def minute_truth(minute: VideoSpec) -> Truth:
    return truth(minute)
