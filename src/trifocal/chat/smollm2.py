"""SmolLM2-135M-Instruct from its GGUF file, converted once.

Dequantising takes seconds at each start and gives the same tensors every time, so the result is kept in the weights
cache: half-precision safetensors (4-bit weights lose nothing that matters by it), the tokenizer and the configuration,
under the SHA-256 of the GGUF file. A cache that cannot be written to costs only the time. It runs in
float32: on the CPU it was measured on, bfloat16 took twice as long.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from trifocal import weights
from trifocal.chat.gguf_file import GgufModel, read_gguf
from trifocal.chat.language_model import LanguageModel
from trifocal.errors import WeightsCorrupt
from trifocal.weights.cache import exclusive, is_intact, publish, sha256_of, staging

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM

__all__ = ["load_smollm2"]

_FORMAT = 1
_HEADER = "language_model.json"
_TENSORS = "model.safetensors"
_TOKENIZER = "tokenizer.json"


def load_smollm2(
    reference: str | Path = "smollm2-135m",
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    offline: bool = False,
) -> LanguageModel:
    """The default language model, ready to use.

    Args:
        reference: the known name, or a folder that holds one GGUF file of such a model.
        device: where to run it.
        dtype: what to run it in.
        offline: use cached files only.

    Raises:
        WeightsError: the file is not there or not what was pinned.
        ModelError: the file holds another kind of model.
    """
    folder = weights.fetch(reference, offline=offline)
    files = sorted(folder.glob("*.gguf"))
    if len(files) != 1:
        raise WeightsCorrupt(f"{folder} holds {len(files)} GGUF files instead of 1", remedy="Name a folder with one.")
    found = _converted(files[0])
    return LanguageModel(
        _build(found, device=device, dtype=dtype),
        tokenizer=found.tokenizer,
        chat_template=found.chat_template,
        name=files[0].name.partition(".")[0],
    )


def _build(found: GgufModel, *, device: str | torch.device, dtype: torch.dtype) -> LlamaForCausalLM:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(**found.config)
    # Created without memory, then given the tensors themselves: no random initialisation, no second copy.
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    state = {name: tensor.to(device=device, dtype=dtype) for name, tensor in found.tensors.items()}
    missing, unexpected = model.load_state_dict(state, strict=False, assign=True)
    if unexpected or set(missing) - ({"lm_head.weight"} if config.tie_word_embeddings else set()):
        raise WeightsCorrupt(
            f"The language model lacks {sorted(missing)[:3]} and has {sorted(unexpected)[:3]} too many",
            remedy="Fetch it again.",
        )
    model.tie_weights()
    # Its frequencies are not weights, so they are still without memory.
    model.model.rotary_emb = type(model.model.rotary_emb)(config).to(device)
    return model.eval().requires_grad_(False)


def _converted(path: Path) -> GgufModel:
    """What the file holds, from the cache when it has been read before."""
    source = sha256_of(path)
    parent = weights.cache_dir() / "converted"
    folder = parent / f"{path.name.partition('.')[0].lower()}-{source[:16]}-v{_FORMAT}"
    if (kept := _read(folder, source=source)) is not None:
        return kept
    fresh = read_gguf(path)
    # The same rounding with and without a cache, so that answers cannot depend on it.
    fresh = GgufModel(
        config=fresh.config,
        tensors={name: tensor.half() for name, tensor in fresh.tensors.items()},
        tokenizer=fresh.tokenizer,
        chat_template=fresh.chat_template,
    )
    try:
        with exclusive(parent), staging(parent) as stage:
            if _read(folder, source=source) is None:
                publish(stage, folder, hashes=_write(stage, fresh, source=source))
    except (PermissionError, OSError):
        # A full or read-only cache: everything needed is in memory.
        return fresh
    return fresh


def _write(folder: Path, model: GgufModel, *, source: str) -> dict[str, str]:
    from safetensors.torch import save_file

    save_file({name: model.tensors[name].contiguous() for name in sorted(model.tensors)}, folder / _TENSORS)
    model.tokenizer.save(str(folder / _TOKENIZER), pretty=False)
    hashes = {name: sha256_of(folder / name) for name in (_TENSORS, _TOKENIZER)}
    header = {
        "format": _FORMAT,
        "source_sha256": source,
        "config": model.config,
        "chat_template": model.chat_template,
        "files": hashes,
    }
    (folder / _HEADER).write_text(json.dumps(header, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return {**hashes, _HEADER: sha256_of(folder / _HEADER)}


def _read(folder: Path, *, source: str) -> GgufModel | None:
    """The converted model, or None when it is absent, damaged or of another file."""
    from safetensors.torch import load_file
    from tokenizers import Tokenizer

    try:
        header: dict[str, Any] = json.loads((folder / _HEADER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if header.get("format") != _FORMAT or header.get("source_sha256") != source:
        return None
    if not is_intact(folder, hashes=header["files"]):
        return None
    return GgufModel(
        config=header["config"],
        tensors=load_file(folder / _TENSORS),
        tokenizer=Tokenizer.from_file(str(folder / _TOKENIZER)),
        chat_template=header["chat_template"],
    )
