"""HDF5 with one data set (n, D) an id: videos' frames, or captions' words.

Links that lead out of the file are refused, so that a file cannot make its reader open another. ActivityNet's keys come
with and without "v_" in files that belong together; an id is looked up as it is, then with the prefix off, then on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trifocal.errors import InvalidInput, MissingExtra
from trifocal.retrieval.data.features import absent, checked_rows
from trifocal.retrieval.data.reading import existing

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Hdf5Rows", "write_hdf5"]

PREFIX = "v_"


class Hdf5Rows:
    """Rows by id in one HDF5 file; a `RowSource`.

    Args:
        path: the file.

    Raises:
        InvalidInput: no such file, no HDF5, no data set (n, D) in it, or a link that leads out of it.
        MissingExtra: h5py is not installed.
    """

    def __init__(self, path: Path | str) -> None:
        """Read the names; the width is that of the first."""
        self.path = existing(path, what="an HDF5 file of features")
        self._file: Any = _opened(self.path)
        self._names = tuple(self._file.keys())
        self._known = frozenset(self._names)
        if not self._names:
            raise InvalidInput(f"{self.path} holds no data sets", remedy="Give one (n, D) an id.")
        shape = self._entry(self._names[0]).shape
        if len(shape) != 2:
            raise InvalidInput(f"{self.path}: {self._names[0]!r} has the shape {shape}", remedy="Give (n, D).")
        self.dim = int(shape[1])

    def __repr__(self) -> str:
        """What it is, briefly."""
        return f"Hdf5Rows({self.path.name!r}, {len(self._names)} ids, dim={self.dim})"

    def ids(self) -> Iterable[str]:
        """See `RowSource`."""
        return self._names

    def __contains__(self, name: str, /) -> bool:
        """See `RowSource`."""
        return self.key(name) is not None

    def key(self, name: str) -> str | None:
        """Under which name the file has an id; None when under none."""
        for candidate in (name, name.removeprefix(PREFIX), PREFIX + name):
            if candidate in self._known:
                return candidate
        return None

    def read(self, name: str) -> NDArray[np.float32]:
        """See `RowSource`."""
        rows = self._entry(self._held(name))[()]
        found = checked_rows(np.asarray(rows), where=f"{name!r} in {self.path}")
        if found.shape[1] != self.dim:
            raise InvalidInput(
                f"{self.path}: {name!r} has rows of {found.shape[1]} numbers, the first entry {self.dim}",
                remedy="Give one width for all.",
            )
        return found

    def count(self, name: str) -> int:
        """See `RowSource`."""
        shape = self._entry(self._held(name)).shape
        return int(shape[0]) if shape else 0

    def _held(self, name: str) -> str:
        key = self.key(name)
        if key is None:
            raise absent(str(self.path), name)
        return key

    def _entry(self, key: str) -> Any:
        import h5py

        link = self._file.get(key, getlink=True)
        if not isinstance(link, h5py.HardLink):
            raise InvalidInput(f"{self.path}: {key!r} is a link to another place", remedy="Give the data itself.")
        entry = self._file[key]
        if not isinstance(entry, h5py.Dataset) or entry.external or entry.is_virtual:
            raise InvalidInput(f"{self.path}: {key!r} is not a data set in this file", remedy="Give (n, D) numbers.")
        return entry


def write_hdf5(path: Path | str, rows: Mapping[str, NDArray[np.float32]]) -> None:
    """Write the file that `Hdf5Rows` reads; ids must not hold a slash.

    Raises:
        InvalidInput: an id with a slash in it.
        MissingExtra: h5py is not installed.
    """
    odd = [name for name in rows if "/" in name or name in ("", ".")]
    if odd:
        raise InvalidInput(f"the id {odd[0]!r} cannot name a data set", remedy="Give ids without a slash.")
    with _h5py().File(path, "w") as file:
        for name, one in rows.items():
            file.create_dataset(name, data=one)


def _h5py() -> Any:
    try:
        import h5py  # an optional extra
    except ImportError as error:
        raise MissingExtra(
            "HDF5 features need h5py, which is not installed", remedy='Run: pip install "trifocal[features]".'
        ) from error
    return h5py


def _opened(path: Path) -> Any:
    try:
        return _h5py().File(path, "r")
    except OSError as error:
        raise InvalidInput(f"{path} is not an HDF5 file", remedy="Compute or copy it again.") from error
