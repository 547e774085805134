"""Files with odd names, files that browsers cannot play, files that have gone: what is printed and written is safe."""

from __future__ import annotations

import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
from tests.cli.conftest import Run

from trifocal import video
from trifocal.cli.output import visible

NAMES = (
    "<img src=x onerror=alert(1)>.mp4",
    "a#b%20c?d\"e'&.mp4",
    "new\nline \x1b[31mred.mp4",
    "[bold]ünï 日本.mp4",
    "long" * 61 + ".mp4",
    "no browser plays #1.mkv",
)


class Players(HTMLParser):
    """The tags of a page, and what its players open."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.sources += [value or "" for name, value in attrs if tag == "video" and name == "src"]


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of videos with odd names."""
    folder = tmp_path_factory.mktemp("odd")
    for number, name in enumerate(NAMES):
        shades = np.random.default_rng(number).integers(0, 200, (20, 4, 4, 3), dtype=np.uint8)
        made = folder / "made.mp4"
        video.write_mp4(made, (shade.repeat(16, axis=0).repeat(16, axis=1) for shade in shades), fps=10)
        made.rename(folder / name)
    return folder


@pytest.fixture
def library(odd: Path, tmp_path: Path, run: Run) -> Path:
    folder = tmp_path / "library"
    assert run("add", odd, "-L", folder).code == 0
    return folder


def test_visible_spells_out_what_moves_the_cursor() -> None:
    assert visible("a\x1b[31m\n\x07\u202e\udcff\u2028é 日\u202f") == r"a\x1b[31m\n\x07\u202e\udcff\u2028é 日" + "\u202f"


@pytest.mark.weights
def test_the_terminal_is_safe_from_names(run: Run, library: Path) -> None:
    for words in (["list"], ["find", "red"]):
        done = run(*words, "-L", library)
        assert done.code == 0
        assert "\x1b" not in done.out + done.err
        assert len([line for line in done.out.splitlines() if ".m" in line]) == len(NAMES)
        assert r"new\nline \x1b[31mred.mp4" in done.out
        assert "[bold]ünï 日本.mp4" in done.out


@pytest.mark.weights
def test_page_and_clips_of_odd_names(run: Run, library: Path, tmp_path: Path) -> None:
    page, clips = tmp_path / "out #1" / "mo%ments?.html", tmp_path / "clips"
    assert run("find", "<b>red</b>", "-L", library, "--page", page, "--clips", clips).code == 0
    text = page.read_text(encoding="utf-8")
    players = Players()
    players.feed(text)
    assert players.tags.isdisjoint({"img", "b", "script"})
    assert len(players.sources) == len(NAMES)
    for source in players.sources:
        assert re.fullmatch(r"[\w./%~-]+(#t=[\d.,]+)?", source), source
        target = (page.parent / unquote(urlsplit(source).path)).resolve()
        assert video.probe(target).codec == "h264"
        assert target.suffix == ".mp4"
    assert len(list(clips.iterdir())) == len(NAMES)
    assert all(path.name.isprintable() and len(path.name.encode()) < 200 for path in clips.iterdir())


@pytest.mark.weights
def test_a_file_that_has_gone_costs_its_clip_alone(run: Run, odd: Path, tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    shutil.copytree(odd, videos)
    library, page, clips = tmp_path / "library", tmp_path / "page.html", tmp_path / "clips"
    run("add", videos, "-L", library)
    (videos / NAMES[-1]).unlink()
    done = run("find", "red", "-L", library, "--page", page, "--clips", clips)
    assert done.code == 0
    assert "no clip: no file of video" in done.err
    assert len(list(clips.iterdir())) == len(NAMES) - 1
    assert page.exists()


@pytest.mark.weights
def test_narrow_terminals_keep_the_numbers(
    run: Run, library: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("trifocal.cli.output._UNBOUNDED", 40)
    for words, shape in (
        (["list"], r"^[0-9a-f]{8} +0:02\.0 "),
        (["find", "red"], r"^ ?1 +0:0\d\.\d +0:0\d\.\d +-?0\.\d{3} "),
    ):
        out = run(*words, "-L", library).out
        assert re.search(shape, out, re.MULTILINE), out
        assert max(map(len, out.splitlines()[:-1])) <= 40


@pytest.mark.weights
def test_a_damaged_thumbnail_is_told_with_its_remedy(run: Run, library: Path, tmp_path: Path) -> None:
    for path in (library / "thumbnails").rglob("*.jpg"):
        path.write_bytes(b"no picture")
    done = run("find", "red", "-L", library, "--sheet", tmp_path / "sheet.jpg")
    assert done.code == 5
    assert "verify --repair" in done.err


@pytest.mark.weights
def test_repair_tells_what_is_lost(run: Run, odd: Path, tmp_path: Path) -> None:
    videos, library = tmp_path / "videos", tmp_path / "library"
    shutil.copytree(odd, videos)
    run("add", videos, "-L", library)
    record: dict[str, Any] = run("list", "-L", library, "-f", "json").json[0]
    (library / "prototypes" / f"{record['id']}.npy").unlink()
    Path(record["paths"][0]).unlink()
    done = run("verify", "--repair", "-L", library)
    assert f"not repaired: video {record['id']}" in done.out
