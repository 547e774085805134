"""What the library says about itself: frozen results, the same in Python and as JSON (`to_dict`).

`VideoRecord` is a video it holds, `LibraryStatus` the whole at a glance, `AddProgress` and `AddReport` what `add` tells
while and after it runs, `AddFailure` a file that could not be used, `RemoveReport` what was removed; `Detection` that
a detector has looked at a video, `DetectProgress` how far it is, `ActionSpan` who does what from when to when.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

__all__ = [
    "ActionSpan",
    "AddFailure",
    "AddProgress",
    "AddReport",
    "DetectProgress",
    "Detection",
    "FileChange",
    "LibraryStatus",
    "Phase",
    "RemoveReport",
    "StageTimes",
    "Thumbnail",
    "VideoRecord",
    "VideoState",
]

VideoState = Literal["ready", "missing"]
Phase = Literal["scan", "hash", "ingest", "done"]


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoRecord:
    """A video of the library; several files with the same bytes are one video.

    Args:
        id: the first 16 hex digits (0-9, a-f) of the SHA-256 of its bytes; longer where two would be equal.
        paths: its files that were there when last looked, sorted; the first is the one that is opened.
        missing_paths: its files that were not there when last looked, sorted.
        state: `ready`, or `missing` when it has no file; then `find` leaves it out unless asked.
        sha256: of its bytes, in hex.
        size_bytes: of one file.
        duration_s: in seconds.
        container, codec, width, height, average_fps, has_audio: as `trifocal.video.VideoInfo` gives them.
        frames: how many were encoded.
        prototypes: K, how many it has.
        library_bytes: what its prototypes and thumbnails take on the disk.
        warnings: what decoding had to say, such as that the file is cut short.
        added_at: UTC, ISO 8601.
    """

    id: str
    paths: tuple[str, ...]
    missing_paths: tuple[str, ...]
    state: VideoState
    sha256: str
    size_bytes: int
    duration_s: float
    container: str
    codec: str
    width: int
    height: int
    average_fps: float | None
    has_audio: bool
    frames: int
    prototypes: int
    library_bytes: int
    warnings: tuple[str, ...]
    added_at: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class LibraryStatus:
    """The library at a glance.

    Args:
        videos: how many it holds.
        missing: how many of them have no file now; `find` leaves them out.
        failures: files that failed for a reason of their own and are skipped until they change.
        interrupted: videos whose ingest was killed and not yet finished; a further `add` of their folder finishes them.
        quarantined: those of `interrupted` killed so often that they are left alone until `retry_failed`.
        prototypes: of all videos.
        duration_s: of all videos.
        library_bytes: prototypes and thumbnails on the disk.
        encoder: the id of the encoder.
        generation: grows with each change of what can be found.
    """

    videos: int
    missing: int
    failures: int
    interrupted: int
    quarantined: int
    prototypes: int
    duration_s: float
    library_bytes: int
    encoder: str
    generation: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class AddProgress:
    """How far `add` is.

    Args:
        phase: `scan` (looking for files), `hash` (reading their bytes), `ingest` (decoding and encoding), `done`.
        video: the file worked on, or "".
        done_videos: how many are finished (files in the phase `hash`, videos in `ingest`).
        total_videos: how many there are to do in this phase.
        done_s: seconds of video finished.
        total_s: seconds of video to do; an estimate from the bytes for videos not opened yet, 0 when unknown.
        rate: seconds of video per second of time, 0 when unknown.
        eta_s: the time left in seconds, or None when unknown.
    """

    phase: Phase
    video: str
    done_videos: int
    total_videos: int
    done_s: float
    total_s: float
    rate: float
    eta_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AddFailure:
    """A file that could not be used.

    Args:
        path: the file.
        code: a stable name for programs: the `code` of the error, or `quarantined`.
        message: what happened.
        remedy: what to do.
    """

    path: str
    code: str
    message: str
    remedy: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Thumbnail:
    """A picture of a video.

    Args:
        at_s: which frame it shows, in seconds.
        path: the JPEG file.
    """

    at_s: float
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FileChange:
    """What became of one file.

    Args:
        path: the file.
        video: the id of the video it holds.
        was: where it was before, if it moved; the id of the video it held before, if it was replaced; else "".
    """

    path: str
    video: str
    was: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTimes:
    """What `add` cost, in seconds of time by stage. Decoding overlaps with encoding, so the sum may exceed the whole.

    Args:
        scan_s: looking for files.
        hash_s: reading their bytes for the content id.
        decode_s: waiting for the decoder.
        encode_s: features and prototypes.
        write_s: files and catalogue.
        total_s: the whole call.
        video_s: seconds of video that were ingested.
        video_bytes: bytes of the videos that were ingested.
        stored_bytes: bytes that their prototypes and thumbnails take.
    """

    scan_s: float = 0.0
    hash_s: float = 0.0
    decode_s: float = 0.0
    encode_s: float = 0.0
    write_s: float = 0.0
    total_s: float = 0.0
    video_s: float = 0.0
    video_bytes: int = 0
    stored_bytes: int = 0

    def per_minute(self) -> dict[str, float]:
        """Seconds of decode, encode and write per minute of video; empty when no video was ingested."""
        if self.video_s <= 0:
            return {}
        return {name: getattr(self, f"{name}_s") * 60 / self.video_s for name in ("hash", "decode", "encode", "write")}


@dataclass(frozen=True, slots=True, kw_only=True)
class AddReport:
    """What `add` did.

    Args:
        added: new files with new content.
        duplicates: new files with the content of a video that was there (or was added just now).
        unchanged: files that were there as they are.
        moved: files found under another path than before.
        replaced: files whose content changed.
        restored: files that had been missing and are back.
        missing: paths of the catalogue that are not there any more.
        removed: ids of videos that went because their only file was replaced.
        failed: files that could not be used.
        skipped: files left alone since they failed before and have not changed, or were interrupted too often.
        times: what it cost.
    """

    added: tuple[FileChange, ...] = ()
    duplicates: tuple[FileChange, ...] = ()
    unchanged: tuple[FileChange, ...] = ()
    moved: tuple[FileChange, ...] = ()
    replaced: tuple[FileChange, ...] = ()
    restored: tuple[FileChange, ...] = ()
    missing: tuple[FileChange, ...] = ()
    removed: tuple[str, ...] = ()
    failed: tuple[AddFailure, ...] = ()
    skipped: tuple[AddFailure, ...] = ()
    times: StageTimes = field(default_factory=StageTimes)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Detection:
    """That a detector has looked at a video.

    Args:
        video: the video's id.
        model: the detector's id: 16 hex digits over its weights, configuration and names.
        name: what people call it.
        classes: the actions it knows.
        tubes: how many actors it saw.
        moments: how many moments it looked at.
        end_s: the last of them.
        stored_bytes: what its tubes take in the catalogue.
        detected_at: UTC, ISO 8601.
    """

    video: str
    model: str
    name: str
    classes: tuple[str, ...]
    tubes: int
    moments: int
    end_s: float
    stored_bytes: int
    detected_at: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectProgress:
    """How far `detect` is.

    Args:
        video: the file that is looked at, or "".
        done_videos: how many are finished.
        total_videos: how many there are to look at.
        at_s: seconds of this one that were seen.
        end_s: seconds there are of it, 0 when unknown.
    """

    video: str
    done_videos: int
    total_videos: int
    at_s: float
    end_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionSpan:
    """A stretch in which an actor does something, as a stored tube has it.

    Args:
        video: the video's id.
        action: what is done.
        actor: the number of who does it, in this video.
        start_s: from when, in seconds.
        end_s: until when.
        score: the mean score of the action over the stretch, 0 to 1.
        model: the id of the detector that saw it.
    """

    video: str
    action: str
    actor: int
    start_s: float
    end_s: float
    score: float
    model: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)

    def sort_key(self) -> tuple[float, str, float, str, int, str]:
        """Best first under `sorted`: higher score, then video id, then start."""
        return (-self.score, self.video, self.start_s, self.action, self.actor, self.model)


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveReport:
    """What `remove` did.

    Args:
        videos: ids of the videos that are gone.
        paths: files that the library no longer knows; the files themselves are untouched.
        freed_bytes: what the library's own folder lost.
    """

    videos: tuple[str, ...]
    paths: tuple[str, ...]
    freed_bytes: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)
