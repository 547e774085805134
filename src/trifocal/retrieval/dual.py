"""A Hugging Face dual encoder (CLIP, SigLIP and their kin) behind the find lens's interface, by name.

The model itself is `trifocal.backbones.load_dual_encoder`; here queries and frames are checked as every encoder of this
lens checks them, and queries may be worded as the model was trained ("a photo of a dog").
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

from trifocal.errors import InvalidInput
from trifocal.retrieval.checks import check_frames, check_texts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["DualFrameTextEncoder"]


class DualFrameTextEncoder:
    """A `FrameTextEncoder` over a dual encoder of Hugging Face.

    Args:
        reference: `org/name`, `hf:org/name@revision`, or a folder with such a model.
        device: where torch computes.
        query_template: what a query becomes, with `{query}` in it.
        offline: use local files only.
        batch_size: frames per pass; bounds memory.

    Attributes:
        id: the model's own id (its repository and commit, or a hash of its files) and the query's wording, if any.
        dim: D, the width of the vectors.
        frame_size: (height, width) that the model looks at.

    Raises:
        InvalidInput: a template without `{query}`, a batch size below 1.
        ModelError: it is not a dual encoder.
        WeightsUnavailable: the model is neither local nor to be had.
    """

    def __init__(
        self,
        reference: str,
        *,
        device: str = "cpu",
        query_template: str = "{query}",
        offline: bool = False,
        batch_size: int = 32,
    ) -> None:
        """Load the model."""
        if "{query}" not in query_template:
            raise InvalidInput(f"query_template is {query_template!r}", remedy="Give a sentence with {query} in it.")
        if type(batch_size) is not int or batch_size < 1:
            raise InvalidInput(f"batch_size is {batch_size!r}", remedy="Give a whole number of at least 1.")
        from trifocal.backbones import load_dual_encoder  # brings torch and transformers

        self._model = load_dual_encoder(reference, device=device, offline=offline)
        self.query_template, self.batch_size = query_template, batch_size
        wording = hashlib.sha256(query_template.encode()).hexdigest()[:12]
        self.id = self._model.id if query_template == "{query}" else f"{self._model.id}+query:{wording}"
        self.dim, self.frame_size = self._model.dim, self._model.frame_size

    def __repr__(self) -> str:
        """What it is, briefly."""
        return f"DualFrameTextEncoder(id={self.id!r}, dim={self.dim}, frame_size={self.frame_size})"

    def encode_frames(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 RGB (T, H, W, 3) to unit vectors float32 (T, D).

        Raises:
            InvalidInput: not such an array.
        """
        check_frames(frames)
        if not len(frames):
            return np.zeros((0, self.dim), dtype=np.float32)
        return self._model.encode_frames(frames, batch_size=self.batch_size)

    def encode_query(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """N texts to unit vectors float32 (N, D).

        Raises:
            InvalidInput: a single string instead of a sequence, or a text with nothing in it.
        """
        worded = [self.query_template.replace("{query}", text) for text in check_texts(texts)]
        return self._model.encode_text(worded) if worded else np.zeros((0, self.dim), dtype=np.float32)
