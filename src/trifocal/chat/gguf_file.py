"""Read a llama-shaped language model from a GGUF file: configuration, tensors, tokenizer and chat template.

Transformers has a reader of its own, but its `from_pretrained(gguf_file=)` needs accelerate, takes 10 s for 135 M
parameters, and gives the tokenizer without the splitting of digits that `tokenizer.ggml.pre = smollm` stands for. The
`gguf` package does the decoding of the blocks here as it does there; a test holds the tensors of both readers equal.
Source of the layout: the GGUF specification, and the Hugging Face llama names.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from trifocal.errors import ModelError, WeightsCorrupt

if TYPE_CHECKING:
    from gguf import GGUFReader
    from tokenizers import Tokenizer

__all__ = ["GgufModel", "read_gguf"]

_CONTROL_TOKEN = 3
_TOP_NAMES = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


@dataclass(frozen=True, slots=True)
class GgufModel:
    """What a GGUF file holds, in the terms of transformers.

    Args:
        config: keyword arguments of `transformers.LlamaConfig`.
        tensors: name → float32 tensor, under the names of `transformers.LlamaForCausalLM`.
        tokenizer: ready to use; adds nothing to what it is given.
        chat_template: a Jinja template over `messages` and `add_generation_prompt`.
    """

    config: dict[str, Any]
    tensors: dict[str, torch.Tensor]
    tokenizer: Tokenizer
    chat_template: str


def read_gguf(path: Path) -> GgufModel:
    """Read and dequantise a GGUF file.

    Args:
        path: a GGUF file of the architecture "llama" with a "gpt2" tokenizer of kind "smollm".

    Raises:
        WeightsCorrupt: it is not a GGUF file, or a part is missing.
        ModelError: it holds another architecture or another kind of tokenizer.
    """
    # Reading GGUF is needed once per machine; later uses find the converted files.
    from gguf import GGUFReader

    try:
        reader = GGUFReader(path)
    except (ValueError, OSError, IndexError) as error:
        raise WeightsCorrupt(
            f"{path.name} is not a readable GGUF file ({error})", remedy="Fetch the file again."
        ) from error
    for key, supported in {
        "general.architecture": "llama",
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
    }.items():
        if (found := _value(reader, key)) != supported:
            raise ModelError(
                f"{path.name} has {key} = {found!r}, and only {supported!r} can be read",
                remedy="Use the default language model.",
            )
    config = _config(reader)
    return GgufModel(
        config=config,
        tensors=_tensors(reader, heads=config["num_attention_heads"], kv_heads=config["num_key_value_heads"]),
        tokenizer=_tokenizer(reader),
        chat_template=_value(reader, "tokenizer.chat_template"),
    )


def _value(reader: GGUFReader, key: str) -> Any:
    field = reader.get_field(key)
    if field is None:
        raise WeightsCorrupt(f"The GGUF file has no {key!r}", remedy="Fetch the file again.")
    return field.contents()


def _config(reader: GGUFReader) -> dict[str, Any]:
    def of(key: str) -> Any:
        return _value(reader, f"llama.{key}")

    return {
        "vocab_size": of("vocab_size"),
        "hidden_size": of("embedding_length"),
        "intermediate_size": of("feed_forward_length"),
        "num_hidden_layers": of("block_count"),
        "num_attention_heads": of("attention.head_count"),
        "num_key_value_heads": of("attention.head_count_kv"),
        "max_position_embeddings": of("context_length"),
        "rms_norm_eps": of("attention.layer_norm_rms_epsilon"),
        "rope_parameters": {"rope_type": "default", "rope_theta": of("rope.freq_base")},
        # A file without an output matrix shares it with the input embeddings.
        "tie_word_embeddings": all(tensor.name != "output.weight" for tensor in reader.tensors),
        "bos_token_id": _value(reader, "tokenizer.ggml.bos_token_id"),
        "eos_token_id": _value(reader, "tokenizer.ggml.eos_token_id"),
        "pad_token_id": _value(reader, "tokenizer.ggml.padding_token_id"),
    }


def _tensors(reader: GGUFReader, *, heads: int, kv_heads: int) -> dict[str, torch.Tensor]:
    from gguf import dequantize

    tensors = {}
    for stored in reader.tensors:
        # The file is mapped read-only, and unquantised tensors come back as views of it.
        tensor = torch.from_numpy(dequantize(stored.data, stored.tensor_type).copy())
        name = stored.name.removesuffix(".weight")
        if not name.startswith("blk."):
            tensors[f"{_TOP_NAMES[name]}.weight"] = tensor
            continue
        _, layer, part = name.split(".")
        if part in ("attn_q", "attn_k"):
            tensor = _unpermute(tensor, heads=heads if part == "attn_q" else kv_heads)
        tensors[f"model.layers.{layer}.{_LAYER_NAMES[part]}.weight"] = tensor
    return tensors


def _unpermute(weight: torch.Tensor, *, heads: int) -> torch.Tensor:
    """From the interleaved rotary order of llama.cpp back to the half-split order of transformers.

    Args:
        weight: `(heads · head width, C)`.
        heads: how many heads share the rows.
    """
    split = weight.reshape(heads, -1, 2, weight.shape[1])  # (heads, half width, 2, C)
    return split.transpose(1, 2).reshape(weight.shape)  # (heads · head width, C)


def _tokenizer(reader: GGUFReader) -> Tokenizer:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    tokens: list[str] = _value(reader, "tokenizer.ggml.tokens")
    merges: list[str] = _value(reader, "tokenizer.ggml.merges")
    kinds: list[int] = _value(reader, "tokenizer.ggml.token_type")
    tokenizer = Tokenizer(
        models.BPE(
            vocab={token: index for index, token in enumerate(tokens)},
            merges=[(left, right) for left, _, right in (merge.partition(" ") for merge in merges)],
        )
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    control = [token for token, kind in zip(tokens, kinds, strict=True) if kind == _CONTROL_TOKEN]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in control])
    return tokenizer
