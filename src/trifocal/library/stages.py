"""The stages of ingest that touch no library: decode, encode. Pure functions of a task, so that any executor runs them.

`decode` opens the video in its sandbox and yields one stream of frames for two consumers: at the encoder's size, and
small for thumbnails. `encode` folds that stream into an `EncodedVideo`: features pile up as float32 (T, D) only, and
every sampled frame as a few kilobytes of JPEG; then they become prototypes, and the frame most like each prototype
stays as its thumbnail. Writing is the library's own affair (`ingest`).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np
from PIL import Image

from trifocal.errors import ModelError, UnreadableVideo
from trifocal.retrieval.encoder import DocumentEncoder
from trifocal.retrieval.prototypes import Prototypes, build_prototypes
from trifocal.retrieval.tokens import ClipTokens
from trifocal.video import Frames, Sampling

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from types import TracebackType

    from numpy.typing import NDArray

    from trifocal.library.plan import IngestTask
    from trifocal.library.settings import LibrarySettings
    from trifocal.retrieval import FrameTextEncoder
    from trifocal.video import Limits, VideoInfo

__all__ = ["Batch", "EncodedVideo", "OpenVideo", "StageFailure", "VideoReader", "decode", "encode"]

FEATURES, THUMBNAILS = "features", "thumbnails"

_JPEG_QUALITY = 80


class OpenVideo(Protocol):
    """What the library needs of `trifocal.video.Video`."""

    @property
    def info(self) -> VideoInfo:
        """What the header says."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was found wrong so far."""

    def stream_many(
        self, samplings: Mapping[str, Sampling], /, *, batch_size: int = 32
    ) -> Iterator[tuple[str, Frames]]:
        """Batches for several consumers from one decode."""

    def __enter__(self) -> Self:
        """The video."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> bool | None:
        """Close it, and end its process."""


class VideoReader(Protocol):
    """What the library needs of the module `trifocal.video`."""

    def content_id(self, path: str | os.PathLike[str], /) -> str:
        """The hex SHA-256 of the file's bytes."""

    def open(self, path: str | os.PathLike[str], /, *, limits: Limits) -> OpenVideo:
        """A video, decoded in a separate process."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Frames for one consumer.

    Args:
        stream: `features` or `thumbnails`.
        frames: in the order of their times.
    """

    stream: str
    frames: Frames


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EncodedVideo:
    """All that will be stored of a video.

    Args:
        task: where it came from.
        info: what the header said.
        duration_s: in seconds; where the decodable part ends if the file is cut short.
        frames: T, how many were encoded.
        prototypes: vectors and spans.
        tokens: every frame, or what a trained encoder makes of the clips, where the library keeps them.
        thumbnails: JPEG bytes by milliseconds, ascending, each frame once.
        thumbnail_ms: for each prototype the frame that is most like it.
        poster_ms: the frame that stands for the video: that of the prototype that lasts longest.
        warnings: what decoding had to say.
        encode_s: seconds of time spent in the encoder and in building prototypes.
        decode_s: seconds of time spent waiting for the decoder; set by the executor.
    """

    task: IngestTask
    info: VideoInfo
    duration_s: float
    frames: int
    prototypes: Prototypes
    thumbnails: tuple[tuple[int, bytes], ...]
    thumbnail_ms: tuple[int, ...]
    poster_ms: int
    warnings: tuple[str, ...]
    encode_s: float
    decode_s: float = 0.0
    tokens: ClipTokens | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StageFailure:
    """A video that did not get through.

    Args:
        task: which.
        code: the error's stable name.
        message: what happened.
        remedy: what to do.
        lasting: whether the same bytes would fail again, so that they are not tried again.
    """

    task: IngestTask
    code: str
    message: str
    remedy: str
    lasting: bool


def decode(video: OpenVideo, *, frame_size: tuple[int, int], settings: LibrarySettings) -> Iterator[Batch]:
    """The sampled frames of a video, at the encoder's size and small, from one decode.

    Args:
        video: open.
        frame_size: height and width that the encoder takes.
        settings: how densely to sample, and how large thumbnails are.

    Raises:
        VideoError: it cannot be decoded.
    """
    samplings = {
        stream: Sampling.at_fps(settings.frames_per_second, max_frames=settings.max_frames, size=size)
        for stream, size in ((FEATURES, frame_size), (THUMBNAILS, settings.thumbnail_size))
    }
    for stream, frames in video.stream_many(samplings, batch_size=settings.batch_size):
        yield Batch(stream, frames)
    # What was found only at the end, such as that the file is cut short, comes with no further frames.
    nothing = Frames(np.empty((0, 1, 1, 3), np.uint8), np.empty(0, np.float64), video.warnings)
    yield Batch(FEATURES, nothing)


def encode(
    task: IngestTask,
    info: VideoInfo,
    batches: Iterable[Batch],
    *,
    encoder: FrameTextEncoder,
    settings: LibrarySettings,
    on_seconds: Callable[[float], None] | None = None,
) -> EncodedVideo:
    """Fold a video's frames into what is stored of it.

    Args:
        task: where they come from.
        info: what the header says.
        batches: from `decode`.
        encoder: frames to vectors.
        settings: the library's.
        on_seconds: told how far in the video the encoder is, after every batch.

    Raises:
        UnreadableVideo: there are no frames.
        ModelError: the encoder gives something else than finite float (T, D).
        VideoError: from `batches`.
    """
    rows: list[NDArray[np.float32]] = []
    times: list[NDArray[np.float64]] = []
    jpegs: dict[int, bytes] = {}
    warnings = info.warnings
    spent = 0.0
    for batch in batches:
        warnings = tuple(dict.fromkeys((*warnings, *batch.frames.warnings)))
        if not len(batch.frames.times_s):
            continue
        started = time.perf_counter()
        if batch.stream == THUMBNAILS:
            for at_s, image in zip(batch.frames.times_s, batch.frames.images, strict=True):
                jpegs[_milliseconds(at_s)] = _jpeg(image)
            if len(jpegs) > 2 * settings.max_frames:  # the length was unknown beforehand: keep memory bounded
                jpegs = dict(list(jpegs.items())[::2])
        else:
            rows.append(_features(encoder, batch.frames.images))  # (T, D)
            times.append(batch.frames.times_s)
        spent += time.perf_counter() - started
        if on_seconds is not None and batch.stream == FEATURES:
            on_seconds(float(batch.frames.times_s[-1]))
    if not rows or not jpegs:
        raise UnreadableVideo("no frame of the video can be decoded", remedy="Check that a player shows it.")
    started = time.perf_counter()
    features, times_s = np.concatenate(rows), np.concatenate(times)  # (T, D), (T,)
    if len(features) > settings.max_frames:
        kept = np.linspace(0, len(features) - 1, settings.max_frames).round().astype(np.int64)
        features, times_s = features[kept], times_s[kept]
    end_s = _end(info.duration_s, times_s, settings=settings, whole=not warnings)
    if isinstance(encoder, DocumentEncoder):
        prototypes = encoder.encode_document(features, times_s=times_s, end_s=end_s)
    else:
        prototypes = build_prototypes(
            features, times_s=times_s, end_s=end_s, k=settings.prototypes, method=settings.prototype_method
        )
    tokens = None
    if settings.clip_tokens != "none":
        # Frames of an encoder that makes its own prototypes are not in the queries' space; what it makes of them is.
        pack = encoder.encode_tokens if isinstance(encoder, DocumentEncoder) else ClipTokens.pack
        tokens = pack(features, times_s=times_s, end_s=end_s, kind=settings.clip_tokens)
    thumbnail_ms = _closest_frames(
        features,
        times_s,
        prototypes=prototypes,
        available=np.array(sorted(jpegs)),
        comparable=not isinstance(encoder, DocumentEncoder),
    )
    lengths = prototypes.spans_s[:, 1] - prototypes.spans_s[:, 0]
    return EncodedVideo(
        task=task,
        info=info,
        duration_s=end_s,
        frames=len(features),
        prototypes=prototypes,
        thumbnails=tuple((at_ms, jpegs[at_ms]) for at_ms in sorted(set(thumbnail_ms))),
        thumbnail_ms=thumbnail_ms,
        poster_ms=thumbnail_ms[int(np.argmax(lengths))],
        warnings=warnings,
        encode_s=spent + time.perf_counter() - started,
        tokens=tokens,
    )


def _features(encoder: FrameTextEncoder, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    features = np.asarray(encoder.encode_frames(images), dtype=np.float32)
    width = encoder.frame_dim if isinstance(encoder, DocumentEncoder) else encoder.dim
    if features.shape != (len(images), width) or not np.isfinite(features).all():
        raise ModelError(
            f"the encoder {encoder.id} gave {features.shape} for {len(images)} frames, or values that are not finite",
            remedy=f"It has to give finite ({len(images)}, {width}).",
        )
    return features


def _end(declared_s: float, times_s: NDArray[np.float64], *, settings: LibrarySettings, whole: bool) -> float:
    """Where the video ends: as declared, unless decoding found it cut short or nothing is declared."""
    last = float(times_s[-1])
    step = 1 / settings.frames_per_second
    if declared_s <= 0:
        return last + step
    step = max(step, declared_s / settings.max_frames)
    return max(last, declared_s if whole else min(declared_s, last + step))


def _closest_frames(
    features: NDArray[np.float32],
    times_s: NDArray[np.float64],
    *,
    prototypes: Prototypes,
    available: NDArray[np.int64],
    comparable: bool,
) -> tuple[int, ...]:
    """For each prototype, the milliseconds of the frame inside its span that is most like it (ties: the earliest).

    Where prototypes live in another space than the frames (not `comparable`), the mean of the frames inside stands for
    the prototype.
    """
    chosen = []
    for vector, (start_s, end_s) in zip(prototypes.vectors.astype(np.float32), prototypes.spans_s, strict=True):
        # Spans are float32: a tolerance well below a frame keeps the frames at their edges inside.
        first, after = np.searchsorted(times_s, [start_s - 1e-3, end_s + 1e-3])
        first = min(int(first), len(times_s) - 1)
        inside = slice(first, max(int(after), first + 1))
        like = vector if comparable else features[inside].mean(axis=0)
        best = first + int(np.argmax(np.round(features[inside] @ like, 6)))
        wanted = _milliseconds(times_s[best])
        chosen.append(int(available[int(np.argmin(np.abs(available - wanted)))]))
    return tuple(chosen)


def _milliseconds(at_s: float) -> int:
    return max(0, round(float(at_s) * 1000))


def _jpeg(image: NDArray[np.uint8]) -> bytes:
    buffer = BytesIO()
    Image.fromarray(image).save(buffer, format="JPEG", quality=_JPEG_QUALITY)
    return buffer.getvalue()
