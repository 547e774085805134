"""How files of other people are read: line by line, within bounds, and every complaint with its file and line."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from trifocal.errors import InvalidInput

__all__ = ["bad_line", "existing", "finite", "json_lines", "json_text", "parse_json", "text_lines", "word"]

LONGEST_LINE = 1 << 20
LARGEST_JSON = 1 << 30


def bad_line(path: Path, line: int, what: str, *, remedy: str) -> InvalidInput:
    """The error for one line of a file: "name.txt, line 3: what"."""
    return InvalidInput(f"{path}, line {line}: {what}", remedy=remedy)


def existing(path: Path | str, *, what: str) -> Path:
    """The path of a file that is there.

    Raises:
        InvalidInput: it is not.
    """
    found = Path(path)
    if not found.is_file():
        raise InvalidInput(f"there is no file {found} ({what})", remedy="Check the path and the name.")
    return found


def text_lines(path: Path | str, *, what: str) -> Iterator[tuple[int, str]]:
    """The lines of a UTF-8 file with their numbers from 1, without the empty ones.

    Raises:
        InvalidInput: no such file, bytes that are not UTF-8, a line of more than a megabyte.
    """
    found = existing(path, what=what)
    with found.open("rb") as file:
        for number in range(1, 1 << 62):
            raw = file.readline(LONGEST_LINE + 1)
            if not raw:
                return
            if len(raw) > LONGEST_LINE:
                raise bad_line(found, number, f"is longer than {LONGEST_LINE} bytes", remedy=f"Give {what}.")
            try:
                text = raw.decode("utf-8-sig" if number == 1 else "utf-8").strip()
            except UnicodeDecodeError as error:
                raise bad_line(found, number, f"is not UTF-8 ({error.reason})", remedy="Save it as UTF-8.") from error
            if text:
                yield number, text


def parse_json(path: Path, line: int, text: str) -> Any:
    """A JSON value of a file.

    Raises:
        InvalidInput: it is not JSON, or nested too deeply.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        at = line + error.lineno - 1
        raise bad_line(path, at, f"is not JSON ({error.msg}, column {error.colno})", remedy="Mend it.") from error
    except RecursionError as error:
        raise bad_line(path, line, "is nested too deeply", remedy="Give plain annotations.") from error


def json_lines(path: Path | str, *, what: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The objects of a JSON Lines file with their line numbers.

    Raises:
        InvalidInput: as `text_lines`, or a line that is no JSON object.
    """
    found = Path(path)
    for number, text in text_lines(found, what=what):
        value = parse_json(found, number, text)
        if not isinstance(value, dict):
            raise bad_line(found, number, f"holds {type(value).__name__}", remedy="Give one JSON object a line.")
        yield number, value


def json_text(path: Path, text: str) -> Mapping[str, Any]:
    """The object that a whole JSON document is.

    Raises:
        InvalidInput: it is no JSON object.
    """
    value = parse_json(path, 1, text)
    if not isinstance(value, dict):
        raise bad_line(path, 1, f"holds {type(value).__name__}", remedy="Give one JSON object of videos.")
    return value


def finite(value: Any, *, where: str) -> float:
    """A finite number.

    Raises:
        InvalidInput: it is none; `where` names the file, the line and the key.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InvalidInput(f"{where} is {value!r:.60}", remedy="Give a finite number.")
    return float(value)


def word(value: Any, *, where: str) -> str:
    """A string with something in it, without the space around it.

    Raises:
        InvalidInput: it is none; `where` names the file, the line and the key.
    """
    text = value.strip() if isinstance(value, str) else ""
    if not text:
        raise InvalidInput(f"{where} is {value!r:.60}", remedy="Give a text that is not empty.")
    return text
