"""`trifocal train detect`: a detector from labelled videos; resumable, under torchrun too."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trifocal.cli.labels import AttributeOption, ExcludedOption, KindOption, MapOption, RateOption, load
from trifocal.cli.output import Format, FormatOption, number, print_json, stderr, stdout
from trifocal.cli.train_find import print_epoch, step_progress
from trifocal.errors import InvalidInput

if TYPE_CHECKING:
    from trifocal.action.data.transforms import Augmentation
    from trifocal.action.labels import Labels
    from trifocal.training import TrainConfig

StartOption = Annotated[
    float, typer.Option("--start-s", help="The videos' second that is the labels' second 0; AVA's clips: -900.")
]

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
            help="small, ava22-csn50, ava22-csn152, ava22-vit-b, ava22-vit-b-v2, ucf101-24-vit-b, jhmdb-vit-b; the "
            "last two also with -stage1."
        ),
    ] = "small",
    kind: KindOption = None,
    label_map: MapOption = None,
    excluded: ExcludedOption = None,
    rate: RateOption = None,
    attribute: AttributeOption = None,
    start_s: StartOption = 0.0,
    split: Annotated[str | None, typer.Option(help="The split to train on, where the labels name any.")] = None,
    held_out: Annotated[
        Path | None,
        typer.Option(help="Labels of the same kind to evaluate on; by default every fifth video, or the test split."),
    ] = None,
    backbone: Annotated[
        Path | None,
        typer.Option(
            help="Pretrained weights of the backbone: a folder of Hugging Face's VideoMAE or of a detector, "
            ".safetensors, the authors' .pth, or ir-CSN as .mat."
        ),
    ] = None,
    init: Annotated[
        str | None,
        typer.Option(help="A whole model to go on from (a folder, or default); its sizes replace the recipe's."),
    ] = None,
    start: Annotated[
        Path | None,
        typer.Option("--start", help="Another run: its encoder and decoder are the beginning (second stage)."),
    ] = None,
    freeze: Annotated[bool, typer.Option("--freeze", help="Leave the backbone as it is.")] = False,
    lora: Annotated[int | None, typer.Option(min=1, help="Rank of low-rank updates on a frozen backbone.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the clips.")] = None,
    lr: Annotated[float | None, typer.Option(help="Highest learning rate.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Clips a batch and process.")] = None,
    ema: Annotated[
        float | None, typer.Option(min=0.0, help="Decay of the moving average of the weights; 0 for none.")
    ] = None,
    augment: Annotated[
        bool | None,
        typer.Option("--augment/--no-augment", help="Vary clips: flip, crop, colours.", show_default="the recipe's"),
    ] = None,
    flip: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, help="Chance of a flip; 0 where classes tell left from right."),
    ] = None,
    actors: Annotated[int | None, typer.Option(min=1, help="Actor queries; more than a frame ever holds.")] = None,
    short_side: Annotated[int | None, typer.Option(min=32, help="Pixels that frames are resized to.")] = None,
    precision: Annotated[str | None, typer.Option(help="float32, bf16 or fp16.", show_default="float32")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:1.", show_default="auto")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="The same seed gives the same result.")] = None,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Write TensorBoard events too.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint in --out.")] = False,
    format_: FormatOption = Format.HUMAN,
) -> None:
    """Train a detector on your own labelled videos, or on AVA, UCF101-24 and JHMDB as published.

    `OUT/model` is then a detector: `trifocal detect VIDEO --model OUT/model`. Several GPUs:
    `torchrun --nproc-per-node N -m trifocal train detect …`.
    """
    from trifocal.action import load_action_model
    from trifocal.action.recipes import recipe as named
    from trifocal.action.train import train_detect as run
    from trifocal.training import rank_and_world

    quiet = format_ is Format.JSON or rank_and_world()[0] != 0
    chosen = named(recipe)
    begun = load_action_model(init) if init is not None else None
    if begun is not None:
        chosen = replace(chosen, detector=begun.detector.config, fps=begun.fps if chosen.fps is not None else None)
    loop: dict[str, Any] = {"epochs": epochs, "lr": lr, "precision": precision, "seed": seed, "device": device}
    loop |= {"ema": ema or None} if ema is not None else {}
    chosen = replace(
        chosen,
        train=_loop(chosen.train, {name: value for name, value in loop.items() if value is not None or name == "ema"}),
        augmentation=_variation(chosen.augmentation, augment, flip),
        batch=batch or chosen.batch,
    )
    sizes = (("actors", actors), ("short_side", short_side))
    model: dict[str, Any] = {name: value for name, value in sizes if value is not None}
    chosen = replace(
        chosen, train=replace(chosen.train, tensorboard=tensorboard), detector=replace(chosen.detector, **model)
    )

    def read(path: Path) -> Labels:
        return load(path, kind, label_map, excluded, rate, attribute)

    to_train, to_test = _splits(read(labels), split, None if held_out is None else (held_out, read(held_out)))
    if not quiet:
        classes = number(len(to_train.classes), "class").replace("classs", "classes")
        tested = number(len(to_test.videos), "video") if to_test is not None else "no video"
        stderr().print(f"{number(len(to_train.videos), 'video')} to train on, {tested} held out, {classes}")
    with step_progress(quiet=quiet) as on_step:
        trained, result = run(
            to_train,
            videos=videos,
            folder=out,
            recipe=chosen,
            held_out=to_test,
            backbone=backbone,
            init=begun,
            start=start,
            freeze=freeze,
            low_rank=lora,
            start_s=start_s,
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


def _loop(train: TrainConfig, wanted: dict[str, Any]) -> TrainConfig:
    """The recipe's loop with what was asked for; a schedule is stretched with its epochs."""
    if "lr" in wanted and train.group_lr:
        wanted["group_lr"] = {"body": wanted["lr"] / 10}
    if "epochs" in wanted:  # milestones beyond the end would never come
        scale = wanted["epochs"] / train.epochs
        wanted["milestones"] = tuple(max(1, round(scale * one)) for one in train.milestones)
    return replace(train, **wanted)


def _variation(own: Augmentation | None, augment: bool | None, flip: float | None) -> Augmentation | None:
    """How clips vary: the recipe's way, or the usual one where it has none and one is asked for."""
    from trifocal.action.data.transforms import Augmentation

    chosen = own if augment is None else (own or Augmentation()) if augment else None
    if flip is None:
        return chosen
    if chosen is None:
        raise InvalidInput("--flip is given and clips do not vary", remedy="Give --augment too.")
    return replace(chosen, flip=flip)


def _splits(labels: Labels, split: str | None, other: tuple[Path, Labels] | None) -> tuple[Labels, Labels | None]:
    """What to train on and what to evaluate on; a video is never both."""
    train = labels
    test: Labels | None = None
    if split is not None:
        train = labels.split(split)
        rest = split.replace("train", "test")
        test = labels.split(rest) if rest in labels.splits and rest != split else None
    if other is not None:
        path, test = other
        if test.classes.names != labels.classes.names:
            raise InvalidInput(f"{path} has other classes", remedy="Give both the same --label-map.")
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
