"""Every kind of reference, and text that is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from trifocal.errors import InvalidInput
from trifocal.weights import KNOWN, HubRepository, PinnedWheel, parse_reference


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("minilm-l6-v2", KNOWN["minilm-l6-v2"]),
        ("/models/clip", Path("/models/clip")),
        ("./minilm-l6-v2", Path("minilm-l6-v2")),
        ("../clip", Path("../clip")),
        ("openai/clip-vit-base-patch32", HubRepository("openai/clip-vit-base-patch32")),
        ("hf:openai/clip-vit-base-patch32", HubRepository("openai/clip-vit-base-patch32")),
        ("hf:org/name@v1.0", HubRepository("org/name", "v1.0")),
        ("org/name@refs/pr/3", HubRepository("org/name", "refs/pr/3")),
    ],
)
def test_parses(text: str, expected: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert parse_reference(text) == expected


@pytest.mark.parametrize(
    "text", ["", "clip", "hf:", "hf:clip", "a/b/c", "org/na me", "org/name@", "hf:org/../x", "-x/y", "a" * 5000]
)
def test_refuses(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidInput, match="minilm-l6-v2"):
        parse_reference(text)


def test_home_is_expanded() -> None:
    assert parse_reference("~/model") == Path.home() / "model"
    assert parse_reference("~nobody-of-that-name/model") == Path("~nobody-of-that-name/model")


def test_a_folder_that_exists_wins_over_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "org" / "name").mkdir(parents=True)
    assert parse_reference("org/name") == Path("org/name")
    assert parse_reference("hf:org/name") == HubRepository("org/name")


def test_objects_pass_through(pinned: PinnedWheel, tmp_path: Path) -> None:
    assert parse_reference(pinned) is pinned
    assert parse_reference(tmp_path) == tmp_path


def test_repository_prints_as_a_reference_to_itself() -> None:
    repository = HubRepository("org/name", "abc")
    assert parse_reference(str(repository)) == repository
