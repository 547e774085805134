"""Features that somebody else computed: `.npy` for one video, `.h5` for many; no frames needed.

A file gives a row per sampled frame; the times come from the rate (`fps`) or from a file beside it. Queries need a
text encoder of the same space, named (`text`), or come as vectors straight to the index: what space the features live
in is not in the file, so the caller says it (`space`), else the file's content stands for it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trifocal.errors import InvalidInput, MissingExtra, ModelError, NotInLibrary

if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike

    from numpy.typing import NDArray

    from trifocal.retrieval.encoder import FrameTextEncoder

__all__ = ["FeatureSequence", "PrecomputedFeatures"]

SUFFIXES = (".npy", ".h5", ".hdf5")


@dataclass(frozen=True, slots=True, eq=False)
class FeatureSequence:
    """One video's features: what `build_prototypes` takes.

    Args:
        video: the video's id.
        features: float32 (T, D), unit vectors.
        times_s: float64 (T,), seconds, never falling.
        end_s: where the video ends.
    """

    video: str
    features: NDArray[np.float32]
    times_s: NDArray[np.float64]
    end_s: float


class PrecomputedFeatures:
    """Features of videos from a file; a `FrameTextEncoder` whose frames are already encoded.

    Args:
        path: a `.npy` with (T, D) (the video's id is the file's name without the ending), or a `.h5` with a data set
            (T, D) per video id. Numbers of any floating kind; rows are brought to unit length.
        fps: rows per second; row i lies at i / fps, and the video ends one step after its last row.
        times: instead of `fps`: a file of the same kind with (T,) seconds per video. The end is one median step
            after the last time (the last time itself where there is one row).
        text: the encoder of the queries, a name for `load_encoder` or an encoder; None when queries come as vectors.
        space: a name for the space that the features live in, part of `id`. Files of one model share it.
        frame_size: (height, width), what the model that made the features looks at; said to whoever asks.

    Raises:
        InvalidInput: not such a file, neither or both of `fps` and `times`, a text encoder of another width.
        MissingExtra: a `.h5` without h5py installed.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        *,
        fps: float | None = None,
        times: str | PathLike[str] | None = None,
        text: str | FrameTextEncoder | None = None,
        space: str | None = None,
        frame_size: tuple[int, int] = (224, 224),
    ) -> None:
        """Open the file and check what can be checked without reading all of it."""
        if (fps is None) == (times is None):
            raise InvalidInput(f"fps is {fps} and times {times}", remedy="Give exactly one of fps and times.")
        if fps is not None and not (np.isfinite(fps) and fps > 0):
            raise InvalidInput(f"fps is {fps}", remedy="Give the number of feature rows per second, above 0.")
        self.path, self.fps, self.frame_size = _existing(path), fps, frame_size
        self.times_path = None if times is None else _existing(times)
        if self.times_path is not None and _is_npy(self.times_path) != _is_npy(self.path):
            raise InvalidInput(
                f"the features are in {self.path.name}, the times in {self.times_path.name}",
                remedy="Give both as .npy (one video) or both as .h5 (many).",
            )
        self._shapes = _shapes(self.path)
        if not self._shapes:
            raise InvalidInput(f"{self.path} holds no features", remedy="Give a file with a data set per video.")
        widths = {shape[1] if len(shape) == 2 else None for shape in self._shapes.values()}
        odd = {video: shape for video, shape in self._shapes.items() if len(shape) != 2 or 0 in shape}
        if odd or len(widths) != 1:
            video, shape = next(iter(odd.items())) if odd else list(self._shapes.items())[-1]
            raise InvalidInput(
                f"{self.path}: {video!r} has the shape {shape}; widths are {sorted(map(str, widths))}",
                remedy="Give (T, D) for every video, with one width D and at least one row.",
            )
        self.dim = next(iter(self._shapes.values()))[1]
        self._text = _text_encoder(text, dim=self.dim)
        stamp = space if space is not None else f"sha256:{_digest(self.path)[:16]}"
        self.id = f"precomputed/{stamp}/{self.dim}/{self._text.id if self._text else 'vectors'}"

    def __repr__(self) -> str:
        """What it is, briefly."""
        return f"PrecomputedFeatures({self.path.name!r}, {len(self._shapes)} videos, dim={self.dim})"

    def videos(self) -> tuple[str, ...]:
        """The ids of the videos, sorted."""
        return tuple(sorted(self._shapes))

    def read(self, video: str) -> FeatureSequence:
        """One video's features and times.

        Raises:
            NotInLibrary: no such video in the file.
            InvalidInput: values that are not finite, a zero row, times that do not fit the rows.
        """
        if video not in self._shapes:
            some = ", ".join(self.videos()[:5])
            raise NotInLibrary(f"{self.path} has no features of {video!r}", remedy=f"It has, among others: {some}.")
        rows = np.asarray(_read(self.path, video), dtype=np.float32)
        if not np.isfinite(rows).all():
            bad = int(np.argmin(np.isfinite(rows).all(axis=1)))
            raise InvalidInput(
                f"the features of {video!r} hold NaN or infinity in row {bad}", remedy="Compute it again."
            )
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        if not (lengths > 0).all():
            raise InvalidInput(
                f"row {int(np.argmin(lengths))} of the features of {video!r} is all zeros", remedy="Leave it out."
            )
        times, end = self._times(video, len(rows))
        return FeatureSequence(video=video, features=rows / lengths, times_s=times, end_s=end)

    def encode_frames(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Always an error: the model that made the features is not here.

        Raises:
            ModelError: always.
        """
        raise ModelError(
            f"{self.path.name} holds features, not a model, and cannot encode {len(frames)} frames",
            remedy="Read the videos' features with `read`, or name the encoder that made them.",
        )

    def encode_query(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The queries as unit vectors float32 (N, D), by the text encoder that was named.

        Raises:
            InvalidInput: none was named.
        """
        if self._text is None:
            raise InvalidInput(
                "these features came without a text encoder",
                remedy="Name one of the same space (text=...), or search with vectors instead of words.",
            )
        return self._text.encode_query(texts)

    def _times(self, video: str, count: int) -> tuple[NDArray[np.float64], float]:
        if self.fps is not None:
            return np.arange(count) / self.fps, count / self.fps
        assert self.times_path is not None  # the constructor takes exactly one of the two
        if video not in _shapes(self.times_path) and not _is_npy(self.times_path):
            raise InvalidInput(f"{self.times_path} has no times of {video!r}", remedy="Give a data set per video.")
        times = np.asarray(_read(self.times_path, video), dtype=np.float64)
        if times.shape != (count,) or not np.isfinite(times).all() or times[0] < 0 or (np.diff(times) < 0).any():
            raise InvalidInput(
                f"the times of {video!r} have the shape {times.shape}, or fall, or are not finite",
                remedy=f"Give one time a row, ({count},), in rising seconds from 0.",
            )
        return times, float(times[-1] + (np.median(np.diff(times)) if count > 1 else 0.0))


def _existing(path: str | PathLike[str]) -> Path:
    found = Path(path)
    if found.suffix.lower() not in SUFFIXES:
        raise InvalidInput(f"{found.name} ends in {found.suffix!r}", remedy=f"Give one of: {', '.join(SUFFIXES)}.")
    if not found.is_file():
        raise InvalidInput(f"there is no file {found}", remedy="Check the path.")
    return found


def _is_npy(path: Path) -> bool:
    return path.suffix.lower() == ".npy"


def _text_encoder(text: str | FrameTextEncoder | None, *, dim: int) -> FrameTextEncoder | None:
    if text is None:
        return None
    if isinstance(text, str):
        from trifocal.retrieval.encoder import load_encoder  # it knows this module

        encoder = load_encoder(text)
    else:
        encoder = text
    if encoder.dim != dim:
        raise InvalidInput(
            f"the features have {dim} dimensions, the text encoder {encoder.id} {encoder.dim}",
            remedy="Name the encoder that made the features.",
        )
    return encoder


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _h5(path: Path) -> Any:
    try:
        import h5py  # an optional extra
    except ImportError as error:
        raise MissingExtra(
            f"{path.name} needs h5py, which is not installed", remedy='Run: pip install "trifocal[features]".'
        ) from error
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise InvalidInput(f"{path} is not an HDF5 file", remedy="Compute or copy it again.") from error


def _npy(path: Path) -> NDArray[Any]:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise InvalidInput(
            f"{path} is not a .npy file of numbers ({error})", remedy="Save it with numpy.save, without objects."
        ) from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
        raise InvalidInput(f"{path} does not hold one array of numbers", remedy="Save one array with numpy.save.")
    return array


def _shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The shape per video id, without reading the rows."""
    if _is_npy(path):
        return {path.stem: _npy(path).shape}
    with _h5(path) as file:
        return {name: tuple(entry.shape) for name, entry in file.items() if hasattr(entry, "shape")}


def _read(path: Path, video: str) -> NDArray[Any]:
    if _is_npy(path):
        return np.array(_npy(path))
    with _h5(path) as file:
        rows = file[video][()]
    if not isinstance(rows, np.ndarray) or rows.dtype.kind not in "fiu":
        raise InvalidInput(f"{path}: {video!r} does not hold numbers", remedy="Give floating-point rows.")
    return rows
