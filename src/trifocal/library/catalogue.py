"""The catalogue: one SQLite file in write-ahead mode, so that readers never wait for the writer.

Each thread has its own connection. `read()` is one consistent snapshot; `write()` is one transaction, durable when it
returns (`synchronous=FULL`), and undone as a whole when anything inside raises. Deleted rows are overwritten
(`secure_delete`). In a folder that may not be written the catalogue opens for reading only. What SQLite complains about
becomes one of Trifocal's errors with a remedy.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from trifocal.errors import LibraryBusy, LibraryDamaged, LibraryError
from trifocal.library.schema import migrate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from trifocal.library.lease import Lease

__all__ = ["CATALOGUE_NAME", "Catalogue"]

CATALOGUE_NAME = "catalogue.sqlite3"

_BUSY_S = 30.0

_FULL = (sqlite3.SQLITE_FULL,)
_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_FORBIDDEN = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM)


class Catalogue:
    """The library's SQLite file.

    Args:
        folder: the library's folder; the file must be there unless `create`.
        create: make the file when it is not there.

    Raises:
        LibraryDamaged: the file is missing or is not a catalogue.
        LibraryError: it may not be read, or a later version of Trifocal wrote it.
    """

    def __init__(self, folder: Path, *, create: bool = False) -> None:
        """Open the file, or make it, and bring it to the present version."""
        self.path = folder / CATALOGUE_NAME
        self._create = create
        self._lock = threading.Lock()
        self._connections: dict[threading.Thread, sqlite3.Connection] = {}
        self._closed = False
        if not create and not self.path.is_file():
            raise LibraryDamaged(f"{CATALOGUE_NAME} is missing", remedy="Run `trifocal verify --repair`.")
        place = self.path if self.path.exists() else folder
        self.read_only = not (os.access(folder, os.W_OK) and os.access(place, os.W_OK))
        try:
            with self._translated():
                version = self._connection().execute("PRAGMA user_version").fetchone()[0]
                if version == 0 and not create:
                    raise LibraryDamaged(f"{CATALOGUE_NAME} is empty", remedy="Run `trifocal verify --repair`.")
                migrate(self._connection(), read_only=self.read_only)
        except BaseException:
            self.close()
            raise

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """One consistent snapshot; what others write meanwhile is not seen.

        Raises:
            LibraryDamaged: the file is damaged.
        """
        with self._translated():
            connection = self._connection()
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                with contextlib.suppress(sqlite3.OperationalError):  # already ended by the error that is on its way
                    connection.execute("ROLLBACK")

    @contextmanager
    def write(self, lease: Lease | None = None) -> Iterator[sqlite3.Connection]:
        """One durable transaction.

        Args:
            lease: checked first; None only for the lease itself and for making a library.

        Raises:
            LibraryBusy: the lease was lost, or another transaction takes longer than half a minute.
            LibraryError: the disk is full, or the folder may not be written.
        """
        if self.read_only:
            raise LibraryError(
                "the library's folder may not be written", remedy="Make it writable, or copy it to a place that is."
            )
        with self._translated():
            connection = self._connection()
            connection.execute("BEGIN IMMEDIATE")
            try:
                if lease is not None:
                    lease.check(connection)
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.OperationalError):  # a full disk may have rolled back already
                    connection.execute("ROLLBACK")
                raise

    def shrink(self) -> None:
        """Fold the write-ahead log into the file and empty it, as far as readers allow."""
        if not self.read_only:
            with self._translated():
                self._connection().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def damage(self) -> list[str]:
        """What SQLite's check of its pages and indexes finds; empty when they are sound."""
        try:
            with self._translated():
                found = [str(row[0]) for row in self._connection().execute("PRAGMA integrity_check")]
        except LibraryDamaged as error:
            return [error.message]
        return [] if found == ["ok"] else found

    def broken_references(self) -> list[str]:
        """Rows that name rows that are not there."""
        with self._translated():
            rows = self._connection().execute("PRAGMA foreign_key_check").fetchall()
        return [f"a row of {row[0]} names a row of {row[2]} that is not there" for row in rows]

    def close(self) -> None:
        """Close the connections of all threads; twice is once."""
        with self._lock:
            self._closed = True
            connections, self._connections = list(self._connections.values()), {}
        for connection in connections:
            connection.close()

    def _connection(self) -> sqlite3.Connection:
        thread = threading.current_thread()
        with self._lock:
            if self._closed:
                raise LibraryError("the library is closed", remedy="Open it again with `Library.open`.")
            found = self._connections.get(thread)
            if found is not None:
                return found
            for other in [entry for entry in self._connections if not entry.is_alive()]:
                self._connections.pop(other).close()
        connection = self._connect()
        with self._lock:
            self._connections[thread] = connection
        return connection

    def _connect(self) -> sqlite3.Connection:
        if self.read_only:
            try:
                return self._opened("mode=ro")
            except sqlite3.OperationalError:
                log = self.path.with_name(f"{CATALOGUE_NAME}-wal")
                if log.exists() and log.stat().st_size:
                    raise LibraryError(
                        f"the last changes are still in {log.name}, which cannot be read in a folder that may not be"
                        " written",
                        remedy="Copy the library to a place that may be written, or open it once where it is.",
                    ) from None
                # No write-ahead files and none can be made: then there is no writer either.
                return self._opened("mode=ro&immutable=1")
        return self._opened("mode=rwc" if self._create else "mode=rw")

    def _opened(self, options: str) -> sqlite3.Connection:
        # Threads keep to their own connection; the check is off so that `close` can close them all.
        connection = sqlite3.connect(
            f"{self.path.absolute().as_uri()}?{options}",
            uri=True,
            timeout=_BUSY_S,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            connection.row_factory = sqlite3.Row
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA trusted_schema = OFF")
            if not self.read_only:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = FULL")
                connection.execute("PRAGMA secure_delete = ON")
            connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        except BaseException:
            connection.close()
            raise
        return connection

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
            if code in _FULL:
                raise LibraryError(
                    "the disk is full while writing the catalogue",
                    remedy="Free some space and run the command again; what was finished is kept.",
                ) from error
            if code in _BUSY:
                raise LibraryBusy(
                    "another process has been writing to the catalogue for half a minute",
                    remedy="Wait until it has finished.",
                ) from error
            if code in _FORBIDDEN:
                raise LibraryError(
                    f"the catalogue may not be opened or written ({error})", remedy="Check the folder's permissions."
                ) from error
            if code == sqlite3.SQLITE_IOERR:
                raise LibraryError(
                    f"the disk failed under the catalogue ({error})", remedy="Check the disk, then `trifocal verify`."
                ) from error
            raise LibraryDamaged(
                f"the catalogue cannot be used ({error})", remedy="Run `trifocal verify --repair`."
            ) from error
