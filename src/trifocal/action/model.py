"""A detector that can be used: the network, the names of its classes, and the rate at which it watches.

`load_action_model` gives one by name or from a folder; `save` writes such a folder: `config.json`, `model.safetensors`
and `labels.json`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from trifocal._version import __version__
from trifocal.action.config import DetectorConfig
from trifocal.action.detector import CONFIG_FILE, WEIGHTS_FILE, Detector
from trifocal.errors import InvalidInput, WeightsCorrupt, WeightsUnavailable

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["ActionModel", "load_action_model"]

LABELS_FILE: Final = "labels.json"
LABELS_FORMAT: Final = 2
"""Of `labels.json`: 1 (which wrote no number) has no `ids`, and its classes count from 1."""
SMALL: Final = Path(__file__).with_name("small")
"""The detector that ships."""


@dataclass(frozen=True, slots=True, eq=False)
class ActionModel:
    """A detector with what its numbers mean.

    Args:
        detector: in eval mode.
        classes: names of the actions, A of them.
        fps: frames a second of the videos that `frame_stride` counts in.
        name: how results name it.
        caveat: what a reader of its results should know; empty when nothing.
        ids: numbers of the actions in annotation files, rising; empty counts them from 1. (A model of AVA's 60 of 80
            classes has gaps here.)

    Raises:
        InvalidInput: another number of names or numbers than the detector has classes.
    """

    detector: Detector
    classes: tuple[str, ...]
    fps: float
    name: str = ""
    caveat: str = ""
    ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Check names and numbers."""
        if len(self.classes) != self.detector.config.classes:
            raise InvalidInput(
                f"{len(self.classes)} names are given for {self.detector.config.classes} classes",
                remedy="Give one name for each class.",
            )
        if not self.fps > 0:
            raise InvalidInput(f"fps is {self.fps}", remedy="Give frames per second, above 0.")
        object.__setattr__(self, "ids", tuple(self.ids) or tuple(range(1, len(self.classes) + 1)))
        if len(self.ids) != len(self.classes) or list(self.ids) != sorted(set(self.ids)):
            raise InvalidInput(
                f"the numbers of {len(self.classes)} classes are {list(self.ids)[:8]}",
                remedy="Give one number for each class, rising.",
            )

    @property
    def sample_rate(self) -> float:
        """Frames per second that it wants to see."""
        return self.fps / self.detector.config.frame_stride

    @property
    def device(self) -> torch.device:
        """Where the detector is."""
        return self.detector.level_code.device

    def frame_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Height and width at which it sees a video of that height and width: the shorter side fixed, aspect kept."""
        short = self.detector.config.short_side
        height, width = size
        if height <= width:
            return short, max(short, int(short * width / height))
        return max(short, int(short * height / width)), short

    def label(self, action: str) -> int:
        """The place of an action among the classes.

        Raises:
            InvalidInput: the model has no such class.
        """
        if action not in self.classes:
            raise InvalidInput(f"the model has no action {action!r}", remedy=f"It has {', '.join(self.classes)}.")
        return self.classes.index(action)

    def prepare(self, images: npt.NDArray[np.uint8]) -> torch.Tensor:
        """uint8 (T, H, W, 3) to the network's input, float32 (3, T, H, W)."""
        clip: torch.Tensor = cast("Any", self.detector.body).preprocess(torch.from_numpy(images).to(self.device))
        return clip

    def save(self, folder: str | Path, *, half: bool = False) -> Path:
        """Write the model into a folder that `load_action_model` reads.

        Args:
            folder: made where it is missing.
            half: keep the weights in half precision.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        state = {name: value.half() if half else value for name, value in self.detector.state_dict().items()}
        save_file({name: value.contiguous() for name, value in state.items()}, folder / WEIGHTS_FILE)
        (folder / CONFIG_FILE).write_text(self.detector.config.to_json(), encoding="utf-8")
        labels = {"classes": list(self.classes), "ids": list(self.ids), "fps": self.fps}
        about = {"name": self.name, "caveat": self.caveat, "format": LABELS_FORMAT, "version": __version__}
        text = json.dumps(labels | about, indent=2, ensure_ascii=False)
        (folder / LABELS_FILE).write_text(text + "\n", encoding="utf-8")
        return folder

    @classmethod
    def load(cls, folder: str | Path, *, device: str = "cpu") -> Self:
        """Read what `save` wrote.

        Raises:
            WeightsUnavailable: a file is missing.
            WeightsCorrupt: a file cannot be read, or does not hold this model's weights.
        """
        folder = Path(folder)
        for name in (CONFIG_FILE, WEIGHTS_FILE, LABELS_FILE):
            if not (folder / name).is_file():
                raise WeightsUnavailable(
                    f"{folder} has no {name}",
                    remedy="Give a folder that `trifocal train detect` or `trifocal weights convert` wrote.",
                )
        try:
            labels = json.loads((folder / LABELS_FILE).read_text(encoding="utf-8"))
            config = DetectorConfig.from_json((folder / CONFIG_FILE).read_text(encoding="utf-8"))
            detector = Detector(config)
            weights = {name: value.float() for name, value in load_file(folder / WEIGHTS_FILE).items()}
            detector.load_state_dict(weights)
            if (written := labels.get("format", 1)) > LABELS_FORMAT:
                raise ValueError(f"{LABELS_FILE} has the format {written}; this version knows up to {LABELS_FORMAT}")
            known = {name: labels[name] for name in ("fps", "name", "caveat")}
            ids = tuple(labels.get("ids", ()))
            return cls(detector.eval().to(device), tuple(labels["classes"]), **known, ids=ids)
        except (ValueError, KeyError, TypeError, RuntimeError, SafetensorError, OSError) as error:
            raise WeightsCorrupt(
                f"{folder} does not hold a detector ({type(error).__name__}: {str(error).splitlines()[0]:.200})",
                remedy="Save, convert or train it again.",
            ) from error


def load_action_model(reference: str | Path = "default", *, device: str = "cpu") -> ActionModel:
    """A detector that is ready to watch.

    Args:
        reference: "default" for the small one that ships, or a folder.
        device: where to run it.

    Raises:
        WeightsError: there is none, or its files cannot be read.
    """
    return ActionModel.load(SMALL if reference == "default" else reference, device=device)
