"""The options of `trifocal find` as queries and as a filter."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from trifocal.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trifocal.library import Query, VideoFilter

__all__ = ["filter_from", "queries_from"]

LARGEST_FILE = 10_000_000  # bytes of a file of queries


def queries_from(
    texts: Sequence[str],
    *,
    file: Path | None,
    together: Sequence[str],
    but_not: Sequence[str],
    images: Sequence[Path] | None,
    clips: Sequence[Path] | None,
) -> dict[str, Query]:
    """One query for each text, by its name; what is asked for beside it (`and`, `not`, pictures, clips) holds for all.

    Raises:
        InvalidInput: nothing is asked for, or the file cannot be read.
    """
    from trifocal.library import Query

    asked = [*texts, *(_lines(file) if file is not None else [])]
    pictures, videos = tuple(images or ()), tuple(clips or ())
    if not asked and not (together or pictures or videos):
        raise InvalidInput("nothing is looked for", remedy="Give words, --image, --clip, --queries or --action.")
    wanted: list[tuple[str, ...]] = [(text, *together) for text in asked] or [tuple(together)]
    made = [Query(texts=words, images=pictures, clips=videos, but_not=tuple(but_not)) for words in wanted]
    return {str(query): query for query in made}


def filter_from(
    *, folder: Path | None, after: str | None, before: str | None, longer: float | None, shorter: float | None
) -> VideoFilter | None:
    """The filter, or None when nothing is asked.

    Raises:
        InvalidInput: a date that is none.
    """
    from trifocal.library import VideoFilter

    where = VideoFilter(
        folder=None if folder is None else str(folder),
        after_s=None if after is None else _seconds("--after", after),
        before_s=None if before is None else _seconds("--before", before),
        shortest_s=longer,
        longest_s=shorter,
    )
    return None if where.empty else where


def _seconds(option: str, text: str) -> float:
    """A date, or a date and time, as seconds since 1970; without a zone it is local."""
    try:
        at = datetime.fromisoformat(text)
        return (at if at.tzinfo is not None else at.astimezone()).astimezone(UTC).timestamp()
    except (ValueError, OverflowError, OSError) as error:
        raise InvalidInput(f"{option} is {text!r}", remedy="Give a date such as 2026-03-31.") from error


def _lines(file: Path) -> list[str]:
    """The lines that say something."""
    try:
        if file.stat().st_size > LARGEST_FILE:
            raise InvalidInput(f"{file} has {file.stat().st_size} bytes", remedy="Give a file of queries, one a line.")
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{file} cannot be read ({type(error).__name__})", remedy="Give a text file.") from error
    return [line.strip() for line in lines if line.strip()]
