"""What a file is, by its first bytes; never by its name.

Known containers are named so that FFmpeg can be told which demuxer to use and never chooses one itself. Anything that
makes a player open *other* files (playlists, manifests, session descriptions, subtitles in disguise) is refused here,
with what it is in the message.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from trifocal.errors import UnreadableVideo, UnsupportedVideo

__all__ = ["SNIFF_BYTES", "Container", "packet_bytes", "sniff"]

SNIFF_BYTES: Final = 64 * 1024
"""How much of a file `sniff` wants to see."""


@dataclass(frozen=True, slots=True)
class Container:
    """A container that can be read: its `name`, its `family` in `Limits.containers`, and FFmpeg's `demuxer`."""

    name: str
    family: str
    demuxer: str


_MP4: Final = Container("mp4", "mp4", "mp4")
_MOV: Final = Container("mov", "mp4", "mov")
_MATROSKA: Final = Container("matroska", "matroska", "matroska")
_WEBM: Final = Container("webm", "matroska", "matroska")
_AVI: Final = Container("avi", "avi", "avi")
_MPEGTS: Final = Container("mpegts", "mpegts", "mpegts")

_BOXES: Final = {b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"styp", b"moof", b"sidx", b"uuid"}
_PICTURE_BRANDS: Final = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"avif", b"avis"}
_SOUND_BRANDS: Final = {b"M4A ", b"M4B ", b"M4P "}

_PLAYLISTS: Final = (
    (re.compile(rb"#EXTM3U|#EXT-X-|\[playlist\]|#EXTINF", re.I), "a playlist"),
    (re.compile(rb"(<\?xml.{0,2000})?<(MPD|SmoothStreamingMedia|smil|asx|playlist|rss)\b", re.I | re.S), "a manifest"),
    (re.compile(rb"ffconcat\b|(stream|file|duration)\s+\S", re.I), "a list of files to join"),
    (re.compile(rb"v=0\r?\no="), "a session description (SDP)"),
    (re.compile(rb"(rtsp|http|https|rtmp|concat|file|subfile|data):", re.I), "an address"),
)

_OTHERS: Final = (
    (b"FLV\x01", "Flash video"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "Windows Media"),
    (b"OggS", "Ogg"),
    (b"\x00\x00\x01\xba", "an MPEG program stream"),
    (b"\x00\x00\x01\xb3", "bare MPEG-2"),
    (b"\x00\x00\x00\x01", "bare H.264 or H.265"),
    (b"\x00\x00\x01\x67", "bare H.264"),
    (b"DKIF", "IVF"),
    (b".RMF", "RealMedia"),
    (b"YUV4MPEG2", "uncompressed YUV4MPEG"),
    (b"\x06\x0e\x2b\x34", "MXF"),
)

_PICTURES: Final = (
    (b"\x89PNG", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"GIF8", "GIF"),
    (b"BM", "BMP"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
)
_SOUNDS: Final = (
    (b"ID3", "MP3"),
    (b"\xff\xfb", "MP3"),
    (b"fLaC", "FLAC"),
    (b"\xff\xf1", "AAC"),
    (b"\xff\xf9", "AAC"),
    (b"#!AMR", "AMR"),
)

_CONVERT: Final = "Convert it to MP4 with H.264 first."


def sniff(head: bytes, *, name: str) -> Container:
    """The container that starts with these bytes.

    Args:
        head: the first `SNIFF_BYTES` of the file, or all of it.
        name: the file's name, for messages.

    Raises:
        UnreadableVideo: empty, or nothing that is known.
        UnsupportedVideo: a playlist, a picture, sound, or a container outside the list.
    """
    if not head:
        raise UnreadableVideo(f"{name} is empty", remedy="Copy or download it again.")
    if container := _known(head, name):
        return container
    text = _as_text(head)
    if text is not None:
        for pattern, what in _PLAYLISTS:
            if pattern.match(text.lstrip()):
                raise UnsupportedVideo(
                    f"{name} is {what}, not a video", remedy="Give the video files that it names, one by one."
                )
        raise UnreadableVideo(f"{name} is text, not a video", remedy="Give a video file.")
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        raise UnsupportedVideo(f"{name} is a picture (WebP), not a video", remedy="Give a video file.")
    if head.startswith(b"RIFF") and head[8:12] == b"WAVE":
        raise UnsupportedVideo(f"{name} is sound (WAVE) without pictures", remedy="Give a video file.")
    for magic, what in _PICTURES:
        if head.startswith(magic):
            raise UnsupportedVideo(f"{name} is a picture ({what}), not a video", remedy="Give a video file.")
    for magic, what in _SOUNDS:
        if head.startswith(magic):
            raise UnsupportedVideo(f"{name} is sound ({what}) without pictures", remedy="Give a video file.")
    for magic, what in _OTHERS:
        if head.startswith(magic):
            raise UnsupportedVideo(f"{name} is {what}, a container that is not read", remedy=_CONVERT)
    raise UnreadableVideo(
        f"{name} does not begin like any video that is known", remedy="Check that it is a video and arrived whole."
    )


def _known(head: bytes, name: str) -> Container | None:
    if head[:4] == b"\x1a\x45\xdf\xa3":
        # The DocType element (ID 0x4282) stands within the first few dozen bytes of an EBML header.
        return _WEBM if b"\x42\x82\x84webm" in head[:128] else _MATROSKA
    if head[:4] == b"RIFF" and head[8:11] == b"AVI":
        if b"GAB2\x00" in head:
            raise UnsupportedVideo(f"{name} carries a hidden subtitle file (GAB2)", remedy=_CONVERT)
        return _AVI
    if head[4:8] in _BOXES and (int.from_bytes(head[:4], "big") >= 8 or head[:4] == b"\x00\x00\x00\x01"):
        return _brand(head, name)
    return _MPEGTS if packet_bytes(head) else None


def _brand(head: bytes, name: str) -> Container:
    brand = head[8:12] if head[4:8] == b"ftyp" else b""
    if brand in _PICTURE_BRANDS:
        what = brand.decode("ascii")
        raise UnsupportedVideo(f"{name} is a picture ({what}), not a video", remedy="Give a video file.")
    if brand in _SOUND_BRANDS:
        raise UnsupportedVideo(f"{name} is sound (M4A) without pictures", remedy="Give a video file.")
    return _MOV if brand in (b"qt  ", b"") else _MP4


def packet_bytes(head: bytes) -> int | None:
    """The distance of the sync bytes of MPEG-TS: 188, or 192 and 204 with a header or a checksum for each packet."""
    for stride, first in ((188, 0), (192, 4), (204, 0)):
        marks = head[first::stride][:8]
        if len(marks) >= 4 and set(marks) == {0x47}:
            return stride
    return None


def _as_text(head: bytes) -> bytes | None:
    start = head[:4096]
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        start = start[2:].replace(b"\x00", b"")
    start = start.removeprefix(b"\xef\xbb\xbf")
    printable = sum(byte >= 32 or byte in b"\t\n\r\f" for byte in start)
    return start if start and b"\x00" not in start and printable >= 0.98 * len(start) and _is_utf8(start) else None


def _is_utf8(start: bytes) -> bool:
    # The cut at 4096 bytes may split a character of up to four bytes.
    try:
        start[: max(1, len(start) - 3)].decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start >= len(start) - 6
    return True
