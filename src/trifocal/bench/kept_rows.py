"""Rows of a benchmark in a JSON file that grows: one that is there is not measured again, and a cut run goes on.

To measure some anew all the same, name their ways (`KeptRows.due`): a new row takes the old one's place. Each row is
known by the values of some of its keys. The file is written after every row, whole. `load` and `memory_mb` go into
each: how busy the machine was, and what this process holds.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trifocal import __version__

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

__all__ = ["KeptRows", "load", "memory_mb"]


class KeptRows:
    """The rows of one file.

    Args:
        path: made at the first row; one that holds something else is begun anew.
        what: what is measured, in words.
        keys: the names whose values tell rows apart.
        about: what else to write beside the rows.
        again: the ways to measure anew, and no others; see `due`.
    """

    def __init__(
        self,
        path: Path,
        *,
        what: str,
        keys: Sequence[str],
        about: dict[str, Any] | None = None,
        again: Collection[str] = (),
    ) -> None:
        """Read what is there."""
        self.path, self._what, self._keys, self._about = path, what, tuple(keys), about or {}
        self._again = frozenset(again)
        held = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        self.rows: list[dict[str, Any]] = held.get("rows", []) if held.get("what") == what else []

    def due(self, name: str, /, **values: Any) -> bool:
        """Whether to measure what has these values of the keys: its way is named, or none is and it has no row."""
        return name in self._again if self._again else not any(self._alike(row, values) for row in self.rows)

    def add(self, row: dict[str, Any]) -> None:
        """Put a row in, in place of what it measures again, and write the file, in the order of the keys."""
        self.rows = [one for one in self.rows if not self._alike(one, row)] + [row]
        self.rows.sort(key=lambda one: [_sortable(one.get(key)) for key in self._keys])
        result = {"what": self._what, "version": __version__, "machine": self._about, "rows": self.rows}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        beside = self.path.with_suffix(".tmp")
        beside.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        beside.replace(self.path)

    def _alike(self, row: dict[str, Any], values: dict[str, Any]) -> bool:
        return all(row.get(key) == values[key] for key in self._keys)


def load() -> float:
    """How many processes wanted a core in the last minute."""
    return round(os.getloadavg()[0], 2)


def memory_mb() -> dict[str, int]:
    """This process's memory as Linux counts it, in MB: all that is resident, and the part that is no mapped file.

    Mapped files can be given back at any time; the rest cannot. Empty elsewhere.
    """
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    wanted = {"VmRSS:": "resident_mb", "RssAnon:": "anonymous_mb"}
    return {wanted[line.split()[0]]: int(line.split()[1]) // 1000 for line in lines if line.split()[0] in wanted}


def _sortable(value: Any) -> tuple[int, Any]:
    return (0, 0) if value is None else (1, value) if isinstance(value, int | float) else (2, str(value))
