"""What a detector begins its training with: a pretrained backbone, another run's transformer, or a whole model.

`load_backbone` fills the body from VideoMAE (Hugging Face's or the authors' files), ir-CSN (Caffe2) or a detector of
this project. `begin_with` goes on from a whole detector, whatever its classes. `start_from` takes encoder and decoder
from another run, as the second stage of the published training does. `freeze_body` says what of the body stays.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import load_file

from trifocal.action.backbones.csn import CsnBody
from trifocal.action.backbones.vit import VitBody
from trifocal.action.convert import caffe2_to_body, fill_body, load_videomae, videomae_authors_to_body
from trifocal.errors import InvalidInput, WeightsCorrupt, WeightsUnavailable
from trifocal.weights.convert import load_checkpoint_tensors

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from trifocal.action.detector import Detector
    from trifocal.action.model import ActionModel

__all__ = ["StartReport", "begin_with", "freeze_body", "load_backbone", "start_from"]

_STAGE = ("encoder.", "decoder.", "level_code")
_ANEW = ("decoder.person_head",)
"""What a second stage takes from the first, and what of it begins anew; so do the backbone and what leads from it."""
_BY_CLASS = ("decoder.class_queries", "decoder.class_weights", "decoder.class_bias")
"""Parameters with a row for each class."""


@dataclass(frozen=True, slots=True)
class StartReport:
    """What a start took over.

    Args:
        taken: names of parameters.
        left: names that the other one has and that did not fit, or do not belong to what was asked for.
    """

    taken: tuple[str, ...]
    left: tuple[str, ...]


def load_backbone(model: Detector, path: str | Path) -> None:
    """Fill the body of a detector with pretrained weights.

    Args:
        model: gets the weights.
        path: a folder of Hugging Face's VideoMAE or of a detector of this project, or a file: `.safetensors`, a torch
            checkpoint of VideoMAE's authors (`.pth`, `.pt`, `.bin`), or ir-CSN from Caffe2 (`.mat`).

    Raises:
        WeightsUnavailable: there is nothing at the path.
        WeightsCorrupt: it cannot be read.
        InvalidInput: a body that needs no weights.
        ModelError: the weights are of another network, or of another size.
    """
    path, body = Path(path), model.body
    if not any(True for _ in body.parameters()):
        raise InvalidInput(
            "this recipe's backbone has its own published weights", remedy="Leave --backbone out, or name a recipe."
        )
    if not path.exists():
        raise WeightsUnavailable(f"there is no {path}", remedy="Give a folder or a file of pretrained weights.")
    if path.suffix.lower() == ".mat":
        if not isinstance(body, CsnBody):
            raise InvalidInput(f"{path.name} is of ir-CSN and the recipe is not", remedy="Choose a CSN recipe.")
        caffe2_to_body(body, _arrays(path))
        return
    state = _tensors(path)
    if any(name.startswith("body.") for name in state):
        fill_body(body, {name.removeprefix("body."): one for name, one in state.items() if name.startswith("body.")})
    elif not isinstance(body, VitBody):
        raise InvalidInput(f"{path.name} holds no ir-CSN", remedy="Give a .mat file of Caffe2, or a detector's folder.")
    elif any("encoder.layer." in name for name in state):
        load_videomae(body, state)
    else:
        fill_body(body, videomae_authors_to_body(state, like=body))


def _arrays(path: Path) -> Mapping[str, Any]:
    from scipy.io import loadmat

    try:
        return loadmat(path)  # type: ignore[no-any-return]
    except Exception as error:  # damaged bytes lead scipy to errors of any kind; all mean the same here
        raise WeightsCorrupt(
            f"{path.name} is no .mat file that can be read ({str(error).partition(chr(10))[0]})",
            remedy="Give a file of MATLAB's version 5, as published.",
        ) from error


def _tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file, or of all safetensors files of a folder."""
    if path.suffix.lower() in (".pth", ".pt", ".bin"):
        for place in ("model", "module"):
            try:
                return load_checkpoint_tensors(path, within=place)
            except WeightsCorrupt as error:
                if place == "module" or "no named tensors" not in error.message:
                    raise
    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    if not files:
        raise WeightsUnavailable(
            f"{path} has no .safetensors file", remedy="Save the model with safe_serialization=True, or give its file."
        )
    found: dict[str, Tensor] = {}
    for file in files:
        try:
            found |= load_file(file)
        except Exception as error:
            raise WeightsCorrupt(f"{file} cannot be read: {error}", remedy="Save it again.") from error
    return found


def begin_with(model: Detector, other: ActionModel, classes: Sequence[str]) -> StartReport:
    """Go on from a whole detector; classes that it knows by name keep what it knows of them, others begin anew.

    Args:
        model: of the other's configuration, but for the number of classes.
        other: what to begin with.
        classes: names of the model's classes.

    Raises:
        InvalidInput: a parameter does not fit, or no class is known and the numbers of classes differ.
    """
    places = {name: place for place, name in enumerate(other.classes)}
    rows = [(row, places[name]) for row, name in enumerate(classes) if name in places]
    own = model.state_dict()
    left = []
    for name, value in other.detector.state_dict().items():
        target = own.get(name)
        if target is not None and name in _BY_CLASS and len(value) == len(places):
            for row, place in rows:
                target[row] = value[place]
            left += [name] if len(rows) < len(classes) else []
        elif target is None or target.shape != value.shape:
            raise InvalidInput(
                f"{name} of {other.name or 'the other model'} is {tuple(value.shape)} and does not fit",
                remedy="Leave out options that change the model's sizes, such as --actors.",
            )
        else:
            target.copy_(value)
    model.load_state_dict(own)
    return StartReport(tuple(name for name in own if name not in left), tuple(left))


def start_from(model: Detector, weights: str | Path) -> StartReport:
    """Take encoder and decoder from another run, as the second stage of training does; its person head begins anew.

    Args:
        model: gets the weights.
        weights: a `.safetensors` file, or a folder that holds `model.safetensors` or `best.safetensors`.

    Raises:
        WeightsCorrupt: the file cannot be read.
        InvalidInput: nothing in it fits.
    """
    path = Path(weights)
    if path.is_dir():
        names = ("model.safetensors", "best.safetensors", "model/model.safetensors")
        path = next((path / name for name in names if (path / name).exists()), path)
    try:
        state = load_file(path)
    except Exception as error:
        raise WeightsCorrupt(f"{path} cannot be read: {error}", remedy="Give another run's folder.") from error
    own = model.state_dict()
    taken, left = [], []
    for name, value in state.items():
        target = own.get(name)
        # Anchors of a tube model are one set per frame; a keyframe model takes those of the middle one.
        if target is not None and name == "decoder.anchors" and value.ndim > target.ndim:
            value = value[:, value.shape[1] // 2]
        wanted = name.startswith(_STAGE) and not name.startswith(_ANEW)
        if target is not None and wanted and value.shape == target.shape:
            own[name] = value.to(target.dtype)
            taken.append(name)
        else:
            left.append(name)
    if not taken:
        raise InvalidInput(f"nothing in {path} fits this model", remedy="Give a run of the same width and layers.")
    model.load_state_dict(own)
    return StartReport(tuple(taken), tuple(left))


def freeze_body(model: Detector, *, stages: int | None = None) -> None:
    """Leave the body as it is, or the first part of an ir-CSN.

    Args:
        model: `Detector.train` keeps what does not train in evaluation mode.
        stages: of an ir-CSN: the stem and so many stages; None for the whole body.

    Raises:
        InvalidInput: stages of another body, or more than there are.
    """
    parts = [model.body]
    if stages is not None:
        if not isinstance(model.body, CsnBody) or not 0 <= stages <= len(model.body.stages):
            raise InvalidInput(f"{stages} stages are to be frozen", remedy="Give 0 to 4, of an ir-CSN alone.")
        parts = [model.body.conv1, model.body.bn1, *model.body.stages[:stages]] if stages else []
    for part in parts:
        for one in part.parameters():
            one.requires_grad_(False)
