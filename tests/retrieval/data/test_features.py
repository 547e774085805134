from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trifocal.errors import InvalidInput, NotInLibrary
from trifocal.retrieval.data import ArrayRows, BigFileRows, FolderRows, Hdf5Rows, RowSource, write_bigfile, write_hdf5
from trifocal.retrieval.data.features import write_folder_rows
from trifocal.retrieval.data.literal import parse_video_frames

from .conftest import rows

ROWS = {"v_a": rows(4, 3, 0), "b": rows(1, 3, 1)}


def written(kind: str, folder: Path) -> RowSource:
    if kind == "bigfile":
        write_bigfile(folder / "big", ROWS)
        return BigFileRows(folder / "big")
    if kind == "hdf5":
        write_hdf5(folder / "x.h5", ROWS)
        return Hdf5Rows(folder / "x.h5")
    if kind == "folder":
        for name, one in ROWS.items():
            write_folder_rows(
                folder / "f",
                name,
                one,
                times_s=np.arange(0, 1.5 * len(one), 1.5, dtype=np.float64),
                end_s=9.0,
                content="c",
            )
        return FolderRows(folder / "f")
    return ArrayRows(ROWS)


@pytest.mark.parametrize("kind", ["bigfile", "hdf5", "folder", "array"])
def test_rows_come_back(kind: str, tmp_path: Path) -> None:
    source = written(kind, tmp_path)
    assert isinstance(source, RowSource)
    assert sorted(source.ids()) == sorted(ROWS)
    assert source.dim == 3
    for name, one in ROWS.items():
        found = source.read(name)
        np.testing.assert_array_equal(found, one)
        assert found.dtype == np.float32
        assert name in source
        assert source.count(name) == len(one)
    assert "c" not in source
    for act in (source.read, source.count):
        with pytest.raises(NotInLibrary, match=r"has no rows of 'c'"):
            act("c")


def test_folder_rows_know_their_times(tmp_path: Path) -> None:
    source = written("folder", tmp_path)
    assert isinstance(source, FolderRows)
    assert source.times_s("v_a").tolist() == [0.0, 1.5, 3.0, 4.5]
    assert (source.end_s("b"), source.content("b")) == (9.0, "c")


def test_names_that_look_alike_on_disk_stay_apart(tmp_path: Path) -> None:
    for value, name in enumerate(("a/b.mp4", "a_b.mp4", "a?b.mp4")):
        write_folder_rows(tmp_path, name, np.full((1, 2), value, np.float32), times_s=np.zeros(1), end_s=1.0)
    source = FolderRows(tmp_path)
    assert [float(source.read(name)[0, 0]) for name in ("a/b.mp4", "a_b.mp4", "a?b.mp4")] == [0.0, 1.0, 2.0]


@pytest.mark.parametrize(("stored", "asked"), [("x", "v_x"), ("v_x", "x"), ("v_x", "v_x")])
def test_the_prefix_of_activitynet_may_differ(stored: str, asked: str, tmp_path: Path) -> None:
    write_hdf5(tmp_path / "x.h5", {stored: ROWS["b"]})
    source = Hdf5Rows(tmp_path / "x.h5")
    assert asked in source
    np.testing.assert_array_equal(source.read(asked), ROWS["b"])


# ------------------------------------------------------------------------------------------------------ broken files


def broken(folder: Path, name: str, content: bytes) -> Path:
    write_bigfile(folder, ROWS)
    (folder / name).write_bytes(content)
    return folder


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("shape.txt", b"5", r"shape\.txt, line 1: is '5'"),
        ("shape.txt", b"5 -3", r"shape\.txt, line 1"),
        ("shape.txt", b"6 3", r"feature\.bin has 60 bytes, and shape\.txt says 6 rows of 3 floats, 72 bytes"),
        ("feature.bin", b"\0" * 59, r"feature\.bin has 59 bytes"),
        ("id.txt", b"one two", r"id\.txt has 2 ids, and shape\.txt says 5 rows"),
        ("video2frames.txt", b"{'v': ['nowhere']}", r"video2frames\.txt: 'v' has the frame 'nowhere'"),
        ("video2frames.txt", b"__import__('os').system('true')", r"video2frames\.txt, line 1, column 1: .__import__"),
        ("video2frames.txt", b"{'v': ['b_0'],\n 'w' ['b_0']}", r"line 2, column 6: \[ where : should be"),
    ],
)
def test_a_broken_bigfile_is_told(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=message):
        BigFileRows(broken(tmp_path, name, content))


@pytest.mark.parametrize("name", ["feature.bin", "id.txt", "shape.txt", "video2frames.txt"])
def test_a_missing_part_is_told(name: str, tmp_path: Path) -> None:
    write_bigfile(tmp_path, ROWS)
    (tmp_path / name).unlink()
    with pytest.raises(InvalidInput, match=rf"there is no file .*{name}"):
        BigFileRows(tmp_path)


def test_values_that_are_no_numbers_are_told_by_row(tmp_path: Path) -> None:
    bad = ROWS["v_a"].copy()
    bad[2, 1] = np.nan
    write_bigfile(tmp_path / "big", {"v": bad})
    write_hdf5(tmp_path / "x.h5", {"v": bad})
    for source in (BigFileRows(tmp_path / "big"), Hdf5Rows(tmp_path / "x.h5")):
        with pytest.raises(InvalidInput, match=r"row 2 of 'v' in .* holds NaN"):
            source.read("v")


def test_broken_hdf5_is_told(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    path.write_bytes(b"no hdf5")
    with pytest.raises(InvalidInput, match=r"is not an HDF5 file"):
        Hdf5Rows(path)
    with h5py.File(path, "w") as file:
        file.create_dataset("a", data=np.zeros(3))
    with pytest.raises(InvalidInput, match=r"'a' has the shape \(3,\)"):
        Hdf5Rows(path)
    with h5py.File(path, "w"):
        pass
    with pytest.raises(InvalidInput, match=r"holds no data sets"):
        Hdf5Rows(path)
    with h5py.File(path, "w") as file:
        file.create_dataset("a", data=np.zeros((2, 3), np.float32))
        file.create_dataset("b", data=np.zeros((2, 4), np.float32))
        file.create_group("c")
        file.create_dataset("d", data=np.array([[b"x"]]))
    source = Hdf5Rows(path)
    for name, message in (("b", "rows of 4 numbers"), ("c", "is not a data set"), ("d", r"are \|S1")):
        with pytest.raises(InvalidInput, match=message):
            source.read(name)


def test_links_out_of_an_hdf5_file_are_refused(tmp_path: Path) -> None:
    write_hdf5(tmp_path / "other.h5", {"a": ROWS["b"]})
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("a", data=ROWS["b"])
        file["out"] = h5py.ExternalLink("other.h5", "/a")
        file["soft"] = h5py.SoftLink("/a")
        file.create_dataset("raw", shape=(1, 3), dtype="f4", external=[(str(tmp_path / "other.h5"), 0, 12)])
    source = Hdf5Rows(tmp_path / "x.h5")
    for name in ("out", "soft", "raw"):
        with pytest.raises(InvalidInput, match=r"is a link to another place|is not a data set in this file"):
            source.read(name)


def test_broken_npz_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"holds no features"):
        FolderRows(tmp_path)
    (tmp_path / "a.npz").write_bytes(b"no zip")
    with pytest.raises(InvalidInput, match=r"a\.npz cannot be read"):
        FolderRows(tmp_path)
    np.savez(tmp_path / "a.npz", rows=np.zeros((1, 2)))
    with pytest.raises(InvalidInput, match=r"a\.npz holds rows"):
        FolderRows(tmp_path)


def test_bad_rows_are_refused_on_writing(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"the widths"):
        ArrayRows({"a": rows(1, 2, 0), "b": rows(1, 3, 0)})
    with pytest.raises(InvalidInput, match=r"'a' are"):
        ArrayRows({"a": np.zeros((0, 2))})
    with pytest.raises(InvalidInput, match=r"has a blank"):
        write_bigfile(tmp_path, {"a b": rows(1, 2, 0)})
    with pytest.raises(InvalidInput, match=r"cannot name a data set"):
        write_hdf5(tmp_path / "x.h5", {"a/b": rows(1, 2, 0)})


# ------------------------------------------------------------------------------------------------------- the literal

NAMES = st.text(max_size=8)


@given(st.dictionaries(NAMES, st.lists(NAMES, max_size=3), max_size=4))
def test_the_literal_that_python_writes_is_read(value: dict[str, list[str]]) -> None:
    assert parse_video_frames(repr(value), path=Path("x")) == value


def test_the_literal_of_other_writers_is_read() -> None:
    text = "\n{ u'a' : [u\"a_0\",\n'a_1',], \"it's\": [] , }\n"
    assert parse_video_frames(text, path=Path("x")) == {"a": ["a_0", "a_1"], "it's": []}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "{'a'}",
        "{'a': 'b'}",
        "{'a': ['b'}",
        "{'a': ['b']}}",
        "{'a': [['b']]}",
        "{'a': [1]}",
        "{'a': ('b',)}",
        "['a']",
        "{'a': ['b' 'c']}",
        "{'a': [], 'a': []}",
        "{'a': [,]}",
        "{'a': ['b'",
        "{'a': ['b]}",
        "dict(a=[])",
        "{'a': [open('x')]}",
        "{'a': [b'x']}",
        "{" * 100_000,
    ],
)
def test_anything_else_is_refused_with_its_place(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"x, line \d+, column \d+"):
        parse_video_frames(text, path=Path("x"))


WRITE = """
import sys
from pathlib import Path
import numpy as np
from trifocal.retrieval.data.features import write_folder_rows
for number in range(150):
    write_folder_rows(Path(sys.argv[1]), "same", np.ones((2, 3), np.float32), times_s=np.arange(2.0), end_s=2.0)
"""


def test_two_processes_may_write_the_same_id(tmp_path: Path) -> None:
    both = [subprocess.Popen([sys.executable, "-c", WRITE, str(tmp_path)], stderr=subprocess.PIPE) for _ in range(2)]
    for one in both:
        _, said = one.communicate(timeout=120)
        assert one.returncode == 0, said.decode()
    assert FolderRows(tmp_path).count("same") == 2
    assert [path.suffix for path in tmp_path.iterdir()] == [".npz"]
