"""A retriever on disk: `model.safetensors` for the weights, `config.json` (sorted, with the version) for the rest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from trifocal.errors import InvalidInput, WeightsCorrupt
from trifocal.retrieval.model.config import RetrieverConfig

if TYPE_CHECKING:
    from os import PathLike

    from trifocal.retrieval.model.retriever import PrototypeRetriever

__all__ = ["CONFIG_FILE", "WEIGHTS_FILE", "load", "save"]

WEIGHTS_FILE, CONFIG_FILE = "model.safetensors", "config.json"


def save(model: PrototypeRetriever, folder: str | PathLike[str]) -> None:
    """Write the model's files into a folder; each is complete or not there."""
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    # Shared layers name one tensor several times, which safetensors refuses: each is written once, by its first name.
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    first: dict[int, str] = {}
    for name, tensor in state.items():
        first.setdefault(tensor.data_ptr(), name)
    once = {name: tensor for name, tensor in state.items() if first[tensor.data_ptr()] == name}
    weights, config = target / (WEIGHTS_FILE + ".part"), target / (CONFIG_FILE + ".part")
    save_file(once, weights, metadata={"format": "pt"})
    config.write_text(model.config.to_json(), encoding="utf-8")
    weights.replace(target / WEIGHTS_FILE)
    config.replace(target / CONFIG_FILE)


def load(kind: type[PrototypeRetriever], folder: str | PathLike[str], *, device: str) -> PrototypeRetriever:
    """Read what `save` wrote; in eval mode.

    Raises:
        InvalidInput: a file is missing or the configuration cannot be used.
        WeightsCorrupt: the weights cannot be read or do not fit.
    """
    source = Path(folder)
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        if not (source / name).is_file():
            raise InvalidInput(f"{source} has no {name}", remedy="Give a folder that save_pretrained wrote.")
    try:
        values = json.loads((source / CONFIG_FILE).read_text(encoding="utf-8"))
    except ValueError as error:
        raise InvalidInput(f"{source / CONFIG_FILE} is not JSON ({error})", remedy="Save the model again.") from error
    if not isinstance(values, dict):
        raise InvalidInput(f"{source / CONFIG_FILE} holds no object", remedy="Save the model again.")
    model = kind(RetrieverConfig.from_dict(values))
    try:
        state = load_file(source / WEIGHTS_FILE)
        missing, unexpected = model.load_state_dict(state, strict=False)
    except (SafetensorError, RuntimeError, OSError) as error:
        raise WeightsCorrupt(
            f"{source / WEIGHTS_FILE} does not fit its configuration ({error})", remedy="Save or copy the model again."
        ) from error
    own = model.state_dict()
    held = {own[name].data_ptr() for name in state if name in own}
    lost = [name for name in missing if own[name].data_ptr() not in held]
    if lost or unexpected:
        raise WeightsCorrupt(
            f"{source / WEIGHTS_FILE} lacks {lost[:3]} and has {list(unexpected)[:3]} too many",
            remedy="Save or copy the model again.",
        )
    return model.to(device).eval()
