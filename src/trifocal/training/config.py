"""Everything a run of training can be told, in one frozen dataclass.

Nothing here knows what is trained: rates, schedule, precision, patience, how often to save. Defaults are the recipe of
the retrieval line (2.5e-4, 1 % warm-up, linear decay, weight decay 0.01 except on biases and norms), in AdamW's form.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, Self, cast, get_args

from trifocal._version import __version__
from trifocal.errors import InvalidInput

__all__ = ["Mode", "Precision", "ScheduleName", "TrainConfig"]

Precision = Literal["float32", "bf16", "fp16"]
ScheduleName = Literal["constant", "linear", "cosine", "steps"]
Mode = Literal["max", "min"]
_BELOW_ONE = math.nextafter(1.0, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """How to train; validated on construction.

    Args:
        epochs: passes over the training data at most.
        lr: learning rate after the warm-up.
        group_lr: learning rates of parameter groups by name, in place of `lr`.
        schedule: how the rate falls: "constant", "linear" or "cosine" to `final_lr`, or "steps" by `gamma` at
            `milestones`.
        warmup: share of all steps in which the rate rises linearly from 0.
        final_lr: where "linear" and "cosine" end, as a share of the rate.
        milestones: epochs after which "steps" multiplies the rate by `gamma`.
        gamma: see `milestones`.
        weight_decay: of AdamW; biases, norms and other vectors have none.
        betas: of AdamW.
        eps: of AdamW.
        clip_norm: longest gradient, over all parameters; None does not clip.
        accumulate: batches whose gradients make one step.
        precision: "float32", or automatic mixed precision in "bf16" or "fp16" (with loss scaling).
        seed: of everything random; a run is a function of it and of the data.
        ema: decay of the moving average of the weights, which is then what is evaluated and kept; None for none.
        evaluate_every: epochs between evaluations.
        monitor: the figure that decides which epoch is best: a name from `Task.evaluate`, or "loss" for the mean
            training loss.
        mode: whether "max" or "min" of the monitored figure is best.
        patience: evaluations without a new best before training stops; None never stops early.
        checkpoint_every: epochs between resumable checkpoints.
        checkpoint_steps: also save one every so many steps, for epochs that take hours; None for epochs only.
        tensorboard: write TensorBoard events beside the CSV (needs the extra `train`).
        device: "auto" for the process's GPU where there is one, else as torch names it.
        find_unused: under several processes, allow parameters that a step does not use.

    Raises:
        InvalidInput: a value that cannot be used.
    """

    epochs: int = 100
    lr: float = 2.5e-4
    group_lr: Mapping[str, float] = field(default_factory=dict)
    schedule: ScheduleName = "linear"
    warmup: float = 0.01
    final_lr: float = 0.0
    milestones: tuple[int, ...] = ()
    gamma: float = 0.1
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    clip_norm: float | None = 1.0
    accumulate: int = 1
    precision: Precision = "float32"
    seed: int = 0
    ema: float | None = None
    evaluate_every: int = 1
    monitor: str = "loss"
    mode: Mode = "min"
    patience: int | None = None
    checkpoint_every: int = 1
    checkpoint_steps: int | None = None
    tensorboard: bool = False
    device: str = "auto"
    find_unused: bool = True

    def __post_init__(self) -> None:
        """Refuse what cannot be used, and make sequences from JSON tuples."""
        object.__setattr__(self, "milestones", tuple(self.milestones))
        object.__setattr__(self, "betas", tuple(self.betas))
        object.__setattr__(self, "group_lr", dict(self.group_lr))
        for name in ("epochs", "accumulate", "evaluate_every", "checkpoint_every"):
            _whole(name, getattr(self, name), least=1)
        for name in ("patience", "checkpoint_steps"):
            if getattr(self, name) is not None:
                _whole(name, getattr(self, name), least=1)
        _whole("seed", self.seed, least=0)
        for milestone in self.milestones:
            _whole("milestones", milestone, least=1)
        _within("lr", self.lr, low=0.0)
        for name, rate in self.group_lr.items():
            _within(f"group_lr[{name!r}]", rate, low=0.0)
        _within("warmup", self.warmup, low=0.0, high=1.0)
        _within("final_lr", self.final_lr, low=0.0, high=1.0)
        _within("gamma", self.gamma, low=0.0, high=1.0)
        _within("weight_decay", self.weight_decay, low=0.0)
        betas = list(self.betas)
        if len(betas) != 2:
            raise InvalidInput(f"betas is {self.betas}", remedy="Give two numbers of at least 0 and below 1.")
        for beta in betas:
            _within("betas", beta, low=0.0, high=_BELOW_ONE)
        if self.ema is not None:
            _within("ema", self.ema, low=0.0, high=_BELOW_ONE)
        _within("eps", self.eps, low=math.ulp(0.0))
        if self.clip_norm is not None:
            _within("clip_norm", self.clip_norm, low=math.ulp(0.0))
        _one_of("precision", self.precision, get_args(Precision))
        _one_of("schedule", self.schedule, get_args(ScheduleName))
        _one_of("mode", self.mode, get_args(Mode))
        if not self.monitor:
            raise InvalidInput(f"monitor is {self.monitor!r}", remedy='Name a figure of the evaluation, or "loss".')

    def to_dict(self) -> dict[str, Any]:
        """A dict for JSON, with the version that made it."""
        return {**asdict(self), "version": __version__}

    def to_json(self) -> str:
        """Sorted JSON of `to_dict`."""
        return json.dumps(self.to_dict(), sort_keys=True, indent=2)

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> Self:
        """Build from what `to_dict` gave; an unknown key is left out with a warning."""
        known = {entry.name for entry in fields(cls)}
        given = {name: value for name, value in values.items() if name != "version"}
        unknown = sorted(given.keys() - known)
        if unknown:
            warnings.warn(
                f"TrainConfig does not know {', '.join(unknown)}; this is version {__version__}: "
                "correct the spelling, update trifocal, or remove the key",
                stacklevel=2,
            )
        # JSON carries no types; the dataclass checks every value on construction.
        return cls(**cast("dict[str, Any]", {name: value for name, value in given.items() if name in known}))


def _whole(name: str, value: Any, *, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InvalidInput(f"{name} is {value!r}", remedy=f"Give a whole number of at least {least}.")


def _within(name: str, value: Any, *, low: float, high: float = math.inf) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high or math.isinf(value):
        upper = "" if math.isinf(high) else f" and at most {high:g}"
        raise InvalidInput(f"{name} is {value!r}", remedy=f"Give a number of at least {low:g}{upper}.")


def _one_of(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InvalidInput(f"{name} is {value!r}", remedy=f"Use one of {', '.join(choices)}.")
