"""Tiny random models of every family with a tokenizer and a template of the family's form, and videos to ask about."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from trifocal.chat.hf.chat import HFChat
from trifocal.chat.hf.config import HFChatConfig
from trifocal.video import Frames, write_mp4

CONTROL = (
    "<|im_start|>", "<|im_end|>", "<|video_pad|>", "<|image_pad|>", "<|vision_start|>", "<|vision_end|>", "<video>",
    "<image>", "<IMG_CONTEXT>", "<img>", "</img>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>",
    "<|begin_of_text|>",
)  # fmt: skip
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% for part in message['content'] %}"
    "{% if part['type'] == 'video' %}VIDEO{% else %}{{ part['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
MARKERS = {
    "llava_onevision": "<video>\n",
    "llava_next_video": "<video>\n",
    "qwen2_vl": "<|vision_start|><|video_pad|><|vision_end|>",
    "qwen2_5_vl": "<|vision_start|><|video_pad|><|vision_end|>",
    "qwen3_vl": "<|vision_start|><|video_pad|><|vision_end|>",
    "qwen3_vl_moe": "<|vision_start|><|video_pad|><|vision_end|>",
    "internvl": "<video>\n",
    "smolvlm": "<video>",
    "idefics3": "<video>",
    "video_llama_3": "<|video_pad|>\n",
}
MROPE = {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 1e4}
VISION: dict[str, Any] = {
    "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2
}  # fmt: skip
SIDE = 4
"""Tokens a side of a frame, in every family."""


def build(name: str, vocabulary: int, ids: dict[str, int]) -> Any:
    """A random model of a family."""
    import transformers as hf

    text: dict[str, Any] = {
        "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4, "num_attention_heads": 2,
        "num_key_value_heads": 1, "vocab_size": vocabulary, "max_position_embeddings": 512,
        "bos_token_id": None, "eos_token_id": ids["<|im_end|>"], "pad_token_id": 0,
    }  # fmt: skip
    llava = {"image_token_index": ids["<image>"], "video_token_index": ids["<video>"]}
    pads = {"image_token_id": ids["<|image_pad|>"], "video_token_id": ids["<|video_pad|>"]}
    qwen = {"text_config": {**text, "rope_parameters": MROPE}, **pads}
    match name:
        case "llava_onevision":
            tower = hf.SiglipVisionConfig(**VISION, image_size=28, patch_size=4, vision_use_head=False)
            made = hf.LlavaOnevisionConfig(vision_config=tower, text_config=hf.Qwen2Config(**text), **llava)
            return hf.LlavaOnevisionForConditionalGeneration(made)
        case "llava_next_video":
            tower = hf.CLIPVisionConfig(**VISION, image_size=32, patch_size=4, projection_dim=16)
            made = hf.LlavaNextVideoConfig(vision_config=tower, text_config=hf.LlamaConfig(**text), **llava)
            return hf.LlavaNextVideoForConditionalGeneration(made)
        case "qwen2_vl":
            tower = {"depth": 1, "embed_dim": 16, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 2, "patch_size": 4}
            return hf.Qwen2VLForConditionalGeneration(hf.Qwen2VLConfig(vision_config=tower, **qwen))
        case "qwen2_5_vl":
            tower = {
                "depth": 2, "hidden_size": 16, "out_hidden_size": 32, "intermediate_size": 24, "num_heads": 2,
                "patch_size": 4, "window_size": 16, "fullatt_block_indexes": [1],
            }  # fmt: skip
            return hf.Qwen2_5_VLForConditionalGeneration(hf.Qwen2_5_VLConfig(vision_config=tower, **qwen))
        case "qwen3_vl" | "qwen3_vl_moe":
            tower = {
                "depth": 2, "hidden_size": 16, "out_hidden_size": 32, "intermediate_size": 24, "num_heads": 2,
                "patch_size": 4, "num_position_embeddings": 64, "deepstack_visual_indexes": [0, 1],
            }  # fmt: skip
            words = {**text, "head_dim": 16, "rope_parameters": {**MROPE, "mrope_interleaved": True}}
            if name == "qwen3_vl_moe":
                words |= {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
                experts = hf.Qwen3VLMoeConfig(vision_config=tower, **{**qwen, "text_config": words})
                return hf.Qwen3VLMoeForConditionalGeneration(experts)
            return hf.Qwen3VLForConditionalGeneration(
                hf.Qwen3VLConfig(vision_config=tower, **{**qwen, "text_config": words})
            )
        case "internvl":
            tower = hf.InternVLVisionConfig(**VISION, image_size=[32, 32], patch_size=[4, 4])
            made = hf.InternVLConfig(
                vision_config=tower, text_config=hf.Qwen2Config(**text), image_token_id=ids["<IMG_CONTEXT>"]
            )
            return hf.InternVLForConditionalGeneration(made)
        case "smolvlm":
            tower = hf.SmolVLMVisionConfig(**VISION, image_size=32, patch_size=4)
            made = hf.SmolVLMConfig(
                vision_config=tower,
                text_config=hf.LlamaConfig(**text),
                image_token_id=ids["<image>"],
                scale_factor=2,
            )
            return hf.SmolVLMForConditionalGeneration(made)
        case "idefics3":
            tower = hf.Idefics3VisionConfig(**VISION, image_size=32, patch_size=4)
            made = hf.Idefics3Config(
                vision_config=tower,
                text_config=hf.LlamaConfig(**text),
                image_token_id=ids["<image>"],
                scale_factor=2,
            )
            return hf.Idefics3ForConditionalGeneration(made)
        case _:
            tower = hf.VideoLlama3VisionConfig(**VISION, patch_size=4)
            made = hf.VideoLlama3Config(vision_config=tower, text_config=hf.Qwen2Config(**text), **pads)
            return hf.VideoLlama3ForConditionalGeneration(made)


SETTINGS: dict[str, dict[str, Any]] = {
    # Bounds that make a frame of any size 4 × 4 tokens of 8 × 8 pixels.
    "qwen2_vl": {"size": {"shortest_edge": 1024, "longest_edge": 1024}},
    "qwen2_5_vl": {"size": {"shortest_edge": 1024, "longest_edge": 1024}},
    "qwen3_vl": {"size": {"shortest_edge": 1024, "longest_edge": 8 * 1024}},
    "qwen3_vl_moe": {"size": {"shortest_edge": 1024, "longest_edge": 8 * 1024}},
    "video_llama_3": {"size": {"shortest_edge": 1024, "longest_edge": 8 * 1024}},
}


@pytest.fixture(scope="session")
def backend() -> Tokenizer:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=[AddedToken(token, special=True) for token in CONTROL],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(["What is shown in the video?", "Is it a street, or a river?"], trainer)
    return made


@pytest.fixture(scope="session")
def make_tokenizer(backend: Tokenizer) -> Callable[[str], PreTrainedTokenizerFast]:
    def make(name: str) -> PreTrainedTokenizerFast:
        wrapped = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|im_end|>")
        wrapped.chat_template = TEMPLATE.replace("VIDEO", MARKERS[name])
        return wrapped

    return make


@pytest.fixture(scope="session")
def make_model(backend: Tokenizer) -> Callable[[str], Any]:
    ids = {token: int(backend.token_to_id(token) or 0) for token in CONTROL}

    def make(name: str) -> Any:
        torch.manual_seed(0)
        model = build(name, backend.get_vocab_size(), ids).eval().requires_grad_(False)
        # Random models of this size hardly look at anything; sharper ones tell positions apart.
        for part, weights in model.named_parameters():
            if part.endswith(("q_proj.weight", "k_proj.weight", "v_proj.weight", "o_proj.weight", "down_proj.weight")):
                weights.mul_(6.0)
        return model

    return make


@pytest.fixture(scope="session")
def make_chat(
    make_model: Callable[[str], Any], make_tokenizer: Callable[[str], PreTrainedTokenizerFast]
) -> Callable[..., HFChat]:
    """A chat of a family; `config` takes the fields of `HFChatConfig`, the rest goes to `HFChat`."""

    def make(name: str, /, *, config: dict[str, Any] | None = None, **options: Any) -> HFChat:
        from trifocal.chat.decoding import Decoding

        fields: dict[str, Any] = {
            "decoding": Decoding(max_new_tokens=6, repetition_penalty=1.0, no_repeat_ngram=0),
            "question_room": 64,
            "chunk": 4,
            **(config or {}),
        }
        return HFChat(
            options.pop("model", None) or make_model(name),
            tokenizer=make_tokenizer(name),
            name=options.pop("name", name),
            settings=SETTINGS.get(name),
            config=HFChatConfig(**fields),
            **options,
        )

    return make


@pytest.fixture(scope="session")
def frames() -> Frames:
    """Eight frames of 48 × 40: three scenes, each of a few coloured squares."""
    draw = np.random.default_rng(0)
    scenes = draw.integers(0, 256, (3, 6, 5, 3), dtype=np.uint8).repeat(8, 1).repeat(8, 2)
    images = scenes[[0, 0, 0, 1, 1, 2, 2, 2]]
    return Frames(images=images, times_s=np.arange(8, dtype=np.float64))


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight seconds at 4 frames a second, 64 × 48, three scenes."""
    draw = np.random.default_rng(1)
    scenes = draw.integers(0, 256, (3, 6, 8, 3), dtype=np.uint8).repeat(8, 1).repeat(8, 2)
    path = tmp_path_factory.mktemp("clips") / "scenes.mp4"
    write_mp4(path, scenes[np.repeat([0, 1, 2], [12, 8, 12])], fps=4.0)
    return path
