"""Where an answer looked: the attention of one layer, taken while question and answer go through the model.

Fast attention kernels do not give their weights, and switching the model to slow attention would change it for
everybody. So one layer's attention is run a second time for the few positions that matter, those of the question's
words or those where the answer's tokens are written, through a shallow copy of the module that is set to eager
attention and writes to nothing. A merged token's attention is spread over the frames
whose cells it stands for. What a question about nothing in particular looks at is divided out, as in
`trifocal.chat.attention`.
"""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from trifocal.chat.hooks.cache import Record

__all__ = ["Attended", "AttentionProbe", "Columns", "Watched", "outstanding"]

STANDS_OUT = 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """Which keys of a layer stand for which frames.

    Args:
        column: the key, `(M,)` int64 on the CPU.
        frame: the frame, `(M,)` int64.
        weight: how much of the key it is, `(M,)` float32; those of one key sum to 1.
        frames: how many frames there are.
    """

    column: torch.Tensor
    frame: torch.Tensor
    weight: torch.Tensor
    frames: int

    @classmethod
    def of(cls, cells: torch.Tensor, grid: tuple[int, int, int], *, record: Record | None) -> Columns:
        """From the places of a video's cells in the prompt, or from what was merged."""
        frames = grid[0]
        frame = torch.arange(frames).repeat_interleave(grid[1] * grid[2])
        if record is None:
            return cls(cells.cpu(), frame, torch.ones(len(cells)), frames)
        token = record.assignments[0].cpu().flatten()
        columns = (record.video[0].cpu() >= 0).nonzero().flatten()
        held = token >= 0
        pairs, counts = torch.unique(token[held] * frames + frame[held], return_counts=True)
        tokens = pairs // frames
        totals = torch.zeros(len(columns)).index_add_(0, tokens, counts.float())
        return cls(columns[tokens], pairs % frames, counts.float() / totals[tokens], frames)

    def by_frame(self, received: torch.Tensor) -> torch.Tensor:
        """Attention by key `(S,)` as attention by frame `(T,)`, float32 on the CPU."""
        return torch.zeros(self.frames).index_add_(0, self.frame, received.float().cpu()[self.column] * self.weight)


@dataclass(slots=True, eq=False)
class Watched:
    """What the watched layer paid to its keys.

    Args:
        rows: `(N, S)` float32 for each pass, averaged over heads; each row sums to 1.
        seconds: what finding it out took.
    """

    rows: list[torch.Tensor] = field(default_factory=list)
    seconds: float = 0.0


class Attended:
    """What each frame has received up to now, and what finding it out took; holds one number a frame.

    Args:
        columns: which keys stand for which frames.

    Attributes:
        by_frame: `(T,)` float32 on the CPU, a sum over positions.
        seconds: of looking beside the model.
    """

    def __init__(self, columns: Columns) -> None:
        self._columns = columns
        self.by_frame = torch.zeros(columns.frames)
        self.seconds = 0.0

    def add(self, watched: Watched, *, rows: slice) -> None:
        """Count those positions of the passes that were watched."""
        began = time.perf_counter()
        for each in watched.rows:
            self.by_frame += self._columns.by_frame(each[rows].sum(0))
        self.seconds += watched.seconds + time.perf_counter() - began


class AttentionProbe:
    """Watches one layer's attention for the thread that asks, and leaves the model as it is.

    Args:
        attention: the self-attention module of the layer.
    """

    def __init__(self, attention: torch.nn.Module) -> None:
        self._thread = threading.local()
        self._handle = attention.register_forward_pre_hook(self._look, with_kwargs=True)

    def remove(self) -> None:
        """Stop watching for good."""
        self._handle.remove()

    @contextmanager
    def watching(self) -> Iterator[Watched]:
        """What this thread's passes inside the block pay."""
        self._thread.watched = watched = Watched()
        try:
            yield watched
        finally:
            self._thread.watched = None

    def _look(self, module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        watched: Watched | None = getattr(self._thread, "watched", None)
        if watched is None:
            return
        began = _now(args, kwargs)
        watched.rows.append(_weights(module, args, kwargs))
        watched.seconds += _now(args, kwargs) - began


def _now(args: tuple[Any, ...], kwargs: dict[str, Any]) -> float:
    """The present, when everything before it is done where the layer runs."""
    states = args[0] if args else kwargs["hidden_states"]
    if states.is_cuda:
        torch.cuda.synchronize(states.device)
    return time.perf_counter()


def _weights(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor:
    """What the module's attention weights are in this call, `(N, S)`."""
    eager = copy.copy(module)
    config: Any = copy.copy(module.config)
    config._attn_implementation = "eager"  # noqa: SLF001  (the one switch that transformers has)
    eager.__dict__["config"] = config
    given = dict(kwargs)
    states = args[0] if args else given["hidden_states"]
    cache = given.get("past_key_values")
    before = 0
    if cache is not None:
        layer = cache.layers[int(module.layer_idx)]  # type: ignore[arg-type]
        before = 0 if not layer.is_initialized or not layer.keys.numel() else layer.keys.shape[-2]
        given["past_key_values"] = _Aside(layer)
    count = states.shape[1]
    places = torch.arange(before + count, device=states.device)
    future = places[None] > before + torch.arange(count, device=states.device)[:, None]  # (N, S)
    mask = torch.zeros(future.shape, dtype=states.dtype, device=states.device)
    given["attention_mask"] = mask.masked_fill(future, torch.finfo(states.dtype).min)[None, None]
    # Of the class: on the instance `accelerate` may have put one that is bound to the original.
    weights: torch.Tensor = type(module).forward(eager, *args, **given)[1]
    return weights[0].float().mean(0)


class _Aside:
    """A cache of one layer that can be read on and is never written to."""

    def __init__(self, layer: Any) -> None:
        self._layer = layer

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, *_: object, **__: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values with what the layer holds in front."""
        if not self._layer.is_initialized or not self._layer.keys.numel():
            return keys, values
        return torch.cat([self._layer.keys, keys], -2), torch.cat([self._layer.values, values], -2)


def outstanding(attention: torch.Tensor, *, neutral: torch.Tensor, most: int) -> list[tuple[int, float]]:
    """The frames looked at more than evenly, and their shares: largest first, ties by time.

    Args:
        attention: received by each frame, `(T,)`.
        neutral: the same, for a neutral question.
        most: how many to give at most.
    """
    ratio = torch.where(neutral > 0, attention / neutral.clamp(min=torch.finfo(torch.float32).tiny), 0.0)
    total = float(ratio.sum())
    if total <= 0:
        return []
    shares = (ratio / total).tolist()
    # A question about the whole video looks at all frames alike; then none is evidence.
    found = [frame for frame, share in enumerate(shares) if share > 1 / len(shares) + STANDS_OUT]
    return [(frame, shares[frame]) for frame in sorted(found, key=lambda frame: (-shares[frame], frame))[:most]]
