"""How the learning rate moves over a run: a factor on every group's rate, as a pure function of the step.

A pure function has no state to save: a resumed run asks for the step it is at.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from trifocal.errors import InvalidInput

if TYPE_CHECKING:
    from trifocal.training.config import TrainConfig

__all__ = ["lr_factor"]


def lr_factor(step: int, *, steps_per_epoch: int, config: TrainConfig) -> float:
    """The factor on the learning rate for a step.

    The warm-up rises as (step + 1) / warm-up steps; "linear" and "cosine" then fall from 1 to `final_lr` at the last
    step of the last epoch; "steps" multiplies by `gamma` once per milestone passed.

    Args:
        step: optimiser steps made before this one, from 0.
        steps_per_epoch: optimiser steps in an epoch.
        config: the schedule, warm-up and epochs.

    Returns:
        A number in [0, 1].

    Raises:
        InvalidInput: a negative step or an empty epoch.
    """
    if step < 0 or steps_per_epoch < 1:
        raise InvalidInput(
            f"step is {step} of {steps_per_epoch} an epoch", remedy="Give a step from 0 and a non-empty epoch."
        )
    total = steps_per_epoch * config.epochs
    warm = math.ceil(config.warmup * total)
    if step < warm:
        return (step + 1) / warm
    if config.schedule == "constant":
        return 1.0
    if config.schedule == "steps":
        return config.gamma ** sum(step >= milestone * steps_per_epoch for milestone in config.milestones)
    progress = min(1.0, (step - warm) / max(1, total - warm))
    fallen = 1.0 - progress if config.schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * progress))
    return config.final_lr + (1.0 - config.final_lr) * fallen
