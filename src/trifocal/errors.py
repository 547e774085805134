"""Every error that Trifocal raises on purpose.

    TrifocalError                     anything below; `except TrifocalError` catches all of it
    ├── InvalidInput                  an argument has a value that cannot be used (also a ValueError)
    ├── MissingExtra                  an optional dependency is not installed (also an ImportError)
    ├── VideoError                    a video cannot be used
    │   ├── VideoNotFound             no such file, or it may not be read
    │   ├── UnsupportedVideo          a playlist, or a container or codec outside the allowed list
    │   ├── UnreadableVideo           empty, damaged, or no video in it
    │   ├── VideoLimitExceeded        larger, longer or slower than `video.Limits` allows
    │   └── DecoderFailed             the decoding process crashed, hung or was killed
    ├── WeightsError                  a model file cannot be had
    │   ├── WeightsUnavailable        neither in the cache nor fetched
    │   └── WeightsCorrupt            a hash or a format is not what was pinned
    ├── ModelError                    a model cannot do what was asked of it
    └── LibraryError                  a library of videos cannot be used
        ├── LibraryNotFound           the folder is not a library
        ├── LibraryBusy               another process is writing to it
        ├── LibraryDamaged            its files contradict each other; `trifocal verify --repair`
        ├── EncoderMismatch           the library was made by another encoder
        └── NotInLibrary              no such video in it

A message says what happened and with which value; `remedy` says what to do. `str(error)` gives both on one line. `code`
is a stable name for programs, `exit_code` what the command line returns.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "DecoderFailed",
    "EncoderMismatch",
    "InvalidInput",
    "LibraryBusy",
    "LibraryDamaged",
    "LibraryError",
    "LibraryNotFound",
    "MissingExtra",
    "ModelError",
    "NotInLibrary",
    "TrifocalError",
    "UnreadableVideo",
    "UnsupportedVideo",
    "VideoError",
    "VideoLimitExceeded",
    "VideoNotFound",
    "WeightsCorrupt",
    "WeightsError",
    "WeightsUnavailable",
]


class TrifocalError(Exception):
    """The root of the tree.

    Args:
        message: what happened, with the value that caused it; one line.
        remedy: what the reader can do about it; one line, may be empty.
    """

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message, remedy)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message}. {self.remedy}" if self.remedy else self.message

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.message, self.remedy))


def _rebuild(kind: type[TrifocalError], message: str, remedy: str) -> TrifocalError:
    return kind(message, remedy=remedy)


class InvalidInput(TrifocalError, ValueError):
    """An argument has a value that cannot be used."""

    code = "invalid_input"
    exit_code = 2


class MissingExtra(TrifocalError, ImportError):
    """An optional dependency is not installed; the remedy names the extra that adds it."""

    code = "missing_extra"
    exit_code = 2


class VideoError(TrifocalError):
    """A video cannot be used."""

    code = "video_error"
    exit_code = 3


class VideoNotFound(VideoError):
    """There is no such file, it is a directory, or it may not be read."""

    code = "video_not_found"


class UnsupportedVideo(VideoError):
    """A playlist, or a container or codec outside the allowed list."""

    code = "video_unsupported"


class UnreadableVideo(VideoError):
    """Empty, damaged beyond use, or without a video stream."""

    code = "video_unreadable"


class VideoLimitExceeded(VideoError):
    """Larger, longer or slower than the limits allow."""

    code = "video_limit_exceeded"


class DecoderFailed(VideoError):
    """The decoding process crashed, hung or was killed; only this video is affected."""

    code = "decoder_failed"


class WeightsError(TrifocalError):
    """A model file cannot be had."""

    code = "weights_error"
    exit_code = 4


class WeightsUnavailable(WeightsError):
    """A model file is neither in the cache nor could it be fetched."""

    code = "weights_unavailable"


class WeightsCorrupt(WeightsError):
    """A model file's hash or format is not the pinned one."""

    code = "weights_corrupt"


class ModelError(TrifocalError):
    """A model cannot do what was asked of it."""

    code = "model_error"
    exit_code = 4


class LibraryError(TrifocalError):
    """A library of videos cannot be used."""

    code = "library_error"
    exit_code = 5


class LibraryNotFound(LibraryError):
    """The folder is not a library."""

    code = "library_not_found"


class LibraryBusy(LibraryError):
    """Another process is writing to the library."""

    code = "library_busy"


class LibraryDamaged(LibraryError):
    """The library's files contradict each other."""

    code = "library_damaged"


class EncoderMismatch(LibraryError):
    """The library was made by another encoder than the one asked for."""

    code = "encoder_mismatch"


class NotInLibrary(LibraryError):
    """No video in the library goes by that name."""

    code = "not_in_library"
