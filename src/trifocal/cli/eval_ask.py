"""`trifocal eval ask`: a benchmark's questions, answered by a model, with and without merging."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from trifocal.cli.output import Format, FormatOption, number, print_json, stderr, stdout
from trifocal.cli.progress import count_progress
from trifocal.errors import InvalidInput


def ask(
    benchmark: Annotated[
        str,
        typer.Option(help="vnbench, videomme, mlvu, longvideobench, nextqa, egoschema or playground."),
    ],
    annotations: Annotated[Path, typer.Option(help="The benchmark's published file, or the folder of its parts.")],
    videos: Annotated[Path, typer.Option(help="The folder of the videos.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder of the runs; one that was begun goes on.")],
    model: Annotated[str, typer.Option(help="default, a folder, or hf:org/name@revision.")] = "default",
    method: Annotated[
        list[str] | None, typer.Option(help="A merging method; repeatable. `none` merges nothing.")
    ] = None,
    budget: Annotated[
        list[float] | None, typer.Option(help="Share of the video's tokens that is kept; repeatable.")
    ] = None,
    layer: Annotated[int, typer.Option(min=0, help="Before which layer tokens are merged.")] = 2,
    option: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=VALUE for the method in place of a budget, such as spatial_threshold=0.85; repeatable."
        ),
    ] = None,
    likelihood: Annotated[
        bool, typer.Option("--likelihood", help="Compare how likely each option's words are; for very small models.")
    ] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many questions.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw accuracy against tokens (.png, .svg or .pdf).")] = None,
    format_: FormatOption = Format.HUMAN,
) -> None:
    """Ask a benchmark's questions, for every method and budget that is named.

    Each run is a folder below OUT with its settings, an answer a line, and a summary. The annotation files and the
    videos are yours to bring; nothing is downloaded.
    """
    from trifocal.chat import load_chat
    from trifocal.chat.evaluation import ask_benchmark, compare, read_benchmark, summarise, table
    from trifocal.chat.evaluation import plot as draw

    items = read_benchmark(benchmark, annotations, videos=videos)[:limit]
    stderr().print(f"{number(len(items), 'question')} of {number(len({item.video for item in items}), 'video')}")
    given = _options(option or [])
    rows = []
    for named, share in _runs(method or ["none"], budget or [], free=bool(given)):
        merging: dict[str, Any] = {} if named == "none" else {**given, **({} if share is None else {"budget": share})}
        chat = load_chat(model, **({} if named == "none" else _merging(model, named, merging, layer)))
        parts = [named, *(f"{name}-{value}" for name, value in merging.items())]
        folder = out / benchmark / "_".join(parts)
        settings = {
            "model": model,
            "method": named,
            "budget": share if share is not None else " ".join(f"{name}={value}" for name, value in merging.items()),
            "layer": None if named == "none" else layer,
        }
        with count_progress(folder.name, "questions") as bar:
            ask_benchmark(
                benchmark,
                items,
                chat=chat,
                folder=folder,
                settings={**settings, "limit": limit},
                how="likelihood" if likelihood else "letters",
                progress=bar,
            )
        rows.append(summarise(folder))
    rows = [row for row in compare(out / benchmark) if row["settings"].get("model") == model]
    if plot is not None:
        draw(rows, plot)
        stderr().print(f"drawn in {plot}", markup=False, soft_wrap=True)
    if format_ is Format.JSON:
        print_json(rows)
        return
    stdout().print(table(rows), markup=False, soft_wrap=True)


def _runs(methods: list[str], budgets: list[float], *, free: bool) -> list[tuple[str, float | None]]:
    """Every method with every budget; `none` once, and once each where options stand in a budget's place."""
    out: list[tuple[str, float | None]] = []
    for name in methods:
        if name == "none" or (free and not budgets):
            out.append((name, None))
        elif not budgets:
            raise InvalidInput(f"{name} needs a budget", remedy="Add --budget 0.3, or several, or --option.")
        else:
            out.extend((name, share) for share in budgets)
    return out


def _options(words: list[str]) -> dict[str, Any]:
    """NAME=VALUE, numbers as numbers."""
    out: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or not name or not text:
            raise InvalidInput(f"--option is {word}", remedy="Give NAME=VALUE, such as spatial_threshold=0.85.")
        try:
            value: Any = int(text) if text.lstrip("-").isdecimal() else float(text)
        except ValueError:
            value = text
        out[name] = value
    return out


def _merging(model: str, method: str, options: dict[str, Any], layer: int) -> dict[str, Any]:
    """What `load_chat` takes for merging: the default model does it before its first layer."""
    if model != "default":
        return {"method": method, "layer": layer, **options}
    from trifocal.chat.small_chat import SmallChatConfig
    from trifocal.merging import configure

    return {"config": SmallChatConfig(merge=configure(method, **options))}
