"""The store of prefixes: least recently used go first, in memory by bytes and, when asked, on disk.

`get_or_make` is what a chat model calls: the entry of a key, from memory, else from disk, else made now, and made once
when several threads ask for it at the same time. With `int8` both levels hold eight-bit keys and values, and the entry
that is handed out is the one read back from them.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from trifocal.chat.prefix.disk import DiskLevel
from trifocal.chat.prefix.quantise import QuantisedEntry, dequantise, quantise
from trifocal.errors import InvalidInput

if TYPE_CHECKING:
    from trifocal.chat.prefix.entry import PrefixEntry
    from trifocal.chat.prefix.key import PrefixKey

__all__ = ["PrefixStore", "StoreStats"]


@dataclass(frozen=True, slots=True)
class StoreStats:
    """What a store has done since it was made.

    Args:
        from_memory: entries found in memory.
        from_disk: entries found on disk.
        made: entries that were not found.
        evicted: entries that memory had no room for any more.
        rejected: files that were found wrong and removed.
        entries: in memory now.
        memory_bytes: of those.
        disk_bytes: of the files.
    """

    from_memory: int = 0
    from_disk: int = 0
    made: int = 0
    evicted: int = 0
    rejected: int = 0
    entries: int = 0
    memory_bytes: int = 0
    disk_bytes: int = 0


class PrefixStore:
    """Prefixes by key; safe for use from many threads, and its folder from many processes.

    Args:
        memory_bytes: how much to keep in memory; an entry that is larger is handed out and not kept.
        folder: also keep entries here; None for memory only.
        disk_bytes: how much the folder may hold.
        int8: keep keys and values in eight bits; never found by a store that does not, nor the other way round.
        salt: of the library or tenant; entries made under another are never found.

    Raises:
        InvalidInput: a bound is negative, or the folder cannot be made.
    """

    def __init__(
        self,
        *,
        memory_bytes: int = 2 << 30,
        folder: Path | str | None = None,
        disk_bytes: int = 20 << 30,
        int8: bool = False,
        salt: str = "",
    ) -> None:
        if memory_bytes < 0:
            raise InvalidInput(f"memory_bytes is {memory_bytes}", remedy="Give a number of bytes, 0 or more.")
        self.memory_bytes = memory_bytes
        self.int8 = int8
        self.salt = salt
        self.disk = None if folder is None else DiskLevel(folder, max_bytes=disk_bytes)
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, tuple[str, PrefixEntry | QuantisedEntry]] = OrderedDict()
        self._making: dict[str, threading.Lock] = {}
        self._counts = StoreStats()

    @property
    def stats(self) -> StoreStats:
        """Counts up to now."""
        with self._lock:
            return replace(
                self._counts,
                entries=len(self._kept),
                memory_bytes=self._held(),
                rejected=self.disk.rejected if self.disk else 0,
                disk_bytes=self.disk.nbytes if self.disk else 0,
            )

    def get(self, key: PrefixKey) -> PrefixEntry | None:
        """The entry of a key, and now the most recently used; None where there is none."""
        key = self._own(key)
        text = key.to_json()
        with self._lock:
            held = self._kept.get(key.digest)
            # The digest finds it, the whole key decides.
            if held is not None and held[0] == text:
                self._kept.move_to_end(key.digest)
                self._counts = replace(self._counts, from_memory=self._counts.from_memory + 1)
                return _usable(held[1])
        found = self.disk.read(key) if self.disk else None
        if found is None:
            return None
        with self._lock:
            self._counts = replace(self._counts, from_disk=self._counts.from_disk + 1)
        self._keep(key, found)
        return _usable(found)

    def put(self, key: PrefixKey, entry: PrefixEntry) -> PrefixEntry:
        """Keep an entry; gives the one to use from now on, which with `int8` is not quite the one given."""
        key = self._own(key)
        kept: PrefixEntry | QuantisedEntry = quantise(entry) if self.int8 else entry
        self._keep(key, kept)
        if self.disk:
            self.disk.write(key, kept)
        return _usable(kept)

    def get_or_make(self, key: PrefixKey, make: Callable[[], PrefixEntry]) -> tuple[PrefixEntry, bool]:
        """The entry of a key, made where there is none; threads that ask for the same wait for the one that makes it.

        Returns:
            The entry, and whether it was found.
        """
        digest = self._own(key).digest
        with self._lock:
            making = self._making.setdefault(digest, threading.Lock())
        try:
            with making:
                found = self.get(key)
                if found is not None:
                    return found, True
                entry = self.put(key, make())
                with self._lock:
                    self._counts = replace(self._counts, made=self._counts.made + 1)
                return entry, False
        finally:
            with self._lock:
                # Who still waits holds the lock object itself; later ones find the entry.
                self._making.pop(digest, None)

    def clear(self) -> None:
        """Forget every entry, on disk too."""
        with self._lock:
            self._kept.clear()
        if self.disk:
            self.disk.clear()

    def _own(self, key: PrefixKey) -> PrefixKey:
        # Eight bits lose a little, so exact and eight-bit stores over one folder never serve each other.
        return replace(key, salt=self.salt, int8=self.int8)

    def _held(self) -> int:
        return sum(entry.nbytes for _, entry in self._kept.values())

    def _keep(self, key: PrefixKey, entry: PrefixEntry | QuantisedEntry) -> None:
        if entry.nbytes > self.memory_bytes:
            return
        with self._lock:
            self._kept[key.digest] = (key.to_json(), entry)
            self._kept.move_to_end(key.digest)
            evicted = 0
            while self._held() > self.memory_bytes:
                self._kept.popitem(last=False)
                evicted += 1
            self._counts = replace(self._counts, evicted=self._counts.evicted + evicted)


def _usable(entry: PrefixEntry | QuantisedEntry) -> PrefixEntry:
    return dequantise(entry) if isinstance(entry, QuantisedEntry) else entry
