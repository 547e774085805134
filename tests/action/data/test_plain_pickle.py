"""Security item 10: data-set pickles give builtins and arrays, and nothing in them runs."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trifocal.action.data.plain_pickle import load_plain_pickle
from trifocal.errors import InvalidInput

VALUE: dict[Any, Any] = {
    "numbers": [1, -2.5, 10**12, None, True, False],
    "tuple": (1, 2, 3, 4),
    "rows": np.arange(12, dtype=np.float32).reshape(3, 4),
    "turned": np.arange(12.0).reshape(3, 4).T,
    "big endian": np.array([1, 2], ">i4"),
    "empty": np.zeros((0, 5), np.float32),
    "bytes": b"\x00\xffx",
    3: {"deep": [["a", "ä"]]},
}


def same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and np.array_equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and bool(a == b)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_10_values_of_every_protocol(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps(VALUE, protocol=protocol))
    assert same(VALUE, load_plain_pickle(path))
    path.write_bytes(pickle.dumps({"s": np.float64(2.5), "o": OrderedDict([("a", 1)])}, protocol=protocol))
    assert load_plain_pickle(path) == {"s": 2.5, "o": {"a": 1}}


class OnlyArrays(pickle.Unpickler):
    """Python's own unpickler, allowed what an array is made of and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] != "numpy" or name not in ("_reconstruct", "ndarray", "dtype", "scalar", "_frombuffer"):
            raise pickle.UnpicklingError(f"{module}.{name}")
        return super().find_class(module, name)


def test_10_the_shared_pickles(shared: Path) -> None:
    paths = sorted((shared / "goldens/vad").rglob("*.pkl"))
    assert paths
    for path in paths:
        with path.open("rb") as file:
            assert same(OnlyArrays(file).load(), load_plain_pickle(path)), path.name


class Calls:
    def __init__(self, what: Any, *arguments: Any) -> None:
        self.what = (what, arguments)

    def __reduce__(self) -> Any:
        return self.what


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize(
    "evil",
    [
        Calls(eval, "open('ran', 'w')"),
        Calls(__import__("os").system, "touch ran"),
        Calls(getattr, 1, "real"),
        Calls(np.load, "x"),
        np.array([object()], dtype=object),
        np.zeros(2, dtype=[("a", "i4")]),
        Path("x"),
    ],
    ids=["eval", "system", "getattr", "np.load", "objects", "records", "a class"],
)
def test_10_nothing_else_is_read_and_nothing_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, evil: Any, protocol: int
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps({"gttubes": evil}, protocol=protocol))
    with pytest.raises(InvalidInput, match=r"x\.pkl: the pickle holds|not a pickle"):
        load_plain_pickle(path)
    assert not (tmp_path / "ran").exists()


def test_10_damaged_files_are_errors(tmp_path: Path) -> None:
    path, whole = tmp_path / "x.pkl", pickle.dumps(VALUE)
    draw = np.random.default_rng(0)
    for _ in range(300):
        data = bytearray(whole)
        data[int(draw.integers(len(data)))] = int(draw.integers(256))
        path.write_bytes(bytes(data[: int(draw.integers(1, len(data) + 1))]))
        with suppress(InvalidInput):  # whatever else came up would fail the test
            load_plain_pickle(path)
    nested = b"]" * 3000 + b"a" * 2999 + b"."
    path.write_bytes(nested)
    with pytest.raises(InvalidInput):
        load_plain_pickle(path)
    with pytest.raises(InvalidInput, match="cannot be read"):
        load_plain_pickle(tmp_path / "absent.pkl")
