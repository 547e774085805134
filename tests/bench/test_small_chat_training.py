"""The whole way from playground videos to judged weights, in miniature, with the real networks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from trifocal.backbones import load_efficientnet_lite0
from trifocal.bench import ask_budget, small_chat_eval, small_chat_train
from trifocal.bench.small_chat_data import GRID, Sample, load_split, make_split
from trifocal.bench.small_chat_train import fit_linear
from trifocal.chat.small.projector import Projector, ProjectorConfig
from trifocal.chat.small_chat import load_small_chat
from trifocal.errors import InvalidInput

pytestmark = pytest.mark.weights


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    network = load_efficientnet_lite0()
    for name, seed in (("train", 1), ("held", 2)):
        make_split(folder / name, count=2, seed=seed, frames=8, duration_s=(10.0, 12.0), network=network)
    return folder


@pytest.fixture(scope="module")
def samples(data: Path) -> list[Sample]:
    return list(load_split(data / "train"))


def test_a_sample_is_what_the_model_sees_and_what_is_asked(samples: list[Sample]) -> None:
    assert len(samples) == 2
    for sample in samples:
        assert sample.cells.shape == (8, GRID, GRID, 1280 + 125)
        assert sample.pooled.shape == (8, 1280)
        assert len(sample.times_s) == len(sample.frames) == 8
        assert sample.times_s == sorted(sample.times_s)
        assert all(question["answer"] in question["choices"] for question in sample.questions)
        for frame in sample.frames:
            assert all(0 <= side <= 1 for seen in frame["seen"] for side in seen["box"])


def test_a_split_is_finished_not_made_again(data: Path) -> None:
    shard = next((data / "train").glob("*.safetensors"))
    before = shard.stat().st_mtime_ns
    network = load_efficientnet_lite0()
    make_split(data / "train", count=2, seed=1, frames=8, duration_s=(10.0, 12.0), network=network)
    assert shard.stat().st_mtime_ns == before
    with pytest.raises(InvalidInput, match="made otherwise"):
        make_split(data / "train", count=2, seed=3, frames=8, duration_s=(10.0, 12.0), network=network)
    with pytest.raises(InvalidInput, match="holds no videos"):
        next(load_split(data))


def test_the_fit_stands_for_what_is_there(samples: list[Sample]) -> None:
    chat = load_small_chat()
    projector = Projector(ProjectorConfig())
    fit_linear(projector, samples, chat=chat)
    model = chat.language_model
    places = sorted({frame["place"] for sample in samples for frame in sample.frames})
    words = torch.stack([model.embed(model.token_ids(f" {place}")).mean(0) for place in places])
    right = 0
    for sample in samples:
        tokens = projector(sample.cells).mean(dim=(1, 2))  # (T, C)
        found = (tokens @ (words - words.mean(0)).T).argmax(-1).tolist()
        right += sum(places[at] == frame["place"] for at, frame in zip(found, sample.frames, strict=True))
    assert right >= 12  # of 16 frames


@pytest.mark.slow
def test_training_resumes_and_its_weights_are_judged(data: Path, tmp_path: Path) -> None:
    run, folders = tmp_path / "run", [str(data / "train"), str(data / "held")]
    small_chat_train.main([*folders, "--out", str(run), "--steps", "2"])
    first = load_file(run / "checkpoint.safetensors")
    small_chat_train.main([*folders, "--out", str(run), "--steps", "4"])
    second = load_file(run / "checkpoint.safetensors")
    assert [row["step"] for row in json.loads((run / "history.json").read_text())] == [1, 2, 3, 4]
    changed = [name for name in first if not torch.equal(first[name], second[name])]
    assert any(name.startswith("projector.linear") for name in changed)
    assert any(name.startswith("low_rank.") for name in changed)
    with pytest.raises(InvalidInput, match="another run"):
        small_chat_train.main([*folders, "--out", str(run), "--steps", "4", "--seed", "5"])
    held, out = str(data / "held"), tmp_path / "eval"
    small_chat_eval.main([str(run), "--data", held, "--out", str(out), "--questions", "4"])
    results = json.loads((out / "results.json").read_text())["results"]
    assert results["trained"]["questions"] == 8
    weights = str(out / "weights")
    arguments = [held, "--out", str(tmp_path / "budget"), "--weights", weights, "--questions", "4"]
    ask_budget.main([*arguments, "--methods", "sttm", "dycoke", "--budgets", "0.2"])
    record = json.loads((tmp_path / "budget" / "results.json").read_text())["conditions"]
    assert record["sttm 0.2"]["share"] == pytest.approx(0.2, abs=0.01)
    assert "refused" in record["dycoke 0.2"]
    assert record["all tokens"]["accuracy"] == pytest.approx(results["trained"]["accuracy"])
