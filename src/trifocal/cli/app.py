"""The `trifocal` command: its verbs, its global options, and what an error looks like.

An expected error is one line on stderr, `error: what happened. What to do.`, and an exit code that names its kind
(`trifocal --help` lists them); with `--format json` it is one JSON object. A traceback appears only with `--debug`.
"""

from __future__ import annotations

import io
import sys
import traceback
from typing import Annotated

import typer

from trifocal._version import __version__
from trifocal.cli import (
    add,
    ask,
    collection,
    detect,
    doctor,
    evaluate,
    find,
    labels,
    merge,
    playground,
    reindex,
    train,
    weights,
)
from trifocal.cli.output import Session, print_error, visible
from trifocal.errors import TrifocalError

EXIT_INTERRUPTED = 130
EXIT_CODES = """
Exit codes: 0 done, 1 something failed, 2 wrong usage, 3 a video cannot be used, 4 a model file cannot be had,
5 the library cannot be used, 130 interrupted.
"""

app = typer.Typer(
    name="trifocal",
    help="Find moments by text, and ask questions, in your own videos, on your own machine.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"trifocal {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error; works after a verb too.")
    ] = False,
) -> None:
    """Find moments by text, and ask questions, in your own videos, on your own machine."""


app.command("add")(add.add)
app.command("find")(find.find)
app.command("ask")(ask.ask)
app.command("detect")(detect.detect)
app.command("merge")(merge.merge)
app.command("list")(collection.list_videos)
app.command("show")(collection.show)
app.command("remove")(collection.remove)
app.command("verify")(collection.verify)
app.command("reindex")(reindex.reindex)
app.command("doctor")(doctor.doctor)
app.add_typer(train.app, name="train")
app.add_typer(evaluate.app, name="eval")
app.add_typer(weights.app, name="weights")
app.add_typer(playground.app, name="playground")
app.add_typer(labels.app, name="labels")


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and leave with its exit code.

    Args:
        arguments: the words after `trifocal`; None takes them from the process.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    end = words.index("--") if "--" in words else len(words)
    debug = "--debug" in words[:end]
    words = [word for place, word in enumerate(words) if word != "--debug" or place > end]
    session = Session()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name that the terminal cannot show stops nothing
    try:
        app(args=words, obj=session)
    except TrifocalError as error:
        if debug:
            traceback.print_exc()
        print_error(error, as_json=session.json)
        sys.exit(error.exit_code)
    except SystemExit as stopped:  # typer has turned Ctrl-C into one
        if stopped.code == EXIT_INTERRUPTED:
            print("interrupted; what was finished is kept", file=sys.stderr)
        raise
    except Exception as error:  # noqa: BLE001 -- the last line of defence: a defect of ours, told as one
        if debug:
            traceback.print_exc()
        print(
            f"error: a defect in trifocal {__version__}: {type(error).__name__}: {visible(str(error))}. "
            "Run the command again with --debug and report what it prints.",
            file=sys.stderr,
        )
        sys.exit(1)
