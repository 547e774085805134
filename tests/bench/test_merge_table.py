"""The table of what merging costs: what is printed, and that the docs show it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from trifocal.bench.merge import main
from trifocal.bench.merge_table import METHODS, table

ROOT = Path(__file__).parents[2]
MEASURED = ROOT / "bench" / "merge"


def test_every_size_and_type_has_a_row() -> None:
    report = json.loads((MEASURED / "merge.json").read_text())
    lines = table(report).splitlines()
    videos = {(row["frames"], *row["grid"], row["dtype"]) for row in report["rows"]}
    assert len(lines) == 2 + len(videos) * len(METHODS)
    assert len({line.count("|") for line in lines}) == 1
    # The reference's figures stand where it was timed and nowhere else.
    timed = [line for line in lines[2:] if "not timed" not in line]
    assert all(line.startswith("| 128×14×14 float32 |") for line in timed)
    assert [line.split(" | ")[6] for line in timed] == ["2.05, 16.6", "3.5 to 3.7, 29"]


def test_a_row_is_what_was_measured() -> None:
    row = {
        "frames": 4, "grid": [2, 3], "dtype": "bfloat16", "method": METHODS[0], "tokens": 1234, "cpu_s": 0.05,
        "copies": 1.25, "operators": 70, "synchronisations": 1, "memory_beyond_input_and_output": 0.712,
    }  # fmt: skip
    other = {**row, "method": "reference (0.80, 0.60)"}
    *_, last = table({"product_1024_cpu_s": 0.02, "rows": [row, other]}).splitlines()
    assert last == "| 4×2×3 bfloat16 | (0.80, 0.60) | 1,234 | 0.050 | 2.5 | 1.25 | not timed | 70 | 1 | 0.71 |"


def test_the_docs_show_what_the_command_prints(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["merge", "--table", "--out", str(MEASURED)])
    main()
    printed = capsys.readouterr().out
    assert printed.strip() in (ROOT / "docs" / "methods" / "merging.md").read_text(encoding="utf-8"), (
        "put the output of python -m trifocal.bench.merge --table into docs/methods/merging.md"
    )
