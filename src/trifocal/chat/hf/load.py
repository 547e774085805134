"""From a reference to a model that can be asked: a Hugging Face repository or a folder on this machine.

Folders are in the layout of transformers, or in that of LLaVA-Video. Only safetensors, JSON and text are read; code
from a repository is never run. `load_hf_model` gives what any number of chats can stand on, one setting of merging
after another; `load_hf_chat` gives one. `fingerprint` is what a prefix knows the model's files by: the Hub's own hashes
where they were fetched from there, else hashes of what is in the folder.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from trifocal import weights
from trifocal.chat.hf.processor import read_settings
from trifocal.chat.hf.processors import PROCESSORS
from trifocal.errors import InvalidInput, MissingExtra, ModelError

if TYPE_CHECKING:
    from trifocal.chat.hf.chat import HFChat
    from trifocal.chat.hf.config import HFChatConfig
    from trifocal.chat.prefix import PrefixStore
    from trifocal.merging import MergeConfig

__all__ = ["DTYPES", "DeviceMap", "HFModel", "fingerprint", "load_hf_chat", "load_hf_model"]

DTYPES: Final = ("float32", "bfloat16", "float16")
DeviceMap = str | Mapping[str, str | int]
"""As `from_pretrained` takes it: a rule such as "auto", or a device for each module."""
MOST_SCALING: Final = 64.0

_SHA256 = re.compile(r"[0-9a-f]{64}")
_READ = (".json", ".txt", ".jinja", ".safetensors")
_SAMPLE = 1 << 20
_SAMPLES = 64

LLAVA_VIDEO = "llava_qwen"
LLAVA_VIDEO_TEMPLATE = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% for part in message['content'] %}"
    "{{ part['text'] if part['type'] == 'text' else '<video>\n' }}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""ChatML, as LLaVA-Video was trained with (`qwen_1_5` of its code)."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class HFModel:
    """A model in memory with what asking it needs; any number of chats, one at a time, stand on it.

    Args:
        model: of transformers, in evaluation mode.
        tokenizer: of the model.
        name: how answers name it.
        revision: what its files, and what was changed in reading them, are known by.
        settings: of its video processor.
        chat_template: where the model's own is not wanted.
    """

    model: Any
    tokenizer: Any
    name: str
    revision: str
    settings: Mapping[str, Any]
    chat_template: str | None

    def chat(
        self,
        *,
        config: HFChatConfig | None = None,
        method: str | MergeConfig | None = None,
        layer: int = 2,
        store: PrefixStore | None = None,
        **options: Any,
    ) -> HFChat:
        """A chat on this model; `close` it before the next one that merges.

        Args:
            config: how videos are shown and asked about.
            method: merge the video's tokens; see `HFChat`.
            layer: in front of which layer.
            store: where prefixes are kept.
            options: of the method.

        Raises:
            ModelError: the model's template has no place for a video, or an earlier chat still merges.
            InvalidInput: an option cannot be used.
        """
        from trifocal.chat.hf.chat import HFChat

        return HFChat(
            self.model,
            tokenizer=self.tokenizer,
            name=self.name,
            revision=self.revision,
            settings=self.settings,
            chat_template=self.chat_template,
            config=config,
            method=method,
            layer=layer,
            store=store,
            **options,
        )


def load_hf_chat(
    reference: str | Path,
    *,
    device: str = "cpu",
    offline: bool = False,
    dtype: str | None = None,
    device_map: DeviceMap | None = None,
    rope_factor: float = 1.0,
    context: int | None = None,
    config: HFChatConfig | None = None,
    method: str | MergeConfig | None = None,
    layer: int = 2,
    store: PrefixStore | None = None,
    **options: Any,
) -> HFChat:
    """A Hugging Face video language model, with its weights: `load_hf_model(...).chat(...)` in one."""
    model = load_hf_model(
        reference,
        device=device,
        offline=offline,
        dtype=dtype,
        device_map=device_map,
        rope_factor=rope_factor,
        context=context,
    )
    return model.chat(config=config, method=method, layer=layer, store=store, **options)


def load_hf_model(
    reference: str | Path,
    *,
    device: str = "cpu",
    offline: bool = False,
    dtype: str | None = None,
    device_map: DeviceMap | None = None,
    rope_factor: float = 1.0,
    context: int | None = None,
) -> HFModel:
    """A Hugging Face video language model, with its weights.

    Args:
        reference: `hf:org/name@revision`, `org/name`, or the path of a folder.
        device: where to run it.
        offline: use cached files only.
        dtype: number format of the weights; None for the one they are saved in, with bfloat16 in place of float16 on a
            CPU, which computes in it many times faster.
        device_map: spread the layers, such as "auto" over all GPUs; `device` is then without effect. Needs the package
            `accelerate` (the extra `spread`).
        rope_factor: divide the rotations by this, so that so many times the positions are told apart; 2 is the paper's
            for 180 frames of LLaVA-Video (linear scaling).
        context: how many tokens a prompt may have, where the published number of positions is not the bound that is
            meant: Qwen2-VL's positions grow by frames, not by tokens.

    Raises:
        ModelError: the folder holds no supported model, or its positions are scaled already.
        InvalidInput: a value that cannot be used.
        MissingExtra: `device_map` is given and `accelerate` is not installed.
        WeightsError: the files cannot be had.
    """
    import torch

    if dtype is not None and dtype not in DTYPES:
        raise InvalidInput(f"dtype is {dtype!r}", remedy=f"Use one of {', '.join(DTYPES)}.")
    if not 1.0 <= rope_factor <= MOST_SCALING:
        raise InvalidInput(f"rope_factor is {rope_factor}", remedy=f"Give a number from 1 to {MOST_SCALING:g}.")
    if context is not None and context < 1:
        raise InvalidInput(f"context is {context}", remedy="Give a number of tokens.")
    if device_map is not None and find_spec("accelerate") is None:
        raise MissingExtra("device_map needs the package accelerate", remedy="pip install 'trifocal[spread]'")
    place = _Place(dtype=dtype, device_map=device_map, rope_factor=rope_factor)
    folder = weights.fetch(reference, offline=offline)
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder} has no config.json", remedy="Give the folder of a Hugging Face model.")
    template: str | None = None  # of the tokenizer, or of the family where that has none for videos
    if _model_type(folder) == LLAVA_VIDEO:
        model, tokenizer, settings, template = _llava_video(folder, place=place)
    else:
        model, tokenizer = _published(reference, folder, place=place)
        settings = read_settings(folder)
    if device_map is None:
        if dtype is None and device == "cpu" and model.dtype == torch.float16:
            model = model.to(torch.bfloat16)
        model = model.to(device)
    revision = fingerprint(folder)
    if rope_factor != 1.0:
        revision += f" rope_factor={rope_factor:g}"
    if context is not None:
        model.config.get_text_config(decoder=True).max_position_embeddings = context
        revision += f" context={context}"
    return HFModel(
        model=model.eval().requires_grad_(False),
        tokenizer=tokenizer,
        name=str(reference),
        revision=revision,
        settings=settings,
        chat_template=template,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """How weights are brought into memory; see `load_hf_model`."""

    dtype: str | None
    device_map: DeviceMap | None
    rope_factor: float


def _model_type(folder: Path) -> str:
    try:
        return str(json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type", ""))
    except ValueError as error:
        raise ModelError(f"{folder / 'config.json'} is not JSON: {error}", remedy="Fetch the model again.") from error


def _published(reference: str | Path, folder: Path, *, place: _Place) -> tuple[Any, Any]:
    """A model and its tokenizer, in the layout of transformers."""
    from transformers import AutoConfig, AutoModelForImageTextToText, AutoTokenizer

    try:
        found: Any = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (ValueError, KeyError, OSError) as error:
        raise ModelError(
            f"The configuration in {folder} is not one that transformers knows: {_first_line(error)}",
            remedy=f"The supported model types are: {', '.join(sorted(PROCESSORS))}.",
        ) from error
    if found.model_type not in PROCESSORS:
        raise ModelError(
            f"{reference} is a {found.model_type} model, which cannot be asked about videos here",
            remedy=f"The supported model types are: {', '.join(sorted(PROCESSORS))}.",
        )
    _scale_positions(found.get_text_config(decoder=True), place.rope_factor)
    try:
        model: Any = AutoModelForImageTextToText.from_pretrained(
            folder,
            config=found,
            dtype="auto" if place.dtype is None else place.dtype,
            device_map=place.device_map,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
        )
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (ValueError, OSError) as error:
        raise ModelError(
            f"The model in {folder} cannot be loaded: {_first_line(error)}",
            remedy="Fetch it again with safetensors weights and tokenizer.json.",
        ) from error
    return model, tokenizer


def _scale_positions(text: Any, factor: float) -> None:
    """Linear scaling of a text model's rotations, in its configuration, before the model is made."""
    if factor == 1.0:
        return
    rope = dict(getattr(text, "rope_parameters", None) or {})
    if rope.get("rope_type") != "default":
        raise ModelError(
            f"The model's positions are of the kind {rope.get('rope_type')!r} and not scaled a second time",
            remedy="Leave out rope_factor.",
        )
    text.rope_parameters = {**rope, "rope_type": "linear", "factor": factor}
    text.max_position_embeddings = int(text.max_position_embeddings * factor)


def _llava_video(folder: Path, *, place: _Place) -> tuple[Any, Any, dict[str, Any], str]:
    """LLaVA-Video in its published layout, with what that folder lacks: tokens of its own, settings and a template."""
    import torch
    from transformers import Qwen2Tokenizer

    from trifocal.chat.families.llava_video import load_llava_video

    chosen: torch.dtype | None = None if place.dtype is None else getattr(torch, place.dtype)
    model = load_llava_video(folder, dtype=chosen, device_map=place.device_map, rope_factor=place.rope_factor)
    try:
        tokenizer: Any = Qwen2Tokenizer.from_pretrained(folder, local_files_only=True)
    except (ValueError, OSError) as error:
        raise ModelError(
            f"The tokenizer in {folder} cannot be loaded: {_first_line(error)}", remedy="Fetch the model again."
        ) from error
    # The first ids behind the tokenizer's own, as the model is set up to read them.
    tokenizer.add_tokens(["<image>", "<video>"], special_tokens=True)
    if (placed := tokenizer.convert_tokens_to_ids("<video>")) != model.config.video_token_id:
        raise ModelError(
            f"The tokenizer in {folder} has {placed} for a video and the model {model.config.video_token_id}",
            remedy="Fetch the whole model again, with the tokenizer that it was published with.",
        )
    # SigLIP's colours; the published code has them in Python.
    half = [0.5, 0.5, 0.5]
    return model, tokenizer, {"image_mean": half, "image_std": half}, LLAVA_VIDEO_TEMPLATE


def fingerprint(folder: Path) -> str:
    """SHA-256 over the names and contents of a model's files.

    A file in the Hub's cache is a link to one named by its hash, which is taken. Another file of up to 64 MB is hashed
    whole; of a larger one the size, the modification time and 64 stretches of 1 MB spread over it are, because hashing
    tens of gigabytes would take longer than most questions.
    """
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix not in _READ or not path.is_file():
            continue
        real = path.resolve()
        digest.update(f"{path.name}\0".encode())
        if path.is_symlink() and _SHA256.fullmatch(real.name):
            digest.update(real.name.encode())
            continue
        facts = real.stat()
        with real.open("rb") as file:
            if facts.st_size <= _SAMPLE * _SAMPLES:
                digest.update(hashlib.file_digest(file, "sha256").digest())
                continue
            digest.update(f"{facts.st_size} {facts.st_mtime_ns}".encode())
            for sample in range(_SAMPLES):
                file.seek(sample * (facts.st_size - _SAMPLE) // (_SAMPLES - 1))
                digest.update(file.read(_SAMPLE))
    return digest.hexdigest()


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:300]
