"""What a library remembers about itself: `trifocal.json`.

`LibrarySettings` are the choices that shape what is stored (sampling rate, prototypes a video, thumbnails); they hold
for all its videos, since those made with different ones cannot be compared, and change with `Library.reindex` alone.
`EncoderIdentity` names the encoder whose space the prototypes live in. `Manifest` is the file that holds both; the
catalogue keeps a copy, so that a lost or changed `trifocal.json` is noticed and can be written again.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, get_args

from trifocal._version import __version__
from trifocal.errors import InvalidInput, LibraryDamaged, LibraryError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["FORMAT", "MANIFEST_NAME", "EncoderIdentity", "LibrarySettings", "Manifest", "read_manifest"]

FORMAT = 2
"""The layout of the folder. Format 1 knew no clip tokens and no revisions; it is read as having none."""

MANIFEST_NAME = "trifocal.json"

Method = Literal["adjacent", "segments", "kmeans", "farthest", "uniform", "coverage"]

TokensKept = Literal["none", "half", "int8"]

_METHODS = get_args(Method)
_TOKENS = get_args(TokensKept)


@dataclass(frozen=True, slots=True, kw_only=True)
class LibrarySettings:
    """The choices that shape what a library stores.

    Args:
        frames_per_second: how many frames a second of video are encoded, above 0 and at most 60.
        max_frames: how many frames of one video at most; a longer one is sampled more thinly (the default covers half
            an hour at the full rate), 1 to 100,000.
        prototypes: K, how many prototypes a video keeps at most, 1 to 1024.
        prototype_method: how frames become prototypes, see `trifocal.retrieval.build_prototypes`.
        thumbnail_size: the shorter side of the thumbnails in pixels, 16 to 1024.
        batch_size: how many frames the encoder takes at once, 1 to 1024. It is stored because sums taken in another
            grouping may differ in the last bit, and an ingest that was interrupted must end in the same bytes.
        clip_tokens: whether every encoded frame is kept as well, so that moments are placed to the frame: `none`,
            `half` (T x D x 2 bytes a video) or `int8` (half of that). A trained encoder keeps what it makes of them.

    Raises:
        InvalidInput: a value out of range.
    """

    frames_per_second: float = 2.0
    max_frames: int = 3600
    prototypes: int = 32
    prototype_method: Method = "adjacent"
    thumbnail_size: int = 144
    batch_size: int = 32
    clip_tokens: TokensKept = "none"

    def __post_init__(self) -> None:
        """Check the ranges."""
        rate: object = self.frames_per_second
        if isinstance(rate, bool) or not isinstance(rate, int | float) or not (math.isfinite(rate) and 0 < rate <= 60):
            raise InvalidInput(f"frames_per_second is {rate!r}", remedy="Give a number above 0 and at most 60.")
        for name, low, high in (
            ("max_frames", 1, 100_000),
            ("prototypes", 1, 1024),
            ("thumbnail_size", 16, 1024),
            ("batch_size", 1, 1024),
        ):
            value: object = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise InvalidInput(f"{name} is {value!r}", remedy=f"Give a whole number from {low} to {high}.")
        if self.prototype_method not in _METHODS:
            raise InvalidInput(
                f"prototype_method is {self.prototype_method!r}", remedy=f"Give one of {', '.join(_METHODS)}."
            )
        if self.clip_tokens not in _TOKENS:
            raise InvalidInput(f"clip_tokens is {self.clip_tokens!r}", remedy=f"Give one of {', '.join(_TOKENS)}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderIdentity:
    """The encoder that made a library.

    Args:
        id: changes whenever the encoder's space changes; prototypes of different ids are never compared.
        dim: D, the width of its vectors.
        reference: the name that `trifocal.retrieval.load_encoder` loads it by; None when the library was made with an
            encoder object, which then must be passed again at each opening.
    """

    id: str
    dim: int
    reference: str | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        identity: object = self.id
        if not isinstance(identity, str) or not identity:
            raise InvalidInput(f"the encoder's id is {self.id!r}", remedy="Give a string that is not empty.")
        dim: object = self.dim
        if isinstance(dim, bool) or not isinstance(dim, int) or dim < 1:
            raise InvalidInput(f"the encoder's dim is {self.dim!r}", remedy="Give a whole number of at least 1.")
        reference: object = self.reference
        if reference is not None and not isinstance(reference, str):
            raise InvalidInput(f"the encoder's reference is {self.reference!r}", remedy="Give a string or None.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The content of `trifocal.json`.

    Args:
        library: the library's own id, drawn at random when it is made.
        encoder: what made its prototypes.
        settings: the choices it was made with.
        revision: how often all videos were indexed again with another encoder or other settings (`Library.reindex`).
        format: the layout of the folder.
        written_by: the version of Trifocal that wrote the file.
    """

    library: str
    encoder: EncoderIdentity
    settings: LibrarySettings = field(default_factory=LibrarySettings)
    revision: int = 0
    format: int = FORMAT
    written_by: str = __version__

    def to_json(self) -> str:
        """Sorted JSON, one key a line."""
        return json.dumps(asdict(self), indent=2, sort_keys=True, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """The manifest that `to_json` wrote.

        Raises:
            LibraryDamaged: not JSON, or a key is missing, unknown or has a value that cannot be.
            LibraryError: a later version of Trifocal wrote it.
        """
        try:
            values: Any = json.loads(text)
        except ValueError as error:
            raise _damaged(f"it is not JSON ({error})") from error
        if not isinstance(values, dict):
            raise _damaged("it is not a JSON object")
        found = values.get("format")
        if isinstance(found, bool) or not isinstance(found, int) or found < 1:
            raise _damaged(f"its format is {found!r}")
        if found > FORMAT:
            raise LibraryError(
                f"the library has format {found}, this version of Trifocal knows {FORMAT}",
                remedy="Upgrade Trifocal, or make a new library.",
            )
        if found == 1:
            values.setdefault("revision", 0)
            if isinstance(values.get("settings"), dict):
                values["settings"].setdefault("clip_tokens", "none")
        try:
            _check_keys(values, cls)
            encoder, settings = values["encoder"], values["settings"]
            if not isinstance(encoder, dict) or not isinstance(settings, dict):
                raise InvalidInput("encoder and settings are objects")
            _check_keys(encoder, EncoderIdentity)
            _check_keys(settings, LibrarySettings)
            if not isinstance(values["library"], str) or not values["library"]:
                raise InvalidInput(f"the library's id is {values['library']!r}")
            if type(values["revision"]) is not int or values["revision"] < 0:
                raise InvalidInput(f"the revision is {values['revision']!r}")
            return cls(
                library=values["library"],
                encoder=EncoderIdentity(**encoder),
                settings=LibrarySettings(**settings),
                revision=values["revision"],
                format=found,
                written_by=str(values["written_by"]),
            )
        except InvalidInput as error:
            raise _damaged(error.message) from error


def read_manifest(folder: Path) -> Manifest:
    """The manifest of the library in `folder`.

    Raises:
        LibraryDamaged: it is missing, cannot be read or does not parse.
    """
    try:
        text = (folder / MANIFEST_NAME).read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise _damaged("it is missing") from error
    except (OSError, UnicodeDecodeError) as error:
        raise _damaged(f"it cannot be read ({error})") from error
    return Manifest.from_json(text)


def _check_keys(values: dict[str, Any], kind: type) -> None:
    expected = {entry.name for entry in fields(kind)}
    if set(values) != expected:
        odd = sorted(set(values) ^ expected)
        raise InvalidInput(f"the keys {odd} of {kind.__name__} are missing or unknown")


def _damaged(why: str) -> LibraryDamaged:
    return LibraryDamaged(f"{MANIFEST_NAME} cannot be used: {why}", remedy="Run `trifocal verify --repair`.")
