"""The processes of one run as torchrun starts them: who am I, and the few things they tell each other.

One process without torchrun is a group of one, and every call here then does nothing. CUDA processes talk by nccl,
others by gloo.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from trifocal.errors import InvalidInput

__all__ = ["Processes", "pick_device", "processes", "rank_and_world"]

_PATIENCE = timedelta(hours=4)  # the others wait while the first evaluates


@dataclass(frozen=True, slots=True)
class Processes:
    """This process among the run's: its number `rank`, how many there are (`world`), and its device."""

    rank: int
    world: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this is the process that evaluates, saves and logs."""
        return self.rank == 0

    def total(self, values: list[float]) -> list[float]:
        """The sums of the values over the processes."""
        if self.world == 1:
            return values
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(tensor)
        return [float(value) for value in tensor.tolist()]

    def most(self, value: int) -> int:
        """The largest value of the processes."""
        if self.world == 1:
            return value
        tensor = torch.tensor(value, dtype=torch.int64, device=self.device)
        dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
        return int(tensor.item())

    def told(self, value: Any) -> Any:
        """The first process's value, at every process; what JSON can carry (elsewhere the value is not looked at)."""
        if self.world == 1:
            return value
        text = json.dumps(value).encode() if self.first else b""
        length = torch.tensor(len(text), dtype=torch.int64, device=self.device)
        dist.broadcast(length, src=0)
        letters = torch.zeros(int(length.item()), dtype=torch.uint8, device=self.device)
        if self.first:
            letters.copy_(torch.frombuffer(bytearray(text), dtype=torch.uint8))
        dist.broadcast(letters, src=0)
        return json.loads(bytes(letters.cpu().numpy()))


def rank_and_world() -> tuple[int, int]:
    """This process's number and the number of processes, from torchrun's environment; (0, 1) without it.

    Raises:
        InvalidInput: the environment names a rank outside the world, or something that is no number.
    """
    try:
        rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    except ValueError as error:
        raise InvalidInput(f"RANK or WORLD_SIZE is no number ({error})", remedy="Start by torchrun.") from error
    if not 0 <= rank < world:
        raise InvalidInput(f"RANK is {rank} of {world}", remedy="Start by torchrun, or unset RANK and WORLD_SIZE.")
    return rank, world


@contextmanager
def processes(device: str = "auto") -> Iterator[Processes]:
    """Join the processes that torchrun started; leave the group at the end.

    Args:
        device: "auto" for the GPU of this process's local rank where there is one, else as torch names it.

    Raises:
        InvalidInput: no such device, or CUDA was asked for and is not there.
    """
    rank, world = rank_and_world()
    chosen = pick_device(device, local_rank=int(os.environ.get("LOCAL_RANK", "0")))
    if world == 1:
        yield Processes(0, 1, chosen)
        return
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    joined = not dist.is_initialized()
    if joined:
        dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        yield Processes(rank, world, chosen)
    finally:
        if joined:
            dist.destroy_process_group()


def pick_device(device: str, *, local_rank: int = 0) -> torch.device:
    """The device that a name means; "auto" takes the local rank's GPU where there is one, else the CPU.

    Raises:
        InvalidInput: no such device, or CUDA was asked for and is not there.
    """
    if device == "auto":
        return torch.device("cuda", local_rank) if torch.cuda.is_available() else torch.device("cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise InvalidInput(f"device is {device!r}", remedy='Use "auto", "cpu", "cuda" or "cuda:0".') from error
    if chosen.type == "cuda":
        if not torch.cuda.is_available():
            raise InvalidInput(f"device is {device!r}, and torch sees no GPU here", remedy='Use "cpu" or "auto".')
        return torch.device("cuda", local_rank) if device == "cuda" else chosen
    return chosen
