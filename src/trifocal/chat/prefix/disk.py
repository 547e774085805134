"""Entries on disk: one safetensors file each, readable by its owner only, verified on read, bounded in bytes.

The file's own header holds the whole key and a SHA-256 of all else in it. A read compares both: a file under a wrong
name, of another salt or format, damaged, replaced by a link, or open to others is not used; it is removed and counted.
A file appears whole or not at all (written aside, flushed, renamed). When the folder grows over its bound the files
that were not read for longest go first; the time of the last read is the file's modification time, so the order
survives a restart and is shared by processes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import secrets
import stat
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trifocal.chat.prefix.entry import PrefixEntry
from trifocal.chat.prefix.key import canonical
from trifocal.chat.prefix.quantise import QuantisedEntry
from trifocal.errors import InvalidInput

if TYPE_CHECKING:
    from torch import Tensor

    from trifocal.chat.prefix.key import PrefixKey

__all__ = ["DiskLevel"]

_FORMAT = "trifocal-prefix-1"
_SUFFIX = ".safetensors"
_PART = ".part"
_STALE_S = 3600.0
_MOST_HEADER = 64 << 20
_log = logging.getLogger(__name__)


class DiskLevel:
    """A folder of prefixes.

    Args:
        folder: made where it is missing, for its owner only.
        max_bytes: how much it may hold; an entry that is larger is not kept.

    Attributes:
        rejected: files that were found wrong and removed.
        unwritten: entries that the disk refused.

    Raises:
        InvalidInput: the folder cannot be made, or the bound is negative.
    """

    def __init__(self, folder: Path | str, *, max_bytes: int = 20 << 30) -> None:
        if max_bytes < 0:
            raise InvalidInput(f"max_bytes is {max_bytes}", remedy="Give a number of bytes, 0 or more.")
        self.folder = Path(folder).expanduser()
        self.max_bytes = max_bytes
        self.rejected = 0
        self.unwritten = 0
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise InvalidInput(
                f"{self.folder} cannot be made: {error.strerror or error}",
                remedy="Give a folder that may be written to, for the prefixes of videos.",
            ) from error
        for part in self.folder.glob(f"*{_PART}"):  # left by a process that was killed while it wrote
            with contextlib.suppress(FileNotFoundError):
                if time.time() - part.stat().st_mtime > _STALE_S:
                    part.unlink()

    def path(self, key: PrefixKey) -> Path:
        """Where an entry is, or would be."""
        return self.folder / f"{key.digest}{_SUFFIX}"

    def read(self, key: PrefixKey) -> PrefixEntry | QuantisedEntry | None:
        """The entry of a key; None where there is none that can be trusted."""
        path = self.path(key)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as error:  # a link, or not ours to read
            self._reject(path, error.strerror or str(error))
            return None
        with os.fdopen(fd, "rb") as file:
            facts = os.fstat(file.fileno())
            if not stat.S_ISREG(facts.st_mode) or facts.st_uid != os.geteuid() or facts.st_mode & 0o077:
                self._reject(path, "it is not a file that only its owner can read and write")
                return None
            if facts.st_size > self.max_bytes:
                self._reject(path, f"its {facts.st_size} bytes are above the bound of {self.max_bytes}")
                return None
            contents = file.read()
        try:
            entry = _decode(contents, key)
        except ValueError as error:
            self._reject(path, str(error))
            return None
        with contextlib.suppress(OSError):  # another process may have evicted it meanwhile; what was read is good
            os.utime(path)
        return entry

    def write(self, key: PrefixKey, entry: PrefixEntry | QuantisedEntry) -> bool:
        """Keep an entry; False where it is larger than the bound or the disk refuses, which is logged."""
        if entry.nbytes > self.max_bytes:
            return False
        contents = _encode(entry, key)
        if len(contents) > self.max_bytes:
            return False
        self._make_room(len(contents), spare=self.path(key))
        part = self.folder / f"{secrets.token_hex(8)}{_PART}"
        try:
            fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(fd, "wb") as file:
                file.write(contents)
                file.flush()
                os.fsync(file.fileno())
            part.replace(self.path(key))
        except OSError as error:
            # A full disk costs the next question time, not this one its answer.
            self.unwritten += 1
            _log.warning("A prefix could not be written to %s: %s", self.folder, error.strerror or error)
            with contextlib.suppress(OSError):
                part.unlink()
            return False
        return True

    def clear(self) -> None:
        """Remove every entry."""
        for path in self.folder.glob(f"*{_SUFFIX}"):
            path.unlink(missing_ok=True)

    @property
    def nbytes(self) -> int:
        """Bytes of all entries."""
        return sum(size for _, size, _ in self._files())

    def _files(self) -> list[tuple[int, int, Path]]:
        found = []
        for path in self.folder.glob(f"*{_SUFFIX}"):
            with contextlib.suppress(FileNotFoundError):
                facts = path.lstat()
                found.append((facts.st_mtime_ns, facts.st_size, path))
        return sorted(found)

    def _make_room(self, needed: int, *, spare: Path) -> None:
        files = [file for file in self._files() if file[2] != spare]  # it is about to be replaced
        held = sum(size for _, size, _ in files)
        for _, size, path in files:
            if held + needed <= self.max_bytes:
                return
            path.unlink(missing_ok=True)
            held -= size

    def _reject(self, path: Path, why: str) -> None:
        self.rejected += 1
        _log.warning("The prefix %s is not used: %s", path.name, why)
        with contextlib.suppress(OSError):
            path.unlink()


def _encode(entry: PrefixEntry | QuantisedEntry, key: PrefixKey) -> bytes:
    from safetensors.torch import save

    tensors: dict[str, Tensor] = {f"extra.{name}": value.contiguous() for name, value in entry.extra.items()}
    names = ("keys", "values") if isinstance(entry, PrefixEntry) else ("keys", "key_scale", "values", "value_scale")
    for number, layer in enumerate(entry.layers):
        for name, part in zip(names, layer, strict=True):
            tensors[f"{number}.{name}"] = part.contiguous()
    metadata = {
        "format": _FORMAT,
        "key": key.to_json(),
        "length": str(entry.length),
        "layers": str(len(entry.layers)),
        "facts": json.dumps(dict(entry.facts), sort_keys=True, allow_nan=False),
        "int8_of": "" if isinstance(entry, PrefixEntry) else str(entry.dtype).removeprefix("torch."),
    }
    # The seal covers names, shapes and facts too, so it is over what the file means, not over its layout.
    return save(tensors, metadata={**metadata, "sha256": _seal(tensors, metadata)})


def _seal(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    import torch

    digest = hashlib.sha256(canonical(dict(metadata)).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(canonical([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _decode(contents: bytes, key: PrefixKey) -> PrefixEntry | QuantisedEntry:
    """The entry in a file's bytes; ValueError says what is wrong with them."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load

    start = _data_start(contents)
    try:
        header = json.loads(contents[8:start])
    except ValueError as error:
        raise ValueError("its header is not JSON") from error
    metadata: dict[str, Any] = header.get("__metadata__", {}) if isinstance(header, dict) else {}
    if metadata.get("format") != _FORMAT:
        raise ValueError(f"its format is {metadata.get('format')!r}")
    if metadata.get("key") != key.to_json():
        raise ValueError("it was made for another key")
    try:
        tensors = load(contents)
        seal = metadata.pop("sha256", "")
        if seal != _seal(tensors, metadata):
            raise ValueError("its bytes are not those that were written")
        count, length = int(metadata["layers"]), int(metadata["length"])
        extra = {name.removeprefix("extra."): part for name, part in tensors.items() if name.startswith("extra.")}
        facts = json.loads(metadata["facts"])
        if not metadata["int8_of"]:
            pairs = tuple((tensors[f"{n}.keys"], tensors[f"{n}.values"]) for n in range(count))
            return PrefixEntry(layers=pairs, length=length, extra=extra, facts=facts)
        names = ("keys", "key_scale", "values", "value_scale")
        first = [tuple(tensors[f"{n}.{name}"] for name in names) for n in range(count)]
        dtype = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}[metadata["int8_of"]]
        layers = tuple((a, b, c, d) for a, b, c, d in first)
        return QuantisedEntry(layers=layers, dtype=dtype, length=length, extra=extra, facts=facts)
    except (KeyError, SafetensorError, InvalidInput) as error:
        raise ValueError(f"its contents do not fit together: {error}") from error


def _data_start(contents: bytes) -> int:
    header = int.from_bytes(contents[:8], "little")  # a safetensors file begins with the length of its header
    if len(contents) < 8 or header > min(_MOST_HEADER, len(contents) - 8):
        raise ValueError("it is cut short")
    return 8 + header
