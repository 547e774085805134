"""The three rules on bare edges."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from trifocal.errors import InvalidInput
from trifocal.merging.grouping import GROUPINGS, group


@st.composite
def graphs(draw: st.DrawFn) -> tuple[int, np.ndarray[tuple[int, int], np.dtype[np.int64]]]:
    count = draw(st.integers(1, 40))
    pairs = draw(st.lists(st.tuples(st.integers(0, count - 1), st.integers(0, count - 1)), max_size=80))
    edges = np.array([sorted(pair) for pair in pairs if pair[0] != pair[1]], np.int64).reshape(-1, 2)
    return count, edges


@given(graphs())
@settings(max_examples=150, deadline=None)
def test_components_are_the_connected_components(
    graph: tuple[int, np.ndarray[tuple[int, int], np.dtype[np.int64]]],
) -> None:
    count, edges = graph
    found = group(count, edges=edges, rule="components")
    matrix = coo_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(count, count))
    _, labels = connected_components(matrix, directed=False)
    first = np.array([np.flatnonzero(labels == label)[0] for label in labels])
    assert np.array_equal(found, first)


@given(graphs())
@settings(max_examples=150, deadline=None)
def test_directed_follows_the_lowest_earlier_node(
    graph: tuple[int, np.ndarray[tuple[int, int], np.dtype[np.int64]]],
) -> None:
    count, edges = graph
    found = group(count, edges=edges, rule="directed")
    for node in range(count):
        at = node
        while (earlier := edges[edges[:, 1] == at, 0]).size:
            at = int(earlier.min())
        assert found[node] == at


@given(graphs())
@settings(max_examples=150, deadline=None)
def test_every_rule_gives_stars(graph: tuple[int, np.ndarray[tuple[int, int], np.dtype[np.int64]]]) -> None:
    count, edges = graph
    whole = group(count, edges=edges, rule="components")
    for rule in GROUPINGS:
        found = group(count, edges=edges, rule=rule)
        assert (found[found] == found).all()
        assert (found <= np.arange(count)).all()
        assert (whole[found] == whole).all()  # no rule joins what is not connected


def test_the_published_loop_depends_on_unrelated_regions() -> None:
    alone = np.array([[0, 2], [1, 2]])
    assert group(3, edges=alone, rule="reference").tolist() == [0, 1, 0]
    chain = np.array([[3, 4], [4, 5], [5, 6]])
    assert group(7, edges=np.concatenate([alone, chain]), rule="reference").tolist() == [0, 0, 0, 3, 3, 3, 3]


def test_a_long_chain_is_one_group() -> None:
    chain = np.stack([np.arange(4999), np.arange(1, 5000)], axis=1)
    for rule in GROUPINGS:
        assert not group(5000, edges=chain, rule=rule).any()


def test_an_unknown_rule_is_refused() -> None:
    with pytest.raises(InvalidInput, match="reference, components, directed"):
        group(1, edges=np.empty((0, 2), np.int64), rule="best")  # type: ignore[arg-type]
