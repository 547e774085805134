"""Texts as sentence vectors, kept in a folder: the two-annotation set has 50,000 of them, which take minutes."""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trifocal.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

__all__ = ["KeptSentences"]


class KeptSentences:
    """The offline sentence encoder (MiniLM), whose vectors are kept: a file per list of texts.

    Args:
        folder: where; made at the first need.
        encode: N texts to float32 (N, D), in place of MiniLM.
    """

    def __init__(
        self, folder: Path | str, *, encode: Callable[[Sequence[str]], NDArray[np.float32]] | None = None
    ) -> None:
        """Nothing is loaded before the first texts that are not kept."""
        self.folder, self._encode = Path(folder), encode

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """N texts to unit vectors float32 (N, D).

        Raises:
            InvalidInput: a kept file cannot be read.
            WeightsUnavailable: the encoder is neither cached nor to be had.
        """
        name = hashlib.sha256("\0".join(texts).encode()).hexdigest()[:20]
        path = self.folder / f"{name}.npy"
        if path.is_file():
            try:
                kept: NDArray[np.float32] = np.load(path, allow_pickle=False)
            except (OSError, ValueError, EOFError) as error:
                raise InvalidInput(f"{path} cannot be read ({error})", remedy="Remove it.") from error
            return kept
        if self._encode is None:
            from trifocal.backbones import load_sentence_encoder  # takes seconds, and what is kept does without

            self._encode = load_sentence_encoder().encode
        made = np.asarray(self._encode(list(texts)), dtype=np.float32)
        self.folder.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{name}.{os.getpid()}-{secrets.token_hex(4)}.part")
        try:
            with part.open("wb") as file:
                np.save(file, made, allow_pickle=False)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        return made
