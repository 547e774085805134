"""Where rows of numbers come from, by id: a video's frames, a caption's words.

`RowSource` is the seam. Kinds: `ArrayRows` (in memory), `FolderRows` (one npz an id, the library's own features),
`BigFileRows` (`bigfile.py`) and `Hdf5Rows` (`hdf5.py`, the field's files).
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from trifocal.errors import InvalidInput, NotInLibrary

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["ArrayRows", "FolderRows", "RowSource", "absent", "checked_rows", "write_folder_rows"]

_NAME = re.compile(r"[^A-Za-z0-9._-]")


@runtime_checkable
class RowSource(Protocol):
    """Rows by id."""

    @property
    def dim(self) -> int:
        """D, the width of every row."""
        ...

    def ids(self) -> Iterable[str]:
        """All ids, in a stable order."""
        ...

    def __contains__(self, name: str, /) -> bool:
        """Whether there are rows of that id."""
        ...

    def read(self, name: str) -> NDArray[np.float32]:
        """The rows of one id, float32 (n, D) with n of at least 1.

        Raises:
            NotInLibrary: no such id.
            InvalidInput: what is stored cannot be used.
        """
        ...

    def count(self, name: str) -> int:
        """How many rows an id has, without reading them where the format allows."""
        ...


class ArrayRows:
    """Rows that are in memory.

    Args:
        rows: (n, D) by id, of one width.

    Raises:
        InvalidInput: no ids, no rows, widths that differ, values that are not finite numbers.
    """

    def __init__(self, rows: Mapping[str, ArrayLike]) -> None:
        """Take the arrays as float32."""
        self._rows = {name: checked_rows(np.asarray(one), where=f"{name!r}") for name, one in rows.items()}
        widths = {one.shape[1] for one in self._rows.values()}
        if len(widths) != 1:
            raise InvalidInput(f"rows have the widths {sorted(widths)}", remedy="Give at least one id, all of a width.")
        self.dim = widths.pop()

    def __repr__(self) -> str:
        """What it is, briefly."""
        return f"ArrayRows({len(self._rows)} ids, dim={self.dim})"

    def ids(self) -> Iterable[str]:
        """See `RowSource`."""
        return self._rows.keys()

    def __contains__(self, name: str, /) -> bool:
        """See `RowSource`."""
        return name in self._rows

    def read(self, name: str) -> NDArray[np.float32]:
        """See `RowSource`."""
        if name not in self._rows:
            raise absent("these arrays", name)
        return self._rows[name]

    def count(self, name: str) -> int:
        """See `RowSource`."""
        return len(self.read(name))


class FolderRows:
    """Rows of videos as the library's own extraction leaves them: `<name>.npz` an id, with times.

    Args:
        folder: with `.npz` files of `id`, `rows` (T, D), `times_s` (T,) and `end_s`.

    Raises:
        InvalidInput: no such folder or nothing in it, or a file that is not of this kind.
    """

    def __init__(self, folder: Path | str) -> None:
        """Read the names and shapes, not the rows."""
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise InvalidInput(f"there is no folder {self.folder}", remedy="Check the path.")
        self._files: dict[str, Path] = {}
        for path in sorted(self.folder.glob("*.npz")):
            self._files[str(_npz(path)["id"])] = path
        if not self._files:
            raise InvalidInput(f"{self.folder} holds no features", remedy="Extract them first.")
        first = next(iter(self._files))
        self.dim = int(self.read(first).shape[1])

    def __repr__(self) -> str:
        """What it is, briefly."""
        return f"FolderRows({self.folder.name!r}, {len(self._files)} ids, dim={self.dim})"

    def ids(self) -> Iterable[str]:
        """See `RowSource`."""
        return self._files.keys()

    def __contains__(self, name: str, /) -> bool:
        """See `RowSource`."""
        return name in self._files

    def read(self, name: str) -> NDArray[np.float32]:
        """See `RowSource`."""
        return checked_rows(self._entry(name)["rows"], where=f"{self._files[name]}")

    def count(self, name: str) -> int:
        """See `RowSource`."""
        return len(self.times_s(name))

    def times_s(self, name: str) -> NDArray[np.float64]:
        """The rows' times in seconds, (T,)."""
        return np.asarray(self._entry(name)["times_s"], dtype=np.float64)

    def end_s(self, name: str) -> float:
        """Where the video ends, in seconds."""
        return float(self._entry(name)["end_s"])

    def content(self, name: str) -> str:
        """What the rows were made from; see `write_folder_rows`."""
        return str(self._entry(name)["content"])

    def _entry(self, name: str) -> Mapping[str, NDArray[Any]]:
        if name not in self._files:
            raise absent(str(self.folder), name)
        return _npz(self._files[name])


def write_folder_rows(
    folder: Path,
    name: str,
    rows: NDArray[np.float32],
    *,
    times_s: NDArray[np.float64],
    end_s: float,
    content: str = "",
) -> Path:
    """Write one id's rows for `FolderRows`, whole or not at all; several processes may write the same id.

    Args:
        folder: made where missing.
        name: the id; the file is named after its letters and digits and a hash of all of it.
        rows: float32 (T, D).
        times_s: (T,) seconds.
        end_s: where the video ends.
        content: what the rows were made from, for telling whether they are still good.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{_NAME.sub('_', name)[:80]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    path = folder / f"{stem}.npz"
    part = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    arrays: dict[str, Any] = {"id": np.array(name), "rows": rows, "times_s": times_s, "end_s": np.array(end_s)}
    try:
        with part.open("wb") as file:
            np.savez(file, content=np.array(content), **arrays)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path


def checked_rows(rows: NDArray[Any], *, where: str) -> NDArray[np.float32]:
    """Rows as float32 (n, D), refused when they are not finite numbers or there are none.

    Raises:
        InvalidInput: they cannot be used; `where` names their place.
    """
    if rows.dtype.kind not in "fiu" or rows.ndim != 2 or 0 in rows.shape:
        raise InvalidInput(
            f"the rows of {where} are {rows.dtype} {rows.shape}", remedy="Give numbers, (n, D) with n of at least 1."
        )
    found = np.ascontiguousarray(rows, dtype=np.float32)
    if not np.isfinite(found).all():
        bad = int(np.argmin(np.isfinite(found).all(axis=1)))
        raise InvalidInput(f"row {bad} of {where} holds NaN or infinity", remedy="Compute it again.")
    return found


def absent(where: str, name: str) -> NotInLibrary:
    """The error for an id that a source does not have."""
    return NotInLibrary(
        f"{where} has no rows of {name!r}", remedy="Check the id; `--check` lists all that are missing."
    )


def _npz(path: Path) -> Mapping[str, NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as stored:
            entry = {key: stored[key] for key in stored.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InvalidInput(f"{path} cannot be read ({error})", remedy="Remove it and extract again.") from error
    if not {"id", "rows", "times_s", "end_s", "content"} <= entry.keys():
        raise InvalidInput(f"{path} holds {', '.join(entry)}", remedy="Remove it and extract again.")
    return entry
