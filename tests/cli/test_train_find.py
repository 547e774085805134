from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Sequence
from inspect import getsource
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from trifocal.cli import main
from trifocal.retrieval.data import (
    Caption,
    CaptionSet,
    read_two_annotations,
    write_bigfile,
    write_caption_txt,
    write_hdf5,
    write_tvr,
)
from trifocal.retrieval.model import PrototypeRetriever, preset
from trifocal.retrieval.trained import write_encoder_file
from trifocal.video import write_mp4

SMALL = [f"--set={name}" for name in ("hidden=16", "clips=8", "window_max=4", "prototypes=4", "heads=2")]


def run(*words: object) -> int:
    """The exit code of a command."""
    try:
        main([str(word) for word in words])
    except SystemExit as stopped:
        return int(stopped.code or 0)
    return 0


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    """A set in the field's layout: 16 training and 8 test videos, words a linear map of frames."""
    folder = tmp_path / "toy"
    rng = np.random.default_rng(0)
    link = rng.normal(size=(8, 6))
    frames, words = {}, {}
    (folder / "TextData").mkdir(parents=True)
    for split, first, count in (("train", 0, 16), ("test", 16, 8)):
        captions = []
        for number in range(first, first + count):
            parts = rng.normal(size=(2, 8))
            frames[f"v{number}"] = np.repeat(parts, 6, axis=0).astype(np.float32)
            for k in range(2):
                captions.append(Caption(f"v{number}#enc#{k}", f"v{number}", f"part {k}", ((6.0 * k, 6.0 * k + 6),)))
                words[captions[-1].id] = np.stack([rng.normal(size=6), parts[k] @ link]).astype(np.float32)
        made = CaptionSet(tuple(captions), {f"v{number}": 12.0 for number in range(first, first + count)})
        write_caption_txt(folder / "TextData" / f"toy{split}.caption.txt", made)
        write_tvr(folder / "TextData" / f"toy_{split}_release.jsonl", made)
    write_bigfile(folder / "FeatureData" / "i3d", frames)
    write_hdf5(folder / "TextData" / "roberta_toy_query_feat.hdf5", words)
    return folder


def test_a_set_is_checked(layout: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("train", "find", "--data", "layout", "--root", layout, "--out", tmp_path / "run", "--check")
    assert run(*words) == 0
    shown = capsys.readouterr().out
    assert "frames of 8 and words of 6 numbers" in shown
    assert "nothing is wrong with it" in shown
    path = layout / "TextData" / "toytest.caption.txt"
    path.write_text(path.read_text() + "stranger#enc#0 who is this\n")
    assert run(*words, "--format", "json") == 2
    report = json.loads(capsys.readouterr().out)
    assert report["problems"] == [
        "test: 1 of 9 videos have no features: stranger",
        "test: 1 of 17 captions have no words: stranger#enc#0",
    ]
    assert not (tmp_path / "run").exists()


def test_a_set_is_trained_resumed_and_measured(
    layout: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ("--data", "layout", "--root", layout)
    out = tmp_path / "run"
    (tmp_path / "c.json").write_text('{"hold_out": 0.25, "train": {"epochs": 9, "lr": 0.02}, "batch_videos": 4}')
    train = ("train", "find", *data, "--out", out, "--config", tmp_path / "c.json", "--epochs", "4", *SMALL)
    assert run(*train) == 0
    shown = capsys.readouterr()
    assert "SumR" in shown.out
    assert "note: 4 videos decided which epoch is best" in shown.out
    assert shown.err.count("epoch ") == 4
    written = json.loads((out / "find.json").read_text())["config"]
    assert (written["train"]["epochs"], written["train"]["lr"], written["batch_videos"]) == (4, 0.02, 4)
    assert written["changes"]["hidden"] == 16
    assert len((out / "metrics.csv").read_text().splitlines()) == 5

    assert run(*train) == 2  # there is a run in it
    assert "has a training run in it" in capsys.readouterr().err
    assert run(*train, "--resume", "--format", "json") == 0
    assert json.loads(capsys.readouterr().out)["epochs"] == 4

    measure = ("eval", "find", *data, "--model", out)
    assert run(*measure, "--out", tmp_path / "e" / "figures.json") == 0
    shown = capsys.readouterr()
    assert "trained on toy, test: 16 queries, 8 videos" in shown.out
    assert "moments: the winner's middle lies inside" in shown.out
    assert "by clip tokens: the best token lies inside" in shown.out
    figures = json.loads((tmp_path / "e" / "figures.json").read_text())["trained"]
    assert figures["sum_r"] > figures["chance_sum_r"]
    assert run(*measure, "--format", "json", "--split", "train") == 0
    assert json.loads(capsys.readouterr().out)["trained"]["split"] == "train"


@pytest.mark.parametrize("stop_on", ["test", "nothing"])
def test_the_fields_practice_is_offered_and_named(
    stop_on: str, layout: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("train", "find", "--data", "layout", "--root", layout, "--out", tmp_path / "run", "--epochs", "2")
    assert run(*words, "--stop-on", stop_on, *SMALL) == 0
    assert ("the test split chose the epoch" in capsys.readouterr().out) == (stop_on == "test")
    assert json.loads((tmp_path / "run" / "find.json").read_text())["watched"] == (
        "test" if stop_on == "test" else None
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "name one kind of data"),
        (("--data", "layout"), "--data layout needs its folder"),
        (("--data", "msrvtt", "--root", "."), "there is no preset 'msrvtt'"),
        (("--data", "layout", "--root", "nowhere"), "there is no folder nowhere"),
    ],
)
def test_wrong_data_is_told(words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    for verb in (("train", "find", "--out", "x"), ("eval", "find")):
        assert run(*verb, *words) == 2
        assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--set", "hidden"), "is no setting"),
        (("--set", "widht=3"), "a change is not a field"),
        (("--model", "bert"), "there is no model 'bert'"),
        (("--precision", "int4"), "precision is 'int4'"),
        (("--config", "nothing.json"), "there is no file nothing.json"),
    ],
)
def test_wrong_settings_are_told(
    words: tuple[str, ...], message: str, layout: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("train", "find", "--data", "layout", "--root", layout, "--out", tmp_path / "run", *words) == 2
    assert message in capsys.readouterr().err


def test_a_broken_configuration_is_told(layout: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("train", "find", "--data", "layout", "--root", layout, "--out", tmp_path / "run")
    for content, message in (("{", "is not JSON"), ("[]", "holds list"), ('{"epochs": 3}', "has epochs")):
        (tmp_path / "c.json").write_text(content)
        assert run(*words, "--config", tmp_path / "c.json") == 2
        assert message in capsys.readouterr().err


def test_untrained_needs_one_space(layout: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("eval", "find", "--data", "layout", "--root", layout) == 2
    assert "two spaces" in capsys.readouterr().err
    assert run("eval", "find", "--data", "layout", "--root", layout, "--model", tmp_path) == 2
    assert "there is no trained model in" in capsys.readouterr().err


class Letters:
    """Frames as mean colours, texts as counts of letters."""

    id = "letters"
    dim = 3
    frame_size = (8, 8)

    def encode_frames(self, frames: Any) -> Any:
        means = frames.mean(axis=(1, 2)) + 1.0
        return (means / np.linalg.norm(means, axis=1, keepdims=True)).astype(np.float32)

    def encode_query(self, texts: Sequence[str]) -> Any:
        counts = np.array([[0.1 + text.count(letter) for letter in "rgb"] for text in texts])
        return (counts / np.linalg.norm(counts, axis=1, keepdims=True)).astype(np.float32)


def test_videos_of_ones_own_are_trained_and_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trifocal.retrieval.load_encoder", lambda *_, **__: Letters())
    lines = ["video,caption,start_s,end_s"]
    for number, colour in enumerate(((200, 0, 0), (0, 200, 0), (0, 0, 200), (200, 200, 0))):
        write_mp4(tmp_path / f"{number}.mp4", np.full((20, 32, 32, 3), colour, np.uint8), fps=10)
        lines.append(f"{number}.mp4,{('rr', 'gg', 'bb', 'rg')[number]},0,2")
    (tmp_path / "captions.csv").write_text("\n".join(lines) + "\n")
    data = ("--captions", tmp_path / "captions.csv")
    assert run("eval", "find", *data, "--format", "json") == 0
    untrained = json.loads(capsys.readouterr().out)["untrained"]
    assert untrained["recall"]["R@1"] == 100.0
    assert (tmp_path / ".trifocal-features").is_dir()
    small = (*SMALL, "--epochs", "2", "--stop-on", "nothing")
    assert run("train", "find", *data, "--out", tmp_path / "run", *small) == 0
    encoder = json.loads((tmp_path / "run" / "model" / "encoder.json").read_text())
    assert (encoder["base"], encoder["base_id"]) == ("default", "letters")
    capsys.readouterr()
    assert run("eval", "find", *data, "--model", tmp_path / "run", "--untrained", "--format", "json") == 0
    assert set(json.loads(capsys.readouterr().out)) == {"trained", "untrained"}
    (tmp_path / "captions.csv").write_text("video,caption\n9.mp4,x\n")
    assert run("eval", "find", *data) == 2
    assert "1 of 1 videos" in capsys.readouterr().err


OPTIONS = [
    ("--precision", "bf16"),
    ("--precision", "fp16"),
    ("--accumulate", "2"),
    ("--tensorboard",),
    ("--config", "ema.json"),
    ("--model", "paper", "--set", "frame_branch=true", "--set", "max_frames=8"),
    ("--model", "paper", "--set", "frame_tokens=true", "--set", "max_frames=8", "--set", "retrieval=dot"),
]


@pytest.mark.parametrize("options", OPTIONS, ids=" ".join)
def test_every_way_of_training_gives_a_model_that_is_measured(
    options: tuple[str, ...], layout: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tensorboard" if "--tensorboard" in options else "torch")
    (tmp_path / "ema.json").write_text('{"train": {"ema": 0.9}}')
    given = [tmp_path / one if one == "ema.json" else one for one in options]
    data, out = ("--data", "layout", "--root", layout), tmp_path / "run"
    steady = ("--batch", "4", "--stop-on", "nothing", "--device", "cpu", "--format", "json")
    assert run("train", "find", *data, "--out", out, *SMALL, "--epochs", "2", *steady, *given) == 0
    written = json.loads(capsys.readouterr().out)["config"]
    rows = list(csv.DictReader((out / "metrics.csv").read_text().splitlines()))
    assert all(np.isfinite(float(value)) for row in rows for value in row.values())
    assert float(rows[1]["winners_per_video"]) >= 1
    assert float(rows[1]["loss"]) != float(rows[0]["loss"])
    assert int(rows[1]["step"]) == (4 if "--accumulate" in options else 8)  # 16 videos, two epochs
    assert list((out / "tensorboard").glob("events*")) if "--tensorboard" in options else True
    for name, value in {"--precision": "precision", "--accumulate": "accumulate", "--config": "ema"}.items():
        expected = {"--accumulate": 2, "--config": 0.9}.get(name, options[-1])
        assert name not in options or written["train"][value] == expected
    assert run("eval", "find", *data, "--model", out, "--format", "json") == 0
    assert 0 < json.loads(capsys.readouterr().out)["trained"]["sum_r"] <= 400


def test_an_average_of_weights_is_another_model(layout: Path, tmp_path: Path) -> None:
    (tmp_path / "ema.json").write_text('{"train": {"ema": 0.9}}')
    words = ("train", "find", "--data", "layout", "--root", layout, *SMALL, "--epochs", "2", "--stop-on", "nothing")
    assert run(*words, "--out", tmp_path / "plain") == 0
    assert run(*words, "--out", tmp_path / "average", "--config", tmp_path / "ema.json") == 0
    plain, average = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("plain", "average"))
    assert any(not torch.equal(plain[name], average[name]) for name in plain)


def test_figures_are_drawn(layout: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    data = ("--data", "layout", "--root", layout)
    assert run("train", "find", *data, "--out", tmp_path / "run", *SMALL, "--epochs", "1", "--stop-on", "nothing") == 0
    assert run("eval", "find", *data, "--model", tmp_path / "run", "--plot", tmp_path / "drawn" / "x.png") == 0
    assert (tmp_path / "drawn" / "x.png").read_bytes()[:4] == b"\x89PNG"


def test_the_validation_split_is_named_where_it_decides(
    layout: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = layout / "TextData" / "toytrain.caption.txt"
    lines = train.read_text().splitlines(keepends=True)
    train.write_text("".join(lines[:24]))
    (layout / "TextData" / "toyval.caption.txt").write_text("".join(lines[24:]))
    words = ("train", "find", "--data", "layout", "--root", layout, "--out", tmp_path / "run", "--epochs", "1")
    assert run(*words, *SMALL) == 0
    assert "on the validation videos" in capsys.readouterr().out
    assert json.loads((tmp_path / "run" / "find.json").read_text())["watched"] == "val"


@pytest.mark.parametrize("texts", ["lsa", "minilm"])
def test_the_two_annotations_take_either_encoder_of_texts(
    texts: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[int] = []

    class Sentences:
        def encode(self, sentences: Sequence[str]) -> Any:
            encoded.append(len(sentences))
            letters = np.array([[0.1 + one.count(letter) for letter in "aeiourst"] for one in sentences], np.float32)
            return letters / np.linalg.norm(letters, axis=1, keepdims=True)

    def reading(root: Path, *, encode: Any = None) -> Any:
        # A latent space of 256 dimensions needs thousands of texts.
        assert (encode is None) == (texts == "lsa")
        return read_two_annotations(root, encode=encode or Sentences().encode)

    monkeypatch.setattr("trifocal.backbones.load_sentence_encoder", Sentences)
    monkeypatch.setattr("trifocal.retrieval.data.read_two_annotations", reading)
    told = ["a dog runs after a ball", "two women cook rice", "the man rides a horse", "children sing a song"]
    spoken = {
        f"v_{number}": {
            "duration": 20.0,
            "timestamps": [[0, 10], [10, 20]],
            "sentences": [told[number % 4], told[(number + 1) % 4]],
        }
        for number in range(8)
    }
    for name in ("val_1", "val_2"):
        (tmp_path / f"{name}.json").write_text(json.dumps(spoken))
    words = ("eval", "find", "--data", "anet-2a", "--root", tmp_path, "--texts", texts, "--format", "json")
    assert run(*words) == 0
    assert json.loads(capsys.readouterr().out)["untrained"]["videos"] == 4
    before = len(encoded)
    assert before > 0
    assert run(*words) == 0
    assert (len(encoded) == before) == (texts == "minilm")  # what MiniLM gave is kept
    assert (tmp_path / ".trifocal-texts").is_dir() == (texts == "minilm")


def test_a_model_with_a_frame_branch_makes_no_library(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = preset("paper", video_dim=3, text_dim=3, hidden=8, heads=2, clips=4, window_max=4, frame_branch=True)
    PrototypeRetriever(config).save_pretrained(tmp_path / "model")
    write_encoder_file(tmp_path / "model", base="default", base_id="letters")
    monkeypatch.setattr("trifocal.retrieval.semantic.SemanticEncoder", lambda **_: Letters())
    (tmp_path / "videos").mkdir()
    write_mp4(tmp_path / "videos" / "0.mp4", np.full((20, 32, 32, 3), 90, np.uint8), fps=10)
    words = ("add", tmp_path / "videos", "--library", tmp_path / "library", "--encoder", tmp_path / "model")
    assert run(*words) == 2
    assert "scores a vector of the frames beside its prototypes" in capsys.readouterr().err
    assert not (tmp_path / "library" / "trifocal.json").exists()


TOGETHER = """
import sys
from pathlib import Path
from trifocal.cli.find_data import open_data
from trifocal.training import processes
from tests_letters import Letters, encoded
with processes("cpu") as group:
    data = open_data(data=None, root=None, captions=Path(sys.argv[1]), videos=None, fps=4, cache=None,
                     encoder=Letters(), quiet=True, group=group)
    Path(sys.argv[1]).with_name(f"rank{group.rank}").write_text(f"{len(encoded)} {len(list(data.features.ids()))}")
"""


@pytest.mark.slow
def test_the_first_of_two_processes_encodes(tmp_path: Path) -> None:
    lines = ["video,caption"]
    for number in range(3):
        write_mp4(tmp_path / f"{number}.mp4", np.full((8, 32, 32, 3), 60 * number, np.uint8), fps=8)
        lines.append(f"{number}.mp4,r")
    (tmp_path / "captions.csv").write_text("\n".join(lines) + "\n")
    source = "\n".join(
        line.replace("        means", "        encoded.append(1); means") for line in getsource(Letters).splitlines()
    )
    header = "from typing import Any\nfrom collections.abc import Sequence\nimport numpy as np\nencoded = []\n"
    (tmp_path / "tests_letters.py").write_text(header + source)
    (tmp_path / "together.py").write_text(TOGETHER)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run(
        [*command, str(tmp_path / "together.py"), str(tmp_path / "captions.csv")],
        check=True,
        timeout=250,
        capture_output=True,
    )
    first, second = ((tmp_path / f"rank{rank}").read_text().split() for rank in (0, 1))
    assert int(first[0]) >= 3
    assert second == ["0", "3"]  # it encoded nothing, and has all


@pytest.mark.slow
def test_two_processes_train_together(layout: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "trifocal"]
    words = ("train", "find", "--data", "layout", "--root", layout, "--out", tmp_path / "run", "--epochs", "2", *SMALL)
    subprocess.run([*command, *map(str, words)], check=True, timeout=250, capture_output=True)
    assert json.loads((tmp_path / "run" / "find.json").read_text())["epochs"] == 2
    assert run("eval", "find", "--data", "layout", "--root", layout, "--model", tmp_path / "run") == 0
