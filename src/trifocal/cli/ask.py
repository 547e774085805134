"""`trifocal ask`: a question about one video, answered from its frames."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trifocal.cli.output import Format, FormatOption, LibraryOption, clock, default_library, print_json, stderr, stdout
from trifocal.errors import LibraryNotFound, NotInLibrary, VideoNotFound

if TYPE_CHECKING:
    from trifocal.chat import Answer


def ask(
    video: Annotated[str, typer.Argument(help="A video file, or a video of the library by id or path.")],
    question: Annotated[str, typer.Argument(help="The question, in English for the default model.")],
    library: LibraryOption = None,
    format_: FormatOption = Format.HUMAN,
) -> None:
    """Ask a question about a video.

    The offline default is a very small language model that sees what an image classifier recognises; it is weak, and
    says so. The frames that the answer rests on are named, so that you can look for yourself.
    """
    answer = _answer(video, question, library or default_library())
    if format_ is Format.JSON:
        print_json(answer.to_dict())
        return
    stdout().print(answer.text or "(the model said nothing)", markup=False)
    notes = []
    if answer.evidence:
        seconds = sorted(frame.time_s for frame in answer.evidence)
        notes.append("looked most at " + ", ".join(clock(second) for second in seconds))
    notes.extend(answer.warnings)
    if answer.caveat:
        notes.append(answer.caveat)
    for note in notes:
        stderr().print(note, style="dim" if sys.stderr.isatty() else None, markup=False, soft_wrap=True)


def _is_there(name: str) -> bool:
    try:
        return Path(name).exists()
    except (OSError, ValueError):  # too long, or no path at all
        return False


def _answer(video: str, question: str, folder: Path) -> Answer:
    if _is_there(video):
        from trifocal.chat import load_chat

        return load_chat().ask(video, question)
    from trifocal.library import Library

    try:
        with Library.open(folder) as library:
            return library.ask(video, question)
    except (LibraryNotFound, NotInLibrary) as error:
        raise VideoNotFound(
            f"{video} is neither a file nor a video of the library in {folder}",
            remedy="Check the path, or take an id from `trifocal list`.",
        ) from error
