"""`find` by pictures, clips, combinations, batches and filters, and `reindex`, on the sample clips."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trifocal.cli.asked import filter_from, queries_from
from trifocal.errors import InvalidInput
from trifocal.video import cut_clip

Run = Callable[..., Any]

pytestmark = pytest.mark.weights


def first(found: Any) -> str:
    return Path(found.json[0]["moments"][0]["path"]).name


def test_find_like_a_picture_and_like_a_clip(run: Run, made: Path, clips: Path, tmp_path: Path) -> None:
    path = next(path for path in clips.iterdir() if "bikes" in path.name)
    cut_clip(path, tmp_path / "part.mp4", start_s=1.0, end_s=3.0)
    found = run("find", "--library", made, "--clip", tmp_path / "part.mp4", "--format", "json")
    assert found.code == 0, found.err
    assert first(found) == path.name
    assert found.json[0]["query"] == "part.mp4"
    picture = next((made / "thumbnails").iterdir())
    image = next(picture.iterdir())
    found = run("find", "--library", made, "--image", image, "--top", "1", "--format", "json")
    assert found.code == 0, found.err
    assert found.json[0]["moments"][0]["video"] == picture.name


def test_find_together_and_not(run: Run, made: Path) -> None:
    both = run("find", "a street", "--and", "bicycles", "--not", "a cartoon", "--library", made, "--format", "json")
    assert both.json[0]["query"] == "a street + bicycles − a cartoon"
    assert "bikes" in first(both)


def test_find_a_batch(run: Run, made: Path, tmp_path: Path) -> None:
    (tmp_path / "queries.txt").write_text("a rabbit\n\n  a bicycle  \n", encoding="utf-8")
    found = run("find", "--queries", tmp_path / "queries.txt", "--library", made, "--format", "json")
    assert [one["query"] for one in found.json] == ["a rabbit", "a bicycle"]
    alone = run("find", "a bicycle", "--library", made, "--format", "json")
    assert found.json[1]["moments"][0]["video"] == alone.json[0]["moments"][0]["video"]


def test_find_with_filters(run: Run, made: Path, clips: Path, tmp_path: Path) -> None:
    words = ("find", "a car", "--library", made, "--format", "json")
    assert len(run(*words, "--folder", clips).json[0]["moments"]) == 3
    assert run(*words, "--folder", tmp_path).json[0]["moments"] == []
    assert run(*words, "--before", "1990-01-01").json[0]["moments"] == []
    assert len(run(*words, "--after", "1990-01-01", "--longer", "0.5").json[0]["moments"]) == 3
    assert run(*words, "--shorter", "0.5").json[0]["moments"] == []


def test_what_cannot_be_asked(run: Run, made: Path, tmp_path: Path) -> None:
    for words in (
        ["find", "--library", made],
        ["find", "x", "--library", made, "--after", "yesterday"],
        ["find", "--library", made, "--queries", tmp_path / "nothing.txt"],
        ["find", "--library", made, "--image", tmp_path / "nothing.png"],
    ):
        ran = run(*words)
        assert ran.code == 2, words
        assert ran.err.startswith("error: ")


def test_reindex_with_other_settings(run: Run, library: Path) -> None:
    before = run("find", "a rabbit", "--library", library, "--format", "json")
    ran = run("reindex", "--library", library, "--prototypes", "4", "--clip-tokens", "int8", "--format", "json")
    assert (ran.code, ran.json["swapped"], ran.json["videos"]) == (0, True, 3)
    after = run("find", "a rabbit", "--library", library, "--format", "json")
    assert first(after) == first(before)
    assert run("verify", "--library", library).code == 0
    again = run("reindex", "--library", library)
    assert again.code == 2
    assert "already" in again.err
    assert run("reindex", "--library", library, "--uri", "x").code == 2


def test_queries_and_filters_of_options() -> None:
    none: dict[str, Any] = {"file": None, "together": [], "but_not": [], "images": None, "clips": None}
    made = queries_from(["a", "b"], **{**none, "together": ["c"], "but_not": ["d"], "images": [Path("x/p.png")]})
    assert list(made) == ["a + c + p.png − d", "b + c + p.png − d"]
    assert list(queries_from([], **{**none, "together": ["c", "d"]})) == ["c + d"]
    with pytest.raises(InvalidInput):
        queries_from([], **none)
    unset: dict[str, Any] = {"folder": None, "after": None, "before": None, "longer": None, "shorter": None}
    assert filter_from(**unset) is None
    where = filter_from(**{**unset, "after": "2026-03-01T00:00+00:00", "longer": 3.0})
    assert where is not None
    assert (where.after_s, where.shortest_s) == (1772323200.0, 3.0)
