"""Entries on disk: whole, private, bounded, and never taken on trust (checklist, item 11)."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from trifocal.chat.prefix import DiskLevel, PrefixEntry, PrefixKey, QuantisedEntry, quantise
from trifocal.errors import InvalidInput


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("int8", [False, True])
def test_what_is_written_is_read(
    tmp_path: Path, key: PrefixKey, make_entry: Callable[..., PrefixEntry], dtype: torch.dtype, int8: bool
) -> None:
    disk = DiskLevel(tmp_path / "new" / "folder")
    given = make_entry(dtype=dtype)
    entry: PrefixEntry | QuantisedEntry = quantise(given) if int8 else given
    assert disk.write(key, entry)
    back = disk.read(key)
    assert back is not None
    assert type(back) is type(entry)
    assert (back.length, back.facts) == (entry.length, entry.facts)
    for layer, layer_back in zip(entry.layers, back.layers, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(layer, layer_back, strict=True))
    assert set(back.extra) == {"frame_of", "none"}
    assert all(torch.equal(back.extra[name], entry.extra[name]) for name in entry.extra)


def test_security_11_files_are_for_their_owner_only(
    tmp_path: Path, key: PrefixKey, make_entry: Callable[..., PrefixEntry]
) -> None:
    before = os.umask(0)
    try:
        disk = DiskLevel(tmp_path / "prefixes")
        disk.write(key, make_entry())
    finally:
        os.umask(before)
    assert stat.S_IMODE(disk.path(key).stat().st_mode) == 0o600
    assert stat.S_IMODE(disk.folder.stat().st_mode) == 0o700


def test_security_11_a_file_under_another_keys_name_is_refused(
    tmp_path: Path, key: PrefixKey, make_entry: Callable[..., PrefixEntry]
) -> None:
    disk = DiskLevel(tmp_path)
    disk.write(key, make_entry())
    other = replace(key, salt="another tenant")
    shutil.copy(disk.path(key), disk.path(other))  # what a collision of digests would look like
    disk.path(other).chmod(0o600)
    assert disk.read(other) is None
    assert disk.rejected == 1
    assert not disk.path(other).exists()
    assert disk.read(key) is not None


def test_security_11_every_flipped_byte_is_seen(
    tmp_path: Path, key: PrefixKey, make_entry: Callable[..., PrefixEntry]
) -> None:
    disk = DiskLevel(tmp_path)
    disk.write(key, make_entry(tokens=2))
    whole = disk.path(key).read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    space = [place for place in range(8, header) if whole[place : place + 1] == b" "]  # padding may change freely
    places = [place for place in range(0, len(whole), 7) if place not in space]
    for number, place in enumerate(places):
        broken = bytearray(whole)
        broken[place] ^= 1 << (number % 8)
        disk.path(key).write_bytes(broken)
        disk.path(key).chmod(0o600)
        assert disk.read(key) is None, f"the byte at {place} of {len(whole)}"
        assert not disk.path(key).exists()


@pytest.mark.parametrize("length", [0, 4, 8, 100, -1])
def test_security_11_a_cut_file_is_refused(
    tmp_path: Path, key: PrefixKey, make_entry: Callable[..., PrefixEntry], length: int
) -> None:
    disk = DiskLevel(tmp_path)
    disk.write(key, make_entry())
    contents = disk.path(key).read_bytes()
    disk.path(key).write_bytes(contents[:length])
    assert disk.read(key) is None
    assert disk.rejected == 1


def test_security_11_a_link_and_an_open_file_are_refused(
    tmp_path: Path, key: PrefixKey, make_entry: Callable[..., PrefixEntry]
) -> None:
    disk = DiskLevel(tmp_path / "prefixes")
    disk.write(key, make_entry())
    disk.path(key).chmod(0o644)
    assert disk.read(key) is None
    disk.write(key, make_entry())
    real = tmp_path / "elsewhere"
    disk.path(key).rename(real)
    disk.path(key).symlink_to(real)
    assert disk.read(key) is None
    assert disk.rejected == 2
    assert real.exists()


def test_the_longest_unread_go_first(tmp_path: Path, key: PrefixKey, make_entry: Callable[..., PrefixEntry]) -> None:
    disk = DiskLevel(tmp_path)
    keys = [replace(key, model=f"m{number}") for number in range(4)]
    for age, each in enumerate(keys[:3]):
        disk.write(each, make_entry())
        os.utime(disk.path(each), (1000 + age, 1000 + age))
    size = disk.path(keys[0]).stat().st_size
    disk.read(keys[0])  # now the latest
    bounded = DiskLevel(tmp_path, max_bytes=3 * size + size // 2)
    bounded.write(keys[3], make_entry())
    assert [disk.path(each).exists() for each in keys] == [True, False, True, True]
    assert bounded.nbytes <= bounded.max_bytes


def test_an_entry_above_the_bound_is_not_kept(
    tmp_path: Path, key: PrefixKey, make_entry: Callable[..., PrefixEntry]
) -> None:
    disk = DiskLevel(tmp_path, max_bytes=1000)
    assert not disk.write(key, make_entry())
    assert disk.nbytes == 0


def test_a_disk_that_refuses_is_counted_and_leaves_nothing(
    tmp_path: Path, key: PrefixKey, make_entry: Callable[..., PrefixEntry], caplog: pytest.LogCaptureFixture
) -> None:
    disk = DiskLevel(tmp_path)
    disk.path(key).mkdir()  # a file cannot be renamed over a folder
    assert not disk.write(key, make_entry())
    assert disk.unwritten == 1
    assert "could not be written" in caplog.text
    assert not list(tmp_path.glob("*.part"))


def test_what_a_killed_writer_left_is_cleared(tmp_path: Path) -> None:
    old, new = tmp_path / "old.part", tmp_path / "new.part"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    DiskLevel(tmp_path)
    assert [path.exists() for path in (old, new)] == [False, True]


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInput, match="cannot be made"):
        DiskLevel(tmp_path / "file" / "folder")
    with pytest.raises(InvalidInput, match="max_bytes"):
        DiskLevel(tmp_path, max_bytes=-1)
