"""One pass over a video: every similarity that any threshold could ask for.

Whether a node is kept depends on its cosine with its children; whether two nodes of consecutive frames are joined
depends on theirs, and nodes of two frames can only be joined if one contains the other. So there are few pairs,
whatever the thresholds: each node with its parent, and each node with the nodes of the next and the previous frame
that contain it. About `4 L - 3` dot products per cell for `L` levels, and the norms, are all that merging, exact
budgets and calibration need; they are small, and everything after them happens on the host in NumPy. The video is
read in runs of frames (or, where it has to be widened to float32, in groups of channels), so only a quarter of the
pyramid exists at a time (a third where the tree is deep, which keeps the operators few).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from trifocal.merging.kernels import CHANNEL_PARTS, accumulation_dtype, channel_parts, halve, pair_dots, rows_of
from trifocal.merging.tree import Tree, build_tree

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch import Tensor

    Ints = npt.NDArray[np.int64]
    Floats = npt.NDArray[np.floating[Any]]

__all__ = ["Similarities", "measure"]

_RUNS = 4
_RUNS_OF_DEEP = 3
_DEEP = 7  # levels from which every run dispatches so many operators that there had better be fewer of them
_SPATIAL_FLOOR = 1e-8  # each norm is at least this, as in `torch.nn.functional.cosine_similarity`
_TEMPORAL_FLOOR = 1e-8  # is added to each norm, as the method does before its products


@dataclass(frozen=True, slots=True, eq=False)
class _Pairs:
    """The pairs of one grid: column `k` is `node[k]` of frame `t` with `target[k]` of frame `t + step[k]`.

    The columns come in three blocks by where the vectors lie: cell and coarse node, two coarse nodes, two cells.
    `to_parent (P - roots,)`, `to_next (P, L)`, `to_previous (P, L)` and `to_corner` give the column of a pair, -1 for
    none; `to_corner` pairs each coarse node that lacks children (`short`) with the first node of its children's level.
    """

    node: Ints
    target: Ints
    step: Ints
    blocks: tuple[slice, slice, slice]
    to_parent: Ints
    to_next: Ints
    to_previous: Ints
    to_corner: Ints
    short: Ints


@lru_cache(maxsize=64)
def _list_pairs(grid: tuple[int, ...], root_level: int, temporal: bool, corner: bool) -> _Pairs:
    tree = build_tree(grid, root_level)
    cells, nodes, levels = tree.cell_count, tree.node_count, tree.level_count
    below = np.arange(nodes - tree.root_count)
    wanted = [(below, tree.parent, np.zeros_like(below))]
    if temporal:
        for up in range(levels):
            inside = np.flatnonzero(tree.level >= up)
            wanted.append((inside, tree.ancestor[inside, up], np.ones_like(inside)))
            strictly = np.flatnonzero(tree.level > up)
            wanted.append((strictly, tree.ancestor[strictly, up], -np.ones_like(strictly)))
    short = cells + np.flatnonzero(tree.child_count < tree.children.shape[1]) if corner else np.empty(0, np.int64)
    first_of_level = np.asarray(tree.offsets)
    if corner:
        # The finer vector comes first in every pair: here the corner of the children's level, then the coarse node.
        wanted.append((first_of_level[tree.level[short] + 1], short, np.zeros_like(short)))
    node, target, step = (np.concatenate(part) for part in zip(*wanted, strict=True))

    block = np.where(node >= cells, 1, np.where(target >= cells, 0, 2))
    order = np.lexsort((node, block))  # within a block by node, so that a cell's vector is read once for all its pairs
    column = np.empty_like(order)
    column[order] = np.arange(len(order))
    edge = np.searchsorted(block[order], np.arange(4))
    to_next, to_previous = np.full((nodes, levels), -1, np.int64), np.full((nodes, levels), -1, np.int64)
    stops = np.cumsum([len(part[0]) for part in wanted])
    if temporal:
        timed = slice(stops[0], stops[2 * levels])
        n, m, s, c = node[timed], tree.level[target[timed]], step[timed], column[timed]
        to_next[n[s > 0], m[s > 0]] = c[s > 0]
        to_previous[n[s < 0], m[s < 0]] = c[s < 0]
    return _Pairs(
        node=node[order],
        target=target[order],
        step=step[order],
        blocks=(slice(edge[0], edge[1]), slice(edge[1], edge[2]), slice(edge[2], edge[3])),
        to_parent=column[: len(below)],
        to_next=to_next,
        to_previous=to_previous,
        to_corner=column[len(column) - len(short) :],
        short=short,
    )


@dataclass(frozen=True, slots=True, eq=False)
class Similarities:
    """What one pass over `T` frames found; host memory.

    Attributes:
        tree: the grid's tables.
        pairs: which pairs the columns of `dots` are.
        dots: `(T, K, heads)` dot products; a pair that leaves the video holds a number without meaning.
        norms: `(T, P, heads)` length of every node's vector.
    """

    tree: Tree
    pairs: _Pairs
    dots: Floats
    norms: Floats

    @property
    def frames(self) -> int:
        """Number of frames (for an octree, of cubes)."""
        return len(self.norms)

    def support(self, *, corner: bool = False) -> Floats:
        """`(T, P - cells)` each coarse node's lowest cosine with a child: the highest threshold that keeps the node.

        Args:
            corner: let an absent child count as the frame's top-left cell of that level, as the published code does.
        """
        tree, pairs = self.tree, self.pairs
        below = np.arange(len(pairs.to_parent))
        cosines = self._spatial(below, tree.parent, pairs.to_parent)
        lowest: Floats = cosines[:, tree.children].min(axis=-1)
        if corner:
            first = np.asarray(tree.offsets)[tree.level[pairs.short] + 1]
            where = pairs.short - tree.cell_count
            lowest[:, where] = np.minimum(lowest[:, where], self._spatial(first, pairs.short, pairs.to_corner))
        return lowest

    def _spatial(self, node: Ints, target: Ints, column: Ints) -> Floats:
        norms = np.maximum(self.norms, _SPATIAL_FLOOR)
        cosines: Floats = (self.dots[:, column] / (norms[:, node] * norms[:, target])).mean(axis=-1)
        return np.minimum(cosines, 1.0)  # rounding may leave the dot of a vector with itself a little above

    def across(self, frame: Ints, finer: Ints, coarser: Ints, *, finer_is_later: bool) -> Floats:
        """`(L,)` cosines of node pairs in frames `frame` and `frame + 1`, one containing the other.

        Args:
            frame: `(L,)` the earlier frame.
            finer: `(L,)` the contained node.
            coarser: `(L,)` the containing node (the same node number if they are equal).
            finer_is_later: whether `finer` lies in the later frame (then it must be strictly finer).
        """
        columns = self.pairs.to_previous if finer_is_later else self.pairs.to_next
        column = columns[finer, self.tree.level[coarser]]
        here, there = (frame + 1, frame) if finer_is_later else (frame, frame + 1)
        norms = (self.norms[here, finer] + _TEMPORAL_FLOOR) * (self.norms[there, coarser] + _TEMPORAL_FLOOR)
        cosines: Floats = (self.dots[here, column] / norms).mean(axis=-1)
        return np.minimum(cosines, 1.0)


@torch.no_grad()
def measure(
    x: Tensor,
    *,
    root_level: int,
    temporal: bool,
    head_dim: int | None = None,
    sums: bool = False,
    corner: bool = False,
    round_levels: bool = False,
) -> Similarities:
    """Find all similarities of a video.

    Args:
        x: `(T, *grid, C)` floating.
        root_level: which level is the root.
        temporal: whether pairs across frames are wanted too.
        head_dim: width of an attention head; a similarity is then the mean of the heads' cosines. None for one cosine.
        sums: let a coarse node be the sum of its children (for patch-weighted means) instead of their mean.
        corner: also measure the pairs that stand in for absent children in the published code.
        round_levels: round each coarser level to the input's type, as the published code does.
    """
    frames, grid = x.shape[0], tuple(x.shape[1:-1])
    tree, pairs = build_tree(grid, root_level), _list_pairs(grid, root_level, temporal, corner)
    starts, length, parts = _divide(x, temporal=temporal, deep=tree.level_count >= _DEEP)
    rows = _pair_rows(tree, pairs, length, x.device)
    wide = accumulation_dtype(x.dtype)
    buffer = None
    if parts == 1 and x.dtype != wide:
        buffer = torch.empty(length * tree.cell_count * x.shape[-1], dtype=wide, device=x.device)
    pyramid: _Pyramid | None = None
    runs: Tensor | None = None  # the numbers of every run
    for run, start in enumerate(starts):
        numbers: list[Tensor] = []
        for _, part in channel_parts(x[start : start + length], parts=parts, multiple=head_dim or 1, buffer=buffer):
            if pyramid is None or pyramid.table.shape[1] != part.shape[-1]:
                pyramid = _Pyramid.empty(tree, part)
            heads = part.shape[-1] // head_dim if head_dim else 1
            pyramid.fill(part, sums=sums, rounding=x.dtype if round_levels else None)
            pieces = _numbers(rows_of(part), pyramid.table, rows, heads=heads, squared=parts > 1 and not head_dim)
            if parts == 1:
                runs = x.new_empty(len(starts), sum(map(len, pieces)), dtype=wide) if runs is None else runs
                torch.cat(pieces, out=runs[run])
                continue
            # Heads are kept apart; without them, dot products and squared norms of parts add up to those of the whole.
            one = torch.cat(pieces)
            numbers = [*numbers, one.view(-1, heads)] if head_dim or not numbers else [numbers[0].add_(one[:, None])]
            del pieces, one
        if parts > 1:
            runs = torch.cat(numbers, dim=1) if len(numbers) > 1 else numbers[0]
    assert runs is not None  # there is at least one run, and it has a part
    # Nothing of what was read is needed any more; it need not wait beside what follows.
    del pyramid, buffer, rows, part, numbers
    # The only wait for the device: all numbers come to the host at once.
    host = runs.view(len(starts), -1, x.shape[-1] // (head_dim or x.shape[-1])).cpu().numpy()
    del runs
    return _assemble(host, starts, length, frames, tree, pairs, squared=parts > 1 and not head_dim)


@dataclass(frozen=True, slots=True, eq=False)
class _Pyramid:
    """Memory for the coarse levels of one run, finest first: all rows, and each level as `(F, C, *size)`."""

    table: Tensor
    levels: tuple[Tensor, ...]

    @classmethod
    def empty(cls, tree: Tree, part: Tensor) -> _Pyramid:
        length = part.shape[0]
        channels = part.shape[-1]
        table = part.new_empty(length * (tree.node_count - tree.cell_count), channels)
        levels, first = [], 0
        for size in tree.sizes[-2::-1]:
            # Channels lie last and are named second; one view each, where splitting and turning would be three.
            strides = [channels * prod(size[axis:]) for axis in range(len(size) + 1)]
            shape = (length, channels, *size)
            levels.append(table.as_strided(shape, (strides[0], 1, *strides[1:]), first * channels))
            first += length * prod(size)
        return cls(table=table, levels=tuple(levels))

    def fill(self, part: Tensor, *, sums: bool, rounding: torch.dtype | None) -> None:
        """Pool `part (F, *grid, C)` level by level; `rounding` rounds each level to that type."""
        finer = part.movedim(-1, 1)
        for coarser in self.levels:
            halve(finer, coarser, sums=sums)
            if rounding is not None:
                coarser.copy_(coarser.to(rounding))
            finer = coarser


def _divide(x: Tensor, *, temporal: bool, deep: bool) -> tuple[list[int], int, int]:
    """How to read a video: where runs of frames start, how long they are, and in how many parts the channels come.

    Runs share one frame with the next. They keep small what exists beside the video: a quarter of the pyramid, and of a
    narrow video a quarter in float32. A narrow video with too few frames for that is cut in three by channels.
    """
    frames = x.shape[0]
    runs = min(_RUNS_OF_DEEP if deep else _RUNS, max(1, frames - temporal))
    length = -(-(frames - temporal) // runs) + temporal if frames > 1 else 1
    if x.dtype != accumulation_dtype(x.dtype) and 5 * length > 2 * frames:
        return [0], frames, CHANNEL_PARTS
    return sorted({min(run * (length - temporal), frames - length) for run in range(runs)}), length, 1


def _pair_rows(tree: Tree, pairs: _Pairs, length: int, device: torch.device) -> list[tuple[Tensor, Tensor]]:
    """Row numbers of both sides of every pair of a run of `length` frames, per block; frames outside it are clipped."""
    cells = tree.cell_count
    counts = np.array([prod(size) for size in tree.sizes])
    offsets = np.asarray(tree.offsets)
    # Row of a node in its table: a level of all frames follows another; cells have a table of their own.
    level = tree.level
    per_frame = counts[level].astype(np.int32)
    base = np.where(level == tree.level_count - 1, 0, (offsets[level] - cells) * length) - offsets[level]
    base = (base + np.arange(tree.node_count)).astype(np.int32)

    time = np.arange(length, dtype=np.int32)[:, None]
    sizes = [length * (block.stop - block.start) for block in pairs.blocks for _ in range(2)]
    joined = torch.empty(sum(sizes), dtype=torch.int32, pin_memory=device.type == "cuda")
    views = np.split(joined.numpy(), np.cumsum(sizes)[:-1])
    for block, first, second in zip(pairs.blocks, views[::2], views[1::2], strict=True):
        node, target, step = (array[block] for array in (pairs.node, pairs.target, pairs.step))
        np.add(time * per_frame[node], base[node], out=first.reshape(length, -1))
        later = np.clip(time + step.astype(np.int32), 0, length - 1)
        np.add(later * per_frame[target], base[target], out=second.reshape(length, -1))
    joined = joined.to(device, non_blocking=device.type == "cuda")
    parts = torch.split(joined, sizes)
    return [(parts[i], parts[i + 1]) for i in (0, 2, 4)]


def _numbers(
    cells: Tensor, coarse: Tensor, rows: list[tuple[Tensor, Tensor]], *, heads: int, squared: bool
) -> list[Tensor]:
    """Dots of the three blocks, then norms of cells and of coarse nodes, of one run of frames, each `(L * heads,)`."""
    tables = ((cells, coarse), (coarse, coarse), (cells, cells))
    found = [
        pair_dots(first, second, *which, heads=heads)
        for (first, second), which in zip(tables, rows, strict=True)
        if len(which[0])
    ]
    for table in (cells, coarse) if len(coarse) else (cells,):
        norms = torch.linalg.vector_norm(table if heads == 1 else table.view(-1, table.shape[1] // heads), dim=-1)
        found.append(norms.square_() if squared else norms)
    return found


def _assemble(
    host: Floats, starts: list[int], length: int, frames: int, tree: Tree, pairs: _Pairs, *, squared: bool
) -> Similarities:
    """Lay the numbers of all runs out by frame; a shared frame takes each pair from the run that holds both ends."""
    heads = host.shape[-1]
    dots = np.empty((frames, len(pairs.node), heads), host.dtype)
    norms = np.empty((frames, tree.node_count, heads), host.dtype)
    for index, (start, numbers) in enumerate(zip(starts, host, strict=True)):
        mine = slice(start, start + length)
        done = 0
        for block in pairs.blocks:
            width = block.stop - block.start
            values = numbers[done : done + length * width].reshape(length, width, heads)
            dots[start + 1 : start + length, block] = values[1:]
            first = slice(block.start, block.stop)
            if index == 0:
                dots[start, first] = values[0]
            else:
                forward = pairs.step[first] >= 0
                dots[start, first] = np.where(forward[:, None], values[0], dots[start, first])
            done += length * width
        for level in range(tree.level_count - 1, -1, -1):
            count = prod(tree.sizes[level])
            values = numbers[done : done + length * count].reshape(length, count, heads)
            norms[mine, tree.offsets[level] : tree.offsets[level] + count] = values
            done += length * count
    if squared:
        np.sqrt(norms, out=norms)
    return Similarities(tree=tree, pairs=pairs, dots=dots, norms=norms)
