"""The search benchmark runs, on a size that takes no time, and its ways to multiply agree."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from trifocal.bench import search


def test_it_measures_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = torch.get_num_threads()
    try:
        search.main(["--videos", "40", "--threads", "1", "--queries", "3", "--out", str(tmp_path / "r.json")])
    finally:
        torch.set_num_threads(before)
    result = json.loads((tmp_path / "r.json").read_text())
    (row,) = result["searches"]
    assert row["prototypes"] == 40 * 32
    assert 0 < row["least_ms"] <= row["p50_ms"] <= row["p95_ms"]
    assert 32 * 384 * 2 <= row["bytes_per_video"] < 2 * 32 * 384 * 2
    errors = {way["way"]: way["largest_error"] for way in result["ways"]}
    assert all(error < (1e-6 if "widened" in way or "float32" in way else 1e-2) for way, error in errors.items())
    assert "float16 widened" in capsys.readouterr().out
