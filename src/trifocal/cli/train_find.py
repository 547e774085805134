"""`trifocal train find`: train retrieval on a set of the field or on your own videos; resumable, under torchrun too."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trifocal.cli.find_data import (
    CacheOption,
    CaptionsOption,
    DataOption,
    FramesOption,
    RootOption,
    Texts,
    TextsOption,
    VideosOption,
    open_data,
    print_check,
)
from trifocal.cli.output import Format, FormatOption, print_json, stderr, stdout, visible
from trifocal.cli.progress import count_progress
from trifocal.errors import InvalidInput

if TYPE_CHECKING:
    from trifocal.retrieval.data import RetrievalData
    from trifocal.retrieval.train import FindConfig
    from trifocal.training import FitResult, Progress

EXIT_PROBLEMS = 2
FEW = 20  # videos on which SumR hardly tells models apart
_WATCHED = {"val": "validation"}


class StopOn(StrEnum):
    """`FindConfig.stop_on`."""

    HELD_OUT = "held-out"
    TEST = "test"
    NOTHING = "nothing"


def train_find(
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder of the run: checkpoints, logs, the model.")],
    data: DataOption = None,
    root: RootOption = None,
    captions: CaptionsOption = None,
    videos: VideosOption = None,
    fps: FramesOption = 2.0,
    cache: CacheOption = None,
    texts: TextsOption = Texts.LSA,
    encoder: Annotated[str, typer.Option(help="What encodes your own videos and captions.")] = "default",
    config: Annotated[
        Path | None, typer.Option("--config", help="A JSON file of settings; options given here win over it.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="A preset of the model.", show_default="default")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the training videos at most.")] = None,
    lr: Annotated[float | None, typer.Option(help="Highest learning rate.")] = None,
    batch: Annotated[int | None, typer.Option(min=2, help="Videos a batch, over all processes.")] = None,
    accumulate: Annotated[int | None, typer.Option(min=1, help="Batches whose gradients make one step.")] = None,
    precision: Annotated[str | None, typer.Option(help="float32, bf16 or fp16.", show_default="float32")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="The same seed gives the same result.")] = None,
    device: Annotated[
        str | None, typer.Option(help="Where to compute, as torch names it.", show_default="auto")
    ] = None,
    stop_on: Annotated[
        StopOn | None,
        typer.Option(
            help="What decides when to stop and which epoch is best: a held-out share of train, the test split (the "
            "field's practice, which flatters), or nothing.",
            show_default="held-out",
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="Change a field of the model, such as hidden=256; repeatable.", metavar="NAME=VALUE"
        ),
    ] = None,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Write TensorBoard events too.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint in --out.")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Only look whether the data is whole; exit code 2 if not.")
    ] = False,
    format_: FormatOption = Format.HUMAN,
) -> None:
    """Train retrieval: on a data set of the field, or on your own videos with a table of captions.

    Moments in the table are never looked at in training; `trifocal eval find` uses them. The trained folder is an
    encoder: `trifocal add --encoder OUT/model`. Several GPUs: `torchrun --nproc-per-node N -m trifocal train find …`.
    """
    from trifocal.training import processes

    chosen = _configured(
        config,
        data=data,
        model=model,
        changes=parse_changes(set_ or []),
        own={"batch_videos": batch, "stop_on": None if stop_on is None else stop_on.value},
        train={
            "epochs": epochs,
            "lr": lr,
            "accumulate": accumulate,
            "precision": precision,
            "seed": seed,
            "device": device,
            "tensorboard": tensorboard or None,
        },
    )
    with processes(chosen.train.device) as group:
        quiet = format_ is Format.JSON or not group.first
        base = None
        if captions is not None:
            from trifocal.retrieval import load_encoder

            base = load_encoder(encoder)
        found = open_data(
            data=data,
            root=root,
            captions=captions,
            videos=videos,
            fps=fps,
            cache=cache,
            encoder=base,
            texts=texts,
            quiet=quiet,
            group=group,
        )
        if check:
            if group.first:
                _check(found, quiet=quiet, as_json=format_ is Format.JSON)
            return
        if base is not None and chosen.changes.get("frame_branch") and not quiet:
            stdout().print("note: a model with a frame branch is trained and measured; no library can be made with it")
        from trifocal.retrieval.train import train_find as run

        with step_progress(quiet=quiet) as on_step:
            result, _ = run(
                found,
                chosen,
                folder=out,
                resume=resume,
                progress=on_step,
                on_epoch=None if quiet else print_epoch,
            )
        if not group.first:
            return
    if base is not None:
        from trifocal.retrieval.trained import write_encoder_file

        write_encoder_file(out / "model", base=encoder, base_id=base.id, frames_per_second=fps)
    document = json.loads((out / "find.json").read_text(encoding="utf-8"))
    if format_ is Format.JSON:
        print_json(document)
    else:
        _tell(result, document, out)


def _check(found: RetrievalData, *, quiet: bool, as_json: bool) -> None:
    """Look through the data and say what is wrong with it.

    Raises:
        typer.Exit: something is.
    """
    from trifocal.retrieval.data import check_data

    with count_progress("reading", "rows") as progress:
        report = check_data(found, deep=True, progress=None if quiet else progress)
    print_json(report.to_dict()) if as_json else print_check(report)
    if report.problems:
        raise typer.Exit(EXIT_PROBLEMS)


def _tell(result: FitResult, document: Mapping[str, Any], out: Path) -> None:
    """Say which epoch is best, by what, and what that is worth."""
    watched = document["watched"]
    best = f"best epoch {result.best_epoch} of {result.epochs}"
    if watched is not None:
        best += f", SumR {result.best:.1f} on the {_WATCHED.get(watched, watched)} videos"
    stdout().print(f"{best}; the model is in {visible(str(out / 'model'))}", markup=False)
    if watched is not None and document["watched_videos"] < FEW:
        stdout().print(
            f"note: {document['watched_videos']} videos decided which epoch is best, which says little; raise hold_out "
            "in --config, or use --stop-on nothing",
            soft_wrap=True,
        )
    if watched == "test":
        stdout().print("note: the test split chose the epoch, as in the field's papers; its figures are flattered")


def parse_changes(settings: list[str]) -> dict[str, Any]:
    """`NAME=VALUE` each, the value as JSON where it is some, else as text.

    Raises:
        InvalidInput: not of that form.
    """
    changes: dict[str, Any] = {}
    for setting in settings:
        name, mark, text = setting.partition("=")
        if not mark or not name.strip():
            raise InvalidInput(f"--set {setting!r} is no setting", remedy="Give NAME=VALUE, such as hidden=256.")
        try:
            changes[name.strip()] = json.loads(text)
        except ValueError:
            changes[name.strip()] = text.strip()
    return changes


@contextmanager
def step_progress(*, quiet: bool) -> Iterator[Any]:
    """A bar over all steps with the epoch and the loss, on a terminal."""
    if quiet or not stderr().is_terminal:
        yield None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("epoch {task.fields[epoch]}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]}"),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=stderr(), transient=True) as bar:
        task = bar.add_task("train", total=None, epoch="–", loss="–")

        def show(now: Progress) -> None:
            bar.update(
                task,
                completed=now.step,
                total=now.steps,
                epoch=f"{now.epoch + 1}/{now.epochs}",
                loss=f"{now.losses['loss']:.4f}",
            )

        yield show


def print_epoch(row: Mapping[str, float]) -> None:
    """One line an epoch on stderr: losses, figures, seconds."""
    left_out = {"epoch", "step", "lr", "seconds"}
    figures = "  ".join(f"{name} {value:.4g}" for name, value in row.items() if name not in left_out)
    stderr().print(f"epoch {int(row['epoch'])}: {figures}  ({row['seconds']:.1f} s)", markup=False, soft_wrap=True)


def _configured(
    path: Path | None,
    *,
    data: str | None,
    model: str | None,
    changes: Mapping[str, Any],
    own: Mapping[str, Any],
    train: Mapping[str, Any],
) -> FindConfig:
    """The recipe, what the file says over it, and what the command line says over that."""
    from trifocal.retrieval.data import FIELD_PRESETS
    from trifocal.retrieval.train import FindConfig, find_config
    from trifocal.training import TrainConfig

    written: dict[str, Any] = {}
    if path is not None:
        try:
            written = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise InvalidInput(f"there is no file {path}", remedy="Check --config.") from error
        except (OSError, ValueError) as error:
            raise InvalidInput(f"{path} is not JSON ({error})", remedy="Mend it.") from error
        if not isinstance(written, dict):
            raise InvalidInput(f"{path} holds {type(written).__name__}", remedy="Give one JSON object.")
    recipe = find_config(model or written.get("model", "default"), data=data if data in FIELD_PRESETS else None)
    merged = {
        **recipe.to_dict(),
        **{name: value for name, value in written.items() if name not in ("train", "changes")},
        **{name: value for name, value in own.items() if value is not None},
        "model": recipe.model,
        "changes": {**recipe.changes, **written.get("changes", {}), **changes},
        "train": {**recipe.train.to_dict(), **written.get("train", {})},
    }
    config = FindConfig.from_dict(merged)
    given = {name: value for name, value in train.items() if value is not None}
    return replace(config, train=TrainConfig.from_dict({**config.train.to_dict(), **given})) if given else config
