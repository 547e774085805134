"""A tiny random language model with a tokenizer made on the spot, and a classifier that sees colours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM

from trifocal.chat.decoding import Decoding
from trifocal.chat.language_model import LanguageModel
from trifocal.chat.prompt import PromptStyle
from trifocal.chat.small_chat import SmallChat, SmallChatConfig
from trifocal.video import Frames

NAMES = ("red fox", "green frog", "blue whale", "lawn")
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CONTROL = ("<|im_start|>", "<|im_end|>")


HEADS, KV_HEADS, WIDTH, LAYERS = 2, 1, 64, 2
GGUF_TOKENS = ["<|endoftext|>", "<|im_end|>", "a", "b", "Ġ", "ab", "1", "2", "12"]


class ColourNetwork:
    """A classifier of 2×2 cells whose first three classes are how red, green and blue a cell is."""

    frame_size = (8, 8)

    def __init__(self) -> None:
        self.batches: list[int] = []

    def preprocess(self, frames: NDArray[np.uint8]) -> torch.Tensor:
        self.batches.append(len(frames))
        return torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255  # (T, 3, H, W)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.adaptive_avg_pool2d(images, 2)  # (T, 3, 2, 2)

    def classify_cells(self, feature_map: torch.Tensor) -> torch.Tensor:
        return 8 * torch.cat([feature_map, torch.zeros_like(feature_map[:, :1])], dim=1)  # (T, 4, 2, 2)


@pytest.fixture(scope="package", autouse=True)
def one_thread() -> Iterator[None]:
    """On a busy machine small networks are slower, not faster, with more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=[AddedToken(token, special=True) for token in CONTROL],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator([f"I see a {name} in the video." for name in NAMES], trainer)
    return made


@pytest.fixture(scope="session")
def language_model(tokenizer: Tokenizer) -> LanguageModel:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
        initializer_range=0.4,
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config).eval().requires_grad_(False)
    return LanguageModel(model, tokenizer=tokenizer, chat_template=TEMPLATE, name="tiny")


@pytest.fixture(scope="session")
def make_chat(language_model: LanguageModel) -> Callable[..., SmallChat]:
    def make(**fields: object) -> SmallChat:
        style = PromptStyle(system="", examples=())  # letters are tokens here, and examples would fill the context
        settings = {"style": style, "frames": 4, "video_names": 2, "decoding": Decoding(max_new_tokens=12), **fields}
        return SmallChat(
            language_model,
            network=ColourNetwork(),
            class_names=NAMES,
            config=SmallChatConfig(**settings),  # type: ignore[arg-type]  # a test gives the right ones
        )

    return make


@pytest.fixture(scope="session")
def colours() -> Frames:
    """Six frames: red, red, green, green, blue, blue, a second apart."""
    rows = np.repeat(np.eye(3), 2, axis=0) * 255  # (6, 3)
    images = np.broadcast_to(rows[:, None, None, :], (6, 8, 8, 3)).astype(np.uint8)
    return Frames(images=images, times_s=np.arange(6, dtype=np.float64) + 0.5)


def write_gguf(path: Path, *, without: str = "", seed: int = 0, **changed: str) -> dict[str, NDArray[np.float32]]:
    """A small llama; returns its tensors in the order that the file keeps them in."""
    random = np.random.default_rng(seed)
    values = {"architecture": "llama", "model": "gpt2", "pre": "smollm", **changed}
    writer = gguf.GGUFWriter(path, values["architecture"])
    numbers = {
        "vocab_size": len(GGUF_TOKENS), "context_length": 128, "embedding_length": WIDTH, "block_count": LAYERS,
        "feed_forward_length": 96, "attention.head_count": HEADS, "attention.head_count_kv": KV_HEADS,
    }  # fmt: skip
    for name, number in numbers.items():
        if name != without:
            writer.add_uint32(f"llama.{name}", number)
    writer.add_float32("llama.attention.layer_norm_rms_epsilon", 1e-5)
    writer.add_float32("llama.rope.freq_base", 10_000.0)
    writer.add_tokenizer_model(values["model"])
    writer.add_tokenizer_pre(values["pre"])
    writer.add_token_list(GGUF_TOKENS)
    writer.add_token_types([3, 3, *[1] * (len(GGUF_TOKENS) - 2)])
    writer.add_token_merges(["a b", "1 2"])
    for name in ("bos", "eos", "padding"):
        writer.add_uint32(f"tokenizer.ggml.{name}_token_id", 1)
    writer.add_chat_template("{{ messages }}")
    shapes = {"token_embd": (len(GGUF_TOKENS), WIDTH), "output_norm": (WIDTH,)}
    for layer in range(LAYERS):
        parts = {
            "attn_norm": (WIDTH,), "ffn_norm": (WIDTH,), "attn_q": (WIDTH, WIDTH), "attn_k": (WIDTH // 2, WIDTH),
            "attn_v": (WIDTH // 2, WIDTH), "attn_output": (WIDTH, WIDTH), "ffn_gate": (96, WIDTH),
            "ffn_up": (96, WIDTH), "ffn_down": (WIDTH, 96),
        }  # fmt: skip
        shapes.update({f"blk.{layer}.{part}": shape for part, shape in parts.items()})
    tensors = {f"{name}.weight": random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    for name, tensor in tensors.items():
        if len(tensor.shape) == 2 and "embd" not in name:
            kind = gguf.GGMLQuantizationType.Q8_0
            quantised = gguf.quantize(tensor, kind)
            tensors[name] = gguf.dequantize(quantised, kind)
            writer.add_tensor(name, quantised, raw_dtype=kind)
        else:
            writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return tensors


@pytest.fixture(scope="session")
def make_gguf() -> Callable[..., dict[str, NDArray[np.float32]]]:
    return write_gguf
