from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from trifocal.errors import InvalidInput
from trifocal.retrieval.data import FIELD_PRESETS, open_field, open_layout, write_hdf5
from trifocal.retrieval.data.presets import FieldPreset

from .conftest import make_layout, rows


def test_the_layout_is_read_with_moments_and_durations(layout: Path) -> None:
    data = open_layout(layout, visual="i3d")
    assert (data.name, data.features.dim, data.words.dim) == ("toy", 8, 6)
    assert set(data.splits) == {"train", "test"}  # "val" is a copy of "test"
    assert [len(data.split(name)) for name in ("train", "test")] == [12, 8]
    first = data.split("test").captions[0]
    assert (first.id, first.moments_s) == ("v_6#enc#0", ((0.0, 2.0),))
    assert data.split("test").durations_s["v_6"] == 11.0
    np.testing.assert_array_equal(data.features.read("v_3"), rows(8, 8, 3))
    with pytest.raises(InvalidInput, match=r"toy has no split 'dev'\. It has train, test"):
        data.split("dev")


def test_both_kinds_of_features_give_the_same(layout: Path) -> None:
    bigfile, hdf5 = (open_layout(layout, visual=name) for name in ("i3d", "toy_clip_L14.h5"))
    for video in bigfile.split("train").videos():
        np.testing.assert_array_equal(bigfile.features.read(video), hdf5.features.read(video))


def test_val_is_test_where_there_is_no_test(layout: Path) -> None:
    (layout / "TextData" / "toytest.caption.txt").unlink()
    assert set(open_layout(layout).splits) == {"train", "test"}


def test_a_val_of_its_own_stays(layout: Path) -> None:
    path = layout / "TextData" / "toytest.caption.txt"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:2]))
    data = open_layout(layout)
    assert [len(data.split(name)) for name in ("train", "val", "test")] == [12, 8, 2]


def test_what_cannot_be_told_apart_is_asked_for(layout: Path) -> None:
    shutil.copytree(layout / "FeatureData" / "i3d", layout / "FeatureData" / "other")
    with pytest.raises(InvalidInput, match=r"has several features: i3d, other"):
        open_layout(layout)
    write_hdf5(layout / "TextData" / "second_query_feat.h5", {"a": rows(1, 2, 0)})
    with pytest.raises(InvalidInput, match=r"should have one HDF5 file and has roberta_toy_query_feat\.hdf5, second"):
        open_layout(layout, visual="i3d")


def test_missing_parts_are_named(layout: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"there is no folder .*FeatureData"):
        open_layout(tmp_path)
    with pytest.raises(InvalidInput, match=r"there is no otherstrain"):
        open_layout(layout, collection="others")


@pytest.mark.parametrize("name", FIELD_PRESETS)
def test_every_preset_opens_the_files_that_it_names(name: str, tmp_path: Path) -> None:
    preset: FieldPreset = FIELD_PRESETS[name]
    made = make_layout(tmp_path / "made", train=3, test=2, widths=(4, 3))
    folder = tmp_path / preset.collection
    (folder / "FeatureData").mkdir(parents=True)
    (folder / "TextData").mkdir()
    source = "toy_clip_L14.h5" if preset.visual.endswith(".h5") else "i3d"
    copy = shutil.copyfile if source.endswith(".h5") else shutil.copytree
    copy(made / "FeatureData" / source, folder / "FeatureData" / preset.visual)
    shutil.copyfile(made / "TextData" / "roberta_toy_query_feat.hdf5", folder / "TextData" / preset.text)
    for split in ("train", "val", "test"):
        file = f"{preset.collection}{split}.caption.txt"
        shutil.copyfile(made / "TextData" / f"toy{split}.caption.txt", folder / "TextData" / file)
    for root in (tmp_path, folder):
        data = open_field(name, root)
        assert (data.name, data.dims) == (name, preset.dims)
        assert [len(data.split(part)) for part in ("train", "test")] == [6, 4]


def test_an_unknown_preset_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"there is no preset 'msrvtt'\. Use one of tvr-i3d, tvr-clip"):
        open_field("msrvtt", tmp_path)


def test_both_kinds_of_features_have_a_preset_for_every_set() -> None:
    kinds: dict[str, set[str]] = {}
    for name in FIELD_PRESETS:
        collection, _, kind = name.partition("-")
        kinds.setdefault(collection, set()).add(kind)
    assert kinds == {
        "tvr": {"i3d", "clip"},
        "activitynet": {"i3d", "clip"},
        "charades": {"i3d", "clip"},
        "qvhighlights": {"slowfast", "clip"},
    }
