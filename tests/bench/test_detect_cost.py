"""The cost bench goes on where it stopped, and keeps settings apart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from trifocal.bench import detect_cost


def test_settings_have_files_of_their_own_and_cases_are_measured_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, bool, float | None]] = []

    def measured(case: str, *, bf16: bool, keep_above: float | None) -> dict[str, Any]:
        asked.append((case, bf16, keep_above))
        if len(asked) == 2:
            raise KeyboardInterrupt
        return {"case": case, "cpu_s": len(asked), "peak_gb": 1.0}

    monkeypatch.setattr(detect_cost, "_in_own_process", measured)
    first, second, *_ = detect_cost.CASES
    words = ["--out", str(tmp_path), "--case", second, "--case", first]
    with pytest.raises(KeyboardInterrupt):
        detect_cost.main(words)
    assert detect_cost.main(words) == 0  # the case that was interrupted, and not the one before
    assert [case for case, *_ in asked] == [second, first, first]
    stored = json.loads((tmp_path / "float32.json").read_text())
    assert [(row["case"], row["cpu_s"]) for row in stored["rows"]] == [(first, 3), (second, 1)]

    detect_cost.main([*words, "--keep-above", "0.1", "--bf16"])
    assert json.loads((tmp_path / "float32.json").read_text()) == stored
    assert len(json.loads((tmp_path / "bf16-keep-0.1.json").read_text())["rows"]) == 2
    assert asked[-1] == (first, True, 0.1)

    detect_cost.main([*words, "--again"])
    assert len(asked) == 7
    detect_cost.main([*words[:4], "--again"])  # the other case's row stays
    rows = json.loads((tmp_path / "float32.json").read_text())["rows"]
    assert [(row["case"], row["cpu_s"]) for row in rows] == [(first, 7), (second, 8)]
    stored["machine"]["torch"] = "0.1"  # another machine's figures are not mixed with this one's
    (tmp_path / "float32.json").write_text(json.dumps(stored))
    detect_cost.main(words[:4])
    assert [row["case"] for row in json.loads((tmp_path / "float32.json").read_text())["rows"]] == [second]
