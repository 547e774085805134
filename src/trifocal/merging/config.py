"""What every method's configuration shares: validation, JSON, budgets, and the check of a video's shape.

A configuration is a frozen dataclass that knows its method's name and how to merge one video. It is saved as sorted
JSON with the version that wrote it; a later version may know more keys, so an unknown one only warns.
"""

from __future__ import annotations

import json
import math
import warnings
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, ClassVar, Literal, Self

import numpy as np

from trifocal._version import __version__
from trifocal.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from trifocal.merging.result import MergedTokens

__all__ = ["Compat", "MergeConfig", "check_budget", "check_choice", "check_threshold", "check_video", "token_budget"]

Compat = Literal["default", "reference"]
NOTHING_MERGES = math.nextafter(1.0, 2.0)
"""The highest threshold: not even a cosine of exactly 1 reaches it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeConfig(ABC):
    """The base of all methods' configurations."""

    method: ClassVar[str]
    """Name in the table of methods."""
    query_aware: ClassVar[bool] = False
    """Whether what is kept depends on the question, so that a merged video serves that question alone."""

    @abstractmethod
    def merge(self, x: Tensor) -> MergedTokens:
        """Merge one video `x (T, H, W, C)`."""

    def to_json(self) -> str:
        """Sorted JSON with the method and the version."""
        return json.dumps(
            {**asdict(self), "method": self.method, "version": __version__}, sort_keys=True, default=float
        )

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> Self:
        """Build from what `to_json` wrote; an unknown key is left out with a warning."""
        known = {entry.name for entry in fields(cls)}
        given = {name: value for name, value in values.items() if name not in {"method", "version"}}
        unknown = sorted(given.keys() - known)
        if unknown:
            warnings.warn(
                f"{cls.__name__} does not know {', '.join(unknown)}, which version {values.get('version', 'unknown')} "
                f"wrote; this is {__version__}: update trifocal or remove the key",
                stacklevel=2,
            )
        # JSON carries no types; the dataclass checks every value on construction.
        return cls(**{name: value for name, value in given.items() if name in known})


def check_video(x: Tensor) -> None:
    """Refuse anything that is not a non-empty floating `(T, H, W, C)`."""
    if x.dim() != 4:
        raise InvalidInput(f"x has shape {tuple(x.shape)}", remedy="Give a video as (T, H, W, C), channels last.")
    if not x.numel():
        raise InvalidInput(
            f"x has shape {tuple(x.shape)}, without any value", remedy="Give at least one frame and cell."
        )
    if not x.is_floating_point():
        raise InvalidInput(f"x is {x.dtype}", remedy="Means need a floating type: x.float().")


def check_choice(name: str, value: object, choices: tuple[object, ...]) -> None:
    """Refuse a value outside `choices`, naming them."""
    if value not in choices:
        raise InvalidInput(f"{name} is {value!r}", remedy=f"Use one of {', '.join(map(str, choices))}.")


def check_threshold(name: str, value: object) -> None:
    """Refuse what cannot be a cosine."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not -1.0 <= value <= NOTHING_MERGES:
        raise InvalidInput(f"{name} is {value!r}", remedy="Give a cosine between -1 and 1; lower merges more.")


def check_budget(budget: object) -> None:
    """Refuse what is neither a share in (0, 1] nor a number of tokens."""
    share = isinstance(budget, float) and 0.0 < budget <= 1.0
    count = isinstance(budget, int | np.integer) and not isinstance(budget, bool) and budget >= 1
    if not share and not count:
        raise InvalidInput(
            f"budget is {budget!r}", remedy="Give a share between 0 and 1 (0.3) or a whole number of tokens (4000)."
        )


def token_budget(budget: float, cells: int) -> int:
    """Tokens that a budget allows: a float is a share of the cells (rounded down, at least 1), an int a count."""
    check_budget(budget)
    if isinstance(budget, int | np.integer):
        return min(int(budget), cells)
    return max(1, math.floor(budget * cells + 1e-6))
