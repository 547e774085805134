"""Randomness as a function of the place in the run, so that nothing random has to be saved.

Before every batch the global generators are seeded from (seed, process, epoch, batch). A run that is resumed at a
batch draws what the uninterrupted one drew there, whatever happened in between: an evaluation, another process's speed.
"""

from __future__ import annotations

import random

import numpy as np
import torch

__all__ = ["seed_everything"]


def seed_everything(*place: int) -> None:
    """Seed Python's, numpy's and torch's global generators (all devices) from whole numbers of at least 0."""
    words = np.random.SeedSequence(place).generate_state(4, np.uint32)
    random.seed(int(words[0]))
    np.random.seed(int(words[1]))  # noqa: NPY002 -- what a task draws from the global generator must repeat too
    torch.manual_seed((int(words[2]) << 31) ^ int(words[3]))
