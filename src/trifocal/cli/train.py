"""`trifocal train`: what can be trained, one verb each."""

from __future__ import annotations

import typer

from trifocal.cli import train_detect, train_find

app = typer.Typer(help="Train the methods on your own data.", no_args_is_help=True, rich_markup_mode="markdown")
app.command("detect")(train_detect.train_detect)
app.command("find")(train_find.train_find)
