"""Files of the library, each written whole or not at all.

Everything is first written under `tmp/`, flushed to the disk, and then renamed to its place; the folder's entry is
flushed too. A process killed at any moment leaves either no file, or the whole file, or something in `tmp/`, which the
next writer throws away. One video has `prototypes/<id>.npy` and the folder `thumbnails/<id>/`; both are immutable.
`trace` is told the name of each step as it is done; tests stop the process there.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from contextlib import contextmanager
from errno import EDQUOT, EEXIST, ELOOP, ENAMETOOLONG, ENOENT, ENOSPC, ENOTDIR, EROFS
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np

from trifocal.errors import LibraryDamaged, LibraryError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["FOLDERS", "Store", "disk_errors", "thumbnail_name"]

FOLDERS = ("prototypes", "thumbnails", "index", "cache", "logs", "tmp")


_PATH = (EEXIST, ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR)


def _silent(_step: str) -> None:
    """Trace nothing."""


def thumbnail_name(at_ms: int) -> str:
    """The file name of the thumbnail at `at_ms` milliseconds."""
    return f"{at_ms:09d}.jpg"


@contextmanager
def disk_errors(doing: str) -> Iterator[None]:
    """Turn a full, read-only or forbidden disk into one clear error.

    Raises:
        LibraryError: an `OSError` came up inside.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (ENOSPC, EDQUOT):
            raise LibraryError(
                f"the disk is full while {doing}",
                remedy="Free some space and run the command again; what was finished is kept.",
            ) from error
        if error.errno == EROFS or isinstance(error, PermissionError):
            raise LibraryError(
                f"the library may not be written ({error.strerror}) while {doing}",
                remedy="Make its folder writable, or copy it to a place that is.",
            ) from error
        if error.errno in _PATH:
            raise LibraryError(
                f"the path cannot be used ({error.strerror}) while {doing}", remedy="Check the path, or give another."
            ) from error
        raise LibraryError(
            f"the disk failed while {doing}: {error.strerror or error}",
            remedy="Check the disk, then run `trifocal verify`.",
        ) from error


class Store:
    """The files under a library's folder.

    Args:
        folder: the library's folder.
        trace: told each finished step by name, such as `prototypes.renamed`.
    """

    def __init__(self, folder: Path, *, trace: Callable[[str], None] | None = None) -> None:
        """Nothing is made before it is needed."""
        self.folder = folder
        self.trace = trace or _silent

    def prototypes_path(self, video: str) -> Path:
        """Where a video's vectors are."""
        return self.folder / "prototypes" / f"{video}.npy"

    def thumbnails_path(self, video: str) -> Path:
        """The folder of a video's thumbnails."""
        return self.folder / "thumbnails" / video

    def cache_path(self, video: str) -> Path:
        """The folder of what was cached about a video; goes when the video goes."""
        return self.folder / "cache" / video

    def make_folders(self) -> None:
        """Make the folders that are not there."""
        with disk_errors("making the library's folders"):
            for name in FOLDERS:
                (self.folder / name).mkdir(exist_ok=True)

    def write_file(self, target: Path, content: bytes, *, step: str) -> None:
        """Write a file whole or not at all, and durably.

        Raises:
            LibraryError: the disk is full, read-only or fails; the target is as it was.
        """
        with disk_errors(f"writing {target.name}"), self._temporary() as temporary:
            _write_durably(temporary, content)
            self.trace(f"{step}.temporary")
            temporary.replace(target)
            _sync_folder(target.parent)
        self.trace(f"{step}.renamed")

    def write_prototypes(self, video: str, vectors: NDArray[np.float16]) -> tuple[str, int]:
        """Write a video's vectors, float16 (K, D).

        Returns:
            The SHA-256 of the file, and its size in bytes.
        """
        buffer = BytesIO()
        np.save(buffer, np.ascontiguousarray(vectors, dtype="<f2"), allow_pickle=False)
        content = buffer.getvalue()
        self.write_file(self.prototypes_path(video), content, step="prototypes")
        return hashlib.sha256(content).hexdigest(), len(content)

    def read_prototypes(self, video: str, *, sha256: str | None = None) -> NDArray[np.float16]:
        """A video's vectors, float16 (K, D).

        Args:
            video: its id.
            sha256: what the file's hash must be; None skips the check.

        Raises:
            LibraryDamaged: the file is missing, is not such an array, or has another hash.
        """
        path = self.prototypes_path(video)
        remedy = "Run `trifocal verify --repair`."
        try:
            content = path.read_bytes()
        except OSError as error:
            raise LibraryDamaged(
                f"the prototypes of video {video} cannot be read: {error.strerror}", remedy=remedy
            ) from error
        if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
            raise LibraryDamaged(f"the prototypes of video {video} are not what was written", remedy=remedy)
        try:
            vectors = np.load(BytesIO(content), allow_pickle=False)
        except (ValueError, EOFError, OSError) as error:
            raise LibraryDamaged(f"the prototypes of video {video} are not an array: {error}", remedy=remedy) from error
        if not isinstance(vectors, np.ndarray) or vectors.dtype != np.float16 or vectors.ndim != 2:
            raise LibraryDamaged(f"the prototypes of video {video} are not float16 (K, D)", remedy=remedy)
        return vectors

    def write_thumbnails(self, video: str, thumbnails: Iterable[tuple[int, bytes]]) -> tuple[str, int]:
        """Write a video's thumbnails, JPEG bytes by milliseconds, as one folder.

        Returns:
            The hash of the folder (see `hash_thumbnails`), and the bytes in it.
        """
        target = self.thumbnails_path(video)
        with disk_errors(f"writing the thumbnails of video {video}"), self._temporary() as temporary:
            temporary.mkdir()
            pictures = {thumbnail_name(at_ms): content for at_ms, content in thumbnails}
            for name, content in pictures.items():
                _write_durably(temporary / name, content)
            _sync_folder(temporary)
            digest = self.hash_thumbnails(temporary)
            self.trace("thumbnails.temporary")
            if target.exists():
                shutil.rmtree(target)
                self.trace("thumbnails.cleared")
            temporary.rename(target)
            _sync_folder(target.parent)
        self.trace("thumbnails.renamed")
        return digest, sum(map(len, pictures.values()))

    @staticmethod
    def hash_thumbnails(folder: Path) -> str:
        """The SHA-256 over the names, sizes and contents of the files in a thumbnail folder, in order of name."""
        digest = hashlib.sha256()
        for path in sorted(folder.iterdir()):
            content = path.read_bytes()
            digest.update(f"{path.name}\n{len(content)}\n".encode())
            digest.update(content)
        return digest.hexdigest()

    def delete_video(self, video: str) -> int:
        """Delete everything kept about a video outside the catalogue and the logs; twice is once.

        Returns:
            The bytes that were freed.
        """
        freed = 0
        with disk_errors(f"deleting video {video}"):
            for path in (self.prototypes_path(video), self.thumbnails_path(video), self.cache_path(video)):
                freed += remove_tree(path)
                self.trace("deletion.step")
        return freed

    def clear_temporary(self) -> int:
        """Delete what killed writers left in `tmp/`; only for whoever holds the lease.

        Returns:
            How many entries were deleted.
        """
        with disk_errors("clearing temporary files"):
            left = sorted((self.folder / "tmp").iterdir())
            for path in left:
                remove_tree(path)
        return len(left)

    def discard(self, path: Path) -> int:
        """Delete a derived file or folder that readers may be using: it vanishes at once, then its content goes.

        Returns:
            The bytes that were freed.
        """
        with disk_errors(f"deleting {path.name}"), self._temporary() as aside:
            try:
                path.rename(aside)
            except FileNotFoundError:
                return 0
            return remove_tree(aside)

    def strays(self, known: set[str]) -> list[Path]:
        """What lies under `prototypes/`, `thumbnails/` and `cache/` and belongs to no video of `known`, sorted."""
        expected = {self.prototypes_path(video) for video in known}
        expected |= {self.thumbnails_path(video) for video in known} | {self.cache_path(video) for video in known}
        with disk_errors("listing the library's files"):
            found = [
                path
                for name in ("prototypes", "thumbnails", "cache")
                if (self.folder / name).is_dir()
                for path in (self.folder / name).iterdir()
            ]
        return sorted(path for path in found if path not in expected)

    @contextmanager
    def _temporary(self) -> Iterator[Path]:
        path = self.folder / "tmp" / f"{os.getpid()}-{secrets.token_hex(8)}"
        try:
            yield path
        finally:
            remove_tree(path)


def remove_tree(path: Path) -> int:
    """Delete a file or a folder, which may be absent; links are deleted, not followed.

    Returns:
        The bytes of the files that were deleted.
    """
    if path.is_symlink() or path.is_file():
        size = path.lstat().st_size
        path.unlink(missing_ok=True)
        return size
    if not path.is_dir():
        return 0
    size = sum(entry.lstat().st_size for entry in path.rglob("*") if not entry.is_dir())
    shutil.rmtree(path)
    return size


def _write_durably(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
