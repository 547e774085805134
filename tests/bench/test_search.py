"""The search benchmark runs, on a size that takes no time, and its ways to multiply agree."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from trifocal.bench import search


def test_it_measures_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, scratch = tmp_path / "r.json", tmp_path / "scratch"
    words = ["--videos", "40", "--threads", "1", "--queries", "3", "--out", str(out), "--scratch", str(scratch)]
    before = torch.get_num_threads()
    try:
        search.main([*words, "--shortlists", "10"])
    finally:
        torch.set_num_threads(before)
    rows = json.loads(out.read_text())["rows"]
    ways = [(row["codes"], row["shortlist"]) for row in rows]
    assert ways == [(None, None), ("binary", 10), ("binary", 1000), ("int8", 10), ("int8", 200)]
    exact = rows[0]
    assert exact["prototypes"] == 40 * 32
    for row in rows:
        assert 0 < row["least_ms"] <= row["p50_ms"] <= row["p95_ms"]
        assert row["recall_at_10"] == 1 or row["shortlist"] == 10
        assert {"load_before", "load_after", "build_with_all_codes_s"} <= row.keys()
        assert 32 * 384 * 2 <= row["bytes"] / 40 < 2 * 32 * 384 * 2
    assert exact["bytes"] < rows[1]["bytes"] < rows[3]["bytes"]
    errors = {way["way"]: way["largest_error"] for way in json.loads((tmp_path / "ways.json").read_text())["rows"]}
    assert all(error < (1e-6 if "widened" in way or "float32" in way else 1e-2) for way, error in errors.items())
    assert "float16 widened" in capsys.readouterr().out
    search.main([*words, "--shortlists", "10"])  # all of it is there
    assert capsys.readouterr().out == ""
    old = json.loads(out.read_text())["rows"]
    before = torch.get_num_threads()
    try:
        search.main([*words, "--shortlists", "10", "--again", "int8"])
    finally:
        torch.set_num_threads(before)
    assert [json.loads(line)["codes"] for line in capsys.readouterr().out.splitlines()] == ["int8", "int8"]
    again = json.loads(out.read_text())["rows"]
    assert [row == new for row, new in zip(old, again, strict=True)] == [True, True, True, False, False]
    with pytest.raises(SystemExit):
        search.main([*words, "--again", "none"])
    assert "--again none: the ways are exact, int8, binary" in capsys.readouterr().err
    search.main(["--table", "--out", str(out)])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + len(rows)
    assert "binary, 1,000 (default)" in lines[4]
