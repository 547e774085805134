"""Who looks at a video for actors and actions: a detector with its settings, known by what it is made of.

`Looker` is what `Library.detect` needs; `ModelLooker` is a model of `trifocal.action` behind it. The id is a hash over
weights, configuration and names, so a model that was trained further is another detector than the one before.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Protocol

from trifocal.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from trifocal.action import ActionModel, DetectConfig, DetectReport
    from trifocal.video import Limits

__all__ = ["Looker", "ModelLooker", "as_looker", "fingerprint"]

_ID_DIGITS = 16


class Looker(Protocol):
    """Something that finds tubes in a video."""

    @property
    def id(self) -> str:
        """What tells it from every other detector: 16 hex digits."""

    @property
    def name(self) -> str:
        """What people call it."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The actions it knows."""

    @property
    def config(self) -> str:
        """How it looks, as sorted JSON; tubes of another config are out of date."""

    def look(self, path: str, *, video: str, limits: Limits, progress: Callable[[float, float], None]) -> DetectReport:
        """Look at a file; `video` is what the tubes call it, `progress` is told seconds seen and seconds there are.

        Raises:
            VideoError: the file cannot be used.
        """


class ModelLooker:
    """A model of `trifocal.action` as a looker.

    Args:
        model: what to look with.
        config: how; the defaults of `trifocal.action.detect` when None.
    """

    def __init__(self, model: ActionModel, *, config: DetectConfig | None = None) -> None:
        """Hashes the weights, once."""
        from trifocal.action import DetectConfig  # brings torch; only who detects pays for it

        self.model = model
        self._config = DetectConfig() if config is None else config
        self.id = fingerprint(model)
        self.name = model.name or self.id
        self.classes = model.classes
        self.config = json.dumps(asdict(self._config), sort_keys=True)

    def look(self, path: str, *, video: str, limits: Limits, progress: Callable[[float, float], None]) -> DetectReport:
        """See `Looker.look`."""
        from trifocal.action import detect

        return detect(path, model=self.model, name=video, config=self._config, limits=limits, progress=progress)


def as_looker(
    model: str | Path | ActionModel | Looker, *, config: DetectConfig | None = None, device: str = "cpu"
) -> Looker:
    """A looker of what `Library.detect` takes as its model.

    Raises:
        InvalidInput: a config beside a looker.
        WeightsError: the name leads to no detector.
    """
    from trifocal.action import ActionModel, load_action_model

    if isinstance(model, ActionModel):
        return ModelLooker(model, config=config)
    if not isinstance(model, str | os.PathLike):
        if config is not None:
            raise InvalidInput("a config is given beside a looker, which has its own", remedy="Leave it out.")
        return model
    return ModelLooker(load_action_model(model, device=device), config=config)


def fingerprint(model: ActionModel) -> str:
    """16 hex digits over weights, configuration, names of the actions and rate of a model."""
    import torch

    about = [model.detector.config.to_json(), list(model.classes), model.fps]
    digest = hashlib.sha256(json.dumps(about, ensure_ascii=False).encode())
    for name, value in sorted(model.detector.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()[:_ID_DIGITS]
