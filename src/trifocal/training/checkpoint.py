"""Checkpoints: one safetensors file each, with the scalars as JSON in its header; no pickle anywhere.

    last.safetensors   everything a run needs to go on: weights, optimiser, average, counters, history
    best.safetensors   the best weights under the model's own names, for loading anywhere

A file is written beside its name and then moved over it, so that a crash leaves the old one or the new one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from trifocal.errors import InvalidInput

__all__ = ["load_checkpoint", "load_weights", "save_checkpoint", "trained_state", "write_atomically"]

_HEADER = "trifocal.training"
FORMAT = 1


def save_checkpoint(path: Path, tensors: Mapping[str, Tensor], *, state: Mapping[str, Any]) -> None:
    """Write tensors and a JSON state to one file, atomically.

    Args:
        path: the file; its folder exists.
        tensors: by name; copied to the CPU.
        state: what JSON can carry; floats come back exactly.
    """
    plain = {name: one.detach().cpu().contiguous() for name, one in tensors.items()}
    stored: dict[int, str] = {}
    for name, one in plain.items():  # safetensors refuses tensors that share memory, such as tied weights
        if stored.setdefault(one.data_ptr(), name) != name and one.numel():
            plain[name] = one.clone()
    part = path.with_name(f".{path.name}.part")
    save_file(plain, part, metadata={_HEADER: json.dumps({"format": FORMAT, **state}, sort_keys=True)})
    _settle(part, path)


def load_checkpoint(path: Path, *, device: torch.device | str = "cpu") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the state that `save_checkpoint` wrote.

    Raises:
        InvalidInput: no such file, a damaged one, or one that something else wrote.
    """
    if not path.is_file():
        raise InvalidInput(f"there is no checkpoint {path}", remedy="Check the folder, or start anew.")
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            header = (file.metadata() or {}).get(_HEADER)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 -- not a dict
        state = json.loads(header) if header is not None else None
    except (SafetensorError, OSError, ValueError) as error:
        raise InvalidInput(
            f"{path} is damaged ({error})", remedy="Remove it and start anew, or bring back a copy."
        ) from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        written = state.get("format") if isinstance(state, dict) else None
        raise InvalidInput(
            f"{path} is no checkpoint of this format (found {written}, expected {FORMAT})",
            remedy="Give a file that this version's training wrote.",
        )
    return tensors, state


def trained_state(model: nn.Module) -> dict[str, Tensor]:
    """What training changes: the parameters that require a gradient, and the buffers that are saved, by name."""
    frozen = {name for name, one in model.named_parameters(remove_duplicate=False) if not one.requires_grad}
    return {name: one for name, one in model.state_dict(keep_vars=True).items() if name not in frozen}


def load_weights(path: Path | str, model: nn.Module) -> dict[str, Any]:
    """Put the weights of a `best.safetensors` (or the weights of a `last.safetensors`) into a model.

    Args:
        path: the file.
        model: a model with the same trained parameters; frozen ones stay as they are.

    Returns:
        The file's state: `epoch`, `figures`, `config`.

    Raises:
        InvalidInput: a missing, damaged or foreign file, or one that does not fit the model.
    """
    tensors, state = load_checkpoint(Path(path))
    if any(name.startswith("model/") for name in tensors):
        tensors = {name.removeprefix("model/"): one for name, one in tensors.items() if name.startswith("model/")}
    put_state(model, tensors, source=str(path))
    return state


@torch.no_grad()
def put_state(model: nn.Module, tensors: Mapping[str, Tensor], *, source: str) -> None:
    """Copy tensors into a model's trained state; every name and shape must fit."""
    own = trained_state(model)
    missing, strange = sorted(own.keys() - tensors.keys()), sorted(tensors.keys() - own.keys())
    odd = [name for name in own.keys() & tensors.keys() if own[name].shape != tensors[name].shape]
    if missing or strange or odd:
        shown = [
            f"{what} {', '.join(names[:3])}"
            for what, names in (("missing", missing), ("unknown", strange), ("of another shape", sorted(odd)))
            if names
        ]
        raise InvalidInput(
            f"{source} does not fit the model: {'; '.join(shown)}", remedy="Use the configuration it was trained with."
        )
    for name, one in own.items():
        one.copy_(tensors[name])


def write_atomically(path: Path, text: str) -> None:
    """Write a text file beside its name and move it over."""
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    _settle(part, path)


def _settle(part: Path, path: Path) -> None:
    """Bring a written file to the disk and then under its name."""
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
