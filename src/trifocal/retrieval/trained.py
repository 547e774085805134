"""A trained retriever as an encoder of the library: pixels and texts in, through the encoder that it was trained on.

The folder that `trifocal train find` leaves has the model's `config.json` and `model.safetensors`, and `encoder.json`,
which names the encoder whose frames and words the model takes. `load_encoder(folder)` gives a `TrainedEncoder`; an
index refuses to mix it with any other, since its `id` is a hash of all of it.
"""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trifocal.errors import EncoderMismatch, InvalidInput
from trifocal.retrieval.checks import check_texts
from trifocal.retrieval.data.own import tokens_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike

    from numpy.typing import NDArray

    from trifocal.retrieval.encoder import FrameTextEncoder
    from trifocal.retrieval.model import PrototypeRetriever
    from trifocal.retrieval.prototypes import Prototypes
    from trifocal.retrieval.tokens import ClipTokens, TokenKind

__all__ = ["ENCODER_FILE", "TrainedEncoder", "write_encoder_file"]

ENCODER_FILE = "encoder.json"
_FORMAT = "trifocal-find-encoder"
_VERSION = 1
_CACHED_WORDS = 50_000


class TrainedEncoder:
    """A `FrameTextEncoder` whose documents are a trained model's prototypes.

    Args:
        folder: what `trifocal train find` wrote on videos of one's own.
        device: where torch computes.
        base: the encoder below, in place of loading the one that the folder names.

    Attributes:
        id: `trained-` and a hash of the model's files, and the id of the encoder below.
        dim: D, the width of queries and prototypes.
        frame_dim: the width of what `encode_frames` gives.

    Raises:
        InvalidInput: no such folder, files in it that are not of this kind, or a model with a frame branch, which an
            index of prototypes cannot hold.
        EncoderMismatch: the encoder below is not the one that the model was trained on.
    """

    def __init__(
        self, folder: str | PathLike[str], *, device: str = "cpu", base: FrameTextEncoder | None = None
    ) -> None:
        """Read the settings; the model is loaded when first needed."""
        self.folder, self.device = Path(folder), device
        settings = _settings(self.folder / ENCODER_FILE)
        if base is None:
            from trifocal.retrieval.encoder import load_encoder  # it knows this module

            base = load_encoder(settings["base"], device=device)
        if base.id != settings["base_id"]:
            raise EncoderMismatch(
                f"the model in {self.folder} was trained on {settings['base_id']}, and {settings['base']} is {base.id}",
                remedy="Train again on the encoder as it is now, or bring back the one that it was trained on.",
            )
        self.base = base
        config = self.folder / "config.json"
        weights = self.folder / "model.safetensors"
        for path in (config, weights):
            if not path.is_file():
                raise InvalidInput(f"there is no {path}", remedy="Give a folder that `trifocal train find` wrote.")
        digest = hashlib.sha256()
        for path in (config, weights):
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        self.id = f"trained-{digest.hexdigest()[:12]}+{base.id}"
        chosen = json.loads(config.read_text(encoding="utf-8"))
        if chosen.get("frame_branch"):
            raise InvalidInput(
                f"the model in {self.folder} scores a vector of the frames beside its prototypes, which no library "
                "holds",
                remedy="Train it with --set frame_branch=false; `trifocal eval find` measures it as it is.",
            )
        self.dim = int(chosen["hidden"])
        self.frame_dim = base.dim
        self.frame_size = base.frame_size
        self._vectors: dict[str, NDArray[np.float32]] = {}

    def __repr__(self) -> str:
        """What it is, briefly."""
        return f"TrainedEncoder({self.folder.name!r}, dim={self.dim}, base={self.base!r})"

    def encode_frames(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Frames as the encoder below sees them: float32 (T, frame_dim), what `encode_document` takes."""
        return self.base.encode_frames(frames)

    def encode_document(
        self,
        features: NDArray[np.float32],
        *,
        times_s: NDArray[np.float64],
        end_s: float,
        start_s: float = 0.0,
    ) -> Prototypes:
        """A video's prototypes.

        Args:
            features: float32 (T, frame_dim), from `encode_frames`.
            times_s: (T,) seconds.
            end_s: where the video ends.
            start_s: where it starts.
        """
        return self._model.encode_document(features, times_s=times_s, end_s=end_s, start_s=start_s)

    def encode_tokens(
        self,
        features: NDArray[np.float32],
        *,
        times_s: NDArray[np.float64],
        end_s: float,
        start_s: float = 0.0,
        kind: TokenKind = "half",
    ) -> ClipTokens:
        """A video's clip tokens in the space of the queries; arguments as for `encode_document`."""
        return self._model.encode_tokens(features, times_s=times_s, end_s=end_s, start_s=start_s, kind=kind)

    def encode_query(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """N texts to unit vectors float32 (N, D).

        Raises:
            InvalidInput: a single string instead of a sequence, or a text with nothing in it.
        """
        checked = check_texts(texts)
        if not checked:
            return np.zeros((0, self.dim), dtype=np.float32)
        split = [[*tokens_of(text), text] for text in checked]
        new = [one for one in dict.fromkeys(one for tokens in split for one in tokens) if one not in self._vectors]
        if len(self._vectors) + len(new) > _CACHED_WORDS:
            self._vectors.clear()
            new = list(dict.fromkeys(one for tokens in split for one in tokens))
        if new:
            self._vectors.update(zip(new, self.base.encode_query(new), strict=True))
        return self._model.encode_query([np.stack([self._vectors[one] for one in tokens]) for tokens in split])

    @cached_property
    def _model(self) -> PrototypeRetriever:
        from trifocal.retrieval.model import PrototypeRetriever  # brings torch

        return PrototypeRetriever.from_pretrained(self.folder, device=self.device)


def write_encoder_file(folder: Path, *, base: str, base_id: str, **facts: Any) -> None:
    """Say which encoder a saved model was trained on.

    Args:
        folder: with the model's files.
        base: its name for `load_encoder`.
        base_id: its id.
        facts: what else is good to know, such as how densely frames were sampled.
    """
    document = {"format": _FORMAT, "version": _VERSION, "base": base, "base_id": base_id, **facts}
    part = folder / f".{ENCODER_FILE}.part"
    part.write_text(json.dumps(document, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    part.replace(folder / ENCODER_FILE)


def _settings(path: Path) -> dict[str, str]:
    if not path.is_file():
        raise InvalidInput(f"there is no {path}", remedy="Give a folder that `trifocal train find` wrote.")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InvalidInput(f"{path} is not JSON ({error})", remedy="Copy the folder again.") from error
    written = (found.get("format"), found.get("version")) if isinstance(found, dict) else None
    if written != (_FORMAT, _VERSION) or not all(isinstance(found.get(key), str) for key in ("base", "base_id")):
        raise InvalidInput(
            f"{path} is {written}, expected {(_FORMAT, _VERSION)} with base and base_id",
            remedy="Give a folder that this version's `trifocal train find` wrote.",
        )
    return {"base": found["base"], "base_id": found["base_id"]}
