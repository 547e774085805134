"""Features from files: shapes, times, queries, and clear errors."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from trifocal.errors import InvalidInput, MissingExtra, ModelError, NotInLibrary
from trifocal.retrieval import FrameTextEncoder, PrecomputedFeatures, build_prototypes, load_encoder

Units = Callable[..., NDArray[np.float32]]


class Words:
    """A text encoder of any width."""

    id = "words"
    frame_size = (8, 8)

    def __init__(self, dim: int) -> None:
        self.dim = dim

    def encode_frames(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.zeros((len(frames), self.dim), dtype=np.float32)

    def encode_query(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.eye(len(texts), self.dim, dtype=np.float32)


@pytest.fixture
def h5(tmp_path: Path, units: Units) -> Path:
    path = tmp_path / "many.h5"
    with h5py.File(path, "w") as file:
        file["a"] = units(5, 8) * 3
        file["b"] = units(2, 8, seed=1).astype(np.float16)
    return path


@pytest.fixture
def npy(tmp_path: Path, units: Units) -> Path:
    path = tmp_path / "holiday.npy"
    np.save(path, units(5, 8).astype(np.float64) * 3)
    return path


def test_h5_with_a_rate(h5: Path, units: Units) -> None:
    features = PrecomputedFeatures(h5, fps=2.0)
    assert features.videos() == ("a", "b")
    assert features.dim == 8
    read = features.read("a")
    assert np.allclose(read.features, units(5, 8), atol=1e-6)
    assert read.features.dtype == np.float32
    assert read.times_s.tolist() == [0, 0.5, 1, 1.5, 2]
    assert read.end_s == 2.5
    built = build_prototypes(read.features, times_s=read.times_s, end_s=read.end_s, k=3)
    assert built.spans_s[-1, 1] == 2.5


def test_npy_with_times_in_a_file(npy: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "times.npy", np.array([0.0, 1.0, 2.0, 3.0, 10.0]))
    read = PrecomputedFeatures(npy, times=tmp_path / "times.npy").read("holiday")
    assert read.video == "holiday"
    assert read.times_s[-1] == 10
    assert read.end_s == 11


def test_h5_with_times_in_a_file(h5: Path, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "t.h5", "w") as file:
        file["a"] = np.arange(5.0)
    features = PrecomputedFeatures(h5, times=tmp_path / "t.h5")
    assert features.read("a").end_s == 5
    with pytest.raises(InvalidInput, match="'b'"):
        features.read("b")


def test_the_id_tells_spaces_apart(h5: Path, npy: Path, units: Units, tmp_path: Path) -> None:
    plain = PrecomputedFeatures(h5, fps=1).id
    assert plain == PrecomputedFeatures(h5, fps=2).id
    assert plain != PrecomputedFeatures(npy, fps=1).id
    assert plain != PrecomputedFeatures(h5, fps=1, text=Words(8)).id
    assert PrecomputedFeatures(h5, fps=1, space="s").id == PrecomputedFeatures(npy, fps=1, space="s").id
    assert "s" in PrecomputedFeatures(h5, fps=1, space="s").id


def test_queries_need_a_text_encoder_of_the_same_width(h5: Path) -> None:
    with pytest.raises(InvalidInput, match="text="):
        PrecomputedFeatures(h5, fps=1).encode_query(["a dog"])
    assert PrecomputedFeatures(h5, fps=1, text=Words(8)).encode_query(["a dog", "a cat"]).shape == (2, 8)
    with pytest.raises(InvalidInput, match="8 dimensions"):
        PrecomputedFeatures(h5, fps=1, text=Words(9))


def test_it_is_an_encoder_that_cannot_see(npy: Path) -> None:
    encoder = load_encoder(str(npy), fps=1)
    assert isinstance(encoder, FrameTextEncoder)
    assert isinstance(encoder, PrecomputedFeatures)
    with pytest.raises(ModelError):
        encoder.encode_frames(np.zeros((1, 8, 8, 3), dtype=np.uint8))


@pytest.mark.parametrize("options", [{}, {"fps": 1, "times": "t.npy"}, {"fps": 0}, {"fps": float("nan")}])
def test_times_come_from_exactly_one_source(npy: Path, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        PrecomputedFeatures(npy, **options)


def test_features_and_times_are_of_one_kind(npy: Path, h5: Path) -> None:
    for path, times in ((npy, h5), (h5, npy)):
        with pytest.raises(InvalidInput):
            PrecomputedFeatures(path, times=times)


@pytest.mark.parametrize("array", [np.ones(4), np.ones((2, 3, 4)), np.ones((0, 4)), np.ones((4, 0))])
def test_shapes_are_checked_on_opening(tmp_path: Path, array: NDArray[Any]) -> None:
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(InvalidInput, match="shape"):
        PrecomputedFeatures(tmp_path / "x.npy", fps=1)


def test_widths_must_agree(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["a"], file["b"] = np.ones((2, 4)), np.ones((2, 5))
    with pytest.raises(InvalidInput, match="width"):
        PrecomputedFeatures(tmp_path / "x.h5", fps=1)


@pytest.mark.parametrize(
    ("array", "match"), [(np.array([[1, np.nan]]), "row 0"), (np.array([[1.0, 0], [0, 0]]), "row 1")]
)
def test_values_are_checked_on_reading(tmp_path: Path, array: NDArray[Any], match: str) -> None:
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(InvalidInput, match=match):
        PrecomputedFeatures(tmp_path / "x.npy", fps=1).read("x")


@pytest.mark.parametrize("times", [[0, 1], [0, 1, 3, 2, 4], [-1, 0, 1, 2, 3], [0, 1, 2, 3, np.nan], [[0, 1, 2, 3, 4]]])
def test_times_are_checked_on_reading(npy: Path, tmp_path: Path, times: Any) -> None:
    np.save(tmp_path / "t.npy", np.array(times, dtype=float))
    with pytest.raises(InvalidInput, match="times"):
        PrecomputedFeatures(npy, times=tmp_path / "t.npy").read("holiday")


def test_a_single_row_ends_where_it_is(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.ones((1, 4)))
    np.save(tmp_path / "t.npy", np.array([2.0]))
    assert PrecomputedFeatures(tmp_path / "x.npy", times=tmp_path / "t.npy").read("x").end_s == 2


def test_an_unknown_video_is_said(h5: Path) -> None:
    with pytest.raises(NotInLibrary, match="a, b"):
        PrecomputedFeatures(h5, fps=1).read("c")


def test_files_that_are_not_what_they_say(tmp_path: Path) -> None:
    (tmp_path / "x.npy").write_bytes(b"hello")
    (tmp_path / "x.h5").write_bytes(b"hello")
    (tmp_path / "x.csv").write_text("1,2")
    np.save(tmp_path / "o.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    np.save(tmp_path / "s.npy", np.array([["a"]]))
    h5py.File(tmp_path / "empty.h5", "w").close()
    for name in ("x.npy", "x.h5", "x.csv", "o.npy", "s.npy", "empty.h5", "missing.npy"):
        with pytest.raises(InvalidInput):
            PrecomputedFeatures(tmp_path / name, fps=1)


def test_without_h5py_the_extra_is_named(h5: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "h5py":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtra, match=r"trifocal\[features\]"):
        PrecomputedFeatures(h5, fps=1)
