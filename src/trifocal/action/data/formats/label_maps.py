"""Names of action classes: AVA's pbtxt, or JSON.

JSON is an object of names by number (`{"1": "bend"}`), a list of `{"id": 1, "name": "bend"}`, or a list of names, which
are numbered from 1. Beside an AVA csv, which has only numbers, stands a pbtxt of the same name (`label_map_beside`): it
is written with the csv, and read where no other is given.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from trifocal.action.data.formats.rows import read_json, read_text, wrong
from trifocal.action.labels import LabelMap
from trifocal.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["check_label_map", "label_map_beside", "numbered", "read_label_map", "write_label_map"]

_PART = re.compile(
    r"""\s*+ (?: (?P<skipped> \#[^\n]* | [,;] )
          | (?P<opens> \w++ \s*+ :? \s*+ \{ )
          | (?P<closes> \} )
          | (?P<key> \w++ ) \s*+ : \s*+ (?:
                "(?P<double> (?:[^"\\\n]|\\.)* )" | '(?P<single> (?:[^'\\\n]|\\.)* )' | (?P<bare> [^\s{}\#"',;]+ ) ) )
        """,
    re.VERBOSE,
)
"""What a pbtxt consists of; fields may stand on lines of their own or side by side."""
_OURS = "# written by trifocal with "


def read_label_map(path: Path) -> LabelMap:
    """The classes of a label map file.

    Raises:
        InvalidInput: not such a file; the message names the line or the entry.
    """
    pairs = _json_pairs(path) if path.suffix.lower() == ".json" else _pbtxt_pairs(path)
    if not pairs:
        raise wrong(path, "line 1", "there is no class in it", "Give a label map in pbtxt or JSON.")
    ordered = sorted(pairs)
    try:
        return LabelMap(tuple(name for _, name in ordered), tuple(number for number, _ in ordered))
    except InvalidInput as error:
        raise InvalidInput(f"{path.name}: {error.message}", remedy=error.remedy) from error


def label_map_beside(path: Path) -> Path:
    """Where the label map of an AVA csv stands: the same name, ending in `.pbtxt`."""
    return path.with_suffix(".pbtxt")


def write_label_map(classes: LabelMap, path: Path) -> Path:
    """Write the label map of an AVA csv beside it, as AVA's own.

    Args:
        classes: names and numbers.
        path: of the csv.

    Returns:
        The label map's path. A file there that says the same is left as it is.

    Raises:
        InvalidInput: a file is there that was not written here and says something else.
    """
    beside = label_map_beside(path)
    if not check_label_map(classes, path):
        return beside
    items = (
        f'item {{\n  name: "{_escaped(name)}"\n  id: {number}\n}}\n'
        for name, number in zip(classes.names, classes.ids, strict=True)
    )
    beside.write_text(f"{_OURS}{path.name}\n{''.join(items)}", encoding="utf-8")
    return beside


def check_label_map(classes: LabelMap, path: Path) -> bool:
    """Whether the label map beside an AVA csv has to be written: a file there may say the same already.

    Raises:
        InvalidInput: a file is there that was not written here and says something else.
    """
    beside = label_map_beside(path)
    if not beside.exists() or _ours(beside):
        return True
    if _says(beside) != classes:
        raise InvalidInput(
            f"{beside} is a label map of other classes", remedy="Give the csv another name, or move the label map away."
        )
    return False


def _escaped(name: str) -> str:
    return name.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")


def _ours(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_OURS)) == _OURS.encode()


def _says(path: Path) -> LabelMap | None:
    """The classes of a file that may be no label map."""
    try:
        return read_label_map(path)
    except InvalidInput:
        return None


def numbered(ids: Iterable[int]) -> LabelMap:
    """Classes that have only numbers."""
    listed = tuple(sorted(set(ids)))
    return LabelMap(tuple(f"action {number}" for number in listed), listed)


def _json_pairs(path: Path) -> list[tuple[int, str]]:
    value = read_json(path)
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return list(enumerate(value, start=1))
    entries = value.items() if isinstance(value, dict) else enumerate(value if isinstance(value, list) else [])
    pairs = []
    for key, one in entries:
        number, name = (one.get("id"), one.get("name")) if isinstance(one, dict) else (key, one)
        if not str(number).isdigit() or not isinstance(name, str):
            raise wrong(path, f"entry {key}", f"it is {one!r}", 'Give {"1": "name"} or [{"id": 1, "name": "name"}].')
        pairs.append((int(str(number)), name))
    return pairs


def _pbtxt_pairs(path: Path) -> list[tuple[int, str]]:
    pairs: list[tuple[int, str]] = []
    name: str | None = None
    number: int | None = None
    inside, at, text = False, 0, read_text(path).rstrip()
    while at < len(text):
        part = _PART.match(text, at)
        start = at if part is None else part.end() - len(part[0].lstrip())
        line = f"line {text.count(chr(10), 0, start) + 1}"
        fits = part is not None and (part["skipped"] is not None or inside != (part["opens"] is not None))
        if part is None or not fits:
            said = text[start:].strip().partition("\n")[0]
            raise wrong(path, line, f"it says {said[:40]!r}", 'Give items such as item { name: "bend" id: 1 }.')
        at = part.end()
        if part["opens"] is not None:
            inside, name, number = True, None, None
        elif part["closes"] is not None:
            if name is None or number is None:
                raise wrong(path, line, "an item ends without a name or an id", "Give both in each item.")
            pairs.append((number, name))
            inside = False
        elif part["key"] == "name" and part["bare"] is None:
            name = re.sub(r"\\(.)", r"\1", part["double"] if part["double"] is not None else part["single"])
        elif part["key"] in ("id", "label_id") and part["bare"] is not None and part["bare"].isdecimal():
            number = int(part["bare"])
    if inside:
        raise wrong(path, "its end", "the last item is not closed", "Add the closing brace.")
    return pairs
