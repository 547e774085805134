"""One move of the weights, by the gradient of several batches over several processes.

Each batch counts by its size over all batches of the step in all processes, so the result is that of one big batch,
however it was cut. Gradients are exchanged at the last batch alone. A loss or gradient that is not a number stops the
run, except that a loss scale that is too high mends itself.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from trifocal.errors import InvalidInput
from trifocal.training.schedule import lr_factor
from trifocal.training.seeding import seed_everything

if TYPE_CHECKING:
    from trifocal.training.config import TrainConfig
    from trifocal.training.processes import Processes
    from trifocal.training.state import RunState
    from trifocal.training.task import Task

__all__ = ["Stepper"]


class Stepper:
    """Moves the weights of a task.

    Args:
        task: whose model is trained.
        config: how.
        state: what a step changes; what was to be resumed is in it already.
        group: the processes that step together.
    """

    def __init__(self, task: Task, config: TrainConfig, state: RunState, *, group: Processes) -> None:
        """With several processes, all begin with the weights of the first."""
        self._task, self._config, self._state, self._group = task, config, state, group
        losses = _Losses(task)
        self._losses: nn.Module = (
            nn.parallel.DistributedDataParallel(losses, find_unused_parameters=config.find_unused)
            if group.world > 1
            else losses
        )

    def move(self, window: list[tuple[int, Any]], *, per_epoch: int) -> dict[str, float]:
        """One move, noted in the state.

        Args:
            window: the batches of this process, each with its number within the epoch; one numbered -1 has no weight.
                As many as every other process gives.
            per_epoch: steps in an epoch.

        Returns:
            The mean losses over all batches of all processes.

        Raises:
            InvalidInput: the batches weigh nothing; the task gives no "loss".
            ModelError: the loss or the gradient is not a number any more.
        """
        state, config, group = self._state, self._config, self._group
        factor = lr_factor(state.place.step, steps_per_epoch=per_epoch, config=config)
        for entry in state.optimiser.param_groups:
            entry["lr"] = entry["base_lr"] * factor
        sizes = [self._task.size(batch) if number >= 0 else 0.0 for number, batch in window]
        (total,) = group.total([float(sum(sizes))])
        if not total > 0:
            raise InvalidInput(
                f"the batches of step {state.place.step} weigh {total}", remedy="Let `Task.size` be above 0."
            )
        found: dict[str, Tensor] = {}
        for index, ((number, batch), weight) in enumerate(zip(window, sizes, strict=True)):
            seed_everything(config.seed, group.rank, state.place.epoch, 2, max(number, 0))
            with self._unsynchronised(index + 1 < len(window)):
                with torch.autocast(group.device.type, dtype=_dtype(config), enabled=config.precision != "float32"):
                    losses = self._losses(self._task.to_device(batch, group.device))
                state.scaler.scale(losses["loss"] * (weight * group.world / total)).backward()
            for name, one in losses.items():
                found[name] = found.get(name, torch.zeros((), device=group.device)) + one.detach().double() * weight
        names = sorted(found)
        summed = group.total([float(value) for value in torch.stack([found[name] for name in names]).tolist()])
        means = {name: value / total for name, value in zip(names, summed, strict=True)}
        if not math.isfinite(means["loss"]):
            raise state.diverged("loss", means["loss"])
        state.scaler.unscale_(state.optimiser)
        longest = math.inf if config.clip_norm is None else config.clip_norm
        norm = float(nn.utils.clip_grad_norm_(state.parameters.values(), longest))
        if not math.isfinite(norm) and not state.scaler.is_enabled():  # a loss scale that is too high mends itself
            raise state.diverged("gradient's length", norm)
        state.scaler.step(state.optimiser)
        state.scaler.update()
        state.optimiser.zero_grad(set_to_none=True)
        if state.average is not None:
            state.average.update()
        state.count(means, weight=total)
        return means

    def _unsynchronised(self, unsynchronised: bool) -> AbstractContextManager[Any]:
        if unsynchronised and isinstance(self._losses, nn.parallel.DistributedDataParallel):
            return self._losses.no_sync()
        return nullcontext()


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


def _dtype(config: TrainConfig) -> torch.dtype:
    return torch.float16 if config.precision == "fp16" else torch.bfloat16
