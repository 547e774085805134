"""Where a training run is: everything that its checkpoint keeps, so that a resumed run is the same run.

What a step moves (model, optimiser, moving average, loss scale) goes in as tensors; what the loop counts (the place,
the history, the sums of the epoch under way) as JSON beside them. `RunState.load` refuses a checkpoint of another
configuration, save for what may change in between.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from trifocal.errors import InvalidInput, ModelError
from trifocal.training.average import WeightAverage
from trifocal.training.checkpoint import load_checkpoint, put_state, save_checkpoint, trained_state
from trifocal.training.config import TrainConfig
from trifocal.training.optimiser import build_optimiser, optimiser_tensors, put_optimiser_tensors
from trifocal.training.schedule import lr_factor

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

    from trifocal.training.task import Task

__all__ = ["Place", "RunState"]

_MAY_CHANGE = frozenset(
    {"version", "device", "tensorboard", "checkpoint_every", "checkpoint_steps", "patience", "find_unused"}
)
"""What may differ between a checkpoint's configuration and that of the run that goes on from it."""


@dataclass(slots=True)
class Place:
    """Where a run is: what a checkpoint keeps beside tensors.

    Args:
        epoch: the one under way, from 0.
        batch: how many of its batches this process has drawn.
        step: moves of the weights made in all.
        best: the best value of the monitored figure; None before the first.
        best_epoch: its epoch.
        waited: evaluations since then.
        done: whether there is no epoch left.
        stopped_early: whether patience ran out.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    best: float | None = None
    best_epoch: int | None = None
    waited: int = 0
    done: bool = False
    stopped_early: bool = False


class RunState:
    """What a run has come to.

    Args:
        task: its model is on the device already.
        config: how it is trained.
        device: where.

    Attributes:
        optimiser: over the task's groups of parameters.
        parameters: the trained ones by name.
        average: their moving average, where the configuration asks for one.
        scaler: the loss scale; it does nothing but in half precision.
        place: where the run is.
        history: one row of figures for each epoch that is done.
        sums: the weighed losses of the epoch under way, each under "/" and its name, and their "weight".
    """

    def __init__(self, task: Task, config: TrainConfig, *, device: torch.device) -> None:
        """At the start of a run; `load` goes on with another."""
        self._task, self._config = task, config
        self.optimiser = build_optimiser(task.parameter_groups(), config, decays=task.decays)
        self.parameters = {
            name: one
            for entry in self.optimiser.param_groups
            for name, one in zip(entry["names"], entry["params"], strict=True)
        }
        self.average = None if config.ema is None else WeightAverage(self.parameters, decay=config.ema)
        self.scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "fp16")
        self.place = Place()
        self.history: list[dict[str, float]] = []
        self.sums: dict[str, float] = {}

    def save(self, path: Path) -> None:
        """Write the checkpoint."""
        tensors = {f"model/{name}": one for name, one in trained_state(self._task.model).items()}
        tensors |= {f"optimiser/{name}": one for name, one in optimiser_tensors(self.optimiser).items()}
        if self.average is not None:
            tensors |= {f"average/{name}": one for name, one in self.average.values.items()}
        state = {
            "place": {name: getattr(self.place, name) for name in Place.__slots__},
            "history": self.history,
            "sums": self.sums,
            "scaler": self.scaler.state_dict(),
            "average_updates": 0 if self.average is None else self.average.updates,
            "config": self._config.to_dict(),
            "task": self._task.version,
        }
        save_checkpoint(path, tensors, state=state)

    def load(self, path: Path) -> None:
        """Go on from a checkpoint.

        Raises:
            InvalidInput: it is of another configuration, task or model.
        """
        tensors, state = load_checkpoint(path)
        now = {name: value for name, value in self._config.to_dict().items() if name not in _MAY_CHANGE}
        then = TrainConfig.from_dict(state["config"]).to_dict()
        changed = [f"{name} was {then[name]!r} and is {value!r}" for name, value in now.items() if then[name] != value]
        if state["task"] != self._task.version:
            changed.append(f"the task was {state['task']!r} and is {self._task.version!r}")
        if changed:
            raise InvalidInput(
                f"{path.parent} cannot be resumed: {'; '.join(changed)}",
                remedy="Resume with what the run began with, or name another folder.",
            )
        parts: dict[str, dict[str, Tensor]] = {"model": {}, "optimiser": {}, "average": {}}
        for label, one in tensors.items():
            part, name = label.split("/", 1)
            parts[part][name] = one
        put_state(self._task.model, parts["model"], source=str(path))
        put_optimiser_tensors(self.optimiser, parts["optimiser"])
        if self.average is not None:
            self.average.load(parts["average"], updates=int(state["average_updates"]))
        if state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        self.place = Place(**state["place"])
        self.history, self.sums = list(state["history"]), dict(state["sums"])

    def count(self, losses: Mapping[str, float], *, weight: float) -> None:
        """Note a step that was made, its mean losses, and what its batches weighed."""
        self.place.step += 1
        self.sums["weight"] = self.sums.get("weight", 0.0) + weight
        for name, value in losses.items():
            self.sums[f"/{name}"] = self.sums.get(f"/{name}", 0.0) + value * weight

    def means(self) -> dict[str, float]:
        """The mean losses of the epoch under way."""
        weight = self.sums["weight"]
        return {name[1:]: value / weight for name, value in self.sums.items() if name.startswith("/")}

    def lr(self, step: int, *, per_epoch: int) -> float:
        """The first group's learning rate at a step."""
        factor = lr_factor(step, steps_per_epoch=per_epoch, config=self._config)
        return float(self.optimiser.param_groups[0]["base_lr"]) * factor

    def kept_weights(self) -> AbstractContextManager[None]:
        """The model with the weights that would be kept: the moving average, where there is one."""
        return nullcontext() if self.average is None else self.average.in_place()

    def diverged(self, what: str, value: float) -> ModelError:
        """What is said of a figure that is not a number any more."""
        return ModelError(
            f"the {what} is {value} at step {self.place.step} of epoch {self.place.epoch}",
            remedy=f"Lower lr (now {self._config.lr:g}) or clip_norm, lengthen the warm-up, use bf16 or float32 in "
            "place of fp16, and look for NaN in the data.",
        )
