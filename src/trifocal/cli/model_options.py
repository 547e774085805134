"""What `ask` and `eval ask` have in common: how a video language model is brought into memory, shown videos, merged.

`loading`, `shown_as` and `chosen_device` turn the options into what `load_chat` takes, and refuse those that the
offline default does not have. Only the last needs torch, so mistakes are told before anything slow begins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from trifocal.chat.model import OFFLINE
from trifocal.errors import InvalidInput

if TYPE_CHECKING:
    from trifocal.chat.hf.config import HFChatConfig

__all__ = [
    "ContextOption",
    "DeviceMapOption",
    "DeviceOption",
    "DtypeOption",
    "FpsOption",
    "MaxFramesOption",
    "RopeFactorOption",
    "TooLongOption",
    "budget_of",
    "chosen_device",
    "loading",
    "shown_as",
]

DeviceOption = Annotated[
    str | None,
    typer.Option(help="Where the model runs: cpu, cuda, cuda:1.", show_default="cuda where torch finds one, else cpu"),
]
DtypeOption = Annotated[
    str | None,
    typer.Option(help="Number format of the weights: float32, bfloat16 or float16.", show_default="as they are saved"),
]
DeviceMapOption = Annotated[
    str | None,
    typer.Option(help="Spread the layers: `auto` over all GPUs and main memory. Needs the package accelerate."),
]
FpsOption = Annotated[float | None, typer.Option(help="Frames per second that are wanted.", show_default="1")]
MaxFramesOption = Annotated[
    int | None, typer.Option(min=1, help="The most frames, spread evenly over the video.", show_default="128")
]
TooLongOption = Annotated[
    Literal["sample", "refuse"] | None,
    typer.Option(
        help="When so many do not fit into the model's context: take the most that do, or refuse the video.",
        show_default="sample",
    ),
]
RopeFactorOption = Annotated[
    float | None,
    typer.Option(help="Scale positions linearly, so that the context is so many times longer.", show_default="1"),
]
ContextOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="How many tokens a prompt may have, in place of the model's published number of positions.",
    ),
]


def budget_of(text: str) -> int | float:
    """A share such as 0.3, or a whole number of tokens.

    Raises:
        InvalidInput: it is neither.
    """
    try:
        budget = int(text) if text.isdecimal() else float(text)
    except ValueError:
        budget = 0
    if budget > 0 and (isinstance(budget, int) or budget <= 1.0):
        return budget
    raise InvalidInput(f"--budget is {text!r}", remedy="Give a share such as 0.3, or a whole number of tokens.")


def chosen_device(device: str | None) -> str:
    """The device that is named, else the first GPU, else the CPU.

    Raises:
        InvalidInput: there is no such device.
    """
    import torch

    if device is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        named = torch.device(device)
    except RuntimeError as error:
        raise InvalidInput(f"--device is {device!r}", remedy="Give cpu, cuda or cuda:1.") from error
    if named.type == "cuda" and (named.index or 0) >= torch.cuda.device_count():
        raise InvalidInput(
            f"--device is {device!r}, and torch finds {torch.cuda.device_count()} of its kind",
            remedy="Give cpu, or one that is there.",
        )
    return device


def loading(
    model: str,
    *,
    dtype: str | None,
    device_map: str | None,
    rope_factor: float | None,
    context: int | None,
) -> dict[str, Any]:
    """How a model is brought into memory, for `load_chat`: what was given. `chosen_device` tells the device.

    Raises:
        InvalidInput: the offline default has no such option.
    """
    given = {"dtype": dtype, "device_map": device_map, "rope_factor": rope_factor, "context": context}
    given = {name: value for name, value in given.items() if value is not None}
    _only_hf(model, given)
    return given


def shown_as(
    model: str, *, fps: float | None, max_frames: int | None, too_long: Literal["sample", "refuse"] | None
) -> HFChatConfig | None:
    """How a Hugging Face model is shown videos; None for the offline default.

    Raises:
        InvalidInput: a value is out of range, or the offline default has no such option.
    """
    from trifocal.chat.hf.config import HFChatConfig

    given: dict[str, Any] = {"fps": fps, "max_frames": max_frames, "too_long": too_long}
    given = {name: value for name, value in given.items() if value is not None}
    _only_hf(model, given)
    return None if model in OFFLINE else HFChatConfig(**given)


def _only_hf(model: str, given: dict[str, Any]) -> None:
    if model in OFFLINE and given:
        named = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise InvalidInput(f"The {model} model has no {named}", remedy="Name a Hugging Face model with --model.")
