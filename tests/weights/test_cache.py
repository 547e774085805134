"""Where the cache is, and how folders appear in it."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from trifocal.errors import WeightsUnavailable
from trifocal.weights.cache import cache_dir, exclusive, is_intact, publish, sha256_of, staging, unmark

if TYPE_CHECKING:
    from pathlib import Path


def test_argument_then_environment_then_user_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRIFOCAL_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_dir().name == "trifocal"
    assert cache_dir() == tmp_path / "xdg" / "trifocal" or sys.platform != "linux"
    monkeypatch.setenv("TRIFOCAL_CACHE", str(tmp_path / "environment"))
    assert cache_dir() == tmp_path / "environment"
    assert cache_dir(tmp_path / "argument") == tmp_path / "argument"
    assert not list(tmp_path.iterdir())


def put(root: Path, data: bytes) -> tuple[Path, dict[str, str]]:
    """Publish one file named a.bin under root/final."""
    hashes = {"a.bin": hashlib.sha256(data).hexdigest()}
    root.mkdir(exist_ok=True)
    with staging(root) as staged:
        files = staged / "files"
        files.mkdir()
        (files / "a.bin").write_bytes(data)
        publish(files, root / "final", hashes=hashes)
    return root / "final", hashes


def test_publish_and_look(tmp_path: Path) -> None:
    final, hashes = put(tmp_path / "root", b"one")
    assert is_intact(final, hashes=hashes)
    assert sha256_of(final / "a.bin") == hashes["a.bin"]
    assert [path.name for path in (tmp_path / "root").iterdir()] == ["final"]


def test_publish_replaces(tmp_path: Path) -> None:
    put(tmp_path / "root", b"one")
    final, hashes = put(tmp_path / "root", b"two")
    assert (final / "a.bin").read_bytes() == b"two"
    assert is_intact(final, hashes=hashes)
    assert [path.name for path in (tmp_path / "root").iterdir()] == ["final"]


@pytest.mark.parametrize(
    "damage", ["shorter", "flipped", "gone", "no marker", "marker garbled", "marker of another format", "marker a list"]
)
def test_damage_is_seen(damage: str, tmp_path: Path) -> None:
    final, hashes = put(tmp_path / "root", b"0123456789")
    marker = final / ".verified.json"
    match damage:
        case "shorter":
            (final / "a.bin").write_bytes(b"012345678")
        case "flipped":
            (final / "a.bin").write_bytes(b"0123456780")
        case "gone":
            (final / "a.bin").unlink()
        case "no marker":
            unmark(final)
        case "marker garbled":
            marker.write_bytes(b"{\xff")
        case "marker of another format":
            marker.write_text(marker.read_text().replace('"format": 1', '"format": 99'))
        case _:
            marker.write_text("[]")
    assert not is_intact(final, hashes=hashes)


def test_another_expectation_is_not_met(tmp_path: Path) -> None:
    final, hashes = put(tmp_path / "root", b"one")
    assert not is_intact(final, hashes={"a.bin": "0" * 64})
    assert not is_intact(final, hashes={**hashes, "b.bin": hashes["a.bin"]})
    assert not is_intact(tmp_path / "nowhere", hashes=hashes)


def test_a_copied_cache_is_hashed_once_and_accepted(tmp_path: Path) -> None:
    final, hashes = put(tmp_path / "root", b"one")
    os.utime(final / "a.bin", ns=(1, 1))
    before = (final / ".verified.json").read_text()
    assert is_intact(final, hashes=hashes)
    assert (final / ".verified.json").read_text() != before
    assert is_intact(final, hashes=hashes)


def test_staging_clears_what_a_killed_writer_left(tmp_path: Path) -> None:
    (tmp_path / ".staging-dead" / "files").mkdir(parents=True)
    (tmp_path / ".staging-dead" / "files" / "half").write_bytes(b"half")
    with staging(tmp_path) as staged:
        assert [path.name for path in tmp_path.iterdir()] == [staged.name]
    assert not list(tmp_path.iterdir())


def test_the_lock_is_exclusive_between_processes_and_dies_with_its_holder(tmp_path: Path) -> None:
    text = (
        "import sys, time; from pathlib import Path; from trifocal.weights.cache import exclusive\n"
        "with exclusive(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", text, str(tmp_path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(WeightsUnavailable, match="Another process"), exclusive(tmp_path, timeout_s=0.2):
            pytest.fail("two processes held the lock")
        holder.kill()
    with exclusive(tmp_path, timeout_s=5):
        pass
