"""The one training loop: `fit` trains a `Task` by a `TrainConfig` into a folder.

A step gathers `accumulate` batches, weighs them by their size over all processes, and moves the weights once. After an
epoch the task evaluates, the best weights are kept, and everything a resumed run needs is written. Randomness is a
function of the place in the run (`seeding`), so resuming gives the result of never having stopped, bit for bit on the
same machine and number of processes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from trifocal.errors import InvalidInput, ModelError
from trifocal.training.average import WeightAverage
from trifocal.training.batching import EpochBatches
from trifocal.training.checkpoint import (
    load_checkpoint,
    load_weights,
    put_state,
    save_checkpoint,
    trained_state,
    write_atomically,
)
from trifocal.training.config import TrainConfig
from trifocal.training.logs import TensorBoardLog, write_history
from trifocal.training.optimiser import build_optimiser, optimiser_tensors, put_optimiser_tensors
from trifocal.training.processes import Processes, processes
from trifocal.training.schedule import lr_factor
from trifocal.training.seeding import seed_everything

if TYPE_CHECKING:
    from trifocal.training.task import Batches, Task

__all__ = ["FitResult", "Progress", "fit"]

LAST, BEST = "last.safetensors", "best.safetensors"
_MAY_CHANGE = frozenset(
    {"version", "device", "tensorboard", "checkpoint_every", "checkpoint_steps", "patience", "find_unused"}
)
"""What may differ between a checkpoint's configuration and that of the run that goes on from it."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run is, told after every step: `step` of `steps`, in epoch `epoch` (from 0) of `epochs`."""

    epoch: int
    epochs: int
    step: int
    steps: int
    lr: float
    losses: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class FitResult:
    """What a run came to.

    Args:
        folder: where its files are.
        best: the best value of the monitored figure; None before the first.
        best_epoch: its epoch, from 0.
        epochs: epochs made in all.
        stopped_early: whether patience ran out before the last epoch.
        history: one row of figures an epoch.
    """

    folder: Path
    best: float | None
    best_epoch: int | None
    epochs: int
    stopped_early: bool
    history: tuple[Mapping[str, float], ...]


def fit(
    task: Task,
    config: TrainConfig,
    *,
    folder: Path | str,
    resume: bool = False,
    progress: Callable[[Progress], None] | None = None,
    on_epoch: Callable[[Mapping[str, float]], None] | None = None,
) -> FitResult:
    """Train a task; under torchrun, together with the other processes.

    Args:
        task: what to train; its model is moved to the device, and has the best weights, in eval mode, at the end.
        config: how.
        folder: where `last.safetensors`, `best.safetensors`, `metrics.csv`, `train.json` and `tensorboard/` go; made
            where missing. Under several machines all must see it.
        resume: go on from the folder's last checkpoint where there is one.
        progress: called after every step, in the first process.
        on_epoch: called with the row of figures after every epoch, in the first process.

    Returns:
        What the run came to.

    Raises:
        InvalidInput: the folder has a run in it and `resume` is off; its checkpoint is of another configuration or
            model; the monitored figure is not among the task's; the task gives no batches.
        ModelError: the loss or the gradient is not a number any more.
        MissingExtra: TensorBoard was asked for and is not installed.
    """
    folder = Path(folder)
    with processes(config.device) as group:
        return _Run(task, config, folder, group=group, resume=resume, progress=progress, on_epoch=on_epoch).go()


class _Losses(nn.Module):
    """The task's loss as a module's forward, which is what gradient exchange between processes hooks into."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.model = task.model
        self._loss = task.loss

    def forward(self, batch: Any) -> dict[str, Tensor]:
        losses = self._loss(batch)
        if "loss" not in losses:
            raise InvalidInput(
                f"the task's losses are {', '.join(losses) or 'none'}", remedy='Put the one to minimise under "loss".'
            )
        return {name: one if name == "loss" else one.detach() for name, one in losses.items()}


@dataclass(slots=True)
class _Place:
    """Where a run is: what a checkpoint keeps beside tensors."""

    epoch: int = 0
    batch: int = 0
    step: int = 0
    best: float | None = None
    best_epoch: int | None = None
    waited: int = 0
    done: bool = False
    stopped_early: bool = False


class _Run:
    """One call of `fit`."""

    def __init__(
        self,
        task: Task,
        config: TrainConfig,
        folder: Path,
        *,
        group: Processes,
        resume: bool,
        progress: Callable[[Progress], None] | None,
        on_epoch: Callable[[Mapping[str, float]], None] | None,
    ) -> None:
        self.task, self.config, self.folder, self.group = task, config, folder, group
        self.progress, self.on_epoch = progress, on_epoch
        if group.first:
            folder.mkdir(parents=True, exist_ok=True)
        exists = bool(group.told((folder / LAST).exists()))
        if exists and not resume:
            raise InvalidInput(f"{folder} has a training run in it", remedy="Resume it, or name another folder.")
        task.model.to(group.device)
        self.optimiser = build_optimiser(task.parameter_groups(), config, decays=task.decays)
        self.parameters = {
            name: one
            for entry in self.optimiser.param_groups
            for name, one in zip(entry["names"], entry["params"], strict=True)
        }
        self.average = None if config.ema is None else WeightAverage(self.parameters, decay=config.ema)
        self.scaler = torch.amp.GradScaler(group.device.type, enabled=config.precision == "fp16")
        self.place = _Place()
        self.history: list[dict[str, float]] = []
        self.sums: dict[str, float] = {}
        if exists:
            self._resume()
        losses = _Losses(task)
        self.losses: nn.Module = (
            nn.parallel.DistributedDataParallel(losses, find_unused_parameters=config.find_unused)
            if group.world > 1
            else losses
        )
        self.log = (
            TensorBoardLog(folder / "tensorboard", step=self.place.step) if config.tensorboard and group.first else None
        )

    # ------------------------------------------------------------------------------------------------------ the run

    def go(self) -> FitResult:
        """All epochs that are left."""
        if self.group.first:
            write_atomically(self.folder / "train.json", self.config.to_json() + "\n")
        try:
            while not self.place.done:
                self._epoch()
        finally:
            if self.log is not None:
                self.log.close()
        if (self.folder / BEST).exists():
            load_weights(self.folder / BEST, self.task.model)
        self.task.model.eval()
        place = self.place
        return FitResult(
            self.folder, place.best, place.best_epoch, place.epoch, place.stopped_early, tuple(self.history)
        )

    def _epoch(self) -> None:
        """One epoch, or the rest of one: train, evaluate, keep the best, save."""
        place, config, began = self.place, self.config, time.monotonic()
        self.task.model.train()
        self.task.begin_epoch(place.epoch)
        self._seed(place.epoch, 0)
        batches = self.task.batches(place.epoch)
        per_epoch = math.ceil(self.group.most(len(batches)) / config.accumulate)
        if per_epoch < 1:
            raise InvalidInput(f"epoch {place.epoch} has no batches", remedy="Give the task something to train on.")
        for window in self._windows(batches):
            self._step(window, per_epoch=per_epoch)
            saved_steps = config.checkpoint_steps
            if saved_steps is not None and place.step % saved_steps == 0:
                self._save_last()
            if self.progress is not None and self.group.first:
                means, lr = self._means(), self._lr(place.step - 1, per_epoch=per_epoch)
                self.progress(Progress(place.epoch, config.epochs, place.step, per_epoch * config.epochs, lr, means))
        rate = self._lr(place.step - 1, per_epoch=per_epoch)
        row: dict[str, float] = {"epoch": place.epoch, "step": place.step, "lr": rate, **self._means()}
        last = place.epoch + 1 == config.epochs
        if last or (place.epoch + 1) % config.evaluate_every == 0:
            row |= self._evaluate()
            if config.monitor not in row:
                figures = sorted(row.keys() - {"epoch", "step", "lr"})
                raise InvalidInput(
                    f"monitor is {config.monitor!r}, which no evaluation gives",
                    remedy=f"Use one of {', '.join(figures)}.",
                )
            self._judge(row[config.monitor])
        row["seconds"] = round(time.monotonic() - began, 3)
        self.history.append(row)
        place.epoch, place.batch, self.sums = place.epoch + 1, 0, {}
        place.done = last or place.stopped_early
        if self.group.first:
            write_history(self.folder / "metrics.csv", self.history)
            if self.log is not None:
                self.log.write({name: value for name, value in row.items() if name != "step"}, step=place.step)
        if place.done or place.epoch % config.checkpoint_every == 0:
            self._save_last()
        if self.on_epoch is not None and self.group.first:
            self.on_epoch(row)

    def _windows(self, batches: Batches) -> Iterator[list[tuple[int, Any]]]:
        """The batches of one step after the other, numbered within the epoch, from where the run is."""
        skipped = self.place.batch
        latest: Any = None
        if isinstance(batches, EpochBatches):
            source = batches.starting_at(skipped)
            if self.group.world > 1 and skipped >= len(batches):  # run out, and the others may not have
                latest = next(batches.starting_at(len(batches) - 1), None)
        else:  # what an unknown loader draws for the batches before is drawn again, so that it goes on the same
            source = iter(batches)
            for number in range(skipped):
                self._seed(self.place.epoch, 1, number)
                latest = next(source, latest)
        drawn = skipped
        while True:
            window = []
            for number in range(drawn, drawn + self.config.accumulate):
                self._seed(self.place.epoch, 1, number)
                got = list(islice(source, 1))
                if not got:
                    break
                window.append((number, got[0]))
            drawn += len(window)
            most = self.group.most(len(window))
            if most == 0:
                return
            latest = window[-1][1] if window else latest
            # a process that has run out goes on without weight: all call the loss, which may wait for the others
            window += [(-1, self.task.spare(latest)) for _ in range(most - len(window))]
            self.place.batch = drawn
            yield window

    def _step(self, window: list[tuple[int, Any]], *, per_epoch: int) -> None:
        """One move of the weights."""
        place, config, group = self.place, self.config, self.group
        factor = lr_factor(place.step, steps_per_epoch=per_epoch, config=config)
        for entry in self.optimiser.param_groups:
            entry["lr"] = entry["base_lr"] * factor
        sizes = [self.task.size(batch) if number >= 0 else 0.0 for number, batch in window]
        (total,) = group.total([float(sum(sizes))])
        if not total > 0:
            raise InvalidInput(f"the batches of step {place.step} weigh {total}", remedy="Let `Task.size` be above 0.")
        found: dict[str, Tensor] = {}
        for index, ((number, batch), weight) in enumerate(zip(window, sizes, strict=True)):
            self._seed(place.epoch, 2, max(number, 0))
            with self._unsynchronised(index + 1 < len(window)):
                with torch.autocast(group.device.type, dtype=_dtype(config), enabled=config.precision != "float32"):
                    losses = self.losses(self.task.to_device(batch, group.device))
                self.scaler.scale(losses["loss"] * (weight * group.world / total)).backward()
            for name, one in losses.items():
                found[name] = found.get(name, torch.zeros((), device=group.device)) + one.detach().double() * weight
        names = sorted(found)
        summed = group.total([float(value) for value in torch.stack([found[name] for name in names]).tolist()])
        means = {name: value / total for name, value in zip(names, summed, strict=True)}
        if not math.isfinite(means["loss"]):
            raise self._diverged("loss", means["loss"])
        self.scaler.unscale_(self.optimiser)
        longest = math.inf if config.clip_norm is None else config.clip_norm
        norm = float(nn.utils.clip_grad_norm_(self.parameters.values(), longest))
        if not math.isfinite(norm) and not self.scaler.is_enabled():  # a loss scale that is too high mends itself
            raise self._diverged("gradient's length", norm)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.optimiser.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.update()
        place.step += 1
        self.sums["weight"] = self.sums.get("weight", 0.0) + total
        for name, value in means.items():
            self.sums[f"/{name}"] = self.sums.get(f"/{name}", 0.0) + value * total
        if self.log is not None:
            self.log.write({f"step/{name}": value for name, value in means.items()}, step=place.step)

    def _evaluate(self) -> dict[str, float]:
        """The task's figures under the weights that would be kept, the same at every process."""
        self._seed(self.place.epoch, 3)
        figures: dict[str, float] = {}
        if self.group.first:
            self.task.model.eval()
            with torch.no_grad(), self._kept_weights():
                figures = {name: float(value) for name, value in self.task.evaluate().items()}
            self.task.model.train()
        return dict(self.group.told(figures))

    def _judge(self, value: float) -> None:
        """Keep the weights if they are the best so far, else count towards patience."""
        place, config = self.place, self.config
        if math.isnan(value):
            raise self._diverged(config.monitor, value)
        better = place.best is None or (value > place.best if config.mode == "max" else value < place.best)
        if better:
            place.best, place.best_epoch, place.waited = value, place.epoch, 0
            if self.group.first:
                with self._kept_weights():
                    state = {"epoch": place.epoch, "figures": {config.monitor: value}, "config": self.config.to_dict()}
                    save_checkpoint(self.folder / BEST, trained_state(self.task.model), state=state)
        else:
            place.waited += 1
            place.stopped_early = config.patience is not None and place.waited >= config.patience

    # --------------------------------------------------------------------------------------------- save and go on

    def _save_last(self) -> None:
        if not self.group.first:
            return
        tensors = {f"model/{name}": one for name, one in trained_state(self.task.model).items()}
        tensors |= {f"optimiser/{name}": one for name, one in optimiser_tensors(self.optimiser).items()}
        if self.average is not None:
            tensors |= {f"average/{name}": one for name, one in self.average.values.items()}
        place = self.place
        state = {
            "place": {name: getattr(place, name) for name in _Place.__slots__},
            "history": self.history,
            "sums": self.sums,
            "scaler": self.scaler.state_dict(),
            "average_updates": 0 if self.average is None else self.average.updates,
            "config": self.config.to_dict(),
            "task": self.task.version,
        }
        save_checkpoint(self.folder / LAST, tensors, state=state)

    def _resume(self) -> None:
        tensors, state = load_checkpoint(self.folder / LAST)
        now = {name: value for name, value in self.config.to_dict().items() if name not in _MAY_CHANGE}
        then = TrainConfig.from_dict(state["config"]).to_dict()
        changed = [f"{name} was {then[name]!r} and is {value!r}" for name, value in now.items() if then[name] != value]
        if state["task"] != self.task.version:
            changed.append(f"the task was {state['task']!r} and is {self.task.version!r}")
        if changed:
            raise InvalidInput(
                f"{self.folder} cannot be resumed: {'; '.join(changed)}",
                remedy="Resume with what the run began with, or name another folder.",
            )
        parts: dict[str, dict[str, Tensor]] = {"model": {}, "optimiser": {}, "average": {}}
        for label, one in tensors.items():
            part, name = label.split("/", 1)
            parts[part][name] = one
        put_state(self.task.model, parts["model"], source=str(self.folder / LAST))
        put_optimiser_tensors(self.optimiser, parts["optimiser"])
        if self.average is not None:
            self.average.load(parts["average"], updates=int(state["average_updates"]))
        if state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        self.place = _Place(**state["place"])
        self.history, self.sums = list(state["history"]), dict(state["sums"])

    # ------------------------------------------------------------------------------------------------------- helpers

    def _seed(self, *place: int) -> None:
        seed_everything(self.config.seed, self.group.rank, *place)

    def _lr(self, step: int, *, per_epoch: int) -> float:
        """The first group's learning rate at a step."""
        factor = lr_factor(step, steps_per_epoch=per_epoch, config=self.config)
        return float(self.optimiser.param_groups[0]["base_lr"]) * factor

    def _means(self) -> dict[str, float]:
        weight = self.sums["weight"]
        return {name[1:]: value / weight for name, value in self.sums.items() if name.startswith("/")}

    def _kept_weights(self) -> AbstractContextManager[None]:
        return nullcontext() if self.average is None else self.average.in_place()

    def _unsynchronised(self, unsynchronised: bool) -> AbstractContextManager[Any]:
        if unsynchronised and isinstance(self.losses, nn.parallel.DistributedDataParallel):
            return self.losses.no_sync()
        return nullcontext()

    def _diverged(self, what: str, value: float) -> ModelError:
        return ModelError(
            f"the {what} is {value} at step {self.place.step} of epoch {self.place.epoch}",
            remedy=f"Lower lr (now {self.config.lr:g}) or clip_norm, lengthen the warm-up, use bf16 or float32 in "
            "place of fp16, and look for NaN in the data.",
        )


def _dtype(config: TrainConfig) -> torch.dtype:
    return torch.float16 if config.precision == "fp16" else torch.bfloat16
