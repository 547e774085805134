"""A Hugging Face dual encoder by name, here a tiny CLIP with random weights in a folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from trifocal.errors import InvalidInput, ModelError
from trifocal.retrieval import DualFrameTextEncoder, FrameTextEncoder, load_encoder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, PreTrainedTokenizerFast

    path = tmp_path_factory.mktemp("models") / "tiny-clip"
    tokens = Tokenizer(models.BPE())
    tokens.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokens.decoder = decoders.ByteLevel()
    special = ["<|startoftext|>", "<|endoftext|>"]
    trainer = trainers.BpeTrainer(
        special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), vocab_size=300
    )
    tokens.train_from_iterator(["a photo of a dog"], trainer)
    start, end = (tokens.token_to_id(token) for token in special)
    tokens.post_processor = processors.TemplateProcessing(
        single=f"{special[0]} $A {special[1]}", special_tokens=[(special[0], start), (special[1], end)]
    )
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = CLIPConfig(
        text_config={
            **shape,
            "vocab_size": tokens.get_vocab_size(),
            "bos_token_id": start,
            "eos_token_id": end,
            "pad_token_id": end,
        },
        vision_config={**shape, "image_size": 32, "patch_size": 16},
        projection_dim=24,
    )
    torch.manual_seed(0)
    CLIPModel(config).save_pretrained(path)
    PreTrainedTokenizerFast(
        tokenizer_object=tokens, bos_token=special[0], eos_token=special[1], pad_token=special[1]
    ).save_pretrained(path)
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(path)
    return path


def test_a_folder_is_an_encoder(folder: Path) -> None:
    encoder = load_encoder(str(folder))
    assert isinstance(encoder, DualFrameTextEncoder)
    assert isinstance(encoder, FrameTextEncoder)
    assert (encoder.dim, encoder.frame_size) == (24, (32, 32))
    frames = np.random.default_rng(0).integers(0, 256, size=(3, 40, 64, 3), dtype=np.uint8)
    vectors = encoder.encode_frames(frames)
    assert vectors.dtype == np.float32
    assert vectors.shape == (3, 24)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert np.allclose(vectors, load_encoder(str(folder), batch_size=1).encode_frames(frames), atol=1e-5)
    queries = encoder.encode_query(["a dog", "two dogs in a photo"])
    assert queries.shape == (2, 24)
    assert np.allclose(queries[:1], encoder.encode_query(["  a dog "]), atol=1e-5)
    assert encoder.encode_frames(frames[:0]).shape == encoder.encode_query([]).shape == (0, 24)


def test_the_wording_of_queries_is_part_of_the_id(folder: Path) -> None:
    plain, worded = load_encoder(str(folder)), load_encoder(str(folder), query_template="a photo of {query}")
    assert plain.id == load_encoder(str(folder)).id != worded.id
    assert np.allclose(worded.encode_query(["a dog"]), plain.encode_query(["a photo of a dog"]), atol=1e-6)


def test_what_cannot_be_encoded_is_refused(folder: Path) -> None:
    encoder = load_encoder(str(folder))
    with pytest.raises(InvalidInput):
        encoder.encode_frames(np.zeros((1, 8, 8), dtype=np.uint8))
    with pytest.raises(InvalidInput):
        encoder.encode_query("a dog")
    for options in ({"query_template": "a photo"}, {"batch_size": 0}, {"fps": 1}):
        with pytest.raises(InvalidInput):
            load_encoder(str(folder), **options)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        load_encoder(str(tmp_path))
