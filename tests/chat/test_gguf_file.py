from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from trifocal.chat.gguf_file import read_gguf
from trifocal.errors import ModelError, WeightsCorrupt

MakeGguf = Callable[..., dict[str, NDArray[np.float32]]]
HEADS, WIDTH = 2, 64


def test_tensors_come_out_under_the_names_of_transformers(tmp_path: Path, make_gguf: MakeGguf) -> None:
    stored = make_gguf(tmp_path / "m.gguf")
    found = read_gguf(tmp_path / "m.gguf").tensors
    assert len(found) == len(stored)
    np.testing.assert_array_equal(found["model.layers.1.mlp.up_proj.weight"], stored["blk.1.ffn_up.weight"])
    np.testing.assert_array_equal(found["model.norm.weight"], stored["output_norm.weight"])
    # The rotary halves of each head, interleaved in the file, stand one after the other.
    query = stored["blk.0.attn_q.weight"]
    half = WIDTH // HEADS // 2
    for head in range(HEADS):
        rows = query[head * 2 * half : (head + 1) * 2 * half]
        expected = np.concatenate([rows[0::2], rows[1::2]])
        got = found["model.layers.0.self_attn.q_proj.weight"][head * 2 * half : (head + 1) * 2 * half]
        np.testing.assert_array_equal(got, expected)


def test_they_are_those_that_transformers_reads(tmp_path: Path, make_gguf: MakeGguf) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    make_gguf(tmp_path / "m.gguf")
    found = read_gguf(tmp_path / "m.gguf")
    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig(**found.config))
    theirs = load_gguf_checkpoint(str(tmp_path / "m.gguf"), return_tensors=True, model_to_load=model)
    assert set(theirs["tensors"]) == set(found.tensors)
    for name, tensor in theirs["tensors"].items():
        assert torch.equal(tensor, found.tensors[name]), name
    for name, value in theirs["config"].items():
        if name in found.config:
            assert value == pytest.approx(found.config[name]), name


def test_the_tokenizer_splits_digits_and_keeps_control_tokens(tmp_path: Path, make_gguf: MakeGguf) -> None:
    make_gguf(tmp_path / "m.gguf")
    found = read_gguf(tmp_path / "m.gguf")
    assert found.tokenizer.encode("ab12 <|im_end|>").tokens == ["ab", "1", "2", "Ġ", "<|im_end|>"]
    assert found.tokenizer.decode(found.tokenizer.encode("ab 12").ids) == "ab 12"
    assert found.chat_template == "{{ messages }}"
    assert found.config["tie_word_embeddings"] is True


@pytest.mark.parametrize("changed", [{"model": "llama"}, {"pre": "default"}, {"architecture": "qwen2"}])
def test_another_kind_is_refused_by_name(tmp_path: Path, make_gguf: MakeGguf, changed: dict[str, str]) -> None:
    make_gguf(tmp_path / "m.gguf", **changed)
    with pytest.raises(ModelError, match=next(iter(changed.values()))):
        read_gguf(tmp_path / "m.gguf")


def test_a_missing_part_is_named(tmp_path: Path, make_gguf: MakeGguf) -> None:
    make_gguf(tmp_path / "m.gguf", without="block_count")
    with pytest.raises(WeightsCorrupt, match=r"llama\.block_count"):
        read_gguf(tmp_path / "m.gguf")


@pytest.mark.parametrize("content", [b"", b"GGUF", b"text that is no model" * 10, b"\0" * 100])
def test_what_is_no_gguf_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.gguf").write_bytes(content)
    with pytest.raises(WeightsCorrupt, match=r"m\.gguf"):
        read_gguf(tmp_path / "m.gguf")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_truncated_file_is_refused(tmp_path: Path, make_gguf: MakeGguf, share: float) -> None:
    make_gguf(tmp_path / "whole.gguf")
    whole = (tmp_path / "whole.gguf").read_bytes()
    (tmp_path / "m.gguf").write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(WeightsCorrupt):
        read_gguf(tmp_path / "m.gguf")
