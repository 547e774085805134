"""A parser for the one Python literal that the field keeps on disk: {"video": ["frame id", ...], ...}.

The file is read with `eval` elsewhere, which runs whatever stands in it. This parser knows a dict of strings to lists
of strings and nothing else, reads in one pass without recursion, and says where the text departs from that.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from trifocal.errors import InvalidInput

__all__ = ["parse_video_frames"]

_TOKEN = re.compile(
    r"""\s*(?:(?P<mark>[{}\[\]:,])|[uU]?(?P<text>'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*")|(?P<end>\Z))""", re.DOTALL
)
_ESCAPES = {"\\": "\\", "'": "'", '"': '"', "n": "\n", "t": "\t", "r": "\r"}
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U(00(?:0[0-9a-fA-F]|10)[0-9a-fA-F]{4})|(.))", re.DOTALL)


def parse_video_frames(text: str, *, path: Path) -> dict[str, list[str]]:
    """The dict that the text writes down.

    Args:
        text: the file's content.
        path: the file, for errors.

    Raises:
        InvalidInput: anything else than a dict of strings to lists of strings, or a video that comes twice; the error
            says the line and the column.
    """
    found: dict[str, list[str]] = {}
    frames: list[str] | None = None
    video = ""
    expected = "{"  # what may come next: a mark, or "key", "frame", and combinations by "|"
    for match in _tokens(text, path):
        mark, literal = match["mark"], match["text"]
        kind = mark or ("string" if literal is not None else "end")
        if kind not in expected.split("|"):
            shown = (mark or literal or "the end of the file")[:40]
            raise _broken(text, match.start(match.lastgroup or 0), path, f"{shown} where {expected} should be")
        if kind == "string" and frames is None:
            video = _unquoted(literal)
            if video in found:
                raise _broken(text, match.start("text"), path, f"the video {video!r} for the second time")
            expected = ":"
        elif kind == "string" and frames is not None:
            frames.append(_unquoted(literal))
            expected = ",|]"
        elif kind == "[":
            frames = found[video] = []
            expected = "string|]"
        elif kind == "]":
            frames = None
            expected = ",|}"
        else:
            expected = {
                "{": "string|}",
                ":": "[",
                ",": "string|}" if frames is None else "string|]",
                "}": "end",
                "end": "",
            }[kind]
    return found


def _tokens(text: str, path: Path) -> Iterator[re.Match[str]]:
    at = 0
    while True:
        match = _TOKEN.match(text, at)
        if match is None:
            at = next(place for place in range(at, len(text)) if not text[place].isspace())
            raise _broken(text, at, path, f"{text[at : at + 20]!r}, which is no string, list or dict")
        yield match
        if match["end"] is not None:
            return
        at = match.end()


def _unquoted(literal: str) -> str:
    inside = literal[1:-1]
    if "\\" not in inside:
        return inside
    return _ESCAPE.sub(
        lambda match: (
            chr(int(match[1] or match[2] or match[3], 16))
            if match[4] is None
            else _ESCAPES.get(match[4], "\\" + match[4])
        ),
        inside,
    )


def _broken(text: str, at: int, path: Path, what: str) -> InvalidInput:
    line = text.count("\n", 0, at) + 1
    column = at - (text.rfind("\n", 0, at) + 1) + 1
    return InvalidInput(
        f"{path}, line {line}, column {column}: {what}", remedy='Give {"<video>": ["<frame id>", ...], ...}.'
    )
