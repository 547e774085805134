"""An HTML page of moments and answers, with players that start where the moment does.

The page needs nothing but itself and the folder `<name>_files` beside it: no script, no outside request. Videos are
referred to where they lie; one that browsers cannot play (HEVC, AVI, ...) gets an H.264 clip of the moment instead.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from trifocal.cli.output import clock, visible

__all__ = ["AnswerCard", "MomentCard", "QuerySection", "write_page"]

_PLAYABLE = {
    ("mp4", "h264"),
    ("mp4", "av1"),
    ("mp4", "vp9"),
    ("webm", "vp8"),
    ("webm", "vp9"),
    ("webm", "av1"),
}


def plays_in_browsers(path: Path, *, codec: str) -> bool:
    """Whether today's browsers play a file, judged by its suffix (which sets the media type) and its codec."""
    return (path.suffix.lower().lstrip(".").replace("m4v", "mp4"), codec) in _PLAYABLE


@dataclass(frozen=True, slots=True)
class MomentCard:
    """One moment on the page; `source` is what the player opens, `seek` whether the moment lies inside it."""

    title: str
    start_s: float
    end_s: float
    duration_s: float
    score: float
    source: Path
    seek: bool = True
    poster: Path | None = None


@dataclass(frozen=True, slots=True)
class AnswerCard:
    """One answered question; `evidence` are pictures with the second they show."""

    title: str
    question: str
    text: str
    caveat: str = ""
    evidence: tuple[tuple[float, Path], ...] = ()


@dataclass(frozen=True, slots=True)
class QuerySection:
    """One query and its moments, best first."""

    query: str
    moments: tuple[MomentCard, ...] = field(default=())


def write_page(
    path: Path,
    *,
    title: str,
    queries: tuple[QuerySection, ...] = (),
    answers: tuple[AnswerCard, ...] = (),
    footer: str = "",
) -> Path:
    """Write the page and copy its pictures beside it.

    Args:
        path: the HTML file to write; its folder is made.
        title: the page's heading.
        queries: the searches to show, in order.
        answers: the answered questions to show, after the searches.
        footer: a line at the end.

    Returns:
        `path`.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    files = path.with_name(f"{path.stem}_files")
    path.parent.mkdir(parents=True, exist_ok=True)

    def picture(source: Path) -> str:
        """Copy a picture beside the page once, under a name made of its own folder and name."""
        files.mkdir(exist_ok=True)
        target = files / f"{source.parent.name}-{source.name}"
        if not target.exists() or target.stat().st_size != source.stat().st_size:
            shutil.copyfile(source, target)
        return link(target)

    def link(target: Path) -> str:
        return quote(os.path.relpath(target.resolve(), path.parent.resolve()))

    environment = Environment(
        loader=PackageLoader("trifocal.cli"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "clock": clock,
        "link": link,
        "picture": picture,
        "score": "{:z.3f}".format,
        "visible": visible,
    }
    text = environment.get_template("moments.html").render(title=title, queries=queries, answers=answers, footer=footer)
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
    return path
