"""`trifocal eval`: how well the methods do on data with answers, one verb each."""

from __future__ import annotations

import typer

from trifocal.cli import eval_ask, eval_detect, eval_find

app = typer.Typer(help="Measure the methods on your own data.", no_args_is_help=True, rich_markup_mode="markdown")
app.command("ask")(eval_ask.ask)
app.command("find")(eval_find.eval_find)
app.command("detect")(eval_detect.eval_detect)
