"""A library of the sample clips, made once through the command line, and a way to run a command."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from trifocal import weights
from trifocal.cli import main


@dataclass(frozen=True)
class Ran:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Ran]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs `trifocal WORDS...` in this process."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("TRIFOCAL_LIBRARY", raising=False)

    def call(*words: str | Path) -> Ran:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main([str(word) for word in words])
        captured = capsys.readouterr()
        code = stopped.value.code
        return Ran(code=code if isinstance(code, int) else 0 if code is None else 1, out=captured.out, err=captured.err)

    return call


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the three sample clips."""
    folder = tmp_path_factory.mktemp("clips")
    for clip in sorted(weights.fetch("sample-clips").glob("*.mp4")):
        shutil.copy(clip, folder)
    return folder


@pytest.fixture(scope="session")
def made(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that holds them. Tests that change it take `library` instead."""
    folder = tmp_path_factory.mktemp("made") / "library"
    with pytest.raises(SystemExit) as stopped:
        main(["add", str(clips), "--library", str(folder)])
    assert stopped.value.code == 0
    return folder


@pytest.fixture
def library(made: Path, tmp_path: Path) -> Path:
    """A copy of the library, to be changed."""
    folder = tmp_path / "library"
    shutil.copytree(made, folder)
    return folder
