"""`trifocal eval ask`: a benchmark in small asked of a tiny random model, in a folder as people keep models."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.chat.hf.conftest import CONTROL, MARKERS, TEMPLATE, build
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from trifocal.chat.evaluation import read_answers
from trifocal.chat.hf import load as loading
from trifocal.cli import eval_ask
from trifocal.errors import InvalidInput
from trifocal.video import write_mp4

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LLaVA-OneVision of 16 tokens a frame and 512 positions."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    special = [AddedToken(token, special=True) for token in CONTROL]
    letters = pre_tokenizers.ByteLevel.alphabet()
    words = ["Answer with the option's letter from the given choices directly."]
    backend.train_from_iterator(
        words, trainers.BpeTrainer(vocab_size=340, special_tokens=special, initial_alphabet=letters)
    )
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model")
    ids = {token: backend.token_to_id(token) or 0 for token in CONTROL}
    build("llava_onevision", backend.get_vocab_size(), ids).save_pretrained(folder)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|im_end|>")
    tokenizer.chat_template = TEMPLATE.replace("VIDEO", MARKERS["llava_onevision"])
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two questions each of a video of six seconds and of one of two."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "videos").mkdir()
    draw = np.random.default_rng(0)
    for name, seconds in (("long", 6), ("short", 2)):
        images = draw.integers(0, 256, (seconds, 6, 8, 3), dtype=np.uint8).repeat(8, 1).repeat(8, 2).repeat(2, 0)
        write_mp4(folder / "videos" / f"{name}.mp4", images, fps=2.0)
    rows = [
        {"video": f"{name}.mp4", "type": kind, "question": f"{kind}?", "answer": "a dog", "choices": ["a car", "a dog"]}
        for name in ("long", "short")
        for kind in ("what", "who")
    ]
    (folder / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def ask(run: Run, model: Path, data: Path, tmp_path: Path) -> Run:
    """Runs `trifocal eval ask` on both, with OUT in the test's own folder."""

    def call(*words: str | Path, annotations: Path | None = None) -> Any:
        place = ("--annotations", annotations or data / "questions.jsonl", "--videos", data / "videos")
        shown = ("--device", "cpu", "-o", tmp_path / "out")
        return run("eval", "ask", "--benchmark", "playground", *place, *shown, "-m", model, *words)

    return call


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What was loaded, in order."""
    made: list[Any] = []
    real = loading.load_hf_model

    def load(reference: str, **options: Any) -> loading.HFModel:
        model = real(reference, **options)
        made.append(model)
        return model

    monkeypatch.setattr(loading, "load_hf_model", load)
    return made


def test_every_method_and_budget_on_one_model(ask: Run, loads: list[Any], tmp_path: Path) -> None:
    methods = ("--method", "none", "--method", "sttm")
    ran = ask(*methods, "--budget", "0.5", "--budget", "16", "--layer", "1", "--option", "positions=survive")
    assert ran.code == 0, ran.err
    assert len(loads) == 1
    assert not any(part._forward_pre_hooks for part in loads[0].model.modules())
    folder = tmp_path / "out" / "playground"
    names = [f"sttm_positions-survive_budget-{much}" for much in ("0.5", "16")]
    assert sorted(path.name for path in folder.iterdir()) == ["none", *names]
    for name, most in (("none", (96, 32)), (names[0], (48, 16)), (names[1], (16, 16))):
        kept = {answer.video: answer.kept for answer in read_answers(folder / name)}
        assert 0 < kept["long.mp4"] <= most[0]
        assert 0 < kept["short.mp4"] <= most[1]
    first = read_answers(folder / "none")[0]
    assert (first.tokens, first.frames, first.frames_wanted, first.error) == (96, 6, 6, "")
    settings = json.loads((folder / names[1] / "settings.json").read_text())
    assert {name: settings[name] for name in ("budget", "layer", "device", "dtype", "fps", "max_frames")} == {
        "budget": "positions=survive budget=16", "layer": 1, "device": "cpu", "dtype": "float32", "fps": 1.0,
        "max_frames": 128,
    }  # fmt: skip
    assert settings["revision"] == loads[0].revision
    lines = ran.out.splitlines()
    assert [line.split(" | ")[2] for line in lines[2:]] == ["none", "sttm", "sttm"]
    assert "| 100.0% |" in lines[2]
    assert "4 questions of 2 videos" in ran.err


def test_a_run_goes_on_where_it_stopped(ask: Run, tmp_path: Path) -> None:
    words = ("--method", "sttm", "--budget", "0.5", "-f", "json")
    whole = ask(*words).json
    folder = tmp_path / "out" / "playground" / "sttm_budget-0.5"
    file = folder / "answers.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text(lines[0] + lines[1][:20])
    again = ask(*words).json
    assert file.read_text().startswith(lines[0])
    kept = ("id", "chosen", "text", "tokens", "kept")
    assert [[json.loads(line)[name] for name in kept] for line in file.read_text().splitlines()] == [
        [json.loads(line)[name] for name in kept] for line in lines
    ]
    assert [row["accuracy"] for row in again] == [row["accuracy"] for row in whole]
    refused = ask(*words, "--max-frames", "3")
    assert refused.code == 2
    assert "holds a run with another max_frames" in refused.err


def test_frames_that_do_not_fit_are_told(ask: Run, tmp_path: Path) -> None:
    ran = ask("--context", "420", "--fps", "2", "--dtype", "bfloat16")  # 256 of it for the question, 64 for the answer
    assert ran.code == 0, ran.err
    assert "none: 2 questions on fewer frames than wanted, which did not fit" in ran.err
    folder = tmp_path / "out" / "playground" / "none"
    answers = {answer.video: answer for answer in read_answers(folder)}
    cut = answers["long.mp4"]
    assert cut.frames < cut.frames_wanted == 12
    assert "more do not fit into 420 tokens of context" in cut.warnings[0]
    assert answers["short.mp4"].frames == answers["short.mp4"].frames_wanted == 4
    assert json.loads((folder / "settings.json").read_text())["dtype"] == "bfloat16"
    strict = ask("--context", "420", "--fps", "2", "--too-long", "refuse", "-o", tmp_path / "strict")
    errors = [answer.error for answer in read_answers(tmp_path / "strict" / "playground" / "none")]
    assert strict.code == 0, strict.err
    assert errors == ["model_error", "model_error", "", ""]


def test_a_budget_that_one_video_cannot_reach_is_recorded(ask: Run, tmp_path: Path) -> None:
    ran = ask("--method", "uniform", "--budget", "0.3", "--method", "none")
    assert ran.code == 0, ran.err
    assert "uniform_budget-0.3: 2 questions without an answer (invalid_input)" in ran.err
    answers = read_answers(tmp_path / "out" / "playground" / "uniform_budget-0.3")
    assert [(answer.video, answer.error) for answer in answers] == [
        ("long.mp4", ""), ("long.mp4", ""), ("short.mp4", "invalid_input"), ("short.mp4", "invalid_input")
    ]  # fmt: skip
    assert "the budget is 0.3, less than the 16 tokens of one frame (a share of 0.5)" in answers[2].text
    row = next(line for line in ran.out.splitlines() if "uniform" in line)
    assert "| 4 | 2 | 16 (17%) | 16.7% |" in row  # of the six frames of the long video, one


def test_a_budget_that_no_video_can_reach_is_an_error(ask: Run, tmp_path: Path) -> None:
    ran = ask("--method", "uniform", "--budget", "0.1")
    assert ran.code == 2
    assert "not one of the first 2 videos can be asked with these settings; long.mp4: the budget is 0.1" in ran.err
    assert read_answers(tmp_path / "out" / "playground" / "uniform_budget-0.1") == []
    assert ask("--method", "uniform", "--budget", "0.1", "--keep-going").code == 0
    assert len(read_answers(tmp_path / "out" / "playground" / "uniform_budget-0.1")) == 4


def test_a_wrong_line_of_the_annotations_is_named(ask: Run, data: Path, loads: list[Any], tmp_path: Path) -> None:
    lines = (data / "questions.jsonl").read_text().splitlines()
    for wrong, said in (('{"video":', "line 3: "), ('{"video": "long.mp4"}', "line 3: there is no 'choices'")):
        (tmp_path / "wrong.jsonl").write_text("\n".join([*lines[:2], wrong]))
        ran = ask(annotations=tmp_path / "wrong.jsonl")
        assert ran.code == 2
        assert f"wrong.jsonl, {said}" in ran.err
    assert loads == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--method", "sttm"), "sttm needs a budget"),
        (("--method", "sttm", "--budget", "4000.0"), "--budget is '4000.0'"),
        (("--method", "sttm", "--budget", "most"), "--budget is 'most'"),
        (("--method", "stm", "--budget", "0.5"), "method is 'stm'"),
        (("--method", "sttm", "--option", "spatial=0.5"), "sttm has no option spatial"),
        (("--method", "sttm", "--option", "spatial_threshold"), "--option is spatial_threshold"),
        (("--method", "uniform", "--option", "budget=2.5"), "budget is 2.5"),
        (("-m", "default", "--layer", "2"), "--layer is 2"),
        (("-m", "default", "--fps", "2"), "The default model has no --fps"),
        (("--device", "cuda:99"), "--device is 'cuda:99'"),
        (("--plot", "plot.gif"), "plot.gif ends in none of .png"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_loaded(
    words: tuple[str, ...], said: str, ask: Run, loads: list[Any], tmp_path: Path
) -> None:
    ran = ask(*words)
    assert ran.code == 2
    assert said in ran.err
    assert loads == []
    assert not (tmp_path / "out").exists()


def test_videos_that_are_not_there(ask: Run, data: Path, loads: list[Any], tmp_path: Path) -> None:
    lines = (data / "questions.jsonl").read_text()
    (tmp_path / "some.jsonl").write_text(lines.replace("short", "absent"))
    ran = ask(annotations=tmp_path / "some.jsonl")
    assert ran.code == 0, ran.err
    assert "1 video missing; their questions count as wrong" in ran.err
    assert "none: 2 questions without an answer (video_not_found)" in ran.err
    (tmp_path / "none.jsonl").write_text(lines.replace("short", "absent").replace("long", "gone"))
    ran = ask(annotations=tmp_path / "none.jsonl")
    assert ran.code == 2
    assert "of the 2 videos in the annotations none is in" in ran.err
    assert len(loads) == 1


def test_a_plot_is_drawn(ask: Run, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    ran = ask("--limit", "1", "--plot", tmp_path / "plot.png")
    assert ran.code == 0, ran.err
    assert (tmp_path / "plot.png").stat().st_size > 1000


def test_options_are_numbers_where_they_are() -> None:
    assert eval_ask._options(["a=1", "b=-2", "c=.85", "d=x=y"]) == {"a": 1, "b": -2, "c": 0.85, "d": "x=y"}
    with pytest.raises(InvalidInput):
        eval_ask._options(["=1"])


@pytest.mark.weights
def test_the_default_model_merges_and_weighs(run: Run, data: Path, tmp_path: Path) -> None:
    place = ("--annotations", data / "questions.jsonl", "--videos", data / "videos", "-o", tmp_path / "out")
    words = ("--method", "none", "--method", "uniform", "--budget", "0.5", "--likelihood", "--limit", "2", "-f", "json")
    ran = run("eval", "ask", "--benchmark", "playground", *place, *words)
    assert ran.code == 0, ran.err
    rows = ran.json
    assert [row["settings"]["layer"] for row in rows] == [None, 0]
    assert rows[1]["kept"] < rows[0]["kept"]
    assert rows[0]["first_token_s"] is None
