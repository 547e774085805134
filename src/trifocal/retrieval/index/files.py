"""The files of an exact index and how they are replaced: segments that never change, and one manifest that names them.

    manifest.json             format, version, encoder, dim, counts, kinds of codes, and the segments, each with name,
                              bytes and sha256 of its files
    vectors-<hash>.npy        float16 (N, D), all prototypes of a segment, video after video
    spans-<hash>.npy          float32 (N, 2), seconds
    videos-<hash>.json        sorted ids, where each one's rows start, facts and stamps
    int8-, binary-<hash>.npy  coarse codes of the vectors, when asked for (`codes`)

A file is named after its content, written beside its place, flushed to the disk and renamed; the manifest goes last,
then the files that no manifest names any more are deleted. A process killed anywhere leaves the old index or the new
one. Whoever has the old files mapped keeps reading them: a mapping outlives the name.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from trifocal.errors import InvalidInput, LibraryBusy, LibraryDamaged, LibraryNotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path
    from typing import BinaryIO

__all__ = [
    "CODES",
    "Manifest",
    "StoredFile",
    "StoredSegment",
    "check_files",
    "commit_manifest",
    "file_sha256",
    "npy_header",
    "read_manifest",
    "store_file",
    "sweep",
    "writing_index",
]

FORMAT = "trifocal-exact-index"
VERSION = 2
MANIFEST = "manifest.json"
REBUILD = "Build the index again from the library's prototypes (`trifocal verify --repair`)."
CODES = ("binary", "int8")
"""The kinds of coarse codes, see `codes`."""

NPY_HEADER_BYTES = 128
_KINDS = ("vectors", "spans", "videos")
_OWN_NAME = re.compile(r"(vectors|spans|int8|binary)-[0-9a-f]{16}\.npy|videos-[0-9a-f]{16}\.json|\.[a-z0-9]+\.tmp-\d+")


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One file that the manifest vouches for."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class StoredSegment:
    """The files of some of the videos."""

    videos: int
    prototypes: int
    files: dict[str, StoredFile]


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an index folder holds."""

    encoder: str
    dim: int
    videos: int
    prototypes: int
    codes: tuple[str, ...]
    segments: tuple[StoredSegment, ...]

    @classmethod
    def of(cls, segments: Sequence[StoredSegment], *, encoder: str, dim: int, codes: tuple[str, ...]) -> Manifest:
        """The manifest of these segments."""
        return cls(
            encoder=encoder,
            dim=dim,
            videos=sum(segment.videos for segment in segments),
            prototypes=sum(segment.prototypes for segment in segments),
            codes=codes,
            segments=tuple(segments),
        )

    def names(self) -> set[str]:
        """All files it vouches for."""
        return {stored.name for segment in self.segments for stored in segment.files.values()}


@contextmanager
def writing_index(folder: Path) -> Iterator[None]:
    """The right to change the index of a folder, held by one process at a time; the kernel frees it with the process.

    Raises:
        LibraryBusy: another one holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LibraryBusy(
                f"the index in {folder} is being written by another process or thread",
                remedy="Try again when it has finished; searching works meanwhile.",
            ) from None
        yield
    finally:
        os.close(handle)


def read_manifest(folder: Path) -> Manifest:
    """The manifest of an index folder, checked; one of version 1 (a single segment) reads as what it means today.

    Raises:
        LibraryNotFound: there is none.
        LibraryDamaged: it cannot be read, or says something impossible.
        InvalidInput: a later version of Trifocal wrote it.
    """
    path = folder / MANIFEST
    try:
        values = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise LibraryNotFound(
            f"{folder} holds no index", remedy="Build one with ExactIndex.build, or add videos to the library."
        ) from None
    except (ValueError, OSError) as error:
        raise LibraryDamaged(f"{path} cannot be read ({type(error).__name__})", remedy=REBUILD) from error
    if not isinstance(values, dict) or values.pop("format", None) != FORMAT:
        raise LibraryDamaged(f"{path} is not the manifest of an index", remedy=REBUILD)
    version = values.pop("version", None)
    if isinstance(version, int) and version > VERSION:
        raise InvalidInput(
            f"{path} has version {version}, this program knows up to {VERSION}", remedy="Update Trifocal."
        )
    try:
        return _manifest(version, values)
    except (TypeError, KeyError, ValueError) as error:
        raise LibraryDamaged(f"{path} has a wrong or missing entry: {error}", remedy=REBUILD) from error


def commit_manifest(folder: Path, manifest: Manifest) -> None:
    """Make a manifest the one that counts, and delete what it does not name."""
    text = json.dumps({"format": FORMAT, "version": VERSION, **asdict(manifest)}, indent=1, sort_keys=True) + "\n"
    _sync_folder(folder)  # the new files' names must be on the disk before a manifest speaks of them
    _write_temporary(folder, "manifest", lambda file: file.write(text.encode())).replace(folder / MANIFEST)
    _sync_folder(folder)
    sweep(folder, keep=manifest.names())


def check_files(folder: Path, manifest: Manifest) -> None:
    """Hash every file that a manifest vouches for; reads all of the index.

    Raises:
        LibraryDamaged: one is gone, or differs from what was written.
    """
    for stored in (file for segment in manifest.segments for file in segment.files.values()):
        path = folder / stored.name
        try:
            found = file_sha256(path)
        except OSError as error:
            raise LibraryDamaged(f"{path} cannot be read ({type(error).__name__})", remedy=REBUILD) from error
        if found != stored.sha256:
            raise LibraryDamaged(f"{path} has the SHA-256 {found}, not {stored.sha256}", remedy=REBUILD)


def store_file(folder: Path, kind: str, suffix: str, write: Callable[[BinaryIO], object]) -> StoredFile:
    """Write one file of a segment, durably, under the name that its content gives it."""
    temporary = _write_temporary(folder, kind, write)
    digest = file_sha256(temporary)
    stored = StoredFile(name=f"{kind}-{digest[:16]}{suffix}", bytes=temporary.stat().st_size, sha256=digest)
    temporary.replace(folder / stored.name)
    return stored


def sweep(folder: Path, *, keep: set[str]) -> None:
    """Delete what earlier or killed writers left; a file that another process deletes first is as good as deleted."""
    for path in folder.iterdir():
        if path.name not in keep and _OWN_NAME.fullmatch(path.name):
            with suppress(FileNotFoundError):
                path.unlink()


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def npy_header(shape: tuple[int, int]) -> bytes:
    """The header of a C-ordered float16 .npy file, padded to a fixed size so that it can be written last."""
    text = f"{{'descr': '<f2', 'fortran_order': False, 'shape': {shape}, }}"
    magic = b"\x93NUMPY\x01\x00" + (NPY_HEADER_BYTES - 10).to_bytes(2, "little")
    return magic + text.encode().ljust(NPY_HEADER_BYTES - 11) + b"\n"


def _manifest(version: object, values: dict[str, Any]) -> Manifest:
    if version == 1:
        one = {name: values[name] for name in ("videos", "prototypes")} | {"files": values.pop("files")}
        values |= {"segments": [one] if one["videos"] else [], "codes": []}
    elif version != VERSION:
        raise ValueError(f"version {version!r}")
    codes = tuple(values.pop("codes"))
    if set(codes) - set(CODES):
        raise ValueError(f"codes {codes}")
    segments = tuple(_segment(entry, codes) for entry in values.pop("segments"))
    manifest = Manifest(codes=codes, segments=segments, **values)
    counts = (manifest.dim, manifest.videos, manifest.prototypes)
    if any(type(n) is not int or n < 0 for n in counts) or not isinstance(manifest.encoder, str):
        raise ValueError(f"encoder and counts {manifest.encoder!r}, {counts}")
    again = Manifest.of(segments, encoder=manifest.encoder, dim=manifest.dim, codes=codes)
    if again != manifest:
        raise ValueError(f"counts {counts} that are not those of the segments")
    return manifest


def _segment(entry: dict[str, Any], codes: tuple[str, ...]) -> StoredSegment:
    segment = StoredSegment(
        videos=entry["videos"],
        prototypes=entry["prototypes"],
        files={kind: StoredFile(**stored) for kind, stored in entry["files"].items()},
    )
    if set(segment.files) != {*_KINDS, *codes}:
        raise ValueError(f"files {sorted(segment.files)}")
    for stored in segment.files.values():
        if not _OWN_NAME.fullmatch(stored.name):  # a name with a path in it must not lead out of the folder
            raise ValueError(f"file name {stored.name!r}")
    if any(type(n) is not int or n < 1 for n in (segment.videos, segment.prototypes)):
        raise ValueError(f"counts {segment.videos!r}, {segment.prototypes!r} of a segment")
    return segment


def _write_temporary(folder: Path, kind: str, write: Callable[[BinaryIO], object]) -> Path:
    temporary = folder / f".{kind}.tmp-{os.getpid()}"
    try:
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return temporary


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
