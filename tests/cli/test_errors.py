"""What a user sees when something is wrong: one line, with the value and the remedy, and an exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.cli.conftest import Run

from trifocal.cli import find

ROWS = {
    "no library": (["find", "a dog", "-L", "{tmp}/none"], 5, ["there is no library in", "add"]),
    "empty query": (["find", " ", "-L", "{made}"], 2, ["empty"]),
    "unknown video": (["show", "ffffff", "-L", "{made}"], 5, ["ffffff"]),
    "ask about nothing": (["ask", "{tmp}/none.mp4", "what?", "-L", "{made}"], 3, ["none.mp4", "trifocal list"]),
    "ask nothing": (["ask", "{clips}/bikes.mp4", "  "], 2, ["question"]),
    "unknown weights": (["weights", "path", "nothing-like-it"], 2, ["nothing-like-it"]),
    "a query that is no text": (["find", "a \udcff", "-L", "{made}"], 2, ["UTF-8"]),
    "a name too long": (["ask", "x" * 300, "what?", "-L", "{made}"], 3, ["neither a file nor"]),
    "a library path too long": (["list", "-L", "{tmp}/" + "x" * 300], 5, ["too long", "path"]),
    "a library inside a file": (["add", "{clips}", "-L", "{clips}/bikes.mp4/x"], 5, ["path"]),
    "page into nowhere": (["find", "a", "-L", "{made}", "--page", "{clips}/bikes.mp4/x.html"], 2, ["x.html"]),
    "page over a folder": (["find", "a", "-L", "{made}", "--page", "{tmp}"], 2, ["cannot be written"]),
    "sheet into nowhere": (["find", "a", "-L", "{made}", "--sheet", "{clips}/bikes.mp4/x.jpg"], 2, ["x.jpg"]),
    "clips over a file": (["find", "a", "-L", "{made}", "--clips", "{clips}/bikes.mp4"], 2, ["bikes.mp4"]),
    "unknown limit": (["add", "{clips}", "-L", "{tmp}/new", "--limit", "hours=9"], 2, ["hours", "duration_s"]),
    "odd limit": (["add", "{clips}", "-L", "{tmp}/new", "--limit", "fps=many"], 2, ["fps", "many"]),
    "not in folder": (["add", "{tmp}/nowhere", "-L", "{tmp}/new"], 3, ["nowhere"]),
}


@pytest.mark.weights
@pytest.mark.parametrize("row", ROWS)
def test_an_error_is_one_line_with_its_remedy(run: Run, made: Path, clips: Path, tmp_path: Path, row: str) -> None:
    words, code, parts = ROWS[row]
    done = run(*(word.format(tmp=tmp_path, made=made, clips=clips) for word in words))
    assert done.code == code, done.out + done.err
    said = (done.err + done.out).strip()
    assert "Traceback" not in said
    for part in parts:
        assert part in said
    if code != 3 or words[0] != "add":
        assert len(done.err.strip().splitlines()) == 1
        assert done.err.startswith("error: ")


def test_json_errors_are_json(run: Run, tmp_path: Path) -> None:
    done = run("list", "-L", tmp_path / "none", "--format", "json")
    assert done.code == 5
    assert done.out == ""
    error = json.loads(done.err)["error"]
    assert error["code"] == "library_not_found"
    assert error["remedy"]


def test_debug_shows_the_traceback(run: Run, tmp_path: Path) -> None:
    for words in (["--debug", "list"], ["list", "--debug"]):
        done = run(*words, "-L", tmp_path / "none")
        assert "Traceback" in done.err
        assert done.err.rstrip().splitlines()[-1].startswith("error: ")


def test_debug_after_the_separator_is_text(run: Run, tmp_path: Path) -> None:
    done = run("find", "-L", tmp_path / "none", "--", "--debug")
    assert done.code == 5
    assert "Traceback" not in done.err


@pytest.mark.parametrize("words", [["nothing"], ["find"], ["find", "x", "-n", "0"], ["find", "x", "--format", "xml"]])
def test_wrong_usage_is_2(run: Run, words: list[str]) -> None:
    assert run(*words).code == 2


def test_a_defect_is_told_as_one(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Path:
        raise ZeroDivisionError("planted")

    monkeypatch.setattr(find, "default_library", broken)
    done = run("find", "a dog")
    assert done.code == 1
    assert "a defect in trifocal" in done.err
    assert "ZeroDivisionError: planted" in done.err
    assert "--debug" in done.err


def test_interrupting_is_130(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(find, "default_library", interrupted)
    done = run("find", "a dog")
    assert done.code == 130
    assert done.err == "interrupted; what was finished is kept\n"


@pytest.mark.weights
def test_limits_can_be_set(run: Run, clips: Path, tmp_path: Path) -> None:
    words = ("add", clips / "bikes.mp4", "-L", tmp_path / "new")
    refused = run(*words, "--limit", "duration_s=5")
    assert refused.code == 3
    assert "longer than 5 s" in refused.err
    assert "--limit NAME=NUMBER" in refused.err
    assert run(*words, "--limit", "duration_s=20", "--retry-failed").code == 0
