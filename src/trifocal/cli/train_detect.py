"""`trifocal train detect`: a detector from labelled videos; resumable, under torchrun too."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trifocal.cli.output import Format, FormatOption, number, print_json, stderr, stdout
from trifocal.cli.train_find import print_epoch, step_progress
from trifocal.errors import InvalidInput

if TYPE_CHECKING:
    from trifocal.action.labels import Labels

EVERY_NTH = 5  # without a split, every so many videos are held out


def train_detect(
    labels: Annotated[
        Path, typer.Argument(help="Labels: AVA csv, CVAT xml, COCO video json, a tube pickle, or our json.")
    ],
    videos: Annotated[Path, typer.Option(help="The folder of the videos; a file is found by the labels' id or name.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder of the run: checkpoints, logs, the model.")],
    recipe: Annotated[
        str,
        typer.Option(
            help="small, ava22-csn50, ava22-csn152, ava22-vit-b, ucf101-24-vit-b, jhmdb-vit-b; the last two also with "
            "-stage1."
        ),
    ] = "small",
    label_map: Annotated[Path | None, typer.Option(help="With AVA csv: names of the classes (pbtxt or json).")] = None,
    split: Annotated[str | None, typer.Option(help="The split to train on, where the labels name any.")] = None,
    held_out: Annotated[
        Path | None, typer.Option(help="Labels to evaluate on; by default every fifth video, or the test split.")
    ] = None,
    start: Annotated[
        Path | None, typer.Option(help="Another run: its encoder and decoder are the beginning (second stage).")
    ] = None,
    freeze: Annotated[bool, typer.Option("--freeze", help="Leave the backbone as it is.")] = False,
    lora: Annotated[int | None, typer.Option(min=1, help="Rank of low-rank updates on a frozen backbone.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the clips.")] = None,
    lr: Annotated[float | None, typer.Option(help="Highest learning rate.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Clips a batch and process.")] = None,
    actors: Annotated[int | None, typer.Option(min=1, help="Actor queries; more than a frame ever holds.")] = None,
    short_side: Annotated[int | None, typer.Option(min=32, help="Pixels that frames are resized to.")] = None,
    precision: Annotated[str | None, typer.Option(help="float32, bf16 or fp16.", show_default="float32")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="The same seed gives the same result.")] = None,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Write TensorBoard events too.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint in --out.")] = False,
    format_: FormatOption = Format.HUMAN,
) -> None:
    """Train a detector on your own labelled videos, or on AVA, UCF101-24 and JHMDB as published.

    `OUT/model` is then a detector: `trifocal detect VIDEO --model OUT/model`. Several GPUs:
    `torchrun --nproc-per-node N -m trifocal train detect …`.
    """
    from trifocal.action.data.formats import read_labels
    from trifocal.action.recipes import recipe as named
    from trifocal.action.train import train_detect as run
    from trifocal.training import rank_and_world

    quiet = format_ is Format.JSON or rank_and_world()[0] != 0
    chosen = named(recipe)
    changes: dict[str, Any] = {"epochs": epochs, "lr": lr, "precision": precision, "seed": seed}
    wanted = {name: value for name, value in changes.items() if value is not None}
    if lr is not None and chosen.train.group_lr:
        wanted["group_lr"] = {"body": lr / 10}
    if epochs is not None:  # milestones beyond the end never come; a schedule is stretched with its epochs
        scale = epochs / chosen.train.epochs
        wanted["milestones"] = tuple(max(1, round(scale * one)) for one in chosen.train.milestones)
    train = replace(chosen.train, tensorboard=tensorboard, **wanted)
    sizes = (("actors", actors), ("short_side", short_side))
    model: dict[str, Any] = {name: value for name, value in sizes if value is not None}
    chosen = replace(chosen, train=train, detector=replace(chosen.detector, **model), batch=batch or chosen.batch)
    found = read_labels(labels, label_map=label_map)
    to_train, to_test = _splits(found, split, held_out, label_map)
    if not quiet:
        classes = number(len(found.classes), "class").replace("classs", "classes")
        tested = number(len(to_test.videos), "video") if to_test is not None else "no video"
        stderr().print(f"{number(len(to_train.videos), 'video')} to train on, {tested} held out, {classes}")
    with step_progress(quiet=quiet) as on_step:
        trained, result = run(
            to_train,
            videos=videos,
            folder=out,
            recipe=chosen,
            held_out=to_test,
            start=start,
            freeze_body=freeze,
            low_rank=lora,
            resume=resume,
            progress=on_step,
            on_epoch=None if quiet else print_epoch,
        )
    facts = {
        "folder": str(out / "model"),
        "best": result.best,
        "best_epoch": result.best_epoch,
        "epochs": result.epochs,
        "stopped_early": result.stopped_early,
        "classes": list(trained.classes),
    }
    if format_ is Format.JSON:
        print_json(facts)
    elif not quiet:
        measure = "frame-mAP" if to_test is not None else "loss"
        when = "" if result.best_epoch is None else f" in epoch {result.best_epoch + 1} of {result.epochs}"
        stdout().print(f"{out / 'model'}: best {measure} {result.best:.4f}{when}", markup=False, soft_wrap=True)


def _splits(
    labels: Labels, split: str | None, held_out: Path | None, label_map: Path | None
) -> tuple[Labels, Labels | None]:
    """What to train on and what to evaluate on; a video is never both."""
    from trifocal.action.data.formats import read_labels

    train = labels
    test: Labels | None = None
    if split is not None:
        train = labels.split(split)
        other = split.replace("train", "test")
        test = labels.split(other) if other in labels.splits and other != split else None
    if held_out is not None:
        test = read_labels(held_out, label_map=label_map)
        if test.classes.names != labels.classes.names:
            raise InvalidInput(f"{held_out} has other classes", remedy="Give both the same --label-map.")
    if test is None and len(train.videos) >= EVERY_NTH:
        names = [one.video for one in train.videos]
        kept = [name for place, name in enumerate(names) if place % EVERY_NTH != EVERY_NTH - 1]
        test = train.only(names[EVERY_NTH - 1 :: EVERY_NTH])
        train = train.only(kept)
    if test is not None:
        both = {one.video for one in train.videos} & {one.video for one in test.videos}
        if both:
            raise InvalidInput(
                f"{sorted(both)[0]} and {len(both) - 1} more are to train on and held out", remedy="Give other videos."
            )
    return train, test
