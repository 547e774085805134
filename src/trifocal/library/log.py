"""The ingest log: one JSON line for each thing that happened, under `logs/`, bounded in size.

`ingest.jsonl` grows to a mebibyte, then becomes `ingest.1.jsonl` and so on; the fifth is the last. When a video is
removed, the lines that mention it or its files go as well.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from trifocal.library.contents import now
from trifocal.library.store import disk_errors

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from trifocal.library.store import Store

__all__ = ["IngestLog"]

_BYTES = 1024 * 1024
_KEPT = 5


class IngestLog:
    """The log of a library; only whoever holds the lease writes it.

    Args:
        store: the library's files.
        max_bytes: how large a file grows.
    """

    def __init__(self, store: Store, *, max_bytes: int = _BYTES) -> None:
        """Nothing is opened before the first line."""
        self._store = store
        self._folder = store.folder / "logs"
        self._max_bytes = max_bytes

    def write(self, event: str, **values: Any) -> None:
        """Append a line.

        Args:
            event: what happened: `added`, `replaced`, `failed`, ...
            values: about what; a removal takes the lines of which one value is its video's id or one of its files.
        """
        line = json.dumps({"time": now(), "event": event, **values}, sort_keys=True) + "\n"
        with disk_errors("writing the log"):
            path = self._path(0)
            if path.exists() and path.stat().st_size + len(line) > self._max_bytes:
                for number in reversed(range(_KEPT - 1)):
                    if self._path(number).exists():
                        self._path(number).replace(self._path(number + 1))
            with path.open("a+b") as file:
                if file.tell():
                    file.seek(-1, 2)
                    if file.read(1) != b"\n":  # the writer before was killed within a line
                        file.write(b"\n")
                file.write(line.encode())

    def lines(self) -> list[dict[str, Any]]:
        """All that is kept, oldest first; a line cut short by a kill is left out."""
        found = []
        for path in self._files():
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                entry = _parsed(line)
                if entry is not None:
                    found.append(entry)
        return found

    def forget(self, *, videos: Collection[str], paths: Collection[str]) -> None:
        """Take out every line that mentions one of the videos or files."""
        with disk_errors("clearing the log"):
            for path in self._files():
                lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
                kept = [line for line in lines if not _mentions(line, videos, paths)]
                if len(kept) != len(lines):
                    self._store.write_file(path, "".join(kept).encode(), step="log")

    def _path(self, number: int) -> Path:
        return self._folder / ("ingest.jsonl" if number == 0 else f"ingest.{number}.jsonl")

    def _files(self) -> list[Path]:
        return [path for number in reversed(range(_KEPT)) if (path := self._path(number)).exists()]


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None


def _mentions(line: str, videos: Collection[str], paths: Collection[str]) -> bool:
    entry = _parsed(line)
    if entry is None:
        return True  # cut short by a kill: nobody can say whom it mentions
    values = {value for value in entry.values() if isinstance(value, str)}
    return not values.isdisjoint(videos) or not values.isdisjoint(paths)
