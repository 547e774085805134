"""What every verb prints with: tables for people, JSON for programs, one line for an error.

Results go to stdout, everything else (progress, notes, errors) to stderr, so that `--format json` can be piped.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from trifocal.errors import TrifocalError


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
    """A console for results; plain text when stdout is no terminal."""
    from rich.console import Console

    return Console(highlight=False, soft_wrap=not sys.stdout.isatty())


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
        print("error: " + " ".join(str(error).split()), file=sys.stderr)


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
