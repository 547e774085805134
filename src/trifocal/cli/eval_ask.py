"""`trifocal eval ask`: a benchmark's questions, answered by a model, with and without merging.

What can be told to be wrong is told before the model is loaded; then it is loaded once, and every method and budget is
attached to it and taken off again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from trifocal.chat.model import OFFLINE
from trifocal.cli.model_options import (
    ContextOption,
    DeviceMapOption,
    DeviceOption,
    DtypeOption,
    FpsOption,
    MaxFramesOption,
    RopeFactorOption,
    TooLongOption,
    budget_of,
    chosen_device,
    loading,
    shown_as,
)
from trifocal.cli.output import Format, FormatOption, number, print_json, stderr, stdout, writing
from trifocal.cli.progress import count_progress
from trifocal.errors import InvalidInput

if TYPE_CHECKING:
    from trifocal.chat import VideoChat
    from trifocal.chat.evaluation import Item
    from trifocal.chat.hf.config import HFChatConfig
    from trifocal.chat.small_chat import SmallChat
    from trifocal.merging import MergeConfig

LAYER = 2


def ask(
    benchmark: Annotated[
        str,
        typer.Option(help="vnbench, videomme, mlvu, longvideobench, nextqa, egoschema or playground."),
    ],
    annotations: Annotated[Path, typer.Option(help="The benchmark's published file, or the folder of its parts.")],
    videos: Annotated[Path, typer.Option(help="The folder of the videos.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder of the runs; one that was begun goes on.")],
    model: Annotated[
        str, typer.Option("--model", "-m", help="default, playground, a folder, or hf:org/name@revision.")
    ] = "default",
    method: Annotated[
        list[str] | None, typer.Option(help="A merging method; repeatable. `none` merges nothing.")
    ] = None,
    budget: Annotated[
        list[str] | None,
        typer.Option(help="What is kept: a share of the video's tokens (0.3), or how many (4000); repeatable."),
    ] = None,
    layer: Annotated[
        int | None,
        typer.Option(
            min=0, help="In front of which layer tokens are merged.", show_default="2; the default model's is 0"
        ),
    ] = None,
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
    keep_going: Annotated[
        bool,
        typer.Option("--keep-going", help="Go on even when the settings refuse every one of the first videos."),
    ] = False,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    device_map: DeviceMapOption = None,
    fps: FpsOption = None,
    max_frames: MaxFramesOption = None,
    too_long: TooLongOption = None,
    rope_factor: RopeFactorOption = None,
    context: ContextOption = None,
    plot: Annotated[Path | None, typer.Option(help="Draw accuracy against tokens (.png, .svg or .pdf).")] = None,
    format_: FormatOption = Format.HUMAN,
) -> None:
    """Ask a benchmark's questions, for every method and budget that is named.

    Each run is a folder below OUT with its settings, an answer a line, and a summary. The annotation files and the
    videos are yours to bring; nothing is downloaded. A video that cannot be asked is recorded with the reason.
    """
    from trifocal.chat.evaluation import ask_benchmark, check_plot, compare, read_benchmark, summarise, table
    from trifocal.chat.evaluation import plot as draw

    if plot is not None:
        check_plot(plot)
    at = _layer(model, layer)
    runs = _runs(method or ["none"], [budget_of(text) for text in budget or []], options=_options(option or []))
    shown = shown_as(model, fps=fps, max_frames=max_frames, too_long=too_long)
    given = loading(model, dtype=dtype, device_map=device_map, rope_factor=rope_factor, context=context)
    items = read_benchmark(benchmark, annotations, videos=videos)[:limit]
    _say_what_is_missing(items, videos)
    chats, facts = _chats(model, {"device": chosen_device(device), **given}, shown)
    for run in runs:
        folder = out / benchmark / run.name
        settings = {
            "model": model,
            **facts,
            "method": run.method,
            "budget": run.budget,
            "layer": None if run.method == "none" else at,
            "limit": limit,
            "questions": _fingerprint(items),
        }
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        with chats(run, at) as chat, count_progress(run.name, "questions") as bar:
            ask_benchmark(
                benchmark,
                items,
                chat=chat,
                folder=folder,
                settings=settings,
                how="likelihood" if likelihood else "letters",
                keep_going=keep_going,
                progress=bar,
            )
        _say_what_was_odd(run.name, summarise(folder))
    rows = [row for row in compare(out / benchmark) if row["settings"].get("model") == model]
    if plot is not None:
        with writing(plot):
            draw(rows, plot)
        stderr().print(f"drawn in {plot}", markup=False, soft_wrap=True)
    if format_ is Format.JSON:
        print_json(rows)
        return
    stdout().print(table(rows), markup=False, soft_wrap=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """One way to merge: a method with its options, a budget among them; "none" has none."""

    method: str
    options: dict[str, Any]

    @property
    def name(self) -> str:
        """Of its folder."""
        return "_".join([self.method, *(f"{name}-{value}" for name, value in self.options.items())])

    @property
    def budget(self) -> Any:
        """As tables name it."""
        if set(self.options) == {"budget"}:
            return self.options["budget"]
        return " ".join(f"{name}={value}" for name, value in self.options.items())

    def config(self) -> MergeConfig | None:
        """The method's configuration, without what only the attachment to a model knows.

        Raises:
            InvalidInput: no such method or option, or a value that cannot be used.
        """
        from trifocal.merging import METHODS, configure

        if self.method == "none":
            return None
        options = {name: value for name, value in self.options.items() if name != "positions"}
        if self.method in METHODS and "compat" not in METHODS[self.method].__dataclass_fields__:
            options.pop("compat", None)
        return configure(self.method, **options)


def _runs(methods: list[str], budgets: Sequence[float], *, options: dict[str, Any]) -> list[_Run]:
    """Every method with every budget; `none` once, and once each where options stand in a budget's place."""
    out: list[_Run] = []
    for name in dict.fromkeys(methods):
        if name == "none":
            out.append(_Run(method=name, options={}))
        elif budgets:
            out.extend(_Run(method=name, options={**options, "budget": one}) for one in dict.fromkeys(budgets))
        elif options:
            out.append(_Run(method=name, options=options))
        else:
            raise InvalidInput(f"{name} needs a budget", remedy="Add --budget 0.3, or several, or --option.")
    for run in out:
        run.config()
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


def _layer(model: str, layer: int | None) -> int:
    if model not in OFFLINE:
        return LAYER if layer is None else layer
    if layer:
        raise InvalidInput(f"--layer is {layer}", remedy=f"The {model} model merges in front of layer 0 alone.")
    return 0


_Chats = Callable[[_Run, int], AbstractContextManager["VideoChat"]]


def _chats(model: str, loaded: dict[str, Any], shown: HFChatConfig | None) -> tuple[_Chats, dict[str, Any]]:
    """The model, loaded once: what attaches a run to it, and what a run's settings say about it."""
    if shown is None:
        return _small_chats(model, loaded)
    from trifocal.chat.hf.load import load_hf_model
    from trifocal.chat.prefix import PrefixStore

    held = load_hf_model(model, **loaded)

    @contextmanager
    def attached(run: _Run, layer: int) -> Iterator[VideoChat]:
        chat = held.chat(
            config=shown,
            method=None if run.method == "none" else run.method,
            layer=layer,
            # Every video comes once, so nothing that was read is worth its memory.
            store=PrefixStore(memory_bytes=0),
            **run.options,
        )
        try:
            yield chat
        finally:
            chat.close()

    return attached, {
        "revision": held.revision,
        "device": loaded["device"].partition(":")[0],
        "device_map": loaded.get("device_map"),
        "dtype": str(held.model.dtype).removeprefix("torch."),
        "rope_factor": loaded.get("rope_factor", 1.0),
        "context": loaded.get("context"),
        "fps": shown.fps,
        "max_frames": shown.max_frames,
        "too_long": shown.too_long,
    }


def _small_chats(model: str, loaded: dict[str, Any]) -> tuple[_Chats, dict[str, Any]]:
    from trifocal.chat import load_chat

    small = cast("SmallChat", load_chat(model, **loaded))
    plain = small.config

    @contextmanager
    def configured(run: _Run, _: int) -> Iterator[VideoChat]:
        small.config = replace(plain, merge=run.config())
        yield small

    return configured, {"name": small.name, "device": loaded["device"].partition(":")[0]}


def _fingerprint(items: list[Item]) -> str:
    """Of what is asked, wherever the videos lie."""
    asked = [(item.id, item.video.name, item.question, item.options, item.answer) for item in items]
    return hashlib.sha256(repr(asked).encode()).hexdigest()[:16]


def _say_what_is_missing(items: list[Item], videos: Path) -> None:
    asked = {item.video for item in items}
    missing = sum(not video.is_file() for video in asked)
    if missing == len(asked):
        raise InvalidInput(
            f"of the {number(len(asked), 'video')} in the annotations none is in {videos}",
            remedy="Give the folder that holds the videos under their published names.",
        )
    stderr().print(f"{number(len(items), 'question')} of {number(len(asked), 'video')}")
    if missing:
        stderr().print(f"{number(missing, 'video')} missing; their questions count as wrong")


def _say_what_was_odd(name: str, summary: dict[str, Any]) -> None:
    """Questions without an answer, by reason, and those that saw fewer frames than were wanted."""
    for code, count in summary["failed"].items():
        stderr().print(f"{name}: {number(count, 'question')} without an answer ({code})", markup=False)
    if summary["fewer_frames"]:
        stderr().print(
            f"{name}: {number(summary['fewer_frames'], 'question')} on fewer frames than wanted, which did not fit",
            markup=False,
        )
