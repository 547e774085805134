"""Who may know whom: the import rules of the house, read from the source without running it."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "trifocal"

LENS_GROUND = {"video", "weights", "backbones", "merging", "training"}
# A package may import itself, `errors`, and what stands here. Nobody imports `bench`; `bench` may import everybody.
MAY_KNOW: dict[str, set[str]] = {
    "video": set(),
    "weights": set(),
    "merging": set(),
    "training": set(),
    "backbones": {"weights"},
    "chat": LENS_GROUND,
    "retrieval": LENS_GROUND,
    "action": LENS_GROUND,
    "playground": {"video"},
    "library": {"chat", "retrieval", "action", "video", "weights", "backbones"},
    "server": {"library"},
    "cli": {
        "library",
        "chat",
        "retrieval",
        "action",
        "training",
        "backbones",
        "weights",
        "playground",
        "video",
        "merging",
    },
}
HEAVY = ("torch", "transformers")
LIGHT = ["trifocal", "trifocal.errors", "trifocal.video", "trifocal.weights", "trifocal.playground", "trifocal.cli"]


def imported_packages(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide who knows whom"
            module = node.module or ""
            names = [f"{module}.{alias.name}" for alias in node.names] if module == "trifocal" else [module]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] == "trifocal" and len(parts) > 1:
                yield parts[1]


def packages() -> list[str]:
    return sorted(path.name for path in SOURCE.iterdir() if path.is_dir() and path.name != "__pycache__")


def test_every_package_has_a_rule() -> None:
    assert set(packages()) - {"bench"} <= set(MAY_KNOW)


@pytest.mark.parametrize("package", [name for name in packages() if name != "bench"])
def test_package_knows_only_whom_it_may(package: str) -> None:
    allowed = MAY_KNOW[package] | {package, "errors", "_version", "__version__"}
    strangers = {
        f"{path.relative_to(SOURCE)} imports {name}"
        for path in sorted((SOURCE / package).rglob("*.py"))
        for name in imported_packages(ast.parse(path.read_text(encoding="utf-8")))
        if name not in allowed
    }
    assert not strangers


@pytest.mark.parametrize("module", LIGHT)
def test_light_modules_load_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_rule_sees_a_stranger() -> None:
    tree = ast.parse("def f():\n    from trifocal.bench import x\nimport trifocal.cli.app\nfrom trifocal import chat")
    assert sorted(imported_packages(tree)) == ["bench", "chat", "cli"]
