"""Turn a torch checkpoint into safetensors, once, when it enters the cache.

This is the only place that calls `torch.load`, and only with `weights_only=True`, on bytes whose hash was checked
before. The result is deterministic (sorted names, no metadata), so its hash can be pinned too.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING

from trifocal.errors import WeightsCorrupt
from trifocal.weights.cache import sha256_of

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

__all__ = ["checkpoint_to_safetensors", "load_checkpoint_tensors"]


# Settings that training runs saved beside their weights: read as plain dictionaries, and dropped.
_SETTINGS = ("yacs.config.CfgNode",)


def load_checkpoint_tensors(checkpoint: Path, *, within: str) -> dict[str, Tensor]:
    """The tensors of a training checkpoint that the user brings, such as a research project publishes.

    Only plain data is read (`weights_only=True`); a saved yacs configuration beside the weights is read as a plain
    dictionary, and any other class in the file is refused.

    Args:
        checkpoint: a file saved by `torch.save`: a mapping that has a state dict somewhere in it, or a state dict.
        within: the key of the state dict; ignored when the file is one itself.

    Raises:
        WeightsCorrupt: the file is damaged, holds other classes, or no such state dict.
    """
    import torch

    try:
        with torch.serialization.safe_globals([(OrderedDict, name) for name in _SETTINGS]):
            held = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes lead torch to errors of any kind; all mean the same here
        first_line = str(error).partition("\n")[0]
        raise WeightsCorrupt(
            f"{checkpoint.name} is not a torch checkpoint of plain tensors ({first_line})",
            remedy="Save its state dict alone, in the environment that it came from.",
        ) from error
    state = held.get(within, held) if isinstance(held, Mapping) else None
    if not isinstance(state, Mapping) or not all(
        isinstance(name, str) and isinstance(tensor, torch.Tensor) for name, tensor in state.items()
    ):
        raise WeightsCorrupt(
            f"{checkpoint.name} has no named tensors under {within!r}", remedy="Save the model's state_dict() alone."
        )
    return dict(state)


def checkpoint_to_safetensors(checkpoint: Path, *, target: Path, sha256: str | None = None) -> str:
    """Write the tensors of a state dict as safetensors.

    Args:
        checkpoint: a file saved by `torch.save`: a mapping of names to tensors.
        target: the file to write.
        sha256: what the result's SHA-256 must be; `None` takes any.

    Returns:
        The SHA-256 of `target`.

    Raises:
        WeightsCorrupt: not such a checkpoint, it holds anything but tensors, or the result's hash is another.
    """
    # Torch takes a second to import; only a first fetch pays it.
    import torch
    from safetensors.torch import save_file

    try:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes lead torch to errors of any kind; all mean the same here
        first_line = str(error).partition("\n")[0]
        raise WeightsCorrupt(
            f"{checkpoint.name} is not a torch checkpoint of plain tensors ({first_line})",
            remedy="Only state dicts that load with weights_only=True can be converted.",
        ) from error
    if not isinstance(state, Mapping) or not all(
        isinstance(name, str) and isinstance(tensor, torch.Tensor) for name, tensor in state.items()
    ):
        raise WeightsCorrupt(
            f"{checkpoint.name} holds something other than named tensors",
            remedy="Save the model's state_dict() alone.",
        )
    # Cloned: safetensors refuses tensors that share memory, and views of a larger one would carry it along.
    save_file({name: state[name].detach().clone().contiguous() for name in sorted(state)}, target)
    found = sha256_of(target)
    if sha256 is not None and found != sha256:
        target.unlink()
        raise WeightsCorrupt(
            f"{checkpoint.name} converts to SHA-256 {found} instead of {sha256}",
            remedy="Install the versions of torch and safetensors that Trifocal is tested with.",
        )
    return found
