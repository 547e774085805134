"""`trifocal playground`: generated videos with exact truth, for trying things out, for training and for benchmarks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trifocal.cli.output import Format, FormatOption, number, print_json, stdout, visible
from trifocal.cli.progress import count_progress

app = typer.Typer(
    help="Make small videos with exact truth: captions, questions, boxes, actions.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)


@app.command()
def make(
    folder: Annotated[Path, typer.Argument(help="Where the videos and their truth go.")],
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="How many videos.")] = 12,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same videos.")] = 0,
    duration: Annotated[
        tuple[float, float], typer.Option(help="Shortest and longest, in seconds.", metavar="MIN MAX")
    ] = (10.0, 30.0),
    size: Annotated[tuple[int, int], typer.Option(help="Height and width in pixels.", metavar="H W")] = (240, 320),
    fps: Annotated[float, typer.Option(help="Frames per second.")] = 25.0,
    theme: Annotated[
        list[str] | None,
        typer.Option(
            help="What the videos are about, taken in turn; `playground themes` lists them.", show_default="any"
        ),
    ] = None,
    format_: FormatOption = Format.HUMAN,
) -> None:
    """Make a collection of videos, or finish one that was interrupted.

    Each video comes with a JSON file of its truth; `captions.csv`, `questions.jsonl` and `index.json` cover them all.
    """
    from trifocal import playground

    with count_progress("videos", "made") as progress:
        paths = playground.make_collection(
            folder,
            count=count,
            seed=seed,
            duration_s=duration,
            size=size,
            fps=fps,
            themes=theme or (None,),
            progress=lambda done, total, _: progress(done, total),
        )
    if format_ is Format.JSON:
        print_json([str(path) for path in paths])
    else:
        stdout().print(f"{number(len(paths), 'video')} in {visible(str(folder))}", markup=False)


@app.command()
def themes(format_: FormatOption = Format.HUMAN) -> None:
    """List the themes."""
    from trifocal import playground

    names = playground.themes()
    if format_ is Format.JSON:
        print_json(names)
    else:
        typer.echo("\n".join(names))
