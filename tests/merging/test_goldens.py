"""The shared goldens, through the script that anyone runs on a folder of them; and the script itself."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from trifocal.bench.merge import timing_video

SCRIPT = Path(__file__).parents[2] / "runs" / "check_goldens.py"


Run = Callable[[Path], tuple[int, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Exit code and output of the script, in this process."""
    spec = importlib.util.spec_from_file_location("check_goldens", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "check_goldens", script)
    spec.loader.exec_module(script)

    def once(folder: Path) -> tuple[int, str]:
        code = script.main([str(folder)])
        shown = capsys.readouterr()
        return code, shown.out + shown.err

    return once


def test_all_shared_goldens_pass(shared: Path) -> None:
    done = subprocess.run(
        [sys.executable, SCRIPT, shared / "goldens" / "sttm"], capture_output=True, text=True, check=False
    )
    code, text = done.returncode, done.stdout + done.stderr
    assert code == 0, text
    assert "136 ok, 0 failed" in text


@pytest.mark.parametrize("part", ["c00.feat", "c00.boxes", "c00.sp_boxes", "c00.edges", "c00.rep", "c00.n_pairs"])
def test_a_changed_golden_fails(run: Run, shared: Path, tmp_path: Path, part: str) -> None:
    name = "quadtree_smooth_T3_2x2.npz"
    with np.load(shared / "goldens" / "sttm" / name) as stored:
        arrays = {key: stored[key] for key in stored.files}
    arrays[part] = arrays[part] + 1
    np.savez(tmp_path / name, **arrays)
    code, text = run(tmp_path)
    assert code == 1
    assert f"FAILED: {part[4:]}" in text


def test_a_damaged_or_unknown_file_is_named(run: Run, tmp_path: Path) -> None:
    (tmp_path / "quadtree_broken.npz").write_bytes(b"nothing")
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    code, text = run(tmp_path)
    assert code == 1
    assert "quadtree_broken.npz: FAILED: " in text
    assert "other.npz: not checked: no checker" in text
    (tmp_path / "quadtree_broken.npz").unlink()
    assert run(tmp_path)[0] == 1  # nothing was checked
    assert run(tmp_path / "absent")[0] == 2


def test_the_timing_video_is_the_shared_one(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(shared / "synthetic"))
    make = __import__("make_tokens")
    options = {"seed": 1, "tnoise": 2.2, "texture": 0.9, "tex_frac": 0.5, "low": 8, "drift": 0.5, "cuts": 32}
    expected = make.smooth(9, 16, 14, 14, **options).bfloat16().movedim(1, -1)
    assert torch.equal(timing_video(9, channels=16), expected)
