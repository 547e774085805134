"""Bytes to frames and back: the only code that touches codecs.

`probe` says what a video is, `open` gives its frames with exact times (`Sampling` says which), in a separate process
with `Limits`. `PipedVideo`, `RawVideo` and `Camera` are for what is no file. `write_mp4`, `write_jpeg`, `contact_sheet`
and `cut_clip` go the other way. Knows only `trifocal.errors`.
"""

from __future__ import annotations

from trifocal.video.content import content_id
from trifocal.video.frames import Frames
from trifocal.video.info import VideoInfo
from trifocal.video.limits import Limits
from trifocal.video.live import Camera, LiveVideo, PipedVideo, RawVideo
from trifocal.video.reader import Video, open, probe  # noqa: A004 (read as `video.open`)
from trifocal.video.sampling import Sampling
from trifocal.video.sheet import contact_sheet, timestamp
from trifocal.video.write import cut_clip, write_jpeg, write_mp4

__all__ = [
    "Camera",
    "Frames",
    "Limits",
    "LiveVideo",
    "PipedVideo",
    "RawVideo",
    "Sampling",
    "Video",
    "VideoInfo",
    "contact_sheet",
    "content_id",
    "cut_clip",
    "open",
    "probe",
    "timestamp",
    "write_jpeg",
    "write_mp4",
]
