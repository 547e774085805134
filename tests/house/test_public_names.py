"""The public names: every package lists them once, and every one resolves and is documented."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "trifocal"
PACKAGES = sorted(path.parent.name for path in SOURCE.glob("*/__init__.py") if path.parent.name != "bench")
PUBLIC = ["trifocal", "trifocal.errors", *(f"trifocal.{name}" for name in PACKAGES)]


@pytest.mark.parametrize("module", PUBLIC)
def test_all_resolves(module: str) -> None:
    loaded = importlib.import_module(module)
    names = loaded.__all__
    assert len(set(names)) == len(names)
    missing = [name for name in names if not hasattr(loaded, name)]
    assert not missing, f"{module}.__all__ names what is not there: {missing}"


@pytest.mark.parametrize("module", PUBLIC)
def test_public_classes_and_functions_are_documented(module: str) -> None:
    loaded = importlib.import_module(module)
    named = {name: getattr(loaded, name) for name in loaded.__all__}
    bare = [
        name for name, it in named.items() if (inspect.isclass(it) or inspect.isroutine(it)) and not inspect.getdoc(it)
    ]
    assert not bare, f"no docstring: {bare} of {module}"
