"""The whole with the real parts: sample clips, the default encoder, the default chat model."""

from __future__ import annotations

from pathlib import Path

import pytest

from trifocal.library import Library

QUERIES = {
    "a person playing basketball": "basketball.mp4",
    "a cartoon rabbit in the grass": "bigbuckbunny.mp4",
    "a man with a bow tie in a car": "carphone_pristine.mp4",
    "cars and bicycles in a street": "bikes.mp4",
}


@pytest.mark.weights
def test_the_right_clip_comes_first(shared: Path, tmp_path: Path) -> None:
    with Library.create(tmp_path / "library") as library:
        report = library.add(shared / "clips")
        assert (len(report.added), report.failed) == (6, ())
        for text, name in QUERIES.items():
            found = [Path(library.video(moment.video).paths[0]).name for moment in library.find(text)]
            assert found[0] == name, text
            assert len(found) == 6
        assert library.verify(sources=True).ok


@pytest.mark.weights
@pytest.mark.slow
def test_ask(shared: Path, tmp_path: Path) -> None:
    path = shared / "clips" / "bikes.mp4"
    with Library.create(tmp_path / "library") as library:
        library.add(path)
        answer = library.ask(path, "What is shown?")
        assert answer.video == library.video(path).id
        assert answer.text


def test_importing_it_stays_free_of_torch() -> None:
    import subprocess
    import sys

    code = "import sys, trifocal.library; sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
