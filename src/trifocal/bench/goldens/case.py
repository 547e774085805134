"""What the checkers of golden files share: a case of the report, and how arrays are read and compared."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

__all__ = ["Arrays", "Case", "Checker", "distance", "load_arrays", "video_of"]

Arrays = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Case:
    """One line of the report. `wrong` names what differs; None for a case that was not checked, and why in `note`."""

    name: str
    wrong: tuple[str, ...] | None
    note: str = ""


def video_of(arrays: Arrays, key: str = "x") -> torch.Tensor:
    """`(T, C, H, W)` as stored to `(T, H, W, C)` in the type it is meant to be used in."""
    if key + "_bf16" in arrays:
        bits = torch.from_numpy(arrays[key + "_bf16"].astype(np.int32) << 16)
        return bits.view(torch.float32).to(torch.bfloat16).movedim(1, -1).contiguous()
    return torch.from_numpy(arrays[key].astype(np.float32)).movedim(1, -1).contiguous()


def distance(found: torch.Tensor, expected: np.ndarray[Any, Any]) -> float:
    """Largest difference; infinite for another shape."""
    if tuple(found.shape) != expected.shape:
        return math.inf
    return float(np.abs(found.float().numpy() - expected).max(initial=0.0))


Checker = Callable[[Path], Iterator[Case]]
"""All cases of one file."""


def load_arrays(path: Path) -> Arrays:
    """The arrays of an npz file, without pickles."""
    with np.load(path, allow_pickle=False) as stored:
        return {key: stored[key] for key in stored.files}
