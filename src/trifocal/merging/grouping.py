"""Which nodes of consecutive frames become one token: three rules on a list of edges.

Nodes are numbered by (frame, top, left); an edge is a pair (earlier, later) similar enough to join. Every rule names
each node's representative, the lowest number of its group.

* `directed`, the paper's rule (§3.3): each later node joins one earlier node, the top-left-most, and follows it to the
  root. Tokens of one frame never merge with each other, and what happens in one region depends on nothing outside it.
* `components`: full connected components. Two nodes of one frame also merge when a later node touches both.
* `reference`: the published loop. Its stop test looks at the whole graph, so a group depends on how many sweeps
  unrelated regions needed; for comparison with published numbers only.

Components need a number of rounds that depends on the edges. They are found here on the host, where a round is a few
NumPy calls over small integers; measured on 25,088 cells (see `bench/merge`) that is a few milliseconds, where bounded
operator counts on a device would need a fixed number of rounds for the worst case.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from trifocal.errors import InvalidInput

if TYPE_CHECKING:
    import numpy.typing as npt

    Ints = npt.NDArray[np.int64]

__all__ = ["GROUPINGS", "Grouping", "follow", "group"]

Grouping = Literal["reference", "components", "directed"]
GROUPINGS: tuple[Grouping, ...] = ("reference", "components", "directed")


def group(count: int, *, edges: Ints, rule: Grouping) -> Ints:
    """Representative of each node.

    Args:
        count: number of nodes.
        edges: `(E, 2)` integers below `count`, earlier node first.
        rule: one of `GROUPINGS`.

    Returns:
        `(count,)`; a representative represents itself.
    """
    if rule == "directed":
        return _directed(count, edges)
    if rule == "components":
        return _components(count, edges)
    if rule == "reference":
        return _reference(count, edges)
    raise InvalidInput(f"grouping is {rule!r}", remedy=f"Use one of {', '.join(GROUPINGS)}.")


def follow(destination: Ints) -> Ints:
    """Replace each node's destination (itself, or a lower number) by the end of its chain."""
    while True:
        further = destination[destination]
        if np.array_equal(further, destination):
            return destination
        destination = further


def _directed(count: int, edges: Ints) -> Ints:
    destination = np.arange(count)
    np.minimum.at(destination, edges[:, 1], edges[:, 0])
    return follow(destination)


def _components(count: int, edges: Ints) -> Ints:
    label = np.arange(count)
    while len(edges):
        ends = label[edges]
        edges = edges[ends[:, 0] != ends[:, 1]]
        ends = label[edges]
        # Hook the root of the higher label under the lower one; both ends are roots after `follow`.
        np.minimum.at(label, ends.max(axis=1), ends.min(axis=1))
        label = follow(label)
    return label


def _reference(count: int, edges: Ints) -> Ints:
    label = np.arange(count)
    while True:
        lowest = label[edges].min(axis=1)
        label = label.copy()
        np.minimum.at(label, edges[:, 0], lowest)
        np.minimum.at(label, edges[:, 1], lowest)
        label = label[label]
        if np.array_equal(label, label[label]):
            return label
