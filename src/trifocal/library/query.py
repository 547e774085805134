"""What is looked for, as one vector of the library's space: texts, pictures and clips, together and less others.

A picture is encoded as a frame is; a clip is decoded in its sandbox, sampled as the library's videos are, and stands
for the mean of its frames. A trained encoder has its frames in another space than its queries: there a picture is a
video of one frame, and either stands for the mean of its clip tokens.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, UnidentifiedImageError

from trifocal.errors import InvalidInput
from trifocal.retrieval.encoder import DocumentEncoder
from trifocal.retrieval.index.combine import combine_queries
from trifocal.video import Sampling

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from trifocal.library.settings import LibrarySettings
    from trifocal.library.stages import VideoReader
    from trifocal.retrieval import FrameTextEncoder
    from trifocal.video import Limits

__all__ = ["Query", "encode_query"]

MOST_PIXELS = 40_000_000
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
_NO_DIRECTION = 1e-4


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What a moment should be like: all of `texts`, `images` and `clips`, and none of `but_not`.

    Args:
        texts: in words.
        images: picture files.
        clips: video files.
        but_not: in words, what it should not be like.

    Raises:
        InvalidInput: nothing is looked for, or a text that is empty or not Unicode.
    """

    texts: tuple[str, ...] = ()
    images: tuple[str | os.PathLike[str], ...] = ()
    clips: tuple[str | os.PathLike[str], ...] = ()
    but_not: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check the words."""
        if not (self.texts or self.images or self.clips):
            raise InvalidInput("nothing is looked for", remedy="Give a text, an image or a clip.")
        for text in (*self.texts, *self.but_not):
            if not text.strip():
                raise InvalidInput("the text to find is empty", remedy='Describe a moment, such as "a dog on a beach".')
            if any("\ud800" <= character <= "\udfff" for character in text):
                raise InvalidInput("the text to find is not UTF-8", remedy="Check the terminal's encoding.")

    def __str__(self) -> str:
        """As a person would say it."""
        named = [*self.texts, *(Path(path).name for path in (*self.images, *self.clips))]
        return " + ".join(named) + "".join(f" − {text}" for text in self.but_not)


def encode_query(
    query: Query, *, encoder: FrameTextEncoder, reader: VideoReader, limits: Limits, settings: LibrarySettings
) -> NDArray[np.float32]:
    """A query as a unit vector (D,).

    Args:
        query: what is looked for.
        encoder: the library's.
        reader: opens clips.
        limits: what a clip may cost.
        settings: how densely a clip is sampled.

    Raises:
        InvalidInput: a picture that cannot be read, or parts that cancel out.
        VideoError: a clip that cannot be read.
    """
    words = [*query.texts, *query.but_not]
    texts = encoder.encode_query(words) if words else np.zeros((0, encoder.dim), dtype=np.float32)  # (N, D)
    wanted = [*texts[: len(query.texts)]]
    wanted += [_seen(path, encoder=encoder, settings=settings) for path in query.images]
    wanted += [_clip(path, encoder=encoder, reader=reader, limits=limits, settings=settings) for path in query.clips]
    if len(wanted) == 1 and not query.but_not:
        only: NDArray[np.float32] = np.asarray(wanted[0], dtype=np.float32)
        return only
    return combine_queries(np.stack(wanted), unwanted=texts[len(query.texts) :])


def _picture(path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """A picture file as uint8 RGB (H, W, 3)."""
    try:
        with Image.open(path, formats=_FORMATS) as image:
            if image.width * image.height > MOST_PIXELS:
                raise InvalidInput(
                    f"{os.fspath(path)} has {image.width}×{image.height} pixels",
                    remedy=f"Give a picture of at most {MOST_PIXELS} pixels.",
                )
            return np.array(image.convert("RGB"))  # a copy that may be written, as torch wants it
    except FileNotFoundError as error:
        raise InvalidInput(f"there is no picture {os.fspath(path)}", remedy="Check the path.") from error
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        if isinstance(error, InvalidInput):
            raise
        raise InvalidInput(
            f"{os.fspath(path)} cannot be read as a picture ({type(error).__name__})",
            remedy=f"Give one of: {', '.join(_FORMATS)}.",
        ) from error


def _seen(path: str | os.PathLike[str], *, encoder: FrameTextEncoder, settings: LibrarySettings) -> NDArray[np.float32]:
    """A picture as a unit vector (D,)."""
    frame = encoder.encode_frames(_picture(path)[None])  # (1, frame_dim)
    if not isinstance(encoder, DocumentEncoder):
        return np.asarray(frame[0], dtype=np.float32)
    at_s, end_s = np.zeros(1), 1 / settings.frames_per_second
    return _common(encoder.encode_tokens(frame, times_s=at_s, end_s=end_s).vectors(), path)


def _clip(
    path: str | os.PathLike[str],
    *,
    encoder: FrameTextEncoder,
    reader: VideoReader,
    limits: Limits,
    settings: LibrarySettings,
) -> NDArray[np.float32]:
    """A video file as a unit vector (D,)."""
    sampling = Sampling.at_fps(settings.frames_per_second, max_frames=settings.max_frames, size=encoder.frame_size)
    rows: list[NDArray[np.float32]] = []
    times: list[NDArray[np.float64]] = []
    with reader.open(path, limits=limits) as video:
        for _, frames in video.stream_many({"features": sampling}, batch_size=settings.batch_size):
            if len(frames.times_s):
                rows.append(encoder.encode_frames(frames.images))
                times.append(frames.times_s)
    if not rows:
        raise InvalidInput(f"{os.fspath(path)} shows no frame", remedy="Check that a player shows it.")
    vectors, times_s = np.concatenate(rows), np.concatenate(times)  # (T, frame_dim), (T,)
    if isinstance(encoder, DocumentEncoder):
        end_s = float(times_s[-1]) + 1 / settings.frames_per_second
        vectors = encoder.encode_tokens(vectors, times_s=times_s, end_s=end_s).vectors()  # (N, D)
    return _common(vectors, path)


def _common(vectors: NDArray[np.float32], path: str | os.PathLike[str]) -> NDArray[np.float32]:
    """The direction (D,) of the mean of unit vectors (N, D)."""
    total = vectors.sum(axis=0, dtype=np.float64)
    length = float(np.linalg.norm(total))
    if length < _NO_DIRECTION * len(vectors):
        raise InvalidInput(
            f"the frames of {os.fspath(path)} have nothing in common", remedy="Give a shorter clip of one thing."
        )
    mean: NDArray[np.float32] = (total / length).astype(np.float32)
    return mean
