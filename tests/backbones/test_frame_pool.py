"""A frame per thread: order, values, and the caller's own thread setting."""

from __future__ import annotations

import threading

import pytest
import torch

from trifocal.backbones.frame_pool import map_frames


@pytest.mark.parametrize("count", [1, 2, 7])
def test_results_come_in_order(count: int) -> None:
    frames = torch.arange(count * 6, dtype=torch.float32).reshape(count, 2, 3)
    assert torch.equal(map_frames(lambda frame: frame * 2, frames), frames * 2)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_each_thread_computes_alone_and_the_caller_keeps_its_setting(threads: int) -> None:
    before = torch.get_num_threads()
    seen: set[tuple[int, bool]] = set()
    workers: set[str] = set()

    def look(frame: torch.Tensor) -> torch.Tensor:
        seen.add((torch.get_num_threads(), torch.is_inference_mode_enabled()))
        workers.add(threading.current_thread().name)
        return frame

    try:
        torch.set_num_threads(threads)
        map_frames(look, torch.zeros(32, 1))
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert seen == {(1, True)}
    assert 1 <= len(workers) <= threads


def test_an_error_arrives() -> None:
    def fail(frame: torch.Tensor) -> torch.Tensor:
        raise ValueError("planted")

    with pytest.raises(ValueError, match="planted"):
        map_frames(fail, torch.zeros(3, 1))
