"""LLaVA-Video-7B and 72B: checkpoints in the layout of LLaVA-NeXT, mapped by key to a class of transformers.

LLaVA-Video is built as LLaVA-OneVision is (SigLIP without its last layer, two linear layers, Qwen2; frames pooled to
14×14), so its weights are those of `LlavaOnevisionForConditionalGeneration` under other names. One thing differs: that
class puts one newline token behind each video, where the paper's runs put none (`mm_newline_position no_token`).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trifocal import weights
from trifocal.errors import ModelError, WeightsCorrupt

if TYPE_CHECKING:
    import torch

__all__ = ["llava_video_config", "llava_video_key", "load_llava_video"]

IMAGE_TOKEN, VIDEO_TOKEN = 151646, 151647
"""The first two ids behind Qwen2's own tokens, as in the checkpoints of LLaVA-OneVision for transformers."""

_RENAMED = (
    (r"^model\.vision_tower\.vision_tower\.(vision_model\.)?", "model.vision_tower."),
    (r"^model\.mm_projector\.0\.", "model.multi_modal_projector.linear_1."),
    (r"^model\.mm_projector\.2\.", "model.multi_modal_projector.linear_2."),
    (r"^model\.(embed_tokens|layers|norm)\.", r"model.language_model.\1."),
    (r"^(model\.image_newline|lm_head\.weight)$", r"\1"),
)
_UNUSED = re.compile(r"vision_tower\.(head|vision_model\.head)\.|rotary_emb\.inv_freq$|position_ids$")
_TEXT = (
    "hidden_act",
    "hidden_size",
    "initializer_range",
    "intermediate_size",
    "max_position_embeddings",
    "num_attention_heads",
    "num_hidden_layers",
    "num_key_value_heads",
    "rms_norm_eps",
    "tie_word_embeddings",
    "vocab_size",
    "bos_token_id",
    "eos_token_id",
)


def llava_video_key(key: str) -> str | None:
    """The name that transformers gives a tensor; None for one that is not used.

    Raises:
        WeightsCorrupt: the name is not of that layout.
    """
    if _UNUSED.search(key):
        return None
    for pattern, name in _RENAMED:
        renamed, count = re.subn(pattern, name, key)
        if count:
            return renamed
    raise WeightsCorrupt(
        f"{key} is not a tensor of a LLaVA-Video checkpoint", remedy="Give a folder in the layout of LLaVA-NeXT."
    )


def llava_video_config(
    published: Mapping[str, Any],
    *,
    shapes: Mapping[str, tuple[int, ...]],
    vision_heads: int = 16,
    rope_factor: float = 1.0,
) -> Any:
    """The configuration of the class of transformers.

    Args:
        published: what the checkpoint's `config.json` holds; it names the vision tower and does not describe it.
        shapes: of the tensors, by the names of transformers, which tell the rest.
        vision_heads: attention heads of the vision tower; 16 in SigLIP-SO400M.
        rope_factor: linear scaling of positions that the checkpoint does not ask for; the paper's runs on 180 frames
            take 2.

    Raises:
        ModelError: the checkpoint is of a kind that the class does not cover, or scales its positions already.
    """
    from transformers import LlavaOnevisionConfig, Qwen2Config, SiglipVisionConfig

    for name, expected in (("mm_projector_type", "mlp2x_gelu"), ("mm_resampler_type", None)):
        if published.get(name, expected) != expected:
            raise ModelError(f"{name} is {published[name]!r}", remedy=f"Only {expected} is covered.")
    if (
        published.get("mm_spatial_pool_mode", "bilinear") != "bilinear"
        or published.get("mm_spatial_pool_stride", 2) != 2
    ):
        raise ModelError(
            f"Frames are pooled by {published.get('mm_spatial_pool_mode')} with the stride "
            f"{published.get('mm_spatial_pool_stride')}",
            remedy="Only bilinear with the stride 2 is covered.",
        )
    width, _, patch, _ = shapes["model.vision_tower.embeddings.patch_embedding.weight"]
    side = math.isqrt(shapes["model.vision_tower.embeddings.position_embedding.weight"][0])
    named = re.search(r"-(\d+)$", str(published.get("mm_vision_tower", "")))
    size = int(named[1]) if named and int(named[1]) // patch == side else side * patch
    vision = SiglipVisionConfig(
        hidden_size=width,
        intermediate_size=shapes["model.vision_tower.encoder.layers.0.mlp.fc1.weight"][0],
        num_hidden_layers=1
        + max(int(found[1]) for key in shapes if (found := re.search(r"encoder\.layers\.(\d+)", key))),
        num_attention_heads=vision_heads,
        image_size=size,
        patch_size=patch,
        vision_use_head=False,
    )
    values = {name: published[name] for name in _TEXT if name in published}
    rope = _rope(published, factor=rope_factor)
    if rope["rope_type"] == "linear" and "max_position_embeddings" in values:
        # The published number is that of the unscaled model.
        values["max_position_embeddings"] = int(values["max_position_embeddings"] * rope["factor"])
    text = Qwen2Config(**values, rope_parameters=rope, use_sliding_window=False)
    small = text.vocab_size <= VIDEO_TOKEN
    return LlavaOnevisionConfig(
        vision_config=vision,
        text_config=text,
        # A vocabulary without room for them, as in a test, gives its last two.
        image_token_index=text.vocab_size - 2 if small else IMAGE_TOKEN,
        video_token_index=text.vocab_size - 1 if small else VIDEO_TOKEN,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        image_grid_pinpoints=published.get("image_grid_pinpoints"),
        vision_aspect_ratio=published.get("image_aspect_ratio", "anyres_max_9"),
        tie_word_embeddings=bool(published.get("tie_word_embeddings", False)),
    )


def _rope(published: Mapping[str, Any], *, factor: float) -> dict[str, Any]:
    """The rotations, under the names that transformers has for them now; checkpoints of then say `type`."""
    scaling = dict(published.get("rope_scaling") or {})
    older = scaling.pop("type", "default")
    rope = {"rope_theta": published.get("rope_theta", 1e6), **scaling, "rope_type": scaling.get("rope_type", older)}
    if factor == 1.0:
        return rope
    if rope["rope_type"] != "default":
        raise ModelError(
            f"The model's positions are of the kind {rope['rope_type']!r} and not scaled a second time",
            remedy="Leave out rope_factor.",
        )
    return {**rope, "rope_type": "linear", "factor": factor}


def load_llava_video(
    reference: str | Path,
    *,
    dtype: torch.dtype | None = None,
    device_map: Any = None,
    vision_heads: int = 16,
    rope_factor: float = 1.0,
    offline: bool = False,
) -> Any:
    """A LLaVA-Video checkpoint as `LlavaOnevisionForConditionalGeneration`, in evaluation mode.

    Args:
        reference: a folder, or a repository of Hugging Face such as `lmms-lab/LLaVA-Video-7B-Qwen2`.
        dtype: what to load it in; as stored by default.
        device_map: as `from_pretrained` takes it.
        vision_heads: see `llava_video_config`.
        rope_factor: see `llava_video_config`.
        offline: use cached files only.

    Raises:
        WeightsError: the files cannot be had, or tensors are missing or unknown.
        ModelError: the checkpoint is of a kind that the class does not cover.
    """
    from safetensors.torch import load_file
    from transformers import LlavaOnevisionForConditionalGeneration

    folder = weights.fetch(reference, offline=offline)
    files = sorted(folder.glob("*.safetensors"))
    if not files or not (folder / "config.json").is_file():
        raise WeightsCorrupt(
            f"{folder} holds {len(files)} safetensors files and {'a' if (folder / 'config.json').is_file() else 'no'} "
            "config.json",
            remedy="Give a folder that holds both.",
        )
    tensors: dict[str, torch.Tensor] = {}
    for file in files:
        tensors |= {name: value for key, value in load_file(file).items() if (name := llava_video_key(key)) is not None}
    published = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    shapes = {name: tuple(value.shape) for name, value in tensors.items()}
    try:
        config = llava_video_config(published, shapes=shapes, vision_heads=vision_heads, rope_factor=rope_factor)
    except KeyError as error:
        raise WeightsCorrupt(f"{folder} has no {error}", remedy="Give a whole checkpoint.") from error
    stored = tensors["model.language_model.embed_tokens.weight"].dtype
    model, report = LlavaOnevisionForConditionalGeneration.from_pretrained(
        None, config=config, state_dict=tensors, dtype=dtype or stored, device_map=device_map, output_loading_info=True
    )
    wrong = [*report["missing_keys"], *report["unexpected_keys"], *report["mismatched_keys"]]
    if wrong:
        raise WeightsCorrupt(
            f"{folder} and the model differ in {len(wrong)} tensors, {wrong[0]} among them",
            remedy="Give a whole checkpoint.",
        )
    return model.eval()
