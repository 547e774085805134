"""Fixtures that every package's tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of shared inputs beside the checkout; absent on most machines, required under CI."""
    folder = Path(__file__).parents[1].parent / "shared"
    if not folder.is_dir():
        if os.environ.get("CI"):
            pytest.fail(f"{folder.name}/ is not beside the checkout, and under CI its tests must run")
        pytest.skip("no shared inputs beside the checkout")
    return folder
