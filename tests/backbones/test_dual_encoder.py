"""Tiny random CLIP, SigLIP and SigLIP 2 checkpoints, saved and loaded as users' ones are."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from trifocal.backbones import DualEncoder, load_dual_encoder
from trifocal.errors import InvalidInput, ModelError, WeightsCorrupt, WeightsUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    Make = Callable[[str], Path]

TYPES = ("clip", "siglip", "siglip2")
TEXT = {"hidden_size": 32, "intermediate_size": 37, "num_hidden_layers": 2, "num_attention_heads": 4}
SENTENCES = ["a cat", "A Photo of a dog and a cat", "", "people ride bicycles past parked cars " * 20]


def make_tokenizer() -> Any:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["a photo of a cat and a dog"] * 3, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>")


def make_model(model_type: str, vocabulary: int) -> Any:
    torch.manual_seed(7)
    text = {**TEXT, "vocab_size": vocabulary, "max_position_embeddings": 16, "eos_token_id": 2, "bos_token_id": 1}
    vision = {**TEXT, "image_size": 32, "patch_size": 8}
    match model_type:
        case "clip":
            config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)
            return transformers.CLIPModel(config)
        case "siglip":
            return transformers.SiglipModel(transformers.SiglipConfig(text_config=text, vision_config=vision))
        case _:
            vision = {**TEXT, "patch_size": 8, "num_patches": 16}
            return transformers.Siglip2Model(transformers.Siglip2Config(text_config=text, vision_config=vision))


def make_processor(model_type: str) -> Any:
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
    from transformers.models.siglip2.image_processing_pil_siglip2 import Siglip2ImageProcessorPil

    match model_type:
        case "clip":
            return CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
        case "siglip":
            return SiglipImageProcessorPil(size={"height": 32, "width": 32})
        case _:
            return Siglip2ImageProcessorPil(patch_size=8, max_num_patches=16)


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Save a checkpoint of this model type, with the files that published ones have."""

    def save(model_type: str) -> Path:
        folder = tmp_path_factory.mktemp(model_type)
        tokenizer = make_tokenizer()
        with torch.random.fork_rng(devices=[]):
            make_model(model_type, len(tokenizer)).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        make_processor(model_type).save_pretrained(folder)
        return folder

    return save


@pytest.fixture(scope="module", params=TYPES)
def folder(request: pytest.FixtureRequest, make: Make) -> Path:
    return make(request.param)


@pytest.fixture(scope="module")
def encoder(folder: Path) -> DualEncoder:
    return load_dual_encoder(folder)


def noise(count: int, height: int = 40, width: int = 56, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def test_shapes_types_and_length(encoder: DualEncoder) -> None:
    for vectors, count in ((encoder.encode_frames(noise(3)), 3), (encoder.encode_text(SENTENCES), 4)):
        assert vectors.shape == (count, encoder.dim)
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert encoder.frame_size == (32, 32)
    assert encoder.encode_frames(noise(0)).shape == (0, encoder.dim)
    assert encoder.encode_text([]).shape == (0, encoder.dim)


def test_a_batch_equals_its_parts(encoder: DualEncoder) -> None:
    frames = noise(5)
    alone = np.concatenate([encoder.encode_frames(frames[i : i + 1]) for i in range(5)])
    np.testing.assert_allclose(encoder.encode_frames(frames, batch_size=2), alone, atol=1e-5)
    alone = np.concatenate([encoder.encode_text([sentence]) for sentence in SENTENCES])
    np.testing.assert_allclose(encoder.encode_text(SENTENCES, batch_size=3), alone, atol=1e-5)
    assert np.abs(alone[0] - alone[1]).max() > 1e-3
    assert np.array_equal(encoder.encode_frames(frames), encoder.encode_frames(frames))


@pytest.mark.parametrize("size", [(1, 9), (3, 3), (32, 32), (7, 90)])
def test_odd_frame_sizes(size: tuple[int, int], encoder: DualEncoder) -> None:
    assert np.isfinite(encoder.encode_frames(noise(2, *size))).all()


def test_clip_agrees_with_its_definition(make: Make) -> None:
    """Against the steps written out with Pillow and the bare model."""
    folder = make("clip")
    frame = noise(1, 64, 64)[0]
    small = np.asarray(Image.fromarray(frame).resize((32, 32), Image.Resampling.BICUBIC), dtype=np.float32) / 255
    mean, deviation = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
    pixels = torch.from_numpy((small - np.array(mean)) / np.array(deviation)).permute(2, 0, 1)[None].float()
    model = transformers.CLIPModel.from_pretrained(folder).eval()
    tokens = make_tokenizer()(["a cat"], return_tensors="pt")
    with torch.no_grad():
        image = model.visual_projection(model.vision_model(pixels).pooler_output)
        text = model.text_projection(model.text_model(**tokens).pooler_output)
    encoder = load_dual_encoder(folder)
    for vectors, expected in ((encoder.encode_frames(frame[None]), image), (encoder.encode_text(["a cat"]), text)):
        np.testing.assert_allclose(vectors, torch.nn.functional.normalize(expected, dim=-1), atol=1e-5)


@pytest.mark.parametrize(("model_type", "same"), [("clip", False), ("siglip", True), ("siglip2", True)])
def test_case_counts_only_where_training_kept_it(model_type: str, same: bool, make: Make) -> None:
    low, high = load_dual_encoder(make(model_type)).encode_text(["a cat", "A CAT"])
    assert np.array_equal(low, high) is same


def test_id_follows_the_files(make: Make) -> None:
    folder = make("clip")
    first = load_dual_encoder(folder).id
    assert first.startswith("sha256:")
    assert load_dual_encoder(str(folder)).id == first
    state = load_file(folder / "model.safetensors")
    state["logit_scale"] += 1
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    assert load_dual_encoder(folder).id != first


def test_id_of_a_repository_is_its_commit(make: Make, tmp_path: Path) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "hub" / "models--org--tiny"
    (repository / "snapshots").mkdir(parents=True)
    make("clip").rename(repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    assert load_dual_encoder("org/tiny", offline=True, cache=tmp_path).id == f"hf:org/tiny@{commit}"


def test_an_unsupported_type_lists_the_supported_ones(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ModelError, match="'bert'") as caught:
        load_dual_encoder(tmp_path)
    assert "clip, siglip, siglip2" in caught.value.remedy


@pytest.mark.parametrize("missing", ["config.json", "preprocessor_config.json", "model.safetensors", "tokenizer.json"])
def test_missing_files_are_said(missing: str, make: Make) -> None:
    folder = make("clip")
    (folder / missing).unlink()
    with pytest.raises(ModelError) as caught:
        load_dual_encoder(folder)
    assert caught.value.remedy


def test_missing_weights_are_said(make: Make) -> None:
    folder = make("clip")
    state = load_file(folder / "model.safetensors")
    del state["visual_projection.weight"]
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WeightsCorrupt, match=r"visual_projection\.weight"):
        load_dual_encoder(folder)


def test_torch_checkpoints_are_not_loaded(make: Make) -> None:
    folder = make("clip")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError):
        load_dual_encoder(folder)


def test_a_missing_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(WeightsUnavailable):
        load_dual_encoder(tmp_path / "absent")


@pytest.mark.parametrize(
    "frames", [np.zeros((2, 8, 8), np.uint8), np.zeros((1, 8, 8, 3), np.float32), np.zeros((1, 0, 8, 3), np.uint8)]
)
def test_refuses_other_frames(frames: Any, encoder: DualEncoder) -> None:
    with pytest.raises(InvalidInput, match=r"\(T, H, W, 3\)"):
        encoder.encode_frames(frames)


def test_refuses_other_text_and_batches(encoder: DualEncoder) -> None:
    with pytest.raises(InvalidInput, match="list of strings"):
        encoder.encode_text("a cat")
    with pytest.raises(InvalidInput, match="batch_size is 0"):
        encoder.encode_text(["a"], batch_size=0)
    with pytest.raises(InvalidInput, match="batch_size is 0"):
        encoder.encode_frames(noise(1), batch_size=0)


def test_loading_is_quiet_and_leaves_settings_alone(make: Make, capfd: pytest.CaptureFixture[str]) -> None:
    from transformers.utils import logging

    folder = make("siglip")
    capfd.readouterr()
    before = (logging.is_progress_bar_enabled(), logging.get_verbosity())
    random_state = torch.get_rng_state()
    load_dual_encoder(folder)
    assert capfd.readouterr() == ("", "")
    assert (logging.is_progress_bar_enabled(), logging.get_verbosity()) == before
    assert torch.equal(torch.get_rng_state(), random_state)


def test_bfloat16_is_close(folder: Path, encoder: DualEncoder) -> None:
    half = load_dual_encoder(folder, dtype=torch.bfloat16)
    vectors = half.encode_frames(noise(2))
    assert vectors.dtype == np.float32
    assert np.all((vectors * encoder.encode_frames(noise(2))).sum(axis=1) > 0.99)
