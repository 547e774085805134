"""Names of classes beside an AVA csv: written with it, found by its name, and nobody else's file overwritten."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from trifocal.action.data.formats import read_label_map, read_labels, write_labels
from trifocal.action.data.formats.label_maps import label_map_beside, write_label_map
from trifocal.action.labels import LabelMap, Labels, VideoLabels
from trifocal.errors import InvalidInput

CLASSES = LabelMap(('say "no" # \\', "talk to (e.g., self)", "naïve"), (3, 11, 80))


def one_box(classes: LabelMap) -> Labels:
    done = np.ones((1, len(classes)), np.bool_)
    row = np.zeros(1, np.int64)
    return Labels(classes, (VideoLabels("v", row, np.array([[0, 0, 0.5, 1]], np.float32), row, done, 1.0),))


def test_names_survive_and_are_found_beside_the_csv(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    assert write_labels(one_box(CLASSES), path, kind="ava") == (path, tmp_path / "x.pbtxt")
    assert read_label_map(tmp_path / "x.pbtxt") == CLASSES
    assert read_labels(path).classes == CLASSES
    (tmp_path / "other.json").write_text('["a", "b", "walk"]')
    assert read_labels(path, label_map=tmp_path / "other.json").classes.names == ("a", "b", "walk")


@pytest.mark.parametrize(
    "text",
    [
        "item { name: \"sit\" id: 1 } item { label_id: 7, name: 'run' }",
        'item {\n  name: "sit"  # seated\n  id: 1\n}\n# end\nitem {\n  name: "run"\n  label_id: 7\n  kind: PERSON\n}\n',
    ],
)
def test_items_may_stand_on_a_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.pbtxt").write_text(text)
    assert read_label_map(tmp_path / "x.pbtxt") == LabelMap(("sit", "run"), (1, 7))
    (tmp_path / "x.pbtxt").write_text("item { " + text)
    with pytest.raises(InvalidInput, match=r"line 1: it says 'item \{"):
        read_label_map(tmp_path / "x.pbtxt")


def test_the_published_evaluator_reads_its_lines(tmp_path: Path) -> None:
    """It looks at lines that begin with two spaces and `name:` or `id:`."""
    lines = write_label_map(LabelMap.of(["sit"]), tmp_path / "x.csv").read_text().splitlines()
    assert lines[1:] == ["item {", '  name: "sit"', "  id: 1", "}"]


def test_a_label_map_of_others_is_not_overwritten(tmp_path: Path) -> None:
    path, beside = tmp_path / "x.csv", label_map_beside(tmp_path / "x.csv")
    foreign = 'item {\n  name: "sit"\n  id: 1\n}\n'
    beside.write_text(foreign)
    with pytest.raises(InvalidInput, match=r"x\.pbtxt is a label map of other classes"):
        write_labels(one_box(CLASSES), path, kind="ava")
    assert not path.exists()
    write_labels(one_box(LabelMap.of(["sit"])), path, kind="ava")  # it says the same
    assert beside.read_text() == foreign
    beside.write_text("rubbish")
    with pytest.raises(InvalidInput, match="other classes"):
        write_labels(one_box(CLASSES), path, kind="ava")
    beside.unlink()
    write_labels(one_box(CLASSES), path, kind="ava")
    write_labels(one_box(LabelMap.of(["run"])), path, kind="ava")  # what was written here may be written anew
    assert read_labels(path).classes.names == ("run",)


@pytest.mark.parametrize("text", ["", "\n", "video,second,x1,y1,x2,y2,action,person\n"])
def test_a_csv_without_a_row_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(InvalidInput, match=r"x\.csv, line 1: there is no row") as caught:
        read_labels(tmp_path / "x.csv")
    assert "video,second alone where nobody" in caught.value.remedy


def test_nothing_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"nothing to write into x\.csv"):
        write_labels(Labels(CLASSES, ()), tmp_path / "x.csv", kind="ava")
    assert list(tmp_path.iterdir()) == []
