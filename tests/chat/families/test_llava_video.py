"""A checkpoint in LLaVA-NeXT's layout, written from a tiny model and read back."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tests.chat.families.conftest import TEXT, VOCABULARY, llava_onevision, llava_prompt

from trifocal.chat.accelerate import accelerate
from trifocal.chat.families.llava_video import llava_video_config, llava_video_key, load_llava_video
from trifocal.errors import ModelError, WeightsCorrupt

PUBLISHED: dict[str, Any] = {
    **TEXT,
    "architectures": ["LlavaQwenForCausalLM"],
    "model_type": "llava_qwen",
    "mm_projector_type": "mlp2x_gelu",
    "mm_vision_tower": "google/siglip-so400m-patch14-384",
    "mm_spatial_pool_mode": "bilinear",
    "mm_spatial_pool_stride": 2,
    "image_aspect_ratio": "anyres_max_9",
    "image_grid_pinpoints": [[28, 28]],
    "rope_theta": 10000.0,
    "use_sliding_window": False,
}


def published_key(key: str) -> str:
    key = key.replace("model.language_model.", "model.")
    key = key.replace("multi_modal_projector.linear_1", "mm_projector.0").replace(
        "multi_modal_projector.linear_2", "mm_projector.2"
    )
    return re.sub(r"^model\.vision_tower\.", "model.vision_tower.vision_tower.vision_model.", key)


@pytest.fixture(scope="module")
def source() -> Any:
    torch.manual_seed(0)
    return llava_onevision().eval()


@pytest.fixture
def folder(source: Any, tmp_path: Path) -> Path:
    tensors = {published_key(key): value.contiguous() for key, value in source.state_dict().items()}
    tensors["model.vision_tower.vision_tower.vision_model.head.probe"] = torch.zeros(1)
    names = sorted(tensors)
    for index, part in enumerate((names[::2], names[1::2])):
        save_file({name: tensors[name] for name in part}, tmp_path / f"model-{index + 1:05d}-of-00002.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(PUBLISHED))
    return tmp_path


def test_it_is_the_same_model(source: Any, folder: Path) -> None:
    model = load_llava_video(folder, vision_heads=2)
    assert {name: value.shape for name, value in model.state_dict().items()} == {
        name: value.shape for name, value in source.state_dict().items()
    }
    inputs = llava_prompt(28, 1)(torch.Generator().manual_seed(0), [1, 2, 3], [4, 5], 3)
    assert model.config.video_token_id == VOCABULARY - 1
    inputs["input_ids"][inputs["input_ids"] == source.config.video_token_id] = VOCABULARY - 1
    with torch.no_grad():
        found = model(**inputs).logits
        # The published models take the last of the layers that they keep.
        expected = source(**{**inputs, "input_ids": inputs["input_ids"].where(inputs["input_ids"] != 63, 61)}).logits
        assert torch.allclose(found, expected, atol=1e-6)
        with accelerate(model, budget=0.5, root_level=0, layer=0) as handle:
            model(**inputs)
    assert handle.usage is not None
    assert handle.usage.video_tokens_before == 48


def test_the_published_sizes() -> None:
    vision = "model.vision_tower."
    shapes: dict[str, tuple[int, ...]] = {
        f"{vision}embeddings.patch_embedding.weight": (1152, 3, 14, 14),
        f"{vision}embeddings.position_embedding.weight": (729, 1152),
        f"{vision}encoder.layers.0.mlp.fc1.weight": (4304, 1152),
        f"{vision}encoder.layers.25.mlp.fc1.weight": (4304, 1152),
    }
    config = llava_video_config({**PUBLISHED, "vocab_size": 152064, "rope_scaling": None}, shapes=shapes)
    assert (config.vision_config.image_size, config.vision_config.num_hidden_layers) == (384, 26)
    assert (config.image_token_id, config.video_token_id) == (151646, 151647)
    assert config.text_config.rope_parameters["rope_theta"] == 10000.0


@pytest.mark.parametrize(
    ("published", "factor"),
    [
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, 1.0),
        ({"rope_scaling": {"rope_type": "linear", "factor": 2.0}}, 1.0),
        ({"rope_scaling": None}, 2.0),
    ],
    ids=["published then", "published now", "asked for"],
)
def test_positions_are_scaled(folder: Path, published: dict[str, Any], factor: float) -> None:
    plain = load_llava_video(folder, vision_heads=2)
    (folder / "config.json").write_text(json.dumps({**PUBLISHED, **published}))
    scaled = load_llava_video(folder, vision_heads=2, rope_factor=factor)
    frequencies = [model.model.language_model.rotary_emb.inv_freq for model in (plain, scaled)]
    torch.testing.assert_close(frequencies[1], frequencies[0] / 2)
    lengths = [model.config.text_config.max_position_embeddings for model in (plain, scaled)]
    assert lengths[1] == 2 * lengths[0] == 2 * TEXT["max_position_embeddings"]


def test_positions_are_not_scaled_twice(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({**PUBLISHED, "rope_scaling": {"type": "linear", "factor": 2.0}}))
    with pytest.raises(ModelError, match="of the kind 'linear' and not scaled a second time"):
        load_llava_video(folder, vision_heads=2, rope_factor=2.0)


@pytest.mark.parametrize(
    "changes",
    [{"mm_projector_type": "linear"}, {"mm_resampler_type": "perceiver"}, {"mm_spatial_pool_stride": 4}],
    ids=lambda changes: next(iter(changes)),
)
def test_other_kinds_are_refused(folder: Path, changes: dict[str, Any]) -> None:
    (folder / "config.json").write_text(json.dumps({**PUBLISHED, **changes}))
    with pytest.raises(ModelError, match="covered"):
        load_llava_video(folder, vision_heads=2)


def test_incomplete_checkpoints_are_refused(folder: Path, tmp_path: Path) -> None:
    first, second = sorted(folder.glob("*.safetensors"))
    second.unlink()
    with pytest.raises(WeightsCorrupt):
        load_llava_video(folder, vision_heads=2)
    first.unlink()
    with pytest.raises(WeightsCorrupt, match="holds 0 safetensors"):
        load_llava_video(folder, vision_heads=2)


def test_keys() -> None:
    assert llava_video_key("model.layers.3.mlp.up_proj.weight") == "model.language_model.layers.3.mlp.up_proj.weight"
    assert llava_video_key("model.image_newline") == "model.image_newline"
    assert llava_video_key("lm_head.weight") == "lm_head.weight"
    assert llava_video_key("model.layers.3.self_attn.rotary_emb.inv_freq") is None
    with pytest.raises(WeightsCorrupt, match="is not a tensor of a LLaVA-Video checkpoint"):
        llava_video_key("transformer.h.0.weight")
