"""What is checked before a library is made, opened or used.

That the folder is free, that the parts of the library belong together, that the encoder is the one that made it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from trifocal.errors import EncoderMismatch, InvalidInput, LibraryDamaged, ModelError
from trifocal.library import contents
from trifocal.library.catalogue import CATALOGUE_NAME, Catalogue
from trifocal.library.settings import MANIFEST_NAME, EncoderIdentity, Manifest, read_manifest
from trifocal.library.store import FOLDERS, disk_errors

if TYPE_CHECKING:
    from pathlib import Path

    from trifocal.retrieval import FrameTextEncoder

__all__ = [
    "check_count",
    "check_empty",
    "check_encoder",
    "lasting_name",
    "load_named_encoder",
    "not_yet_made",
    "open_parts",
]


def check_count(name: str, value: object, *, most: int | None = None) -> None:
    """Raise `InvalidInput` unless the argument is a whole number from 1 to `most`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1 or (most is not None and value > most):
        asked = "of at least 1" if most is None else f"from 1 to {most}"
        raise InvalidInput(f"{name} is {value!r}", remedy=f"Give a whole number {asked}.")


def check_empty(folder: Path) -> None:
    """Whether a library can be made there: nothing, an empty folder, or one that was not finished being made.

    Raises:
        InvalidInput: it holds something else, or a library.
        LibraryDamaged: it is a library without its `trifocal.json`.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise InvalidInput(f"{folder} is not a folder", remedy="Give a new or empty folder.")
    held = {path.name for path in folder.iterdir()}
    if MANIFEST_NAME in held:
        raise InvalidInput(f"{folder} is a library already", remedy="Open it with `Library.open`.")
    ours = {*FOLDERS, CATALOGUE_NAME, f"{CATALOGUE_NAME}-wal", f"{CATALOGUE_NAME}-shm"}
    if held - ours:
        raise InvalidInput(f"{folder} is not empty", remedy="Give a new or empty folder.")
    if not not_yet_made(folder):
        raise LibraryDamaged(
            f"{folder} is a library that has lost its {MANIFEST_NAME}", remedy="Run `trifocal verify --repair`."
        )


def not_yet_made(folder: Path) -> bool:
    """Whether there is no library in a folder, or one whose making was cut off: without `trifocal.json` and videos."""
    with disk_errors(f"looking for a library in {folder}"):
        if (folder / MANIFEST_NAME).exists():
            return False
        stored = folder / "prototypes"
        if stored.is_dir() and any(stored.iterdir()):
            return False
        if not (folder / CATALOGUE_NAME).exists():
            return True
    catalogue = Catalogue(folder, create=True)
    try:
        with catalogue.read() as connection:
            return connection.execute("SELECT 1 FROM videos").fetchone() is None
    finally:
        catalogue.close()


def open_parts(folder: Path) -> tuple[Manifest, Catalogue]:
    """The manifest and the catalogue of a library that is whole.

    Raises:
        LibraryDamaged: one of them cannot be used, or they do not belong together.
    """
    manifest = read_manifest(folder)
    catalogue = Catalogue(folder)
    try:
        with catalogue.read() as connection:
            kept = contents.get_meta(connection, contents.MANIFEST)
        known = None if kept is None else Manifest.from_json(kept)
        if known is not None and known.library == manifest.library and known.revision > manifest.revision:
            manifest = known  # a `reindex` was killed between its swap and writing the file; the next writer does it
        if known != manifest:
            raise LibraryDamaged(
                f"{MANIFEST_NAME} and the catalogue do not belong together", remedy="Run `trifocal verify --repair`."
            )
    except BaseException:
        catalogue.close()
        raise
    return manifest, catalogue


def lasting_name(encoder: str) -> str:
    """An encoder's name as a library keeps it: a folder or file by its whole path, to be found from anywhere."""
    return os.path.abspath(encoder) if encoder and os.path.exists(encoder) else encoder  # noqa: PTH100, PTH110


def load_named_encoder(reference: str, *, device: str) -> FrameTextEncoder:
    """The encoder of that name; see `trifocal.retrieval.load_encoder`."""
    from trifocal.retrieval import load_encoder  # brings torch; only at the first need

    return load_encoder(reference, device=device)


def check_encoder(encoder: str | FrameTextEncoder | None, identity: EncoderIdentity) -> None:
    """Refuse an encoder that is not the one that made the library.

    Args:
        encoder: by name or as it is; None is always right.
        identity: what the library remembers.

    Raises:
        EncoderMismatch: another name or another id.
        ModelError: the same id with another width.
    """
    if encoder is None or (isinstance(encoder, str) and lasting_name(encoder) == identity.reference):
        return
    name = repr(encoder) if isinstance(encoder, str) else encoder.id
    if isinstance(encoder, str) or encoder.id != identity.id:
        made_by = identity.reference or identity.id
        raise EncoderMismatch(
            f"the library was made by the encoder {made_by!r} ({identity.id}), not by {name}",
            remedy="Open it without naming an encoder, or add the videos to a new library made with the other.",
        )
    if encoder.dim != identity.dim:
        raise ModelError(
            f"the encoder {encoder.id} has {encoder.dim} dimensions, the library {identity.dim}",
            remedy="Give encoders of different spaces different ids.",
        )
