"""Files of the library, each written whole or not at all.

Everything is first written under `tmp/`, flushed to the disk, and then renamed to its place; the folder's entry is
flushed too. A process killed at any moment leaves either no file, or the whole file, or something in `tmp/`, which the
next writer throws away. One video has `prototypes/<id>.npy`, the folder `thumbnails/<id>/`, and `tokens/<id>.npz`
where clip tokens are kept; all immutable. They lie in the library's folder, after the n-th `reindex` in `spaces/n/`.
`trace` is told the name of each step as it is done; tests stop the process there.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from contextlib import contextmanager, suppress
from errno import EDQUOT, EEXIST, ELOOP, ENAMETOOLONG, ENOENT, ENOSPC, ENOTDIR, EROFS
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trifocal.errors import InvalidInput, LibraryDamaged, LibraryError
from trifocal.retrieval.tokens import ClipTokens

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import NDArray

__all__ = ["FOLDERS", "Store", "disk_errors", "thumbnail_name"]

FOLDERS = ("prototypes", "thumbnails", "tokens", "spaces", "index", "cache", "logs", "tmp")
_OF_SPACE = ("prototypes", "thumbnails", "tokens")


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
        space: the revision of the library that its videos' files belong to.
        trace: told each finished step by name, such as `prototypes.renamed`.
    """

    def __init__(self, folder: Path, *, space: int = 0, trace: Callable[[str], None] | None = None) -> None:
        """Nothing is made before it is needed."""
        self.folder = folder
        self.space = space
        self.trace = trace or _silent
        self.base = folder / "spaces" / str(space) if space else folder

    def in_space(self, space: int) -> Store:
        """The same library's files of another revision."""
        return Store(self.folder, space=space, trace=self.trace)

    def prototypes_path(self, video: str) -> Path:
        """Where a video's vectors are."""
        return self.base / "prototypes" / f"{video}.npy"

    def thumbnails_path(self, video: str) -> Path:
        """The folder of a video's thumbnails."""
        return self.base / "thumbnails" / video

    def tokens_path(self, video: str) -> Path:
        """Where a video's clip tokens are, if they are kept."""
        return self.base / "tokens" / f"{video}.npz"

    def cache_path(self, video: str) -> Path:
        """The folder of what was cached about a video; goes when the video goes."""
        return self.folder / "cache" / video

    def make_folders(self) -> None:
        """Make the folders that are not there."""
        with disk_errors("making the library's folders"):
            for name in FOLDERS:
                (self.folder / name).mkdir(exist_ok=True)
            if self.space:
                for name in _OF_SPACE:
                    (self.base / name).mkdir(parents=True, exist_ok=True)

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

    def write_tokens(self, video: str, tokens: ClipTokens) -> tuple[str, int]:
        """Write a video's clip tokens.

        Returns:
            The SHA-256 of the file, and its size in bytes.
        """
        content = tokens.to_bytes()
        self.write_file(self.tokens_path(video), content, step="tokens")
        return hashlib.sha256(content).hexdigest(), len(content)

    def read_tokens(self, video: str, *, sha256: str) -> ClipTokens:
        """A video's clip tokens.

        Raises:
            LibraryDamaged: the file is missing, or not what was written.
        """
        remedy = "Run `trifocal verify --repair`."
        try:
            content = self.tokens_path(video).read_bytes()
        except OSError as error:
            raise LibraryDamaged(
                f"the clip tokens of video {video} cannot be read: {error.strerror}", remedy=remedy
            ) from error
        if hashlib.sha256(content).hexdigest() != sha256:
            raise LibraryDamaged(f"the clip tokens of video {video} are not what was written", remedy=remedy)
        try:
            return ClipTokens.from_bytes(content)
        except InvalidInput as error:
            raise LibraryDamaged(
                f"the clip tokens of video {video} are damaged: {error.message}", remedy=remedy
            ) from error

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
            spaces = [int(path.name) for path in sorted((self.folder / "spaces").glob("*")) if path.name.isdigit()]
            for store in (self, *(self.in_space(space) for space in spaces if space != self.space)):
                for path in (store.prototypes_path(video), store.thumbnails_path(video), store.tokens_path(video)):
                    freed += remove_tree(path)
                    self.trace("deletion.step")
            freed += remove_tree(self.cache_path(video))
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

    def strays(self, known: set[str], *, pending: int | None = None) -> list[Path]:
        """What lies where videos' files lie and belongs to no video of `known`, or to a revision that is over; sorted.

        Args:
            known: the catalogue's videos.
            pending: the revision that is being made.
        """
        expected = {self.cache_path(video) for video in known}
        stores = [self] if pending is None else [self, self.in_space(pending)]
        for store in stores:
            for video in known:
                expected |= {store.prototypes_path(video), store.thumbnails_path(video), store.tokens_path(video)}
        places = [self.folder / name for name in (*_OF_SPACE, "cache")]
        current = {store.base for store in stores}
        with disk_errors("listing the library's files"):
            spaces = sorted((self.folder / "spaces").iterdir()) if (self.folder / "spaces").is_dir() else []
            found = [space for space in spaces if space not in current]
            places += [space / name for space in spaces if space in current for name in _OF_SPACE]
            found += [path for place in places if place.is_dir() for path in place.iterdir() if path not in expected]
        return sorted(found)

    @contextmanager
    def _temporary(self) -> Iterator[Path]:
        path = self.folder / "tmp" / f"{os.getpid()}-{secrets.token_hex(8)}"
        try:
            yield path
        finally:
            remove_tree(path)


def remove_tree(path: Path) -> int:
    """Delete a file or a folder, which may be absent; links are deleted, not followed.

    Others may be deleting the same folder: what is gone already is as good as deleted.

    Returns:
        The bytes of the files that were deleted.
    """
    if path.is_symlink() or path.is_file():
        size = path.lstat().st_size
        path.unlink(missing_ok=True)
        return size
    if not path.is_dir():
        return 0
    size = 0
    for folder, _, names in os.walk(path):
        for name in names:
            with suppress(FileNotFoundError):
                size += Path(folder, name).lstat().st_size
    while True:
        try:
            shutil.rmtree(path)
        except FileNotFoundError:
            if path.exists():
                continue
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
