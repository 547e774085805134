from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from trifocal.errors import InvalidInput
from trifocal.retrieval.data import ArrayRows, Caption, CaptionSet, RetrievalData
from trifocal.retrieval.data.batches import SplitBatches
from trifocal.retrieval.evaluation import evaluate, rank_scores, ranks_of
from trifocal.retrieval.losses import info_nce
from trifocal.retrieval.model import PRESETS, PrototypeRetriever
from trifocal.retrieval.train import FindConfig, RetrievalTask, find_config, train_find
from trifocal.training import load_checkpoint

SMALL: dict[str, Any] = {"hidden": 32, "clips": 8, "window_max": 4, "prototypes": 4, "heads": 2, "max_words": 6}


def make(videos: int = 24, *, seed: int = 0, splits: tuple[str, ...] = ("train", "test")) -> RetrievalData:
    """Frames are a random linear map of what the captions say: what training has to find."""
    rng = np.random.default_rng(seed)
    link = rng.normal(size=(12, 10)).astype(np.float32) / 3
    features, words, captions = {}, {}, {name: [] for name in splits}  # type: ignore[var-annotated]
    for split in splits:
        for number in range(videos):
            name = f"{split}{number}"
            parts = rng.normal(size=(3, 10)).astype(np.float32)
            features[name] = np.repeat(parts @ link.T, 5, axis=0) + 0.05 * rng.normal(size=(15, 12))
            for k in range(3):
                captions[split].append(Caption(f"{name}#{k}", name, f"part {k}", ((5.0 * k, 5.0 * k + 5.0),)))
                words[f"{name}#{k}"] = np.stack([rng.normal(size=10) * 0.1, parts[k]])
    sets = {name: CaptionSet(tuple(ones), {one.video: 15.0 for one in ones}) for name, ones in captions.items()}
    return RetrievalData("made", ArrayRows(features), ArrayRows(words), sets)


def config(model: str = "default", **changes: Any) -> FindConfig:
    own = {name: changes.pop(name) for name in ("stop_on", "hold_out", "captions_per_video") if name in changes}
    train = {"epochs": 6, "seed": 1, "device": "cpu", **changes}
    return replace(find_config(model, changes=SMALL, **train), batch_videos=8, **own)


def test_training_learns_what_is_planted_and_saves_it(tmp_path: Path) -> None:
    data = make()
    rows: list[Any] = []
    result, model = train_find(data, config(hold_out=0.25), folder=tmp_path, on_epoch=rows.append)
    report = evaluate(model, data)
    torch.manual_seed(1)
    untrained = evaluate(PrototypeRetriever(model.config).eval(), data)
    assert report.ranks.sum_r > untrained.ranks.sum_r + 40
    assert result.best == max(row["sum_r"] for row in rows)
    assert {"loss", "sum_r", "r1", "mean_cosine", "winners_corpus", "peak_inside"} <= rows[0].keys()
    written = json.loads((tmp_path / "find.json").read_text())
    assert (written["watched"], written["watched_videos"], written["train_videos"]) == ("held-out", 6, 18)
    assert FindConfig.from_dict(written["config"]) == config(hold_out=0.25)
    again = PrototypeRetriever.from_pretrained(tmp_path / "model")
    assert evaluate(again, data, timing=False).ranks == report.ranks


@pytest.mark.parametrize("model", ["default", "paper"])
def test_a_resumed_run_equals_an_uninterrupted_one(model: str, tmp_path: Path) -> None:
    data = make(12)
    chosen = config(model, epochs=3, checkpoint_steps=1)
    train_find(data, chosen, folder=tmp_path / "whole")

    def stop(place: Any) -> None:
        if place.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_find(data, chosen, folder=tmp_path / "cut", progress=stop)
    train_find(data, chosen, folder=tmp_path / "cut", resume=True)
    one, other = (load_file(tmp_path / run / "model" / "model.safetensors") for run in ("whole", "cut"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_resume_with_another_split_or_model_is_refused(tmp_path: Path) -> None:
    train_find(make(8), config(epochs=1), folder=tmp_path)
    for changed in (config(epochs=1, hold_out=0.3), replace(config(epochs=1), batch_videos=4)):
        with pytest.raises(InvalidInput, match="cannot be resumed: the task was"):
            train_find(make(8), changed, folder=tmp_path, resume=True)


@pytest.mark.parametrize(
    ("stop_on", "splits", "watched"),
    [
        ("held-out", ("train", "test"), "held-out"),
        ("held-out", ("train", "val", "test"), "val"),
        ("test", ("train", "test"), "test"),
        ("nothing", ("train",), None),
    ],
)
def test_what_early_stopping_looks_at(
    stop_on: Any, splits: tuple[str, ...], watched: str | None, tmp_path: Path
) -> None:
    result, _ = train_find(make(6, splits=splits), config(epochs=2, stop_on=stop_on), folder=tmp_path)
    assert json.loads((tmp_path / "find.json").read_text())["watched"] == watched
    if watched is None:
        assert result.best_epoch == 1  # the last


def test_moments_are_never_looked_at_in_training(tmp_path: Path) -> None:
    data = make(8)
    moved = CaptionSet(
        tuple(Caption(one.id, one.video, one.text, ((0.0, 0.1),)) for one in data.split("train")),
        data.split("train").durations_s,
    )
    for name, part in (("a", data.split("train")), ("b", moved)):
        train_find(replace(data, splits={"train": part}), config(epochs=2), folder=tmp_path / name)
    one, other = (load_file(tmp_path / name / "model" / "model.safetensors") for name in "ab")
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("changes", [{"frame_branch": True}, {"frame_tokens": True}])
def test_models_that_look_at_frames_are_trained_too(changes: dict[str, Any], tmp_path: Path) -> None:
    chosen = replace(config("paper", epochs=1), changes={**SMALL, "max_frames": 8, **changes})
    data = make(6)
    result, model = train_find(data, chosen, folder=tmp_path)
    assert result.history[0]["sum_r"] > 0
    report = evaluate(model, data, timing=False)
    assert report.peak == "attention"
    assert report.sharpened is not None
    assert report.bytes_per_video == model.config.bytes_per_video
    batch = next(SplitBatches(data, data.split("test"), clips=8, max_words=6, max_frames=8).each(6))
    with torch.no_grad():
        ranks, _ = ranks_of(model(batch).scores.numpy(), batch.owner.numpy())
    assert report.ranks.recall == pytest.approx(rank_scores(ranks).recall, abs=6)  # half precision may swap two


def test_the_frame_branch_has_its_infonce_with_dot_products(tmp_path: Path) -> None:
    data = make(6)
    changes = {"frame_branch": True, "max_frames": 8, "retrieval": "dot"}
    losses = []
    for weight in (0.0, 1.0):
        chosen = replace(config("paper", epochs=1), changes={**SMALL, **changes, "frame_nce_weight": weight})
        task = RetrievalTask(data, chosen, watched="test")
        torch.manual_seed(0)
        batch = task.split.make(range(6))
        losses.append(float(task.model.eval().loss(batch)["retrieval"].detach()))
        if weight:
            out = task.model(batch)
            assert out.whole is not None
            queries = task.model._queries(batch)
            own = float(info_nce(queries @ out.whole.T, batch.owner).detach())
    assert losses[1] - losses[0] == pytest.approx(own, rel=1e-4)


def test_collapse_is_told_where_nothing_is_watched(tmp_path: Path) -> None:
    result, _ = train_find(make(6, splits=("train",)), config(epochs=2, stop_on="nothing"), folder=tmp_path)
    for row in result.history:
        assert {"mean_cosine", "winners_per_video", "winners_corpus", "attention_entropy"} <= row.keys()
        assert not {"sum_r", "peak_inside"} & row.keys()  # recall on what was trained on would flatter
    assert "mean_cosine" in (tmp_path / "metrics.csv").read_text().splitlines()[0]


def test_the_peak_inside_counts_every_moment_of_those_that_have_one(tmp_path: Path) -> None:
    data = make(6)
    everywhere = ((20.0, 21.0), (0.0, 15.0))  # the second holds any peak
    captions = [replace(one, moments_s=everywhere if one.id.endswith("#0") else ()) for one in data.split("test")]
    data = replace(data, splits={**data.splits, "test": CaptionSet(tuple(captions), data.split("test").durations_s)})
    result, _ = train_find(data, config(epochs=1, stop_on="test"), folder=tmp_path)
    assert result.history[0]["peak_inside"] == 1.0


@pytest.mark.parametrize("model", PRESETS)
def test_every_preset_has_a_recipe(model: str) -> None:
    assert find_config(model).train.monitor == "sum_r"
    assert find_config(model, data="tvr-clip").batch_videos == 128


def test_a_recipe_of_the_field_goes_with_the_form_of_the_paper() -> None:
    paper, ours = find_config("paper", data="tvr-i3d"), find_config("default", data="tvr-i3d")
    assert (paper.train.lr, paper.changes["margin"], paper.changes["retrieval"]) == (3e-4, 0.1, "dot")
    assert ours.train.lr == find_config("default").train.lr
    assert (paper.changes["max_words"], ours.changes) == (30, {"max_words": 30})
    assert (ours.train.epochs, ours.train.patience) == (100, 10)
    assert (paper.train.warmup, ours.train.warmup) == (0.01, find_config("default").train.warmup)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model": "bert"}, "Use one of paper"),
        ({"stop_on": "train"}, "Use one of held-out, test, nothing"),
        ({"hold_out": 0.0}, "hold_out is 0.0"),
        ({"batch_videos": 1}, "batch_videos is 1"),
        ({"captions_per_video": 0}, "captions_per_video is 0"),
        ({"epochs": 3}, "the configuration has epochs. Known are model"),
        ({"train": 3}, "train is 3"),
        ({"train": {"lr": -1}}, "lr is -1"),
    ],
)
def test_a_bad_configuration_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        FindConfig.from_dict(values)


def test_unknown_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="there is no model 'x'"):
        find_config("x")
    with pytest.raises(InvalidInput, match="there is no data set 'x'"):
        find_config(data="x")
    with pytest.raises(InvalidInput, match="made has no split 'test'"):
        train_find(make(4, splits=("train",)), config(stop_on="test"), folder=tmp_path)
    with pytest.raises(InvalidInput, match="a change is not a field"):
        train_find(make(4), replace(config(), changes={"widht": 3}), folder=tmp_path)


# ---------------------------------------------------------------------------------------------------------- batches


def test_a_batch_is_videos_with_all_their_captions() -> None:
    data = make(5)
    split = SplitBatches(data, data.split("train"), clips=8, max_words=6)
    batch = split.make([3, 1])
    assert tuple(batch.clips.shape) == (2, 8, 12)
    assert tuple(batch.words.shape) == (6, 2, 10)
    assert batch.owner.tolist() == [0, 0, 0, 1, 1, 1]
    np.testing.assert_array_equal(batch.words[4].numpy(), data.words.read("train1#1"))
    assert [len(one) for one in split.each(2)] == [2, 2, 1]


def test_long_captions_keep_their_last_word_and_memory_changes_nothing() -> None:
    data = make(3)
    long = {name: np.arange(80, dtype=np.float32).reshape(8, 10) for name in data.words.ids()}
    data = replace(data, words=ArrayRows(long))
    kept, read = (SplitBatches(data, data.split("train"), clips=4, max_words=3, memory=size) for size in (1 << 30, 0))
    assert kept.words("train0#0")[:, 0].tolist() == [0.0, 10.0, 70.0]
    for _ in range(2):
        one, other = kept.make([0, 2]), read.make([0, 2])
        assert torch.equal(one.clips, other.clips)
        assert torch.equal(one.words, other.words)


def test_captions_of_a_video_may_be_drawn() -> None:
    data = make(3)
    split = SplitBatches(data, data.split("train"), clips=4, captions_per_video=2)
    np.random.seed(0)  # noqa: NPY002
    first, second = split.make([0]), [split.make([0]) for _ in range(8)]
    assert first.owner.tolist() == [0, 0]
    assert any(not torch.equal(first.words, one.words) for one in second)


def test_frames_come_too_when_asked() -> None:
    data = make(3)
    batch = SplitBatches(data, data.split("train"), clips=4, max_frames=6).make([0, 1])
    assert batch.frames is not None
    assert tuple(batch.frames.shape) == (2, 6, 12)


def test_what_has_no_rows_is_told() -> None:
    data = make(3)
    with pytest.raises(InvalidInput, match="2 of 3 videos have no features: train1, train2"):
        SplitBatches(replace(data, features=ArrayRows({"train0": np.ones((2, 3))})), data.split("train"))
    with pytest.raises(InvalidInput, match="captions have no words"):
        SplitBatches(replace(data, words=ArrayRows({"train0#0": np.ones((2, 3))})), data.split("train"))
    with pytest.raises(InvalidInput, match="has no captions"):
        SplitBatches(data, CaptionSet(()))


PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from test_train import train_retrieval_alone
train_retrieval_alone(Path(sys.argv[2]))
"""


def train_retrieval_alone(folder: Path) -> None:
    """13 videos in batches of 4, two batches a step: the second process has nothing of the last batch.

    Without dropout, and with the hardest negative only, nothing is drawn that depends on the number of processes. AdamW
    makes steps of the keys' biases, whose gradient is rounding alone; `eps` holds them still.
    """
    fixed = {"dropout": 0.0, "hard_negatives_from_epoch": 0, "hard_negatives_top": 1}
    alone = {f"{name}_weight": 0.0 for name in ("word", "video", "guidance", "ortho")}
    changes = {**SMALL, **fixed, **alone, "learn_temperature": True}
    own = find_config("paper", changes=changes, epochs=3, seed=1, device="cpu", accumulate=2, lr=1e-3, eps=1e-3)
    train_find(make(13, splits=("train",)), replace(own, batch_videos=4, stop_on="nothing"), folder=folder)


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(PROGRAM)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    arguments = [str(tmp_path / "train.py"), str(Path(__file__).parent), str(tmp_path / "two")]
    subprocess.run([*command, *arguments], check=True, timeout=250, capture_output=True)
    train_retrieval_alone(tmp_path / "one")
    one, two = (load_checkpoint(tmp_path / name / "last.safetensors") for name in ("one", "two"))
    assert one[1]["place"]["step"] == two[1]["place"]["step"] == 6
    for first, second in zip(one[1]["history"], two[1]["history"], strict=True):
        assert second["retrieval"] == pytest.approx(first["retrieval"], rel=1e-5)
    for name, value in one[0].items():
        if name.startswith("model/"):
            torch.testing.assert_close(two[0][name], value, atol=1e-5, rtol=1e-4)
