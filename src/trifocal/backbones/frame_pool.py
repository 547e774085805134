"""One frame per core: how a small network is run over many frames on a CPU.

A frame's maps are too small to share between cores: threads inside each operation wait for one another more than they
work, and when another program holds a core they all wait for it (measured on 2 cores at load 6: 32 frames of
EfficientNet-Lite0 took 16 s with two threads inside each operation, 1.6 s with a frame a thread). It also makes a
frame's result independent of how many cores there are.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from threading import Barrier

import torch
from torch import Tensor

__all__ = ["map_frames"]


def map_frames(function: Callable[[Tensor], Tensor], frames: Tensor) -> Tensor:
    """Apply `function` to each frame on a thread of its own, without gradients, and join the results in order.

    Uses as many threads as torch does (`torch.get_num_threads()`), each with one thread inside an operation.

    Args:
        function: (1, ...) → (1, ...), free of side effects.
        frames: (T, ...) on the CPU, T ≥ 1.

    Returns:
        (T, ...).
    """

    def without_gradients(frame: Tensor) -> Tensor:
        with torch.inference_mode():  # the mode belongs to a thread
            return function(frame)

    parts = torch.split(frames, 1)
    return torch.cat(list(_pool(torch.get_num_threads()).map(without_gradients, parts)))


@cache
def _pool(workers: int) -> ThreadPoolExecutor:
    """A pool whose threads each run tensor operations on one thread; the caller's own setting is left as it was."""
    started = Barrier(workers + 1)

    def start() -> None:
        torch.get_num_threads()  # a thread takes the common setting over at its first call; let that be now
        torch.set_num_threads(1)  # for this thread, and for threads to come until it is set back below
        started.wait()

    threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="frames", initializer=start)
    for _ in range(workers):
        pool.submit(int)
    started.wait()
    torch.set_num_threads(threads)
    return pool
