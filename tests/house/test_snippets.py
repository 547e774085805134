"""Every snippet of the README and the docs runs, in order, in a folder that holds what they speak of.

Python blocks of a page share one namespace, `bash` blocks run with `bash -e`. Blocks that set the project up (`make`,
`git`, `pip`) are what the test run itself stands on, so they are not run again.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
BLOCK = re.compile(r"^```(python|bash)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SET_UP = ("make ", "git ", "pip ")


def blocks(page: Path) -> list[tuple[str, str]]:
    found = [(match[1], match[2]) for match in BLOCK.finditer(page.read_text(encoding="utf-8"))]
    return [(language, text) for language, text in found if not text.startswith(SET_UP)]


@pytest.fixture
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with `videos/`, an own library, and `trifocal` on the path."""
    from trifocal import weights

    videos = tmp_path / "videos"
    videos.mkdir()
    for clip in sorted(weights.fetch("sample-clips").glob("*.mp4")):
        shutil.copy(clip, videos)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRIFOCAL_LIBRARY", str(tmp_path / "library"))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


def test_the_readme_has_both_kinds() -> None:
    assert {language for language, _ in blocks(ROOT / "README.md")} == {"python", "bash"}


@pytest.mark.weights
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=lambda page: str(page.relative_to(ROOT)))
def test_snippets_run(page: Path, surroundings: Path) -> None:
    namespace: dict[str, object] = {"__name__": "snippet"}
    for language, text in blocks(page):
        if language == "python":
            exec(compile(text, str(page), "exec"), namespace)
        else:
            done = subprocess.run(["bash", "-e", "-c", text], capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
