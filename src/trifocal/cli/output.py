"""What every verb prints with: tables for people, JSON for programs, one line for an error.

Results go to stdout, everything else (progress, notes, errors) to stderr, so that `--format json` can be piped.
"""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trifocal.errors import InvalidInput

if TYPE_CHECKING:
    from rich.console import Console

    from trifocal.errors import TrifocalError

NARROW = 60
"""A terminal with fewer columns gets tables without what can be done without."""

_UNBOUNDED = 100_000  # columns of a line that nobody's terminal wraps
_UNPRINTABLE = ("Cc", "Cs", "Zl", "Zp")
_BIDI = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


class Format(StrEnum):
    """How results are printed."""

    HUMAN = "human"
    JSON = "json"


@dataclass
class Session:
    """What the error printer must know of the verb that ran; the typer context carries it."""

    json: bool = False


def _remember_format(context: typer.Context, value: Format) -> Format:
    if isinstance(context.obj, Session):
        context.obj.json = value is Format.JSON
    return value


FormatOption = Annotated[
    Format,
    typer.Option("--format", "-f", callback=_remember_format, help="Tables for people, or JSON for programs."),
]
LibraryOption = Annotated[
    Path | None,
    typer.Option(
        "--library",
        "-L",
        envvar="TRIFOCAL_LIBRARY",
        show_default="in your user data folder",
        help="The folder of the library.",
    ),
]


def default_library() -> Path:
    """The library that is meant when none is named: `library` in the user's data folder for Trifocal."""
    from platformdirs import user_data_path

    return user_data_path("trifocal") / "library"


def stdout() -> Console:
    """A console for results; where stdout is no terminal, plain text with one line a row, however long."""
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else _UNBOUNDED)


def stderr() -> Console:
    """A console for progress and notes."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def print_json(value: Any) -> None:
    """Print one JSON document to stdout."""
    print(json.dumps(value, ensure_ascii=False, indent=2))


def print_error(error: TrifocalError, *, as_json: bool) -> None:
    """Print an expected error to stderr: one line, or one JSON object."""
    if as_json:
        value = {"error": {"code": error.code, "message": error.message, "remedy": error.remedy}}
        print(json.dumps(value, ensure_ascii=False), file=sys.stderr)
    else:
        print("error: " + visible(" ".join(str(error).split())), file=sys.stderr)


@contextmanager
def writing(target: Path) -> Iterator[None]:
    """Around the making of something that the user asked for by path: a disk that refuses is an error with a remedy.

    Raises:
        InvalidInput: an `OSError` came up inside.
    """
    try:
        yield
    except OSError as error:
        raise InvalidInput(
            f"{target} cannot be written: {error.strerror or error}", remedy="Give another path."
        ) from error


def visible(text: str) -> str:
    """Text with what would move the cursor, colour the terminal or turn the reading direction spelt out."""
    return "".join(
        character.encode("unicode_escape").decode()
        if unicodedata.category(character) in _UNPRINTABLE or character in _BIDI
        else character
        for character in text
    )


def plain(text: str) -> str:
    """`visible` text for a place that reads markup, such as a table."""
    from rich.markup import escape

    return escape(visible(text))


def number(count: int, what: str) -> str:
    """A count with its noun: `1 video`, `2 videos`."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def clock(seconds: float) -> str:
    """Seconds as `0:07.5` or `1:02:03.4`, as on contact sheets."""
    from trifocal.video import timestamp

    return timestamp(seconds)


def size(count: float) -> str:
    """A number of bytes in the unit that suits it."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
