"""A run that was cut goes on as if it never had been, and only with what it began with."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.training.conftest import CONFIG, without_clock

from trifocal.errors import InvalidInput
from trifocal.training import Batches, Progress, TrainConfig, fit, load_checkpoint


class Stopped(Exception):
    """What an interrupted run raises in these tests."""


def stop_at(step: int) -> Any:
    def progress(place: Progress) -> None:
        if place.step == step:
            raise Stopped

    return progress


@pytest.mark.parametrize("step", [1, 3, 11], ids=lambda step: f"step{step}")
@pytest.mark.parametrize("precision", ["float32", "bf16", "fp16"])
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(
    curve: Any, tmp_path: Path, step: int, precision: Any
) -> None:
    config = TrainConfig(**CONFIG, precision=precision, checkpoint_steps=1)
    whole = curve()
    expected = fit(whole, config, folder=tmp_path / "whole")
    with pytest.raises(Stopped):
        fit(curve(), config, folder=tmp_path / "cut", progress=stop_at(step))
    again = curve()
    found = fit(again, config, folder=tmp_path / "cut", resume=True)
    assert without_clock(found.history) == without_clock(expected.history)
    assert (found.best, found.best_epoch) == (expected.best, expected.best_epoch)
    for name in ("last.safetensors", "best.safetensors"):
        one, other = (load_file(tmp_path / run / name) for run in ("whole", "cut"))
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one)


def test_a_resume_with_accumulation_in_the_middle_of_an_epoch(curve: Any, tmp_path: Path) -> None:
    config = TrainConfig(**CONFIG, accumulate=2, checkpoint_steps=3)
    expected = fit(curve(batch=5), config, folder=tmp_path / "whole")
    with pytest.raises(Stopped):
        fit(curve(batch=5), config, folder=tmp_path / "cut", progress=stop_at(5))
    found = fit(curve(batch=5), config, folder=tmp_path / "cut", resume=True)
    assert without_clock(found.history) == without_clock(expected.history)


def test_a_resume_of_a_loader_that_is_not_ours(curve: Any, tmp_path: Path) -> None:
    class Loaded(curve):  # type: ignore[misc]
        def batches(self, epoch: int) -> Batches:
            data = torch.utils.data.TensorDataset(self.x, self.y)
            return torch.utils.data.DataLoader(data, batch_size=8, shuffle=True)

    config = TrainConfig(**CONFIG, checkpoint_steps=1)
    expected = fit(Loaded(), config, folder=tmp_path / "whole")
    with pytest.raises(Stopped):
        fit(Loaded(), config, folder=tmp_path / "cut", progress=stop_at(8))
    found = fit(Loaded(), config, folder=tmp_path / "cut", resume=True)
    assert without_clock(found.history) == without_clock(expected.history)


def test_a_resumed_run_that_had_ended_only_loads(curve: Any, tmp_path: Path) -> None:
    config = TrainConfig(**CONFIG)
    first = curve()
    expected = fit(first, config, folder=tmp_path)
    again = curve()
    found = fit(again, config, folder=tmp_path, resume=True)
    assert found == expected
    assert again.seen == []
    assert all(torch.equal(one, again.weights()[name]) for name, one in first.weights().items())


def test_a_write_that_breaks_off_leaves_the_old_checkpoint(
    curve: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = TrainConfig(**CONFIG)
    expected = fit(curve(), config, folder=tmp_path / "whole")
    calls: list[Path] = []

    def broken(tensors: Any, path: Path, metadata: Any) -> None:
        save_file(tensors, path, metadata=metadata)
        calls.extend([path] if "last" in path.name else [])
        if len(calls) == 3:
            path.write_bytes(path.read_bytes()[:100])
            raise OSError("the power went")

    monkeypatch.setattr("trifocal.training.checkpoint.save_file", broken)
    with pytest.raises(OSError, match="power"):
        fit(curve(), config, folder=tmp_path / "cut")
    monkeypatch.undo()
    assert load_checkpoint(tmp_path / "cut" / "last.safetensors")[1]["place"]["epoch"] == 2
    found = fit(curve(), config, folder=tmp_path / "cut", resume=True)
    assert without_clock(found.history) == without_clock(expected.history)


def test_a_resume_with_another_configuration_or_task_is_refused(curve: Any, tmp_path: Path) -> None:
    fit(curve(), TrainConfig(**CONFIG), folder=tmp_path)
    with pytest.raises(InvalidInput, match=r"lr was 0\.01 and is 0\.02"):
        fit(curve(), TrainConfig(**{**CONFIG, "lr": 0.02}), folder=tmp_path, resume=True)
    fit(curve(), TrainConfig(**CONFIG, patience=99), folder=tmp_path, resume=True)

    class Other(curve):  # type: ignore[misc]
        version = "curve/2"

    with pytest.raises(InvalidInput, match=r"the task was 'curve/1' and is 'curve/2'"):
        fit(Other(), TrainConfig(**CONFIG), folder=tmp_path, resume=True)
    with pytest.raises(InvalidInput, match=r"of another shape 0\.bias"):
        fit(curve(hidden=8), TrainConfig(**CONFIG), folder=tmp_path, resume=True)


RESUMED = """
import shutil, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from conftest import Curve
from trifocal.training import TrainConfig, fit, processes

def keep(place):
    if place.step == 5:
        shutil.copytree(whole, cut)

whole, cut = Path(sys.argv[2], "whole"), Path(sys.argv[2], "cut")
config = TrainConfig(epochs=1, lr=0.01, monitor="error", device="cpu", checkpoint_steps=1)
with processes("cpu"):
    for folder, resume, progress in ((whole, False, keep), (cut, True, None)):
        fit(Curve(count=21, batch=4, noisy=False), config, folder=folder, resume=resume, progress=progress)
"""


@pytest.mark.slow
def test_a_process_that_has_run_out_resumes_with_the_others(tmp_path: Path) -> None:
    """The last of six batches is one item; the run was saved before it."""
    program = tmp_path / "train.py"
    program.write_text(RESUMED)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    arguments = [str(program), str(Path(__file__).parent), str(tmp_path)]
    subprocess.run([*command, *arguments], check=True, timeout=200, capture_output=True)
    one, other = (load_checkpoint(tmp_path / name / "last.safetensors") for name in ("whole", "cut"))
    assert other[1]["place"]["step"] == one[1]["place"]["step"] == 6
    assert other[0].keys() == one[0].keys()
    assert all(torch.equal(other[0][name], value) for name, value in one[0].items())
