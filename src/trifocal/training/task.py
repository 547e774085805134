"""What the loop must be given: a model, batches, a loss, and if possible an evaluation.

`Task` is the seam between the loop and a method. The loop never looks inside a batch; it asks the task to move it to
the device, to weigh it, and to turn it into losses.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

__all__ = ["Batches", "NamedParameters", "Task", "to_device"]

NamedParameters = Sequence[tuple[str, nn.Parameter]]


class Batches(Protocol):
    """One epoch's batches of this process: their number, and one after the other. A `DataLoader` is one."""

    def __len__(self) -> int:
        """How many batches there are."""
        ...

    def __iter__(self) -> Iterator[Any]:
        """The batches in order."""
        ...


class Task(ABC):
    """What is trained. Subclass it, set `model`, write `batches` and `loss`; the rest has defaults."""

    version: str = ""
    """What a checkpoint must share to be resumed: all that shapes a run beside the loop's configuration."""

    model: nn.Module
    """The model. Only parameters that require a gradient are trained, saved and averaged; buffers are saved too."""

    @abstractmethod
    def batches(self, epoch: int) -> Batches:
        """This process's batches of an epoch, a function of the epoch alone.

        Called once at the start of every epoch, from 0. All randomness must come from the epoch (`EpochBatches` does)
        or from torch's, numpy's or Python's global generators, which the loop seeds before this call and before every
        batch. Under several processes give each its share (`EpochBatches` with `rank` and `world`).
        """

    @abstractmethod
    def loss(self, batch: Any) -> Mapping[str, Tensor]:
        """The losses of one batch on the device: scalars, with the one to minimise under "loss".

        "loss" must be a mean over `size(batch)` things; the others are only logged. Call `self.model` freely. Under
        several processes all call it equally often and must name the same losses.
        """

    def evaluate(self) -> Mapping[str, float]:
        """Figures of the model as it stands, such as {"sum_r": 210.3}; called in eval mode, without gradients.

        Under several processes only the first evaluates; the others wait.
        """
        return {}

    def size(self, batch: Any) -> float:  # noqa: ARG002 -- for those who override it
        """The weight of a batch beside others: how many things its loss is a mean over. By default all weigh alike."""
        return 1.0

    def spare(self, batch: Any) -> Any:
        """What a process that has run out gives while others have batches left: by default its latest `batch` again.

        Its loss has no weight. A loss that looks at the batches of all processes must leave it out there too.
        """
        return batch

    def parameter_groups(self) -> Mapping[str, NamedParameters]:
        """Named groups of named parameters, for `TrainConfig.group_lr`; by default one group, "model"."""
        return {"model": [(name, one) for name, one in self.model.named_parameters() if one.requires_grad]}

    def decays(self, name: str, parameter: nn.Parameter) -> bool:  # noqa: ARG002 -- for those who override it
        """Whether weight decay pulls on a parameter; by default on what has two axes or more, not on biases, norms."""
        return parameter.ndim > 1

    def to_device(self, batch: Any, device: torch.device) -> Any:
        """The batch with its tensors on the device."""
        return to_device(batch, device)

    def begin_epoch(self, epoch: int) -> None:  # noqa: B027 -- nothing to do unless overridden
        """Called before the batches of every epoch, also when one is resumed in its middle."""


def to_device(value: Any, device: torch.device) -> Any:
    """Tensors of nested dicts, lists, tuples and of objects with a `.to` method, on the device; the rest as it is."""
    if hasattr(value, "to"):
        return value.to(device)
    if isinstance(value, Mapping):
        return {key: to_device(entry, device) for key, entry in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(to_device(entry, device) for entry in value))
    if isinstance(value, list | tuple):
        return type(value)(to_device(entry, device) for entry in value)
    return value
