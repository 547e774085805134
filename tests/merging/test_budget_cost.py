"""A budget costs at most twice the merge with thresholds, counted in numbers touched and not in seconds.

Everything from the similarities on is NumPy, so the similarities are given as arrays that count: each function adds the
sizes of what it reads and writes, a sort its `n log n`. Operators of torch are counted the same way.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from trifocal.merging import SttmConfig, merge
from trifocal.merging.similarity import Similarities, measure

SORTS = {"sort", "argsort", "lexsort", "unique", "searchsorted"}
SPATIAL, TEMPORAL = 0.80, 0.60
# NumPy gathers by lists of indices and makes an array of every step, where torch streams through rows. With this factor
# the counts are as far apart as CPU seconds were found to be (about 1.3 for directed groups, 1.7 to 2 for the others).
SCATTERED = 32


class Touched:
    """How many numbers were read or written."""

    def __init__(self) -> None:
        self.tensors = 0
        self.arrays = 0

    @property
    def total(self) -> int:
        """Both, in numbers of a tensor."""
        return self.tensors + SCATTERED * self.arrays

    def array(self, name: str, values: Any) -> None:
        """One call of NumPy."""
        sizes = [value.size for value in tree_leaves(values) if isinstance(value, np.ndarray)]
        largest = max(sizes, default=0)
        self.arrays += sum(sizes) * (math.ceil(math.log2(largest + 1)) if name in SORTS else 1)


class Counting(np.ndarray):
    """An array that tells of every function that it goes through; what comes out of one does so too."""

    touched: Touched

    def __array_finalize__(self, source: Any) -> None:
        self.touched = getattr(source, "touched", None) or Touched()

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        return self._count(getattr(ufunc, method), ufunc.__name__, inputs, kwargs)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        return self._count(func, func.__name__, args, kwargs)

    def __getitem__(self, key: Any) -> Any:
        found = super().__getitem__(key)
        if not isinstance(key, slice | int):
            self.touched.array("getitem", [found, found])
        return found

    def _count(self, func: Any, name: str, args: Any, kwargs: Any) -> Any:
        result = func(*plain(args), **plain(kwargs))
        self.touched.array(name, [args, kwargs, result])
        return counted(result, self.touched)


def plain(values: Any) -> Any:
    """The same without counting."""
    if isinstance(values, Counting):
        return values.view(np.ndarray)
    if isinstance(values, tuple | list):
        return type(values)(plain(value) for value in values)
    if isinstance(values, dict):
        return {name: plain(value) for name, value in values.items()}
    return values


def counted(values: Any, touched: Touched) -> Any:
    """The same, counting."""
    if isinstance(values, np.ndarray):
        made = values.view(Counting)
        made.touched = touched
        return made
    if isinstance(values, tuple | list):
        return type(values)(counted(value, touched) for value in values)
    return values


class Tensors(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts for torch: what operators read and write; for lists of pairs, the rows that these name."""

    def __init__(self, touched: Touched) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.touched = touched

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if "per_sample_weights_backward" in str(func):
            self.touched.tensors += 2 * args[0].shape[1] * len(args[2])
        elif not func.is_view:
            self.touched.tensors += sum(
                leaf.numel() for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, torch.Tensor)
            )
        return result


@contextmanager
def counting(monkeypatch: pytest.MonkeyPatch) -> Iterator[Touched]:
    """Counts a merge inside it."""
    touched = Touched()

    def measured(*args: Any, **kwargs: Any) -> Similarities:
        found = measure(*args, **kwargs)
        return Similarities(found.tree, found.pairs, counted(found.dots, touched), counted(found.norms, touched))

    with monkeypatch.context() as patch, Tensors(touched):
        # The package has a function of the module's name.
        patch.setattr(import_module("trifocal.merging.sttm"), "measure", measured)
        yield touched


@pytest.mark.parametrize(
    ("grouping", "exact"), [("directed", False), ("directed", True), ("components", False), ("reference", False)]
)
def test_a_budget_costs_at_most_two_merges(
    field: Callable[..., torch.Tensor], monkeypatch: pytest.MonkeyPatch, grouping: Any, exact: bool
) -> None:
    x = field(16, 14, 14, 896)
    with counting(monkeypatch) as one:
        by_thresholds = merge(x, SttmConfig(spatial_threshold=SPATIAL, temporal_threshold=TEMPORAL, grouping=grouping))
    with counting(monkeypatch) as other:
        by_budget = merge(x, SttmConfig(budget=by_thresholds.share, grouping=grouping, exact=exact))
    assert abs(len(by_budget) - len(by_thresholds)) <= len(x)
    # Both were counted: each cell's channels, and each cell's similarities, at the least.
    assert one.tensors > x.numel()
    assert one.arrays > x[..., 0].numel()
    assert other.arrays > one.arrays
    assert other.tensors == pytest.approx(one.tensors, rel=0.01)  # the video is read once
    assert other.total <= 2 * one.total, other.total / one.total


def test_the_counter_counts() -> None:
    touched = Touched()
    values = counted(np.arange(8.0), touched)
    assert float((values + 1).sum()) == 36.0
    assert touched.arrays == 8 + 8 + 8 + 1 - 1  # the sum is a number, not an array
    np.sort(values)
    assert touched.arrays == 24 + 16 * 4
    values[np.array([1, 2])]
    assert touched.arrays == 24 + 64 + 4
    with Tensors(touched):
        torch.ones(5) + torch.ones(5)
    assert touched.tensors >= 15
