"""The cache on disk: where it is, who may write to it, and how a set of files appears in it whole or not at all.

A finished set is a folder with its files and a marker that names each file's hash, size and modification time. Files
are written to a staging folder, flushed to disk, and the folder is renamed into place, so a reader sees all of it or
none. One writer at a time holds a lock that the operating system lets go when the writer dies; what a killed writer
left in staging is cleared by the next one. A look at sizes and times at each use is cheap; hashing again is on demand.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs

from trifocal.errors import WeightsUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["cache_dir", "exclusive", "is_intact", "publish", "sha256_of", "staging", "unmark"]

_MARKER = ".verified.json"
_MARKER_FORMAT = 1
_STAGING_PREFIX = ".staging-"


def cache_dir(override: Path | str | None = None) -> Path:
    """The folder that holds fetched model files; it may not exist yet.

    Args:
        override: use this folder instead.

    Returns:
        `override`, else the environment variable TRIFOCAL_CACHE, else the user's cache folder for "trifocal".
    """
    if override is not None:
        return Path(override).expanduser()
    if from_environment := os.environ.get("TRIFOCAL_CACHE"):
        return Path(from_environment).expanduser()
    return Path(platformdirs.user_cache_dir("trifocal", appauthor=False))


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def exclusive(folder: Path, *, timeout_s: float = 3600.0) -> Iterator[None]:
    """Hold the one right to write to `folder`, waiting for another process that has it.

    Raises:
        WeightsUnavailable: another process kept it for longer than `timeout_s`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + timeout_s
    with (folder / ".lock").open("ab") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise WeightsUnavailable(
                        f"Another process has been writing to {folder} for {timeout_s:.0f} s",
                        remedy="Wait for it to end, or end it, then try again.",
                    ) from None
                time.sleep(0.05)
        # Closing the file lets go of the lock, also when this process is killed.
        yield


@contextlib.contextmanager
def staging(folder: Path) -> Iterator[Path]:
    """A fresh folder inside `folder`, on the same disk, removed at the end; the caller holds `exclusive(folder)`."""
    for stale in folder.glob(f"{_STAGING_PREFIX}*"):
        shutil.rmtree(stale)
    fresh = Path(tempfile.mkdtemp(prefix=_STAGING_PREFIX, dir=folder))
    try:
        yield fresh
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def publish(staged: Path, final: Path, *, hashes: Mapping[str, str]) -> None:
    """Make the files of `staged` appear as the folder `final`, in one step, replacing what was there.

    Args:
        staged: a folder inside a staging folder, on the same disk as `final`; holds exactly the files of `hashes`.
        final: the folder to appear.
        hashes: file name → SHA-256 that the caller has checked.
    """
    for name in hashes:
        _flush(staged / name)
    _write_marker(staged, hashes)
    _flush(staged)
    if final.exists():
        # A folder cannot be renamed over one that has files. What is replaced failed its check: nobody misses it.
        final.rename(staged.parent / "replaced")
    staged.rename(final)
    _flush(final.parent)


def is_intact(folder: Path, *, hashes: Mapping[str, str]) -> bool:
    """Whether `folder` holds the files it was published with, judged by size and time.

    A file whose time changed but whose size did not (a copied cache, a flipped byte) is hashed again.

    Args:
        folder: a folder that `publish` may have made.
        hashes: file name → the SHA-256 it must have.
    """
    recorded = _read_marker(folder)
    if recorded is None or any(recorded.get(name, {}).get("sha256") != sha256 for name, sha256 in hashes.items()):
        return False
    touched = False
    for name, sha256 in hashes.items():
        try:
            status = (folder / name).stat()
        except OSError:
            return False
        if status.st_size != recorded[name]["size"]:
            return False
        if status.st_mtime_ns != recorded[name]["mtime_ns"]:
            touched = True
            if sha256_of(folder / name) != sha256:
                return False
    if touched:
        # Only saves hashing at the next use; a cache that may not be written to works without.
        with contextlib.suppress(OSError):
            _write_marker(folder, hashes)
    return True


def unmark(folder: Path) -> None:
    """Forget that `folder` was checked, so that the next fetch replaces it."""
    (folder / _MARKER).unlink(missing_ok=True)


def _write_marker(folder: Path, hashes: Mapping[str, str]) -> None:
    files = {}
    for name, sha256 in hashes.items():
        status = (folder / name).stat()
        files[name] = {"sha256": sha256, "size": status.st_size, "mtime_ns": status.st_mtime_ns}
    temporary = folder / f"{_MARKER}.{os.getpid()}"
    temporary.write_text(json.dumps({"format": _MARKER_FORMAT, "files": files}, indent=1, sort_keys=True) + "\n")
    _flush(temporary)
    temporary.replace(folder / _MARKER)


def _read_marker(folder: Path) -> dict[str, dict[str, object]] | None:
    try:
        marker = json.loads((folder / _MARKER).read_text())
    except (OSError, ValueError):
        return None
    if (
        not isinstance(marker, dict)
        or marker.get("format") != _MARKER_FORMAT
        or not isinstance(marker.get("files"), dict)
    ):
        return None
    files = marker["files"]
    keys = {"sha256", "size", "mtime_ns"}
    return files if all(isinstance(entry, dict) and keys <= entry.keys() for entry in files.values()) else None


def _flush(path: Path) -> None:
    """Ask the disk to keep what was written to a file or folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
