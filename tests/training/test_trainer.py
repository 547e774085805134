from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from trifocal.errors import InvalidInput, ModelError
from trifocal.training import Batches, Progress, Task, TrainConfig, fit, load_checkpoint, load_weights

CONFIG: dict[str, Any] = {
    "epochs": 6,
    "lr": 0.01,
    "warmup": 0.1,
    "schedule": "cosine",
    "monitor": "error",
    "device": "cpu",
    "ema": 0.9,
}


def without_clock(history: tuple[Mapping[str, float], ...]) -> list[dict[str, float]]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in history]


def figures(task: Task) -> Mapping[str, float]:
    with torch.no_grad():
        return task.evaluate()


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


@pytest.mark.parametrize("clip", [None, 0.05])
def test_accumulated_batches_equal_one_big_batch(curve: Any, tmp_path: Path, clip: float | None) -> None:
    values = {**CONFIG, "ema": None, "clip_norm": clip}
    big, small = curve(batch=20, noisy=False), curve(batch=5, noisy=False)
    fit(big, TrainConfig(**values), folder=tmp_path / "big")
    fit(small, TrainConfig(**values, accumulate=4), folder=tmp_path / "small")
    for name, one in big.weights().items():
        torch.testing.assert_close(small.weights()[name], one, atol=2e-6, rtol=1e-5)


def test_the_moving_average_is_what_is_evaluated_and_kept(curve: Any, tmp_path: Path) -> None:
    task = curve(noisy=False)
    fit(task, TrainConfig(**{**CONFIG, "epochs": 1, "ema": 0.9}), folder=tmp_path)
    tensors, state = load_checkpoint(tmp_path / "last.safetensors")
    best, _ = load_checkpoint(tmp_path / "best.safetensors")
    assert state["average_updates"] == 3
    live = curve(noisy=False)
    load_weights(tmp_path / "last.safetensors", live.model)
    for name, one in best.items():
        assert torch.equal(one, tensors[f"average/{name}"])
        assert not torch.equal(one, tensors[f"model/{name}"])
    assert state["history"][-1]["error"] == pytest.approx(figures(task)["error"])
    assert state["history"][-1]["error"] != pytest.approx(figures(live)["error"])


def test_patience_stops_and_the_best_epoch_is_what_remains(curve: Any, tmp_path: Path) -> None:
    class Told(curve):  # type: ignore[misc]
        figures = iter([1.0, 3.0, 2.0, 3.0, 2.5, 9.0])
        at: ClassVar[list[dict[str, Tensor]]] = []

        def evaluate(self) -> Mapping[str, float]:
            self.at.append(self.weights())
            return {"score": next(self.figures)}

    task = Told(noisy=False)
    config = TrainConfig(**{**CONFIG, "monitor": "score", "ema": None}, mode="max", patience=3)
    result = fit(task, config, folder=tmp_path)
    assert (result.best, result.best_epoch, result.epochs, result.stopped_early) == (3.0, 1, 5, True)
    assert all(torch.equal(one, task.at[1][name]) for name, one in task.weights().items())


def test_evaluations_come_as_often_as_told_and_always_at_the_end(curve: Any, tmp_path: Path) -> None:
    result = fit(curve(), TrainConfig(**CONFIG, evaluate_every=4), folder=tmp_path)
    assert [row["epoch"] for row in result.history if "error" in row] == [3, 5]


def test_a_loss_that_is_not_a_number_is_told_with_a_remedy(curve: Any, tmp_path: Path) -> None:
    task = curve(noisy=False)
    task.y[3] = torch.nan
    with pytest.raises(ModelError, match=r"the loss is nan at step \d of epoch 0\. Lower lr \(now 0\.01\)"):
        fit(task, TrainConfig(**CONFIG), folder=tmp_path)
    assert all(torch.isfinite(one).all() for one in task.weights().values())


def test_a_figure_that_is_not_a_number_is_told(curve: Any, tmp_path: Path) -> None:
    class Odd(curve):  # type: ignore[misc]
        def evaluate(self) -> Mapping[str, float]:
            return {"error": float("nan")}

    with pytest.raises(ModelError, match="the error is nan"):
        fit(Odd(), TrainConfig(**CONFIG), folder=tmp_path)


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


def test_a_folder_with_a_run_is_not_overwritten(curve: Any, tmp_path: Path) -> None:
    fit(curve(), TrainConfig(**CONFIG), folder=tmp_path)
    with pytest.raises(InvalidInput, match="has a training run in it"):
        fit(curve(), TrainConfig(**CONFIG), folder=tmp_path)


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


def test_an_unknown_figure_names_the_known_ones(curve: Any, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="Use one of absolute, error, loss"):
        fit(curve(), TrainConfig(**{**CONFIG, "monitor": "sum_r"}), folder=tmp_path)


def test_frozen_parameters_are_neither_trained_nor_saved(curve: Any, tmp_path: Path) -> None:
    task = curve(noisy=False)
    task.model[0].requires_grad_(False)
    before = task.weights()
    fit(task, TrainConfig(**CONFIG), folder=tmp_path)
    assert torch.equal(task.weights()["0.weight"], before["0.weight"])
    assert not torch.equal(task.weights()["2.weight"], before["2.weight"])
    assert sorted(load_file(tmp_path / "best.safetensors")) == ["2.bias", "2.weight"]


def test_groups_have_their_own_rates(curve: Any, tmp_path: Path) -> None:
    class Grouped(curve):  # type: ignore[misc]
        def parameter_groups(self) -> Mapping[str, Any]:
            named = list(self.model.named_parameters())
            return {"first": named[:2], "rest": named[2:]}

    task = Grouped(noisy=False)
    before = task.weights()
    fit(task, TrainConfig(**CONFIG, group_lr={"first": 0.0}, weight_decay=0.5), folder=tmp_path)
    assert torch.equal(task.weights()["0.weight"], before["0.weight"])
    assert not torch.equal(task.weights()["2.weight"], before["2.weight"])


def test_the_csv_has_a_row_an_epoch(curve: Any, tmp_path: Path) -> None:
    result = fit(curve(), TrainConfig(**CONFIG, evaluate_every=2), folder=tmp_path)
    with (tmp_path / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["loss"]) for row in rows] == [row["loss"] for row in result.history]
    assert [row["error"] == "" for row in rows] == [True, False] * 3


def test_tensorboard_events_are_written(curve: Any, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    fit(curve(), TrainConfig(**CONFIG, tensorboard=True), folder=tmp_path)
    (events,) = (tmp_path / "tensorboard").iterdir()
    assert events.stat().st_size > 500


def test_a_task_without_batches_or_loss_is_told(curve: Any, tmp_path: Path) -> None:
    class Empty(curve):  # type: ignore[misc]
        def batches(self, epoch: int) -> Batches:
            return []

    class Lossless(curve):  # type: ignore[misc]
        def loss(self, batch: Any) -> Mapping[str, Tensor]:
            return {"total": super().loss(batch)["loss"]}

    with pytest.raises(InvalidInput, match="epoch 0 has no batches"):
        fit(Empty(), TrainConfig(**CONFIG), folder=tmp_path / "a")
    with pytest.raises(InvalidInput, match="the task's losses are total"):
        fit(Lossless(), TrainConfig(**CONFIG), folder=tmp_path / "b")


PROGRAM = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from conftest import Curve
from trifocal.training import TrainConfig, fit
out = Path(sys.argv[2])
config = TrainConfig(epochs=3, lr=0.01, monitor="error", device="cpu", accumulate=int(sys.argv[3]))
fit(Curve(count=21, batch=4, noisy=False), config, folder=out)
"""


@pytest.mark.slow
@pytest.mark.parametrize("accumulate", [1, 2])
def test_two_processes_equal_one(tmp_path: Path, accumulate: int) -> None:
    """21 items in batches of 4 leave a last batch of one, of which the second process has nothing."""
    program = tmp_path / "train.py"
    program.write_text(PROGRAM)
    here = str(Path(__file__).parent)
    for count in (1, 2):
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
        arguments = [str(program), here, str(tmp_path / f"out{count}"), str(accumulate)]
        subprocess.run([*command, *arguments], check=True, timeout=200, capture_output=True)
    one, two = (load_checkpoint(tmp_path / f"out{count}" / "last.safetensors") for count in (1, 2))
    assert one[1]["place"]["step"] == two[1]["place"]["step"]
    for name in one[0]:
        torch.testing.assert_close(two[0][name], one[0][name], atol=1e-5, rtol=1e-4)
    for first, second in zip(one[1]["history"], two[1]["history"], strict=True):
        assert second["loss"] == pytest.approx(first["loss"], rel=1e-5)
        assert second["error"] == pytest.approx(first["error"], rel=1e-5)


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


def test_the_task_protocol_has_defaults() -> None:
    class Least(Task):
        def __init__(self) -> None:
            self.model = nn.Linear(2, 1)

        def batches(self, epoch: int) -> Batches:
            return [{"x": torch.ones(3, 2)}, {"x": torch.zeros(1, 2)}]

        def loss(self, batch: Any) -> Mapping[str, Tensor]:
            return {"loss": self.model(batch["x"]).square().mean()}

    task = Least()
    assert task.evaluate() == {}
    assert task.size({"x": torch.ones(3, 2)}) == 1.0
    assert [name for name, _ in task.parameter_groups()["model"]] == ["weight", "bias"]
