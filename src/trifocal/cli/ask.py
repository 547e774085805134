"""`trifocal ask`: questions about one video, answered from its frames, streamed as they are written."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trifocal.cli.model_options import (
    ContextOption,
    DeviceMapOption,
    DeviceOption,
    DtypeOption,
    FpsOption,
    MaxFramesOption,
    RopeFactorOption,
    TooLongOption,
    budget_of,
    chosen_device,
    loading,
    shown_as,
)
from trifocal.cli.output import (
    Format,
    FormatOption,
    LibraryOption,
    clock,
    default_library,
    number,
    print_json,
    stderr,
    stdout,
    visible,
)
from trifocal.errors import LibraryNotFound, NotInLibrary, VideoNotFound

if TYPE_CHECKING:
    from trifocal.chat import Answer, VideoChat

Ask = Callable[[str, Callable[[str], None] | None], "Answer"]


def ask(
    video: Annotated[str, typer.Argument(help="A video file, or a video of the library by id or path.")],
    questions: Annotated[
        list[str], typer.Argument(help="One question or more; the video is read once for all of them.")
    ],
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            help="`default`, `playground` (the same, trained on drawn videos), a Hugging Face video language model as "
            "hf:org/name@revision, or its folder.",
        ),
    ] = "default",
    method: Annotated[
        str | None, typer.Option("--method", help="Merge the video's tokens: sttm, tome, dycoke, ...")
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option("--budget", help="What merging leaves: a share such as 0.3, or a number of tokens. Implies sttm."),
    ] = None,
    layer: Annotated[
        int | None,
        typer.Option(
            "--layer",
            min=0,
            show_default="2; the default model's is 0",
            help="Merge in front of this layer of the language model.",
        ),
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option("--cache", help="Keep what the model has read of videos in this folder, for later questions."),
    ] = None,
    int8: Annotated[bool, typer.Option("--int8", help="Keep it in eight bits: half the space.")] = False,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    device_map: DeviceMapOption = None,
    fps: FpsOption = None,
    max_frames: MaxFramesOption = None,
    too_long: TooLongOption = None,
    rope_factor: RopeFactorOption = None,
    context: ContextOption = None,
    library: LibraryOption = None,
    format_: FormatOption = Format.HUMAN,
) -> None:
    """Ask questions about a video.

    The offline default is a very small language model that sees what an image classifier recognises; it is weak, and
    says so. The frames that the answer rests on are named, so that you can look for yourself.
    """
    from trifocal.chat.model import checked_question

    options = _merging(method, budget, layer)
    for question in questions:
        checked_question(question)  # before anything slow begins
    shown = shown_as(model, fps=fps, max_frames=max_frames, too_long=too_long)
    options |= {} if shown is None else {"config": shown}
    options |= loading(model, dtype=dtype, device_map=device_map, rope_factor=rope_factor, context=context)
    asked = _asking(video, library or default_library(), model, {**options, "device": device}, cache, int8)
    if format_ is Format.JSON:
        answers = [asked(question, None).to_dict() for question in questions]
        print_json(answers[0] if len(answers) == 1 else answers)
        return
    caveats: dict[str, None] = {}
    for place, question in enumerate(questions):
        if len(questions) > 1:
            stdout().print(("\n" if place else "") + f"> {visible(question)}", markup=False, style="bold")
        answer = _shown(asked, question)
        _notes(answer)
        caveats[answer.caveat] = None
    for caveat in filter(None, caveats):
        _note(caveat)


def _shown(asked: Ask, question: str) -> Answer:
    """Print an answer: as it is written on a terminal, at once elsewhere."""
    if not sys.stdout.isatty():
        answer = asked(question, None)
        stdout().print(visible(answer.text) or "(the model said nothing)", markup=False)
        return answer
    console, begun = stdout(), False

    def show(piece: str) -> None:
        nonlocal begun
        # Space in front of the first word is not part of the answer.
        text = piece if begun else piece.lstrip()
        begun = begun or bool(text)
        console.print("\n".join(map(visible, text.split("\n"))), end="", markup=False, soft_wrap=True)

    answer = asked(question, show)
    console.print("" if begun else "(the model said nothing)", markup=False)
    return answer


def _notes(answer: Answer) -> None:
    if answer.evidence:
        seconds = sorted(frame.time_s for frame in answer.evidence)
        _note("looked most at " + ", ".join(clock(second) for second in seconds))
    if answer.tokens.merged_away:
        _note(f"{number(answer.tokens.video, 'video token')}, merged to {answer.tokens.kept:,}")
    for warning in answer.warnings:
        _note(warning)


def _note(text: str) -> None:
    stderr().print(text, style="dim" if sys.stderr.isatty() else None, markup=False, soft_wrap=True)


def _merging(method: str | None, budget: str | None, layer: int | None) -> dict[str, Any]:
    """The options of merging, for `load_chat`; empty for none."""
    if method is None and budget is None:
        return {}
    options: dict[str, Any] = {"method": method or "sttm", **({} if layer is None else {"layer": layer})}
    if budget is not None:
        options["budget"] = budget_of(budget)
    return options


def _asking(video: str, folder: Path, model: str, options: dict[str, Any], cache: Path | None, int8: bool) -> Ask:
    """What answers a question on the video, be it a file or of the library."""
    if _is_there(video):
        opened = _chat(model, options, cache, int8, salt="").open(video)
        return lambda question, on_text: opened.ask(question, on_text=on_text)
    from trifocal.library import Library

    try:
        with Library.open(folder) as library:
            known, path = library.video(video).id, library.source(video)
    except (LibraryNotFound, NotInLibrary) as error:
        raise VideoNotFound(
            f"{video} is neither a file nor a video of the library in {folder}",
            remedy="Check the path, or take an id from `trifocal list`.",
        ) from error
    # What is kept of one library's videos is never found from another, nor from outside.
    opened = _chat(model, options, cache, int8, salt=str(folder.resolve())).open(path)
    return lambda question, on_text: replace(opened.ask(question, on_text=on_text), video=known)


def _chat(model: str, options: dict[str, Any], cache: Path | None, int8: bool, *, salt: str) -> VideoChat:
    from trifocal.chat import load_chat
    from trifocal.chat.prefix import PrefixStore

    placed = {**options, "device": chosen_device(options["device"])}
    return load_chat(model, store=PrefixStore(folder=cache, int8=int8, salt=salt), **placed)


def _is_there(name: str) -> bool:
    try:
        return Path(name).exists()
    except (OSError, ValueError):  # too long, or no path at all
        return False
