"""`trifocal reindex`: another encoder, other settings or another engine for a library that is there."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from typing import Annotated, Literal

import typer

from trifocal.cli.add import EXIT_SOME_FAILED, TokensKept, add_progress
from trifocal.cli.output import (
    Format,
    FormatOption,
    LibraryOption,
    default_library,
    number,
    print_json,
    stdout,
    visible,
)
from trifocal.errors import InvalidInput


class Engine(StrEnum):
    """What searches."""

    EXACT = "exact"
    STORE = "store"


class Codes(StrEnum):
    """What the exact engine reads in its first pass."""

    NONE = "none"
    INT8 = "int8"
    BINARY = "binary"


class Method(StrEnum):
    """`LibrarySettings.prototype_method`."""

    ADJACENT = "adjacent"
    SEGMENTS = "segments"
    KMEANS = "kmeans"
    FARTHEST = "farthest"
    UNIFORM = "uniform"
    COVERAGE = "coverage"


def reindex(
    library: LibraryOption = None,
    encoder: Annotated[
        str | None,
        typer.Option(help="The new encoder: default, a CLIP or SigLIP model, or the folder of a trained one."),
    ] = None,
    prototypes: Annotated[int | None, typer.Option(min=1, max=1024, help="How many a video keeps at most.")] = None,
    method: Annotated[Method | None, typer.Option(help="How frames become prototypes.")] = None,
    clip_tokens: Annotated[TokensKept | None, typer.Option(help="Whether every encoded frame is kept as well.")] = None,
    engine: Annotated[Engine | None, typer.Option(help="Exact files, or the store for large collections.")] = None,
    uri: Annotated[str | None, typer.Option(help="Where the store is, if not in the library's folder.")] = None,
    codes: Annotated[
        Codes | None, typer.Option(help="Exact files with coarse codes: less to read, no longer exact; none for exact.")
    ] = None,
    leave_out: Annotated[
        bool, typer.Option("--leave-out", help="Let videos whose files are gone leave the library.")
    ] = False,
    workers: Annotated[int, typer.Option(min=1, max=32, help="Videos decoded ahead of the one being encoded.")] = 1,
    format_: FormatOption = Format.HUMAN,
) -> None:
    """Encode all videos again, beside what is there, and swap at the end; searching goes on meanwhile.

    Interrupt it whenever you like: the same command goes on where it stopped. While a video cannot be encoded, nothing
    is swapped (exit code 3). `--engine` or `--codes` alone encodes nothing.
    """
    from trifocal.library import Library

    if uri is not None and engine is not Engine.STORE:
        raise InvalidInput("--uri is for the store", remedy="Give --engine store as well.")
    if codes is not None and engine is Engine.STORE:
        raise InvalidInput("--codes are for exact files", remedy="Give --engine exact, or leave it out.")
    if codes is not None:
        engine = Engine.EXACT
    kept: Literal["int8", "binary"] | None = None
    if codes is Codes.INT8:
        kept = "int8"
    elif codes is Codes.BINARY:
        kept = "binary"
    with Library.open(library or default_library()) as opened:
        settings = opened.settings
        if prototypes is not None:
            settings = replace(settings, prototypes=prototypes)
        if method is not None:
            settings = replace(settings, prototype_method=method.value)
        if clip_tokens is not None:
            settings = replace(settings, clip_tokens=clip_tokens.value)
        report = None
        if encoder is not None or settings != opened.settings or engine is None:
            with add_progress(quiet=format_ is Format.JSON) as progress:
                report = opened.reindex(
                    encoder=encoder, settings=settings, leave_out=leave_out, workers=workers, progress=progress
                )
        if engine is not None:
            opened.use_engine(engine.value, uri=uri, codes=kept)
    if format_ is Format.JSON:
        print_json({} if report is None else report.to_dict())
    elif report is not None:
        for failure in report.failed:
            line = f"failed: {failure.path}: {failure.message}. {failure.remedy}"
            stdout().print(visible(line), markup=False, soft_wrap=True)
        state = "the library is the new one" if report.swapped else "the library is as it was"
        stdout().print(f"{number(report.videos + report.kept, 'video')} encoded by {visible(report.encoder)}; {state}")
    elif engine is not None:
        stdout().print(f"the next search makes the {engine.value} index")
    if report is not None and not report.swapped:
        raise typer.Exit(EXIT_SOME_FAILED)
