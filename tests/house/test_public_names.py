"""The public names: every package lists them, sorted, and every one resolves and is documented."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "trifocal"
PUBLIC = ["trifocal", "trifocal.errors"] + sorted(
    f"trifocal.{path.parent.name}" for path in SOURCE.glob("*/__init__.py") if path.parent.name != "bench"
)


@pytest.mark.parametrize("module", PUBLIC)
def test_all_is_sorted_and_resolves(module: str) -> None:
    loaded = importlib.import_module(module)
    names = loaded.__all__
    assert list(names) == sorted(names), f"sort __all__ of {module}"
    assert len(set(names)) == len(names)
    missing = [name for name in names if not hasattr(loaded, name)]
    assert not missing, f"{module}.__all__ names what is not there: {missing}"


@pytest.mark.parametrize("module", PUBLIC)
def test_public_classes_and_functions_are_documented(module: str) -> None:
    loaded = importlib.import_module(module)
    bare = [name for name in loaded.__all__ if callable(getattr(loaded, name)) and not getattr(loaded, name).__doc__]
    assert not bare, f"no docstring: {bare} of {module}"
