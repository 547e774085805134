from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from safetensors.torch import load_file
from tests.training.conftest import CONFIG
from torch import Tensor, nn

from trifocal.errors import InvalidInput, ModelError
from trifocal.training import Batches, Task, TrainConfig, fit, load_checkpoint, load_weights


def figures(task: Task) -> Mapping[str, float]:
    with torch.no_grad():
        return task.evaluate()


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


def test_a_figure_that_is_not_a_number_is_told(curve: Any, tmp_path: Path) -> None:
    class Odd(curve):  # type: ignore[misc]
        def evaluate(self) -> Mapping[str, float]:
            return {"error": float("nan")}

    with pytest.raises(ModelError, match="the error is nan"):
        fit(Odd(), TrainConfig(**CONFIG), folder=tmp_path)


def test_a_folder_with_a_run_is_not_overwritten(curve: Any, tmp_path: Path) -> None:
    fit(curve(), TrainConfig(**CONFIG), folder=tmp_path)
    with pytest.raises(InvalidInput, match="has a training run in it"):
        fit(curve(), TrainConfig(**CONFIG), folder=tmp_path)


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


def test_a_task_without_batches_is_told(curve: Any, tmp_path: Path) -> None:
    class Empty(curve):  # type: ignore[misc]
        def batches(self, epoch: int) -> Batches:
            return []

    with pytest.raises(InvalidInput, match="epoch 0 has no batches"):
        fit(Empty(), TrainConfig(**CONFIG), folder=tmp_path)


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
