"""The files of an index and how they are replaced: written whole, then swapped in by one rename.

    manifest.json             format, version, encoder, dim, counts, and name, bytes and sha256 of the three others
    vectors-<hash>.npy        float16 (N, D), all prototypes, video after video
    spans-<hash>.npy          float32 (N, 2), seconds
    videos-<hash>.json        {"ids": [...], "rows": [...]}: sorted ids, and where each one's rows start

A file is named after its content, written beside its place, flushed to the disk and renamed; the manifest goes last,
then the files that no manifest names any more are deleted. A process killed anywhere leaves the old index or the new
one. Whoever has the old files mapped keeps reading them: a mapping outlives the name.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from trifocal.errors import InvalidInput, LibraryDamaged, LibraryNotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path
    from typing import BinaryIO

    from numpy.typing import NDArray

    from trifocal.retrieval.prototypes import Prototypes

__all__ = ["Manifest", "StoredFile", "file_sha256", "read_manifest", "write_index"]

FORMAT = "trifocal-exact-index"
VERSION = 1
MANIFEST = "manifest.json"
REBUILD = "Build the index again from the library's prototypes (`trifocal verify --repair`)."

_NPY_HEADER_BYTES = 128
_OWN_NAME = re.compile(r"(vectors|spans)-[0-9a-f]{16}\.npy|videos-[0-9a-f]{16}\.json|\.[a-z]+\.tmp-\d+")


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One file that the manifest vouches for."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an index folder holds."""

    encoder: str
    dim: int
    videos: int
    prototypes: int
    files: dict[str, StoredFile]


def write_index(folder: Path, items: Iterable[tuple[str, Prototypes]], *, encoder: str, dim: int) -> Manifest:
    """Write an index of `items` into `folder`, replacing the one that is there in one step.

    The vectors go straight to the disk, in the order they come, so memory holds one video at a time; the caller gives
    the videos sorted by id.

    Raises:
        InvalidInput: an id twice, out of order or not a string, or prototypes of another width.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ids: list[str] = []
    rows: list[int] = []
    spans: list[NDArray[np.float32]] = []
    total = 0

    def write_vectors(file: BinaryIO) -> None:
        nonlocal total
        file.write(b"\0" * _NPY_HEADER_BYTES)
        for video, prototypes in items:
            _check_item(video, prototypes, after=ids[-1] if ids else "", dim=dim)
            file.write(np.ascontiguousarray(prototypes.vectors, dtype="<f2").data)
            ids.append(video)
            rows.append(total)
            spans.append(prototypes.spans_s)
            total += len(prototypes)
        file.seek(0)
        file.write(_npy_header((total, dim)))

    def write_spans(file: BinaryIO) -> None:
        joined = np.concatenate(spans) if spans else np.zeros((0, 2))
        np.save(file, joined.astype("<f4"), allow_pickle=False)

    def write_videos(file: BinaryIO) -> None:
        file.write(json.dumps({"ids": ids, "rows": rows}, ensure_ascii=False).encode())

    files = {
        "vectors": _store(folder, "vectors", ".npy", write_vectors),
        "spans": _store(folder, "spans", ".npy", write_spans),
        "videos": _store(folder, "videos", ".json", write_videos),
    }
    manifest = Manifest(encoder=encoder, dim=dim, videos=len(ids), prototypes=total, files=files)
    text = json.dumps({"format": FORMAT, "version": VERSION, **asdict(manifest)}, indent=1, sort_keys=True) + "\n"
    _replace(folder, folder / MANIFEST, lambda file: file.write(text.encode()))
    _sweep(folder, keep={stored.name for stored in files.values()})
    return manifest


def read_manifest(folder: Path) -> Manifest:
    """The manifest of an index folder, checked.

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


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _manifest(version: object, values: dict[str, Any]) -> Manifest:
    if version != VERSION:
        raise ValueError(f"version {version!r}")
    files = {kind: StoredFile(**entry) for kind, entry in values.pop("files").items()}
    if set(files) != {"vectors", "spans", "videos"}:
        raise ValueError(f"files {sorted(files)}")
    for stored in files.values():
        if not _OWN_NAME.fullmatch(stored.name):  # a name with a path in it must not lead out of the folder
            raise ValueError(f"file name {stored.name!r}")
    manifest = Manifest(files=files, **values)
    counts = (manifest.dim, manifest.videos, manifest.prototypes)
    if any(type(n) is not int or n < 0 for n in counts) or not isinstance(manifest.encoder, str):
        raise ValueError(f"encoder and counts {manifest.encoder!r}, {counts}")
    return manifest


def _check_item(video: str, prototypes: Prototypes, *, after: str, dim: int) -> None:
    if type(video) is not str or not video:
        raise InvalidInput(f"a video's id is {video!r}", remedy="Give ids that are strings and not empty.")
    if video <= after:
        raise InvalidInput(f"the video {video!r} comes after {after!r}", remedy="Give each video once, sorted by id.")
    if prototypes.dim != dim:
        raise InvalidInput(
            f"the prototypes of {video!r} have {prototypes.dim} dimensions, the index {dim}",
            remedy="Encode the video with the encoder of the index.",
        )


def _npy_header(shape: tuple[int, int]) -> bytes:
    """The header of a C-ordered float16 .npy file, padded to a fixed size so that it can be written last."""
    text = f"{{'descr': '<f2', 'fortran_order': False, 'shape': {shape}, }}"
    magic = b"\x93NUMPY\x01\x00" + (_NPY_HEADER_BYTES - 10).to_bytes(2, "little")
    return magic + text.encode().ljust(_NPY_HEADER_BYTES - 11) + b"\n"


def _store(folder: Path, kind: str, suffix: str, write: Callable[[BinaryIO], object]) -> StoredFile:
    temporary = _write_temporary(folder, kind, write)
    digest = file_sha256(temporary)
    stored = StoredFile(name=f"{kind}-{digest[:16]}{suffix}", bytes=temporary.stat().st_size, sha256=digest)
    temporary.replace(folder / stored.name)
    return stored


def _replace(folder: Path, target: Path, write: Callable[[BinaryIO], object]) -> None:
    _sync_folder(folder)  # the new files' names must be on the disk before a manifest speaks of them
    _write_temporary(folder, target.stem, write).replace(target)
    _sync_folder(folder)


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


def _sweep(folder: Path, *, keep: set[str]) -> None:
    """Delete what earlier or killed builds left; a file that another process deletes first is as good as deleted."""
    for path in folder.iterdir():
        if path.name not in keep and _OWN_NAME.fullmatch(path.name):
            with suppress(FileNotFoundError):
                path.unlink()
