"""Accuracy with what it is worth: intervals that know that questions of one video are not independent."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trifocal.errors import InvalidInput

__all__ = ["Accuracy", "accuracy", "by_kind", "strict_accuracy"]

RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Accuracy:
    """A share of right answers.

    Args:
        value: 0 to 1.
        low: lower end of the 95 % interval.
        high: upper end.
        count: of questions.
        videos: that they are about.
    """

    value: float
    low: float
    high: float
    count: int
    videos: int

    def to_dict(self) -> dict[str, Any]:
        """As values that JSON knows."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def accuracy(right: Sequence[bool], videos: Sequence[str], *, seed: int = 0) -> Accuracy:
    """Accuracy with a 95 % percentile interval from resampling videos, not questions.

    Args:
        right: for each question, whether it was answered right.
        videos: for each question, its video.
        seed: of the resampling.

    Raises:
        InvalidInput: no question, or lengths that differ.
    """
    if not right or len(right) != len(videos):
        raise InvalidInput(f"{len(right)} answers and {len(videos)} videos", remedy="Give one video per answer.")
    _, cluster = np.unique(np.asarray(videos), return_inverse=True)
    count = int(cluster.max()) + 1
    hits = np.bincount(cluster, weights=np.asarray(right, np.float64), minlength=count)
    sizes = np.bincount(cluster, minlength=count)
    drawn = np.random.default_rng(seed).integers(0, count, (RESAMPLES, count))
    shares = hits[drawn].sum(1) / sizes[drawn].sum(1)
    low, high = np.quantile(shares, (0.025, 0.975))
    return Accuracy(float(hits.sum() / sizes.sum()), float(low), float(high), len(right), count)


def by_kind(
    right: Sequence[bool], videos: Sequence[str], kinds: Sequence[str], *, seed: int = 0
) -> dict[str, Accuracy]:
    """Accuracy of each kind of question, by name."""
    out = {}
    for kind in sorted(set(kinds)):
        rows = [row for row, one in enumerate(kinds) if one == kind]
        out[kind] = accuracy([right[row] for row in rows], [videos[row] for row in rows], seed=seed)
    return out


def strict_accuracy(right: Sequence[bool], groups: Sequence[str], videos: Sequence[str], *, seed: int = 0) -> Accuracy:
    """Share of groups of which every question was answered right (VNBench: all four orders of the options)."""
    whole: dict[str, bool] = defaultdict(lambda: True)
    of: dict[str, str] = {}
    for hit, group, video in zip(right, groups, videos, strict=True):
        whole[group] = whole[group] and bool(hit)
        of[group] = video
    return accuracy(list(whole.values()), [of[group] for group in whole], seed=seed)
