"""One interface for what puts frames and words into one space, and the names it is loaded by.

    "default"                  the offline default (`semantic.py`), no training and no network once cached
    "org/name", a folder       any CLIP or SigLIP model of the Hugging Face kind (`dual.py`)
    a folder of `train find`   a trained retriever over one of the others (`trained.py`)
    "features.npy", ".h5"      features computed elsewhere (`precomputed.py`)

Every encoder has an `id` that changes whenever its space changes; an index keeps it and refuses any other.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from trifocal.errors import InvalidInput
from trifocal.retrieval.precomputed import SUFFIXES, PrecomputedFeatures
from trifocal.retrieval.trained import ENCODER_FILE, TrainedEncoder

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from trifocal.retrieval.prototypes import Prototypes
    from trifocal.retrieval.tokens import ClipTokens, TokenKind

__all__ = ["DocumentEncoder", "FrameTextEncoder", "load_encoder"]

_VALID = (
    '"default", a Hugging Face model (org/name or org/name@revision), a folder with such a model '
    "or with one that `trifocal train find` trained, or a features file (.npy, .h5)"
)


@runtime_checkable
class FrameTextEncoder(Protocol):
    """Frames and texts as unit vectors of one space: what the find lens needs of a model."""

    @property
    def id(self) -> str:
        """A stable name of the space: hashes of the weights and of every setting that shapes it."""
        ...

    @property
    def dim(self) -> int:
        """D, the width of the vectors."""
        ...

    @property
    def frame_size(self) -> tuple[int, int]:
        """(height, width) that the model looks at; frames may come larger, and are resized."""
        ...

    def encode_frames(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 RGB (T, H, W, 3) to float32 (T, D), each row of unit length; T may be zero."""
        ...

    def encode_query(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """N texts to float32 (N, D), each row of unit length; N may be zero."""
        ...


@runtime_checkable
class DocumentEncoder(FrameTextEncoder, Protocol):
    """An encoder that makes a video's prototypes itself, of frames that it encodes into a space of their own."""

    @property
    def frame_dim(self) -> int:
        """The width of what `encode_frames` gives, float32 (T, frame_dim); prototypes and queries have `dim`."""
        ...

    def encode_document(
        self, features: NDArray[np.float32], *, times_s: NDArray[np.float64], end_s: float, start_s: float = 0.0
    ) -> Prototypes:
        """Encoded frames (T, frame_dim) at their times to prototypes of width `dim`."""
        ...

    def encode_tokens(
        self,
        features: NDArray[np.float32],
        *,
        times_s: NDArray[np.float64],
        end_s: float,
        start_s: float = 0.0,
        kind: TokenKind = "half",
    ) -> ClipTokens:
        """Encoded frames (T, frame_dim) to clip tokens of width `dim`, which queries can be compared with."""
        ...


def load_encoder(name: str = "default", *, device: str = "cpu", **options: Any) -> FrameTextEncoder:
    """The encoder of that name.

    Args:
        name: see the module's map.
        device: where the model computes, as torch names it; features files need none.
        options: passed on: `config=` to the default, everything of `PrecomputedFeatures` to a features file.

    Raises:
        InvalidInput: no such name, or an option that this kind of encoder does not take; the error lists what is valid.
        WeightsUnavailable: its files are neither cached nor to be had.
    """
    if type(name) is not str or not name:
        raise InvalidInput(f"the encoder's name is {name!r}", remedy=f"Give one of: {_VALID}.")
    try:
        if name == "default":
            from trifocal.retrieval.semantic import SemanticEncoder  # brings torch, as the next one does

            return SemanticEncoder(device=device, **options)
        if Path(name).suffix.lower() in SUFFIXES:
            return PrecomputedFeatures(name, **options)
        if (Path(name) / ENCODER_FILE).is_file():
            return TrainedEncoder(name, device=device, **options)
        if "/" in name or Path(name).is_dir():
            from trifocal.retrieval.dual import DualFrameTextEncoder

            return DualFrameTextEncoder(name, device=device, **options)
    except TypeError as error:
        raise InvalidInput(
            f"the encoder {name!r} does not take these options ({error})", remedy="Leave them out."
        ) from error
    raise InvalidInput(f"there is no encoder {name!r}", remedy=f"Give one of: {_VALID}.")
