"""The trained part of the small model as files: half-precision safetensors, and JSON that says what they are.

What is stored is the projector and the low-rank changes of the language model, under the name of the language model
that they were trained with; nothing of the language model itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from trifocal._version import __version__
from trifocal.chat.prompt import PromptStyle
from trifocal.chat.small.config import SmallChatConfig
from trifocal.chat.small.projector import Projector, ProjectorConfig
from trifocal.errors import InvalidInput, WeightsCorrupt, WeightsUnavailable

if TYPE_CHECKING:
    import torch

__all__ = ["Trained", "load_trained", "save_trained", "shipped"]

_FORMAT = 1
_TENSORS = "trained.safetensors"
_ABOUT = "trained.json"


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """What training gave.

    Args:
        projector: from cells to tokens, float32.
        low_rank: changes of the language model, for `low_rank.fold`.
        language_model: the name of the language model that they belong to.
        frames: how many frames of a video it was trained on.
        grid: cells a side of a frame.
        video_names: classes of the whole video that are named before its cells.
        introduction: the words before the cells.
        facts: how it was trained, for the record.
    """

    projector: Projector
    low_rank: Mapping[str, torch.Tensor]
    language_model: str
    frames: int
    grid: int
    video_names: int
    introduction: str
    facts: Mapping[str, Any]

    def config(self) -> SmallChatConfig:
        """How a video is looked at with these weights."""
        style = PromptStyle(frames=self.introduction)
        return SmallChatConfig(frames=self.frames, grid=self.grid, video_names=self.video_names, style=style)


def shipped() -> Path:
    """The folder of the weights that come with the package."""
    return Path(__file__).parent


def save_trained(trained: Trained, folder: Path) -> None:
    """Write the two files; numbers are rounded to float16."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {f"projector.{name}": tensor for name, tensor in trained.projector.state_dict().items()}
    tensors |= {f"low_rank.{name}": tensor for name, tensor in trained.low_rank.items()}
    save_file({name: tensor.half().contiguous() for name, tensor in tensors.items()}, folder / _TENSORS)
    about = {
        "format": _FORMAT,
        "trifocal": __version__,
        "projector": asdict(trained.projector.config),
        "language_model": trained.language_model,
        "frames": trained.frames,
        "grid": trained.grid,
        "video_names": trained.video_names,
        "introduction": trained.introduction,
        "facts": dict(trained.facts),
    }
    (folder / _ABOUT).write_text(json.dumps(about, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def load_trained(folder: Path | None = None) -> Trained:
    """Read what `save_trained` wrote.

    Args:
        folder: that holds the two files; those of the package by default.

    Raises:
        WeightsUnavailable: the files are not there.
        WeightsCorrupt: they are not what they should be.
    """
    folder = folder or shipped()
    if not (folder / _TENSORS).is_file() or not (folder / _ABOUT).is_file():
        raise WeightsUnavailable(
            f"{folder} holds no trained weights of the small model",
            remedy="Train them with runs/train_small_chat.sh, or use the untrained model.",
        )
    try:
        about = json.loads((folder / _ABOUT).read_text(encoding="utf-8"))
        if about["format"] != _FORMAT:
            raise InvalidInput(f"the format is {about['format']}", remedy=f"This release reads {_FORMAT}.")
        tensors = {name: tensor.float() for name, tensor in load_file(folder / _TENSORS).items()}
        projector = Projector(ProjectorConfig(**about["projector"]))
        projector.load_state_dict(_part(tensors, "projector."))
        return Trained(
            projector=projector.eval().requires_grad_(False),
            low_rank=_part(tensors, "low_rank."),
            language_model=about["language_model"],
            frames=about["frames"],
            grid=about["grid"],
            video_names=about["video_names"],
            introduction=about["introduction"],
            facts=about["facts"],
        )
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise WeightsCorrupt(
            f"The trained weights in {folder} cannot be used ({error})", remedy="Install the package again."
        ) from error


def _part(tensors: Mapping[str, torch.Tensor], start: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}
