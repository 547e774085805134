"""`trifocal ask`: which model is asked, how often the video is read, and what is printed where."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from trifocal import chat as chats
from trifocal.chat import Answer, Decoding, Evidence, OpenVideo, Timing, TokenUse, VideoChat
from trifocal.chat.hf.config import HFChatConfig
from trifocal.video import Frames, Limits

Run = Callable[..., Any]


class Parrot(VideoChat):
    """Answers with the question, in two pieces."""

    name, caveat = "parrot", "It only repeats."

    def __init__(self) -> None:
        self.opened: list[str] = []
        self.loaded: list[tuple[str, dict[str, Any]]] = []

    def open(self, video: str | Path | Frames, *, limits: Limits | None = None, isolated: bool = True) -> OpenVideo:
        self.opened.append(str(video))
        return Repeats(str(video))


class Repeats(OpenVideo):
    def __init__(self, video: str) -> None:
        self.video = video

    def ask(
        self,
        question: str,
        *,
        decoding: Decoding | None = None,
        on_text: Callable[[str], None] | None = None,
        evidence: int = 3,
    ) -> Answer:
        if on_text is not None:
            on_text(" You ask:")
            on_text(f" {question}")
        return Answer(
            video=self.video,
            text=f"You ask: {question}",
            evidence=(Evidence(time_s=62.5, weight=0.5),),
            timing=Timing(),
            question=question,
            tokens=TokenUse(video=1200, merged_away=840),
            caveat="It only repeats.",
        )


@pytest.fixture
def parrot(monkeypatch: pytest.MonkeyPatch) -> Parrot:
    made = Parrot()

    def load(reference: str = "default", **options: Any) -> VideoChat:
        made.loaded.append((reference, options))
        return made

    monkeypatch.setattr(chats, "load_chat", load)
    return made


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"")
    return path


def test_several_questions_read_the_video_once(run: Run, parrot: Parrot, clip: Path) -> None:
    ran = run("ask", clip, "Who?", "Where [bold]?")
    assert ran.code == 0
    assert parrot.opened == [str(clip)]
    assert ran.out == "> Who?\nYou ask: Who?\n\n> Where [bold]?\nYou ask: Where [bold]?\n"
    assert ran.err.count("looked most at 1:02.5") == 2
    assert ran.err.count("1200 video tokens, merged to 360") == 2
    assert ran.err.count("It only repeats.") == 1


def test_one_question_is_one_object_and_several_are_a_list(run: Run, parrot: Parrot, clip: Path) -> None:
    one = run("ask", clip, "Who?", "-f", "json").json
    assert (one["text"], one["tokens"]["kept"]) == ("You ask: Who?", 360)
    many = run("ask", clip, "Who?", "Where?", "-f", "json").json
    assert [answer["question"] for answer in many] == ["Who?", "Where?"]


def test_on_a_terminal_the_answer_is_written_as_it_comes(
    run: Run, parrot: Parrot, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(sys.stdout), "isatty", lambda self: True, raising=False)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    ran = run("ask", clip, "Who \x1b[31m?")
    assert ran.out == "You ask: Who \\x1b[31m?\n"


def test_the_options_reach_the_model(run: Run, parrot: Parrot, clip: Path, tmp_path: Path) -> None:
    cache = tmp_path / "prefixes"
    words = ("--model", "hf:org/name@abc", "--method", "tome", "--budget", "4000", "--layer", "0")
    assert run("ask", clip, "Who?", *words, "--cache", cache, "--int8").code == 0
    reference, options = parrot.loaded[0]
    store = options.pop("store")
    assert reference == "hf:org/name@abc"
    assert options.pop("device") == best_device()
    assert options.pop("config") == HFChatConfig()
    assert options == {"method": "tome", "budget": 4000, "layer": 0}
    assert store.disk.folder == cache
    assert store.int8
    run("ask", clip, "Who?", "--budget", "0.3")
    _, options = parrot.loaded[1]
    assert options.pop("store").disk is None
    assert options == {"method": "sttm", "budget": 0.3, "device": best_device()}


def best_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def test_a_model_is_placed_and_shown_videos_as_told(run: Run, parrot: Parrot, clip: Path) -> None:
    place = (
        "--device",
        "cpu",
        "--dtype",
        "bfloat16",
        "--device-map",
        "auto",
        "--rope-factor",
        "2",
        "--context",
        "65536",
    )
    look = ("--fps", "2", "--max-frames", "180", "--too-long", "refuse")
    assert run("ask", clip, "Who?", "--model", "hf:org/name", *place, *look).code == 0
    _, options = parrot.loaded[0]
    options.pop("store")
    assert options == {
        "device": "cpu", "dtype": "bfloat16", "device_map": "auto", "rope_factor": 2.0, "context": 65536,
        "config": HFChatConfig(fps=2.0, max_frames=180, too_long="refuse"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--max-frames", "16"), "The default model has no --max-frames."),
        (("--dtype", "float16", "--context", "9"), "The default model has no --dtype, --context."),
        (("--device", "abacus"), "--device is 'abacus'"),
        (("--device", "cuda:99"), "--device is 'cuda:99', and torch finds"),
        (("-m", "hf:org/name", "--fps", "-1"), "fps is -1.0"),
    ],
)
def test_places_and_looks_that_cannot_be(
    words: tuple[str, ...], said: str, run: Run, parrot: Parrot, clip: Path
) -> None:
    ran = run("ask", clip, "Who?", *words)
    assert ran.code == 2
    assert said in ran.err
    assert parrot.loaded == []
    assert parrot.opened == []


@pytest.mark.parametrize("budget", ["much", "0,3", "-1", "nan", "0", "4000.5", "inf"])
def test_a_budget_that_is_none(run: Run, clip: Path, budget: str) -> None:
    ran = run("ask", clip, "Who?", "-m", "hf:org/name", f"--budget={budget}")
    assert ran.code == 2
    assert f"--budget is '{budget}'" in ran.err


def test_an_empty_question_among_others_stops_before_anything_is_read(run: Run, parrot: Parrot, clip: Path) -> None:
    ran = run("ask", clip, "Who?", " ")
    assert ran.code == 2
    assert "question is empty" in ran.err
    assert parrot.loaded == []


def test_a_layer_that_the_default_cannot_merge_at_is_refused(run: Run, clip: Path) -> None:
    ran = run("ask", clip, "Who?", "--method", "sttm", "--budget", "0.5", "--layer", "2")
    assert ran.code == 2
    assert "layer is 2. The default model merges in front of layer 0 alone." in ran.err


@pytest.mark.weights
def test_what_was_read_is_kept_for_another_process(run: Run, clips: Path, tmp_path: Path) -> None:
    words = ("ask", clips / "bikes.mp4", "What is shown in this video?", "--cache", tmp_path / "read", "-f", "json")
    first, second = run(*words).json, run(*words).json
    assert first["tokens"]["cached"] == 0
    assert second["tokens"]["cached"] > 0
    assert (second["text"], second["evidence"]) == (first["text"], first["evidence"])
    assert second["timing"]["decode_s"] == 0


@pytest.mark.weights
def test_a_library_has_its_own_salt(run: Run, parrot: Parrot, made: Path) -> None:
    listed = run("list", "-L", made, "-f", "json").json
    answer = run("ask", listed[0]["id"], "Who?", "-L", made, "-f", "json").json
    assert answer["video"] == listed[0]["id"]
    assert parrot.opened == [listed[0]["paths"][0]]
    assert parrot.loaded[0][1]["store"].salt == str(made.resolve())
