"""Who may write: one process at a time, and a dead one's right lapses by itself.

The lease is a row of the catalogue: a random token, the verb, the machine, the process, and a heartbeat. A second
writer is refused with `LibraryBusy` and told who holds it; readers never look at it. A lease whose process is gone
(same machine, same process namespace, no process with that number and start time) is taken over at once. Of another
machine or container only the heartbeat can be seen: it lapses after `STALE_S`. Every writing transaction checks that
its token is still the one in the row, so a writer that was suspended beyond that can lose its turn but never corrupt.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from trifocal.errors import LibraryBusy, LibraryError

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    from trifocal.library.catalogue import Catalogue

__all__ = ["HEARTBEAT_S", "STALE_S", "Lease", "machine", "process_start"]

HEARTBEAT_S = 5.0
STALE_S = 60.0

# The tokens that this process holds. A row with another one is what a full disk kept from being deleted.
_HELD: set[str] = set()


def machine() -> str:
    """This machine, this boot, this process namespace: where process numbers mean the same."""
    with contextlib.suppress(OSError):  # not Linux: the host's name has to do
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{socket.gethostname()}/{boot}/{Path('/proc/self/ns/pid').readlink()}"
    return socket.gethostname()


def process_start(pid: int) -> str | None:
    """When a process started, in the kernel's own count, or None when there is no such process.

    Process numbers are used again; together with the start they are not. Where the start cannot be read, it is "".
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        if Path("/proc/self/stat").exists():
            return None
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return None
        except PermissionError:
            return ""
        return ""
    # The name, in parentheses, may hold spaces; the start is field 22 of the line, 20th after the name. A zombie has
    # ended: it only waits for its parent to ask.
    after = stat.rpartition(")")[2].split()
    return None if after[0] in ("Z", "X") else after[19]


class Lease:
    """The right to write, held by this process until `release`.

    Args:
        catalogue: the library's catalogue.
        verb: what it is held for, told to whoever is refused.
        clock: seconds since the epoch; for tests.
    """

    def __init__(self, catalogue: Catalogue, *, verb: str, clock: Callable[[], float] = time.time) -> None:
        """Not held before `acquire`."""
        self.token = secrets.token_hex(16)
        self._catalogue = catalogue
        self._verb = verb
        self._clock = clock
        self._stop = threading.Event()
        self._beating: threading.Thread | None = None

    def acquire(self) -> None:
        """Take the lease.

        Raises:
            LibraryBusy: another process, or another call in this one, holds it.
        """
        with self._catalogue.write() as connection:
            here, pid = machine(), os.getpid()
            row = connection.execute("SELECT * FROM lease").fetchone()
            if row is not None and not self._lapsed(row, here):
                raise LibraryBusy(
                    f"process {row['pid']} is writing to the library ({row['verb']})",
                    remedy="Wait until it has finished; searching works meanwhile.",
                )
            connection.execute(
                "INSERT OR REPLACE INTO lease VALUES (1, ?, ?, ?, ?, ?, ?)",
                (self.token, self._verb, here, pid, process_start(pid) or "", self._clock()),
            )
            _HELD.add(self.token)
        self._beating = threading.Thread(target=self._beat, name="trifocal-lease", daemon=True)
        self._beating.start()

    def check(self, connection: sqlite3.Connection) -> None:
        """Raise `LibraryBusy` when another writer has taken over; for use inside a writing transaction."""
        row = connection.execute("SELECT token FROM lease").fetchone()
        if row is None or row["token"] != self.token:
            raise LibraryBusy(
                "another process has taken over writing to the library, as this one gave no sign of life",
                remedy="Run the command again when the other has finished.",
            )

    def release(self) -> None:
        """Give the lease back; twice is once."""
        self._stop.set()
        if self._beating is not None:
            self._beating.join()
            self._beating = None
            _HELD.discard(self.token)
            with self._catalogue.write() as connection:
                connection.execute("DELETE FROM lease WHERE token = ?", (self.token,))

    def _lapsed(self, row: sqlite3.Row, here: str) -> bool:
        if row["host"] == here:
            ours = row["pid"] == os.getpid() and row["token"] not in _HELD
            return ours or bool(process_start(row["pid"]) != row["process_start"])
        # Clocks of two machines may differ, and a clock may jump: a heartbeat from the future is as old as it is far.
        return bool(abs(self._clock() - row["heartbeat"]) > STALE_S)

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT_S):
            # A beat that fails (busy or full disk) is made up for by the next; the writer meets the same trouble.
            with contextlib.suppress(LibraryError), self._catalogue.write() as connection:
                connection.execute("UPDATE lease SET heartbeat = ? WHERE token = ?", (self._clock(), self.token))
