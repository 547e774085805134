"""Migrations: each one whole or not at all."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from trifocal.errors import LibraryError
from trifocal.library.schema import CONTENT_TABLES, MIGRATIONS, migrate


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    made = sqlite3.connect(tmp_path / "c.sqlite3", isolation_level=None)
    made.execute("PRAGMA foreign_keys = ON")
    yield made
    made.close()


def tables(connection: sqlite3.Connection) -> set[str]:
    return {row[0] for row in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}


def test_from_nothing(connection: sqlite3.Connection) -> None:
    assert migrate(connection) == len(MIGRATIONS)
    assert migrate(connection) == 0
    assert set(CONTENT_TABLES) < tables(connection)
    strict = connection.execute("SELECT name, strict FROM pragma_table_list WHERE schema = 'main'").fetchall()
    assert all(flag for name, flag in strict if not name.startswith("sqlite_"))


def test_to_a_later_version(connection: sqlite3.Connection) -> None:
    migrate(connection)
    later = (*MIGRATIONS, "ALTER TABLE videos ADD COLUMN title TEXT; CREATE TABLE notes (x TEXT) STRICT;")
    assert migrate(connection, migrations=later) == 1
    assert "notes" in tables(connection)
    assert connection.execute("PRAGMA user_version").fetchone() == (len(later),)
    with pytest.raises(LibraryError, match="Upgrade"):
        migrate(connection)


def test_one_that_fails_changes_nothing(connection: sqlite3.Connection) -> None:
    migrate(connection)
    before = tables(connection)
    with pytest.raises(sqlite3.OperationalError):
        migrate(
            connection, migrations=(*MIGRATIONS, "CREATE TABLE notes (x TEXT) STRICT; CREATE TABLE notes (y TEXT);")
        )
    assert tables(connection) == before
    assert connection.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO files VALUES ('/a', 'no such video', '/', 1, 1, 1, 'present')",
        "INSERT INTO roots VALUES ('/', 'drive')",
        "INSERT INTO deletions VALUES ('..', '[]')",
        "INSERT INTO meta VALUES ('a', NULL)",
        "INSERT INTO jobs VALUES ('a', 'b', 'many', 'c')",
        "INSERT INTO lease VALUES (2, 'a', 'b', 'c', 1, 'd', 0.0)",
    ],
)
def test_rules(connection: sqlite3.Connection, statement: str) -> None:
    migrate(connection)
    with pytest.raises(sqlite3.IntegrityError):
        connection.execute(statement)
