"""One table of families: tiny random models and prompts with a video. A new family is a `Case` here, and is tested."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from typing import Any

import pytest
import torch

HIDDEN, HEADS, LAYERS, VOCABULARY = 32, 2, 4, 64
IMAGE, VIDEO, START, END, NEWLINE = 60, 61, 62, 63, 59
SIDE, FRAMES = 4, 3
ZERO = 10  # the digits follow
Inputs = dict[str, torch.Tensor]

TEXT: dict[str, Any] = {
    "hidden_size": HIDDEN,
    "intermediate_size": 48,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": 1,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 512,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": 0,
}
MROPE = {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 1e4}
VISION: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}


@dataclass(frozen=True)
class Case:
    """A family, how to build one, and a prompt.

    Args:
        name: of the case.
        build: a random model in float32.
        prompt: from a generator, the ids in front of and behind the video and the number of frames.
        extra: tokens of the placeholder's id that do not belong to the grid.
    """

    name: str
    build: Callable[[], Any]
    prompt: Callable[[torch.Generator, list[int], list[int], int], Inputs]
    extra: int = 0
    mrope: bool = False
    layers: tuple[int, ...] = (0, 2)

    def model(self, **options: Any) -> Any:
        """The same weights every time."""
        torch.manual_seed(0)
        model = self.build().eval()
        # Random models of this size hardly look at anything; sharper ones tell positions apart.
        with torch.no_grad():
            for name, weights in model.named_parameters():
                if name.endswith(
                    ("q_proj.weight", "k_proj.weight", "v_proj.weight", "o_proj.weight", "down_proj.weight")
                ):
                    weights.mul_(6.0)
        if "attention" in options:
            model.set_attn_implementation(options["attention"])
        return model

    def inputs(self, seed: int = 0, *, before: int = 5, after: int = 6, frames: int = FRAMES) -> Inputs:
        """A prompt with one video, a row."""
        random = torch.Generator().manual_seed(seed)
        words = torch.randint(1, NEWLINE, (before + after,), generator=random).tolist()
        return self.prompt(random, words[:before], words[before:], frames)


def join(*rows: Inputs) -> Inputs:
    """Several prompts as a batch padded at the left."""
    longest = max(row["input_ids"].shape[1] for row in rows)
    joined: dict[str, list[torch.Tensor]] = {}
    for row in rows:
        pad = longest - row["input_ids"].shape[1]
        for name, value in row.items():
            if name in {"input_ids", "attention_mask", "mm_token_type_ids"}:
                value = torch.nn.functional.pad(value, (pad, 0))
            joined.setdefault(name, []).append(value)
    return {name: torch.cat(values) for name, values in joined.items()}


def without_pixels(inputs: Inputs) -> Inputs:
    """Only what a later turn may pass again."""
    return {name: value for name, value in inputs.items() if name in {"input_ids", "attention_mask"}}


def _pixels(random: torch.Generator, frames: int, size: int) -> torch.Tensor:
    """`(T, 3, size, size)`: a scene that changes half-way, a little noise."""
    scenes = torch.randn(2, 3, 4, 4, generator=random).repeat_interleave(size // 4, -1).repeat_interleave(size // 4, -2)
    which = torch.arange(frames) * 2 // frames
    return scenes[which] + 0.05 * torch.randn(frames, 3, size, size, generator=random)


def _row(ids: list[int]) -> Inputs:
    tokens = torch.tensor([ids])
    return {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}


def _patches(pixels: torch.Tensor, patch: int, temporal: int) -> torch.Tensor:
    """Qwen's patches, `(T/temporal * h * w, 3 * temporal * patch²)` in some order."""
    pixels = pixels.repeat_interleave(temporal, 0)
    t, h, w = pixels.shape[0] // temporal, pixels.shape[2] // patch // 2, pixels.shape[3] // patch // 2
    blocks = pixels.view(t, temporal, 3, h, 2, patch, w, 2, patch)
    return blocks.permute(0, 3, 6, 4, 7, 2, 1, 5, 8).reshape(t * h * w * 4, -1)


def llava_onevision() -> Any:
    from transformers import (
        LlavaOnevisionConfig,
        LlavaOnevisionForConditionalGeneration,
        Qwen2Config,
        SiglipVisionConfig,
    )

    vision = SiglipVisionConfig(**VISION, image_size=28, patch_size=4, vision_use_head=False)
    return LlavaOnevisionForConditionalGeneration(
        LlavaOnevisionConfig(
            vision_config=vision,
            text_config=Qwen2Config(**TEXT),
            image_token_index=IMAGE,
            video_token_index=VIDEO,
            image_grid_pinpoints=[[28, 28]],
        )
    )


def llava_prompt(size: int, extra: int) -> Callable[..., Inputs]:
    def prompt(random: torch.Generator, before: list[int], after: list[int], frames: int) -> Inputs:
        row = _row([*before, *[VIDEO] * (frames * SIDE * SIDE + extra), *after])
        return {**row, "pixel_values_videos": _pixels(random, frames, size)[None]}

    return prompt


def llava_next_video() -> Any:
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaNextVideoConfig, LlavaNextVideoForConditionalGeneration

    vision = CLIPVisionConfig(**VISION, image_size=32, patch_size=4, projection_dim=16)
    return LlavaNextVideoForConditionalGeneration(
        LlavaNextVideoConfig(
            vision_config=vision,
            text_config=LlamaConfig(**TEXT),
            image_token_index=IMAGE,
            video_token_index=VIDEO,
            image_grid_pinpoints=[[32, 32]],
        )
    )


def qwen2_vl() -> Any:
    from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

    vision = {"depth": 1, "embed_dim": 16, "hidden_size": HIDDEN, "num_heads": 2, "mlp_ratio": 2, "patch_size": 4}
    return Qwen2VLForConditionalGeneration(
        Qwen2VLConfig(
            text_config={**TEXT, "rope_parameters": MROPE},
            vision_config=vision,
            image_token_id=IMAGE,
            video_token_id=VIDEO,
        )
    )


def qwen25_vl() -> Any:
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    vision = {
        "depth": 1,
        "hidden_size": 16,
        "out_hidden_size": HIDDEN,
        "intermediate_size": 24,
        "num_heads": 2,
        "patch_size": 4,
        "window_size": 16,
        "fullatt_block_indexes": [0],
    }
    return Qwen2_5_VLForConditionalGeneration(
        Qwen2_5_VLConfig(
            text_config={**TEXT, "rope_parameters": MROPE},
            vision_config=vision,
            image_token_id=IMAGE,
            video_token_id=VIDEO,
        )
    )


def qwen3_vl() -> Any:
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

    vision = {
        "depth": 2,
        "hidden_size": 16,
        "out_hidden_size": HIDDEN,
        "intermediate_size": 24,
        "num_heads": 2,
        "patch_size": 4,
        "num_position_embeddings": 64,
        "deepstack_visual_indexes": [0, 1],
    }
    return Qwen3VLForConditionalGeneration(
        Qwen3VLConfig(
            text_config={**TEXT, "head_dim": 16, "rope_parameters": {**MROPE, "mrope_interleaved": True}},
            vision_config=vision,
            image_token_id=IMAGE,
            video_token_id=VIDEO,
        )
    )


def qwen3_vl_moe() -> Any:
    from transformers import Qwen3VLMoeConfig, Qwen3VLMoeForConditionalGeneration

    experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "head_dim": 16}
    vision = {
        "depth": 2,
        "hidden_size": 16,
        "out_hidden_size": HIDDEN,
        "intermediate_size": 24,
        "num_heads": 2,
        "patch_size": 4,
        "num_position_embeddings": 64,
        "deepstack_visual_indexes": [0, 1],
    }
    return Qwen3VLMoeForConditionalGeneration(
        Qwen3VLMoeConfig(
            text_config={**TEXT, **experts, "rope_parameters": {**MROPE, "mrope_interleaved": True}},
            vision_config=vision,
            image_token_id=IMAGE,
            video_token_id=VIDEO,
        )
    )


def qwen_prompt(random: torch.Generator, before: list[int], after: list[int], frames: int) -> Inputs:
    row = _row([*before, START, *[VIDEO] * (frames * SIDE * SIDE), END, *after])
    return {**row, **_qwen_pixels(random, frames), "mm_token_type_ids": (row["input_ids"] == VIDEO).int() * 2}


def qwen3_prompt(random: torch.Generator, before: list[int], after: list[int], frames: int) -> Inputs:
    times = [[7, 10 + t, 8, START, *[VIDEO] * (SIDE * SIDE), END] for t in range(frames)]
    row = _row([*before, *chain(*times), *after])
    return {**row, **_qwen_pixels(random, frames), "mm_token_type_ids": (row["input_ids"] == VIDEO).int() * 2}


def _qwen_pixels(random: torch.Generator, frames: int) -> Inputs:
    patches = _patches(_pixels(random, frames, SIDE * 2 * 4), 4, 2)
    return {"pixel_values_videos": patches, "video_grid_thw": torch.tensor([[frames, SIDE * 2, SIDE * 2]])}


def internvl() -> Any:
    from transformers import InternVLConfig, InternVLForConditionalGeneration, InternVLVisionConfig, Qwen2Config

    vision = InternVLVisionConfig(**VISION, image_size=[32, 32], patch_size=[4, 4])
    config = InternVLConfig(vision_config=vision, text_config=Qwen2Config(**TEXT), image_token_id=IMAGE)
    return InternVLForConditionalGeneration(config)


def number(value: int) -> list[int]:
    """A token per digit, as the tokenizers of InternVL and SmolVLM have it."""
    return [ZERO + int(digit) for digit in str(value)]


def internvl_prompt(random: torch.Generator, before: list[int], after: list[int], frames: int) -> Inputs:
    times = [[7, *number(t + 1), 8, START, *[IMAGE] * (SIDE * SIDE), END, NEWLINE] for t in range(frames)]
    times[-1].pop()
    return {**_row([*before, *chain(*times), *after]), "pixel_values": _pixels(random, frames, 32)}


def smolvlm() -> Any:
    from transformers import LlamaConfig, SmolVLMConfig, SmolVLMForConditionalGeneration, SmolVLMVisionConfig

    vision = SmolVLMVisionConfig(**VISION, image_size=32, patch_size=4)
    return SmolVLMForConditionalGeneration(
        SmolVLMConfig(vision_config=vision, text_config=LlamaConfig(**TEXT), image_token_id=IMAGE, scale_factor=2)
    )


def idefics3() -> Any:
    from transformers import Idefics3Config, Idefics3ForConditionalGeneration, Idefics3VisionConfig, LlamaConfig

    vision = Idefics3VisionConfig(**VISION, image_size=32, patch_size=4)
    return Idefics3ForConditionalGeneration(
        Idefics3Config(vision_config=vision, text_config=LlamaConfig(**TEXT), image_token_id=IMAGE, scale_factor=2)
    )


def smolvlm_prompt(random: torch.Generator, before: list[int], after: list[int], frames: int) -> Inputs:
    # From 00:00 on, two frames a second.
    seconds = [(t // 2 // 10, t // 2 % 10) for t in range(frames)]
    times = [
        [7, 9, ZERO, ZERO, 8, ZERO + tens, ZERO + ones, 8, START, *[IMAGE] * (SIDE * SIDE), START]
        for tens, ones in seconds
    ]
    return {**_row([*before, *chain(*times), *after]), "pixel_values": _pixels(random, frames, 32)[None]}


def video_llama3() -> Any:
    from transformers import (
        Qwen2Config,
        VideoLlama3Config,
        VideoLlama3ForConditionalGeneration,
        VideoLlama3VisionConfig,
    )

    vision = VideoLlama3VisionConfig(**VISION, patch_size=4)
    return VideoLlama3ForConditionalGeneration(
        VideoLlama3Config(
            vision_config=vision, text_config=Qwen2Config(**TEXT), image_token_id=IMAGE, video_token_id=VIDEO
        )
    )


def video_llama3_prompt(random: torch.Generator, before: list[int], after: list[int], frames: int) -> Inputs:
    times = [[7, 10 + t, 8, *[VIDEO] * (SIDE * SIDE), 9] for t in range(frames)]
    return {
        **_row([*before, *chain(*times), *after]),
        "pixel_values_videos": _patches(_pixels(random, frames, 32), 4, 1),
        "video_grid_thw": torch.tensor([[frames, SIDE * 2, SIDE * 2]]),
        "video_merge_sizes": torch.tensor([2]),
        "video_compression_mask": torch.ones(frames * SIDE * SIDE, dtype=torch.bool),
    }


CASES = [
    Case("llava_onevision", llava_onevision, llava_prompt(28, 1), extra=1),
    Case("llava_next_video", llava_next_video, llava_prompt(32, 0)),
    Case("qwen2_vl", qwen2_vl, qwen_prompt, mrope=True),
    Case("qwen2_5_vl", qwen25_vl, qwen_prompt, mrope=True),
    Case("qwen3_vl", qwen3_vl, qwen3_prompt, mrope=True, layers=(0, 1, 2)),
    Case("qwen3_vl_moe", qwen3_vl_moe, qwen3_prompt, mrope=True),
    Case("internvl", internvl, internvl_prompt),
    Case("smolvlm", smolvlm, smolvlm_prompt),
    Case("idefics3", idefics3, smolvlm_prompt),
    Case("video_llama_3", video_llama3, video_llama3_prompt),
]


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> Case:
    """Each family in turn."""
    found: Case = request.param
    return found
