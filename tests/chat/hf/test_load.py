"""From a folder to answers, and what a model's files are known by."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tests.chat.hf.conftest import CONTROL, build
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from trifocal.chat import load_chat
from trifocal.chat.families import llava_video
from trifocal.chat.hf import load as loading
from trifocal.chat.hf.chat import HFChat
from trifocal.chat.hf.config import HFChatConfig
from trifocal.chat.hf.load import fingerprint, load_hf_model
from trifocal.chat.hooks.attach import text_model_of
from trifocal.chat.prefix import PrefixStore
from trifocal.errors import InvalidInput, MissingExtra, ModelError, WeightsUnavailable
from trifocal.video import Frames


@pytest.fixture(scope="module")
def folder(
    tmp_path_factory: pytest.TempPathFactory,
    make_model: Callable[[str], Any],
    make_tokenizer: Callable[[str], PreTrainedTokenizerFast],
) -> Path:
    """A tiny Qwen2-VL as people keep models."""
    path = tmp_path_factory.mktemp("model")
    make_model("qwen2_vl").save_pretrained(path)
    make_tokenizer("qwen2_vl").save_pretrained(path)
    settings = {"size": {"shortest_edge": 1024, "longest_edge": 1024}}
    (path / "preprocessor_config.json").write_text(json.dumps(settings))
    return path


def test_a_folder_answers_as_the_model_in_memory(
    folder: Path, make_chat: Callable[..., HFChat], frames: Frames, tmp_path: Path
) -> None:
    config = HFChatConfig(decoding=make_chat("qwen2_vl").config.decoding)
    merging: dict[str, Any] = {"method": "sttm", "budget": 0.5, "layer": 2}
    loaded = load_chat(str(folder), config=config, store=PrefixStore(folder=tmp_path), **merging)
    expected = make_chat("qwen2_vl", **merging).ask(frames, "What is it?")
    answer = loaded.ask(frames, "What is it?")
    assert (answer.text, answer.evidence) == (expected.text, expected.evidence)
    assert answer.model == str(folder)
    again = load_chat(folder, config=config, store=PrefixStore(folder=tmp_path), **merging)
    assert isinstance(again, HFChat)
    assert again.ask(frames, "What is it?").tokens.cached > 0
    assert again.store.stats.from_disk == 1


def test_the_number_format_can_be_chosen(folder: Path, frames: Frames) -> None:
    loaded = load_chat(folder, dtype="bfloat16")
    assert isinstance(loaded, HFChat)
    assert loaded.engine.dtype == torch.bfloat16
    assert loaded.ask(frames, "What is it?").tokens.answer > 0


def test_one_model_serves_one_setting_of_merging_after_another(folder: Path, frames: Frames) -> None:
    model = load_hf_model(folder)
    kept = {}
    for budget in (0.5, 0.25):
        chat = model.chat(method="sttm", budget=budget, layer=2)
        kept[budget] = chat.ask(frames, "What is it?").tokens.kept
        with pytest.raises(ModelError, match="accelerated already"):
            model.chat(method="tome", budget=0.5)
        chat.close()
    assert kept == {0.5: 24, 0.25: 12}  # of 48
    plain = model.chat()
    assert plain.engine.model is model.model
    assert plain.ask(frames, "What is it?").text == load_chat(folder).ask(frames, "What is it?").text


def test_positions_and_context_can_be_set(folder: Path, frames: Frames) -> None:
    plain, scaled, wide = (load_hf_model(folder, **given) for given in ({}, {"rope_factor": 2.0}, {"context": 99}))
    frequencies = [each.model.model.language_model.rotary_emb.inv_freq for each in (plain, scaled)]
    torch.testing.assert_close(frequencies[1], frequencies[0] / 2)
    assert [each.chat().engine.context for each in (plain, scaled, wide)] == [512, 1024, 99]
    assert len({each.chat().key(frames).digest for each in (plain, scaled, wide)}) == 3
    with pytest.raises(InvalidInput, match=r"rope_factor is 0\.5"):
        load_hf_model(folder, rope_factor=0.5)
    with pytest.raises(InvalidInput, match="context is 0"):
        load_hf_model(folder, context=0)


def test_positions_are_not_scaled_twice(folder: Path, tmp_path: Path) -> None:
    other = copied(folder, tmp_path / "scaled")
    values = json.loads((other / "config.json").read_text())
    values["text_config"]["rope_parameters"] |= {"rope_type": "linear", "factor": 2.0}
    (other / "config.json").write_text(json.dumps(values))
    with pytest.raises(ModelError, match="'linear' and not scaled a second time"):
        load_hf_model(other, rope_factor=2.0)


def test_layers_can_be_spread(folder: Path, frames: Frames, monkeypatch: pytest.MonkeyPatch) -> None:
    spreading = pytest.importorskip("accelerate")
    spread = load_chat(folder, device_map={"": "cpu"}, method="sttm", budget=0.5)
    assert isinstance(spread, HFChat)
    # Every module's forward is wrapped, as over several devices.
    spreading.dispatch_model(spread.engine.model, {"": "cpu"}, force_hooks=True)
    expected = load_chat(folder, method="sttm", budget=0.5).ask(frames, "What is it?")
    answer = spread.ask(frames, "What is it?")
    assert (answer.text, answer.evidence) == (expected.text, expected.evidence)
    monkeypatch.setattr(loading, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match="device_map needs the package accelerate"):
        load_hf_model(folder, device_map="auto")


def test_keys_and_values_are_kept_where_each_layer_is(folder: Path) -> None:
    spreading = pytest.importorskip("accelerate")
    chat = load_chat(folder)
    assert isinstance(chat, HFChat)
    layers = text_model_of(chat.engine.model).layers
    assert chat.engine.layer_devices == (torch.device("cpu"),) * 4
    assert isinstance(layers, torch.nn.ModuleList)
    layers[2].to("meta")
    # What is kept elsewhere until it is needed computes where its hook says.
    layers[3].to("meta")
    spreading.hooks.add_hook_to_module(layers[3], spreading.hooks.AlignDevicesHook(execution_device="cpu"))
    assert [place.type for place in chat.engine.layer_devices] == ["cpu", "cpu", "meta", "cpu"]


def test_the_tokenizer_brings_its_template_and_a_family_its_own(folder: Path, tmp_path: Path) -> None:
    other = copied(folder, tmp_path / "template")
    written = (
        "{% for m in messages %}<|vision_start|><|video_pad|><|vision_end|>{{ m['content'][1]['text'] }}{% endfor %}"
    )
    (other / "chat_template.jinja").write_text(written)
    model = load_hf_model(other)
    assert model.tokenizer.chat_template == written
    assert model.chat_template is None
    assert model.chat().prompt.question("Why?")[1] == []


def test_a_number_format_that_is_none(folder: Path) -> None:
    with pytest.raises(InvalidInput, match="dtype is 'half'"):
        load_hf_model(folder, dtype="half")


def copied(folder: Path, to: Path) -> Path:
    to.mkdir()
    for path in folder.iterdir():
        (to / path.name).write_bytes(path.read_bytes())
    return to


def test_security_11_a_changed_file_is_another_model(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = fingerprint(folder)
    assert first == fingerprint(copied(folder, tmp_path / "copy"))
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        other = copied(folder, tmp_path / f"other-{name}")
        contents = bytearray((other / name).read_bytes())
        contents[len(contents) // 2] ^= 1
        (other / name).write_bytes(contents)
        assert fingerprint(other) != first, name
    # A file too large to hash whole is known by stretches of it, its size and its time.
    monkeypatch.setattr(loading, "_SAMPLE", 64)
    monkeypatch.setattr(loading, "_SAMPLES", 4)
    sampled = fingerprint(folder)
    assert sampled != first
    file = folder / "model.safetensors"
    times = file.stat()
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns + 10**9))
    assert fingerprint(folder) != sampled


def test_a_link_of_the_hub_is_known_by_its_name(tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshot"
    blobs.mkdir()
    snapshot.mkdir()
    prints = []
    for name in ("a" * 64, "b" * 64):
        (blobs / name).write_bytes(b"the same")
        (snapshot / "model.safetensors").unlink(missing_ok=True)
        (snapshot / "model.safetensors").symlink_to(blobs / name)
        prints.append(fingerprint(snapshot))
    assert prints[0] != prints[1]


def test_folders_that_hold_no_such_model(folder: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ModelError, match=r"no config\.json"):
        load_chat(empty)
    (empty / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(ModelError, match="is a llama model"):
        load_chat(empty)
    (empty / "config.json").write_text('{"model_type": "unheard-of"}')
    with pytest.raises(ModelError, match="not one that transformers knows"):
        load_chat(empty)
    weightless = copied(folder, tmp_path / "weightless")
    (weightless / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_chat(weightless)
    with pytest.raises(WeightsUnavailable):
        load_chat(tmp_path / "nowhere")


def test_options_that_do_not_exist(folder: Path) -> None:
    with pytest.raises(InvalidInput, match="no option bugdet"):
        load_chat(folder, method="sttm", bugdet=0.3)
    with pytest.raises(InvalidInput, match="budget given and no method"):
        load_chat(folder, budget=0.3)


def test_llava_video_in_its_published_layout(
    make_model: Callable[[str], Any], frames: Frames, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tiny LLaVA-OneVision under LLaVA-Video's names answers as itself, under the same words."""
    own = ["<|endoftext|>", *(token for token in CONTROL if token not in {"<image>", "<video>"})]
    small = Tokenizer(models.BPE())
    small.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    small.decoder = decoders.ByteLevel()
    special = [AddedToken(token, special=True) for token in own]
    letters = pre_tokenizers.ByteLevel.alphabet()
    small.train_from_iterator(
        ["What is it?"], trainers.BpeTrainer(vocab_size=280, special_tokens=special, initial_alphabet=letters)
    )
    words = small.get_vocab_size()
    torch.manual_seed(0)
    source = build("llava_onevision", words + 2, {token: small.token_to_id(token) or 0 for token in CONTROL})
    text = source.config.text_config
    names = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
    published = {
        **{name: getattr(text, name) for name in (*names, "vocab_size", "max_position_embeddings", "eos_token_id")},
        "model_type": "llava_qwen", "mm_projector_type": "mlp2x_gelu", "mm_spatial_pool_mode": "bilinear",
        "mm_spatial_pool_stride": 2, "rope_theta": 10000.0, "image_grid_pinpoints": [[28, 28]],
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(published))
    tensors = {}
    for key, value in source.state_dict().items():
        key = key.replace("model.language_model.", "model.").replace("vision_tower.", "vision_tower.vision_tower.", 1)
        key = key.replace("multi_modal_projector.linear_1", "mm_projector.0")
        tensors[key.replace("multi_modal_projector.linear_2", "mm_projector.2")] = value.contiguous()
    save_file(tensors, tmp_path / "model.safetensors")
    PreTrainedTokenizerFast(tokenizer_object=small).save_pretrained(tmp_path)
    real = llava_video.load_llava_video
    monkeypatch.setattr(llava_video, "load_llava_video", partial(real, vision_heads=2))
    chat = load_chat(tmp_path, method="sttm", budget=0.5)
    assert isinstance(chat, HFChat)
    answer = chat.ask(frames, "What is it?")
    assert (answer.tokens.video, answer.tokens.kept) == (128, 64)
    entry = chat.open(frames).entry
    assert entry.length == len(chat.prompt.before(chat.prompt.token * 129))
    assert chat.prompt.decode(chat.prompt.before("")).startswith("system\nYou are a helpful assistant.\nuser\n")
    assert chat.processor.colours((0.0,), (1.0,))["mean"] == [0.5, 0.5, 0.5]
    short = PreTrainedTokenizerFast(tokenizer_object=small)
    short.add_tokens(["<more>"])
    short.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="for a video and the model"):
        load_chat(tmp_path)
