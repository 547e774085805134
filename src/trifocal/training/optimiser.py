"""AdamW over named parameter groups: own rates, no decay on biases and norms, and a state that can be saved by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from trifocal.errors import InvalidInput

if TYPE_CHECKING:
    from trifocal.training.config import TrainConfig
    from trifocal.training.task import NamedParameters

__all__ = ["build_optimiser", "optimiser_tensors", "put_optimiser_tensors"]


def build_optimiser(
    groups: Mapping[str, NamedParameters],
    config: TrainConfig,
    *,
    decays: Callable[[str, nn.Parameter], bool] = lambda _, parameter: parameter.ndim > 1,
) -> torch.optim.AdamW:
    """AdamW with the configured rate per group, and weight decay on what `decays`.

    Every torch group carries `name`, `base_lr` (before the schedule) and `names` of its parameters.

    Raises:
        InvalidInput: nothing to train, a parameter in two groups, or a rate for a group that does not exist.
    """
    unknown = sorted(config.group_lr.keys() - groups.keys())
    if unknown:
        raise InvalidInput(
            f"group_lr names {', '.join(unknown)}", remedy=f"This task has the groups {', '.join(sorted(groups))}."
        )
    seen: dict[int, str] = {}
    built: list[dict[str, Any]] = []
    for group, named in groups.items():
        for name, one in named:
            if id(one) in seen:
                raise InvalidInput(
                    f"the parameter {name} is in the groups {seen[id(one)]} and {group}",
                    remedy="Give every parameter to one group of `Task.parameter_groups`.",
                )
            seen[id(one)] = group
        lr = config.group_lr.get(group, config.lr)
        for decay, chosen in (
            (config.weight_decay, [(name, one) for name, one in named if decays(name, one)]),
            (0.0, [(name, one) for name, one in named if not decays(name, one)]),
        ):
            if chosen:
                built.append(
                    {
                        "params": [one for _, one in chosen],
                        "names": [name for name, _ in chosen],
                        "name": group,
                        "weight_decay": decay,
                        "lr": lr,
                        "base_lr": lr,
                    }
                )
    if not built:
        raise InvalidInput("no parameter is to be trained", remedy="Set requires_grad on what should learn.")
    return torch.optim.AdamW(built, lr=config.lr, betas=config.betas, eps=config.eps)


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state as tensors by "<parameter>/<what>"; empty before the first step."""
    return {
        f"{name}/{key}": value if isinstance(value, Tensor) else torch.tensor(value)
        for group in optimiser.param_groups
        for name, one in zip(group["names"], group["params"], strict=True)
        for key, value in optimiser.state.get(one, {}).items()
    }


def put_optimiser_tensors(optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Bring back what `optimiser_tensors` gave.

    Raises:
        InvalidInput: a tensor of a parameter that the optimiser does not have.
    """
    parameters = {
        name: one for group in optimiser.param_groups for name, one in zip(group["names"], group["params"], strict=True)
    }
    for label, value in tensors.items():
        name, key = label.rsplit("/", 1)
        if name not in parameters:
            raise InvalidInput(
                f"the checkpoint has the optimiser's state of {name}, which is not trained now",
                remedy="Resume with the configuration that the run began with.",
            )
        one = parameters[name]
        # AdamW keeps its step counts on the CPU whatever the device of the parameter
        optimiser.state[one][key] = value.cpu() if key == "step" else value.to(one.device)
