"""Epochs of shuffled batches that any number of processes share: the same global batches, dealt out by rank.

`EpochBatches` gives the same global batch i of epoch e for every number of processes, so a run on two GPUs follows
the run on one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from trifocal.errors import InvalidInput

__all__ = ["EpochBatches"]


class EpochBatches:
    """One epoch's batches of a data set of `count` items, for this process.

    Args:
        count: items in the data set.
        batch: items per step over all processes.
        collate: makes the batch of a list of item numbers.
        epoch: which epoch; with `seed` it sets the order.
        seed: see `epoch`.
        shuffle: False keeps the order of the items.
        drop_last: leave out a last batch that is not full (else it is smaller).
        rank: this process's number; it takes items rank, rank + world, ... of every batch.
        world: processes.

    Raises:
        InvalidInput: no items, a batch smaller than the number of processes, or less than one full batch.
    """

    def __init__(
        self,
        count: int,
        *,
        batch: int,
        collate: Callable[[Sequence[int]], Any],
        epoch: int,
        seed: int = 0,
        shuffle: bool = True,
        drop_last: bool = False,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        """Draw the order."""
        if count < 1:
            raise InvalidInput("there is nothing to train on", remedy="Give a data set with at least one item.")
        if not 0 <= rank < world:
            raise InvalidInput(f"rank is {rank} of {world}", remedy="Give a rank from 0 to world - 1.")
        if batch < world:
            raise InvalidInput(
                f"a batch of {batch} for {world} processes", remedy="Give each process at least one item of a batch."
            )
        if drop_last and count < batch:
            raise InvalidInput(
                f"{count} items give no batch of {batch}", remedy="Give smaller batches, or keep the last one."
            )
        order = np.random.default_rng((seed, epoch)).permutation(count) if shuffle else np.arange(count)
        full = count - count % batch if drop_last else count
        self._batches = [order[start : start + batch] for start in range(0, full, batch)]
        self._collate, self._rank, self._world = collate, rank, world

    def __len__(self) -> int:
        """Batches of the epoch; a process may find its share of the last one empty and skip it."""
        return sum(1 for batch in self._batches if len(batch) > self._rank)

    def __iter__(self) -> Iterator[Any]:
        """The batches, made one at a time."""
        return self.starting_at(0)

    def starting_at(self, batch: int) -> Iterator[Any]:
        """The batches from this process's number `batch` on, without making those before; how a run is resumed."""
        for chosen in self._batches[batch:]:
            mine = chosen[self._rank :: self._world]
            if len(mine):
                yield self._collate([int(index) for index in mine])
