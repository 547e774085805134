"""The one training loop: `fit` trains a `Task` by a `TrainConfig` into a folder.

A step gathers `accumulate` batches and moves the weights once (`step`). After an epoch the task evaluates, the best
weights are kept, and everything a resumed run needs is written (`state`). Randomness is a function of the place in the
run (`seeding`), so resuming gives the result of never having stopped, bit for bit on the same machine and number of
processes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from trifocal.errors import InvalidInput
from trifocal.training.batching import EpochBatches
from trifocal.training.checkpoint import load_weights, save_checkpoint, trained_state, write_atomically
from trifocal.training.logs import TensorBoardLog, write_history
from trifocal.training.processes import Processes, processes
from trifocal.training.seeding import seed_everything
from trifocal.training.state import RunState
from trifocal.training.step import Stepper

if TYPE_CHECKING:
    from trifocal.training.config import TrainConfig
    from trifocal.training.task import Batches, Task

__all__ = ["FitResult", "Progress", "fit"]

LAST, BEST = "last.safetensors", "best.safetensors"


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
        self.state = RunState(task, config, device=group.device)
        if exists:
            self.state.load(folder / LAST)
        self.stepper = Stepper(task, config, self.state, group=group)
        self.log = (
            TensorBoardLog(folder / "tensorboard", step=self.state.place.step)
            if config.tensorboard and group.first
            else None
        )

    def go(self) -> FitResult:
        """All epochs that are left."""
        if self.group.first:
            write_atomically(self.folder / "train.json", self.config.to_json() + "\n")
        try:
            while not self.state.place.done:
                self._epoch()
        finally:
            if self.log is not None:
                self.log.close()
        if (self.folder / BEST).exists():
            load_weights(self.folder / BEST, self.task.model)
        self.task.model.eval()
        place, history = self.state.place, tuple(self.state.history)
        return FitResult(self.folder, place.best, place.best_epoch, place.epoch, place.stopped_early, history)

    def _epoch(self) -> None:
        """One epoch, or the rest of one: train, evaluate, keep the best, save."""
        state, config, began = self.state, self.config, time.monotonic()
        place = state.place
        self.task.model.train()
        self.task.begin_epoch(place.epoch)
        self._seed(place.epoch, 0)
        batches = self.task.batches(place.epoch)
        per_epoch = math.ceil(self.group.most(len(batches)) / config.accumulate)
        if per_epoch < 1:
            raise InvalidInput(f"epoch {place.epoch} has no batches", remedy="Give the task something to train on.")
        for window in self._windows(batches):
            losses = self.stepper.move(window, per_epoch=per_epoch)
            if self.log is not None:
                self.log.write({f"step/{name}": value for name, value in losses.items()}, step=place.step)
            saved_steps = config.checkpoint_steps
            if saved_steps is not None and place.step % saved_steps == 0:
                self._save()
            if self.progress is not None and self.group.first:
                means, lr = state.means(), state.lr(place.step - 1, per_epoch=per_epoch)
                self.progress(Progress(place.epoch, config.epochs, place.step, per_epoch * config.epochs, lr, means))
        rate = state.lr(place.step - 1, per_epoch=per_epoch)
        row: dict[str, float] = {"epoch": place.epoch, "step": place.step, "lr": rate, **state.means()}
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
        state.history.append(row)
        place.epoch, place.batch, state.sums = place.epoch + 1, 0, {}
        place.done = last or place.stopped_early
        if self.group.first:
            write_history(self.folder / "metrics.csv", state.history)
            if self.log is not None:
                self.log.write({name: value for name, value in row.items() if name != "step"}, step=place.step)
        if place.done or place.epoch % config.checkpoint_every == 0:
            self._save()
        if self.on_epoch is not None and self.group.first:
            self.on_epoch(row)

    def _windows(self, batches: Batches) -> Iterator[list[tuple[int, Any]]]:
        """The batches of one step after the other, numbered within the epoch, from where the run is."""
        place = self.state.place
        skipped = place.batch
        latest: Any = None
        if isinstance(batches, EpochBatches):
            source = batches.starting_at(skipped)
            if self.group.world > 1 and skipped >= len(batches):  # run out, and the others may not have
                latest = next(batches.starting_at(len(batches) - 1), None)
        else:  # what an unknown loader draws for the batches before is drawn again, so that it goes on the same
            source = iter(batches)
            for number in range(skipped):
                self._seed(place.epoch, 1, number)
                latest = next(source, latest)
        drawn = skipped
        while True:
            window = []
            for number in range(drawn, drawn + self.config.accumulate):
                self._seed(place.epoch, 1, number)
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
            place.batch = drawn
            yield window

    def _evaluate(self) -> dict[str, float]:
        """The task's figures under the weights that would be kept, the same at every process."""
        self._seed(self.state.place.epoch, 3)
        figures: dict[str, float] = {}
        if self.group.first:
            self.task.model.eval()
            with torch.no_grad(), self.state.kept_weights():
                figures = {name: float(value) for name, value in self.task.evaluate().items()}
            self.task.model.train()
        return dict(self.group.told(figures))

    def _judge(self, value: float) -> None:
        """Keep the weights if they are the best so far, else count towards patience."""
        place, config = self.state.place, self.config
        if math.isnan(value):
            raise self.state.diverged(config.monitor, value)
        better = place.best is None or (value > place.best if config.mode == "max" else value < place.best)
        if better:
            place.best, place.best_epoch, place.waited = value, place.epoch, 0
            if self.group.first:
                with self.state.kept_weights():
                    state = {"epoch": place.epoch, "figures": {config.monitor: value}, "config": config.to_dict()}
                    save_checkpoint(self.folder / BEST, trained_state(self.task.model), state=state)
        else:
            place.waited += 1
            place.stopped_early = config.patience is not None and place.waited >= config.patience

    def _save(self) -> None:
        if self.group.first:
            self.state.save(self.folder / LAST)

    def _seed(self, *place: int) -> None:
        seed_everything(self.config.seed, self.group.rank, *place)
