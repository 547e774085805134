"""The files of one encoded video: written in a fixed order, and what the catalogue has to know of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trifocal.library.stages import EncodedVideo
    from trifocal.library.store import Store

__all__ = ["StoredFiles"]


@dataclass(frozen=True, slots=True)
class StoredFiles:
    """Hash and bytes of each; see the catalogue's columns of the same names.

    Args:
        prototypes: the file of the vectors.
        thumbnails: the folder of the pictures.
        tokens: the file of the clip tokens, None when the library keeps none.
    """

    prototypes: tuple[str, int]
    thumbnails: tuple[str, int]
    tokens: tuple[str, int] | None

    @classmethod
    def write(cls, store: Store, video: str, encoded: EncodedVideo) -> StoredFiles:
        """Write all files of a video, durably; it is no part of the library before the catalogue says so."""
        thumbnails = store.write_thumbnails(video, encoded.thumbnails)
        tokens = None if encoded.tokens is None else store.write_tokens(video, encoded.tokens)
        return cls(store.write_prototypes(video, encoded.prototypes.vectors), thumbnails, tokens)

    @property
    def bytes(self) -> int:
        """Of all of them."""
        return self.prototypes[1] + self.thumbnails[1] + (self.tokens[1] if self.tokens else 0)

    def columns(self) -> dict[str, str | int | None]:
        """Names and values as the catalogue keeps them."""
        return {
            "prototypes_sha256": self.prototypes[0],
            "prototypes_bytes": self.prototypes[1],
            "thumbnails_sha256": self.thumbnails[0],
            "thumbnails_bytes": self.thumbnails[1],
            "tokens_sha256": self.tokens[0] if self.tokens else None,
            "tokens_bytes": self.tokens[1] if self.tokens else 0,
        }
