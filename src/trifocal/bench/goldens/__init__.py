"""Golden files: each kind has a checker that yields a case per line of the report.

`KINDS` is the table of checkers by pattern; a pattern with a folder (`losses/*.npz`) looks at the file's folder too.
`runs/check_goldens.py` runs them over a tree of files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from trifocal.bench.goldens import action_data, action_eval, action_losses, action_model, chat, merging
from trifocal.bench.goldens.case import Case, Checker
from trifocal.errors import TrifocalError

__all__ = ["KINDS", "Case", "check", "files"]

KINDS: Mapping[str, Checker] = {
    **merging.KINDS,
    **chat.KINDS,
    **action_model.KINDS,
    **action_losses.KINDS,
    **action_data.KINDS,
    **action_eval.KINDS,
}
"""Checker by pattern; the first that matches is used."""

_SIDE_FILES = ("README.md", "manifest.json", "filler.py")
_SUFFIXES = (".npz", ".json", ".txt", ".pkl", ".safetensors")


def files(folder: Path) -> list[Path]:
    """The files below a folder that may hold cases, sorted."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix in _SUFFIXES and path.name not in _SIDE_FILES and path.is_file()
    )


def check(path: Path) -> Iterator[Case]:
    """All cases of one file; a checker that cannot read it is a failed case."""
    checker = next((kind for pattern, kind in KINDS.items() if path.match(pattern)), None)
    if checker is None:
        yield Case(path.name, None, "no checker for this kind of file")
        return
    try:
        yield from checker(path)
    except (TrifocalError, ValueError, KeyError, OSError) as error:
        yield Case(path.name, (f"{type(error).__name__}: {error}",))
