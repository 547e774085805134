from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from trifocal import video as video_files
from trifocal import weights
from trifocal.chat import Decoding
from trifocal.chat.language_model import LanguageModel
from trifocal.chat.small_chat import SmallChat, load_small_chat
from trifocal.chat.smollm2 import load_smollm2
from trifocal.errors import WeightsCorrupt
from trifocal.video import Frames, Sampling

GREEDY = Decoding(max_new_tokens=12, repetition_penalty=1.0, no_repeat_ngram=0)


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_gguf: Any) -> Path:
    """A folder with a small model, and an empty cache beside it."""
    monkeypatch.setenv("TRIFOCAL_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "model"
    folder.mkdir()
    make_gguf(folder / "Tiny.Q8_0.gguf")
    return folder


def converted(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache" / "converted").glob("tiny-*"))


def logits(model: LanguageModel) -> torch.Tensor:
    with torch.inference_mode():
        result: torch.Tensor = model.model(inputs_embeds=model.embed([2, 3, 4, 5])[None]).logits
    return result


def test_the_second_time_it_comes_from_the_cache(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load_smollm2(small)
    assert len(converted(tmp_path)) == 1
    monkeypatch.setattr("trifocal.chat.smollm2.read_gguf", lambda path: pytest.fail("read again"))
    second = load_smollm2(small)
    assert torch.equal(logits(first), logits(second))
    assert first.name == second.name == "Tiny"
    assert first.token_ids("ab 12") == second.token_ids("ab 12")


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "language_model.json"])
def test_a_damaged_cache_is_made_again(small: Path, tmp_path: Path, name: str) -> None:
    first = load_smollm2(small)
    (folder,) = converted(tmp_path)
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])
    assert torch.equal(logits(load_smollm2(small)), logits(first))
    assert (folder / name).read_bytes() == content


def test_a_cache_that_cannot_be_written_costs_only_time(small: Path, tmp_path: Path) -> None:
    first = load_smollm2(small)
    (folder,) = converted(tmp_path)
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    parent = folder.parent
    for path in parent.iterdir():
        path.unlink()
    parent.rmdir()
    parent.write_text("a file where the folder should be")
    assert torch.equal(logits(load_smollm2(small)), logits(first))


def test_another_file_of_the_same_name_is_not_mixed_up(small: Path, tmp_path: Path, make_gguf: Any) -> None:
    first = load_smollm2(small)
    make_gguf(small / "Tiny.Q8_0.gguf", seed=1)
    assert not torch.equal(logits(load_smollm2(small)), logits(first))
    assert len(converted(tmp_path)) == 2


def test_a_folder_without_one_model_is_refused(small: Path, make_gguf: Any) -> None:
    make_gguf(small / "Other.gguf")
    with pytest.raises(WeightsCorrupt, match="2 GGUF files"):
        load_smollm2(small)


@pytest.fixture(scope="module")
def chat() -> SmallChat:
    return load_small_chat()


@pytest.mark.weights
def test_the_real_model_talks_sense(chat: SmallChat) -> None:
    model = chat.language_model
    ids = model.token_ids(model.render([{"role": "user", "content": "What is the capital of France?"}]))
    made = model.generate(model.prefill(model.embed(ids[:5])), model.embed(ids[5:]), decoding=GREEDY)
    assert made.text == "The capital of France is Paris."
    assert made.finished == "end"


@pytest.mark.weights
def test_the_real_template_and_tokens(chat: SmallChat) -> None:
    model = chat.language_model
    text = model.render([{"role": "system", "content": "Be kind."}, {"role": "user", "content": "It is 2026."}])
    assert text == (
        "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nIt is 2026.<|im_end|>\n<|im_start|>assistant\n"
    )
    ids = model.token_ids(text)
    assert ids[0] == 1
    assert ids.count(2) == 2
    assert model.tokenizer.encode(" 2026").tokens == ["Ġ", "2", "0", "2", "6"]
    assert model.token_ids(" great white shark") == [
        model.tokenizer.token_to_id(token) for token in ("Ġgreat", "Ġwhite", "Ġshark")
    ]
    assert model.context == 8192


@pytest.mark.weights
@pytest.mark.parametrize(
    ("clip", "words"),
    [
        ("bikes", {"car", "bike", "bicycle", "tram", "bus", "minibus", "minivan", "taxi", "rickshaw", "street"}),
        ("carphone_pristine", {"tie", "suit", "bow", "car", "seat", "bus", "minibus"}),
    ],
)
def test_real_clips_are_described_by_what_is_in_them(chat: SmallChat, clip: str, words: set[str]) -> None:
    path = weights.fetch("sample-clips") / f"{clip}.mp4"
    opened = chat.open(path)
    answer = opened.ask("What is shown in the video?")
    assert words & set(answer.text.lower().replace(",", " ").replace(".", " ").split()), answer.text
    assert opened.ask("What is shown in the video?").text == answer.text


@pytest.mark.weights
def test_evidence_points_at_the_clip_that_was_asked_about(chat: SmallChat) -> None:
    folder = weights.fetch("sample-clips")
    images = []
    for clip in ("bikes", "carphone_pristine", "bigbuckbunny"):
        with video_files.open(folder / f"{clip}.mp4") as opened:
            images.append(opened.read(Sampling.uniform(2, size=(224, 224))).images)
    joined = Frames(images=np.concatenate(images), times_s=np.arange(6, dtype=np.float64))
    short = Decoding(max_new_tokens=4)
    asked = chat.open(joined)
    assert asked.ask("Which vehicles can be seen?", decoding=short).evidence[0].time_s in (0.0, 1.0)
    assert asked.ask("Is somebody wearing a tie?", decoding=short).evidence[0].time_s in (2.0, 3.0)
