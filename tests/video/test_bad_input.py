"""The table of bad inputs: each gives an error of its own that says what to do, soon, and a good video still works."""

from __future__ import annotations

import os
import random
import struct
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from trifocal import video
from trifocal.errors import TrifocalError, UnreadableVideo, UnsupportedVideo, VideoLimitExceeded, VideoNotFound
from trifocal.video import Limits, Sampling


class Bits:
    """Writes the bit strings of H.264 headers (ITU-T H.264, 7.3 and 9.1)."""

    def __init__(self) -> None:
        self.text = ""

    def fixed(self, value: int, bits: int) -> Bits:
        self.text += format(value, f"0{bits}b")
        return self

    def exp_golomb(self, *values: int) -> Bits:
        for value in values:
            code = format(value + 1, "b")
            self.text += "0" * (len(code) - 1) + code
        return self

    def unit(self) -> bytes:
        """With the stop bit and the bytes that prevent start codes."""
        text = self.text + "1"
        text += "0" * (-len(text) % 8)
        written, zeros = bytearray(), 0
        for byte in (int(text[i : i + 8], 2) for i in range(0, len(text), 8)):
            if zeros >= 2 and byte <= 3:
                written.append(3)
                zeros = 0
            written.append(byte)
            zeros = zeros + 1 if byte == 0 else 0
        return bytes(written)


def mp4_declaring(folder: Path, workshop: Any, width: int, height: int) -> bytes:
    """An MP4 whose sample entry and H.264 sequence header both declare this size."""
    sequence = Bits().fixed(0x67, 8).fixed(66, 8).fixed(0, 8).fixed(51, 8).exp_golomb(0, 0, 2, 1).fixed(0, 1)
    sequence.exp_golomb(width // 16 - 1, height // 16 - 1).fixed(0b1100, 4)
    picture = Bits().fixed(0x68, 8).exp_golomb(0, 0).fixed(0, 2).exp_golomb(0, 0, 0).fixed(0, 3).exp_golomb(0, 0, 0)
    picture.fixed(0, 3)
    sps, pps = sequence.unit(), picture.unit()
    whole = bytearray(workshop.recipe(frames=1).write(folder / "template.mp4").read_bytes())
    at = whole.index(b"avcC") - 4
    size = int.from_bytes(whole[at : at + 4], "big")
    body = (
        b"avcC\x01\x42\x00\x33\xff\xe1"
        + len(sps).to_bytes(2, "big")
        + sps
        + b"\x01"
        + len(pps).to_bytes(2, "big")
        + pps
    )
    padding = size - 4 - len(body)
    assert padding >= 8
    box = (4 + len(body)).to_bytes(4, "big") + body + padding.to_bytes(4, "big") + b"free" + bytes(padding - 8)
    whole[at : at + size] = box
    entry = whole.index(b"avc1", whole.index(b"stsd"))
    whole[entry + 28 : entry + 32] = struct.pack(">HH", width, height)
    return bytes(whole)


def sound_only(folder: Path) -> bytes:
    with av.open(str(folder / "sound.mp4"), "w", format="mp4") as output:
        stream = output.add_stream("aac", rate=16000, layout="mono")
        for index in range(20):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 16000, index * 1024, Fraction(1, 16000)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return (folder / "sound.mp4").read_bytes()


def black(folder: Path, *, frames: int, every_s: float, container: str = "matroska") -> Path:
    """A long video of a few tiny black pictures."""
    path = folder / f"black.{container}"
    picture = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24").reformat(format="yuv420p")
    with av.open(str(path), "w", format=container) as output:
        stream = output.add_stream("libx264", rate=25, options={"preset": "ultrafast", "bf": "0"})
        stream.width = stream.height = 16
        stream.pix_fmt, stream.gop_size = "yuv420p", 1000
        stream.codec_context.time_base = stream.time_base = Fraction(1, 1000)
        for index in range(frames):
            picture.pts, picture.time_base = round(index * every_s * 1000), Fraction(1, 1000)
            output.mux(stream.encode(picture))
        output.mux(stream.encode(None))
    return path


def nothing_decodes(workshop: Any) -> bytes:
    whole = workshop.bytes("h264 faststart")
    at = whole.index(b"mdat") + 4
    return bytes(whole[:at] + bytes(len(whole) - at))


@dataclass(frozen=True)
class Row:
    error: type[TrifocalError]
    words: str
    build: Callable[[Path, Any], bytes]


TABLE = {
    "empty": Row(UnreadableVideo, "is empty", lambda *_: b""),
    "random": Row(UnreadableVideo, "does not begin like any video", lambda *_: random.Random(7).randbytes(50_000)),
    "zeros": Row(UnreadableVideo, "does not begin like any video", lambda *_: bytes(10_000)),
    "text": Row(UnreadableVideo, "is text, not a video", lambda *_: b"Dear diary, today I made a film.\n" * 40),
    "playlist": Row(UnsupportedVideo, "is a playlist", lambda *_: b"#EXTM3U\n#EXTINF:9,\nfile:///etc/passwd\n"),
    "manifest": Row(UnsupportedVideo, "is a manifest", lambda *_: b'<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg">'),
    "concat": Row(UnsupportedVideo, "list of files to join", lambda *_: b"ffconcat version 1.0\nfile 'a.mp4'\n"),
    "bare concat": Row(UnsupportedVideo, "list of files to join", lambda *_: b"file '/etc/passwd'\n"),
    "session": Row(UnsupportedVideo, "session description", lambda *_: b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\n"),
    "address": Row(UnsupportedVideo, "is an address", lambda *_: b"http://localhost/video.mp4\n"),
    "picture": Row(UnsupportedVideo, r"is a picture \(PNG\)", lambda *_: b"\x89PNG\r\n\x1a\n" + bytes(64)),
    "sound": Row(UnreadableVideo, "holds sound but no video", lambda folder, _: sound_only(folder)),
    "mp3": Row(UnsupportedVideo, r"is sound \(MP3\)", lambda *_: b"ID3\x04" + bytes(64)),
    "flash": Row(UnsupportedVideo, "a container that is not read", lambda *_: b"FLV\x01" + bytes(64)),
    "hidden subtitles": Row(
        UnsupportedVideo, "hidden subtitle", lambda _, w: w.bytes("mpeg4 avi")[:4096] + b"GAB2\x00" + bytes(64)
    ),
    "truncated": Row(UnreadableVideo, r"cut short: its index \(the moov box\)", lambda _, w: w.bytes("h264")[:4000]),
    "nothing decodes": Row(UnreadableVideo, "none of its pictures can be decoded", lambda _, w: nothing_decodes(w)),
    "header only": Row(
        UnreadableVideo, "no webm can be read|holds no video|none of its", lambda _, w: w.bytes("vp9 webm")[:60]
    ),
    "40,000×40,000": Row(
        VideoLimitExceeded, "40000×40000 pixels, more than 8192", lambda f, w: mp4_declaring(f, w, 40_000, 40_000)
    ),
    "16,000×16,000": Row(VideoLimitExceeded, "16000×16000 pixels", lambda f, w: mp4_declaring(f, w, 16_000, 16_000)),
    "9,600×1,600": Row(VideoLimitExceeded, "9600×1600 pixels", lambda f, w: mp4_declaring(f, w, 9_600, 1_600)),
    "five hours": Row(
        VideoLimitExceeded,
        "lasts .* s, longer than 14400 s",
        lambda f, _: black(f, frames=10, every_s=2000).read_bytes(),
    ),
}


@pytest.mark.parametrize("name", list(TABLE))
def test_09_each_bad_input_has_its_own_error(workshop: Any, tmp_path: Path, name: str) -> None:
    row = TABLE[name]
    path = tmp_path / "holiday.mp4"
    path.write_bytes(row.build(tmp_path, workshop))
    with pytest.raises(row.error, match=row.words) as caught, video.open(path) as opened:
        opened.read(Sampling.every())
    assert type(caught.value) is row.error
    message = str(caught.value)
    assert "holiday.mp4" in message
    assert "\n" not in message
    assert "0x" not in message
    assert caught.value.remedy
    with pytest.raises(row.error, match=row.words):
        video.probe(path)
    assert video.probe(workshop.make("h264")).frame_count == 40


OPENERS = ["playlist", "manifest", "concat", "bare concat", "session", "address", "hidden subtitles"]


@pytest.mark.parametrize("name", OPENERS)
def test_05_what_opens_other_files_is_refused_before_any_decoder_sees_it(
    workshop: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def start(*_: object, **__: object) -> None:
        pytest.fail("a decoder was started")

    path = tmp_path / "holiday.mp4"
    path.write_bytes(TABLE[name].build(tmp_path, workshop))
    monkeypatch.setattr("trifocal.video.reader.Sandbox", start)
    monkeypatch.setattr("trifocal.video.reader.Decoder", start)
    for isolated in (True, False):
        with pytest.raises(UnsupportedVideo):
            video.open(path, isolated=isolated)


def test_05_a_container_may_not_open_a_second_file(workshop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def asks(source: object, *_: object, io_open: Callable[..., object], **__: object) -> object:
        return io_open("/etc/passwd", 1, {})

    path = workshop.make("h264")  # before `av.open`, which writes it, is another
    monkeypatch.setattr("trifocal.video.media.av.open", asks)
    with pytest.raises(UnsupportedVideo, match=r"h264\.bin refers to another file"):
        video.open(path, isolated=False)


def test_09_a_name_cannot_steer_a_terminal(tmp_path: Path, workshop: Any) -> None:
    for name in ("a\nb\x1b[31m.mp4", os.fsdecode(b"\xffc.mp4")):
        path = tmp_path / name
        for content in (b"", workshop.bytes("h264")[:4000]):
            path.write_bytes(content)
            with pytest.raises(UnreadableVideo) as caught:
                video.probe(path)
            assert str(caught.value).isprintable()
        path.write_bytes(workshop.bytes("h264"))
        assert video.probe(path).frame_count == 40
        path.unlink()
        with pytest.raises(VideoNotFound) as gone:
            video.probe(path)
        assert str(gone.value).isprintable()


@pytest.mark.parametrize("good_reads", [0, 8])
def test_16_a_failing_disk_is_told(workshop: Any, monkeypatch: pytest.MonkeyPatch, good_reads: int) -> None:
    path = workshop.make("h264")
    real, reads = os.pread, 0

    def fail(fd: int, count: int, at: int) -> bytes:
        nonlocal reads
        reads += 1
        if reads > good_reads:
            raise OSError(5, "Input/output error")
        return real(fd, count, at)

    monkeypatch.setattr("trifocal.video.source.os.pread", fail)
    with pytest.raises(UnreadableVideo, match=r"h264\.bin cannot be read: Input/output error"):
        video.open(path, isolated=False)


def test_a_transport_stream_with_longer_packets_is_whole(workshop: Any, tmp_path: Path) -> None:
    whole = workshop.bytes("h264 ts")
    packets = [whole[at : at + 188] for at in range(0, len(whole), 188)]
    # With a time code before each packet, which may begin like a packet, and with a checksum after each.
    (tmp_path / "blu.m2ts").write_bytes(b"".join(b"\x47\0\0\0" + packet for packet in packets))
    (tmp_path / "air.ts").write_bytes(b"".join(packet + bytes(16) for packet in packets))
    for name in ("blu.m2ts", "air.ts"):
        with video.open(tmp_path / name, isolated=False) as opened:
            assert opened.warnings == ()
            assert len(opened.read(Sampling.every())) == 40
    (tmp_path / "air.ts").write_bytes((tmp_path / "air.ts").read_bytes()[:-100])
    assert "104 bytes are missing" not in video.probe(tmp_path / "air.ts", isolated=False).warnings[0]


def test_no_file_no_video(tmp_path: Path, workshop: Any) -> None:
    with pytest.raises(VideoNotFound, match=r"there is no file .*missing\.mp4"):
        video.probe(tmp_path / "missing.mp4")
    with pytest.raises(VideoNotFound, match="there is no file"):
        video.probe("nul\0byte.mp4")
    with pytest.raises(VideoNotFound, match="there is no file"):
        video.probe(workshop.make("h264") / "inside.mp4")
    with pytest.raises(VideoNotFound, match="is a folder"):
        video.probe(tmp_path)
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(VideoNotFound, match="is not a regular file"):
        video.probe(tmp_path / "pipe.mp4")
    with pytest.raises(VideoNotFound, match="is not a regular file"):
        video.probe("/dev/zero")


def test_a_file_that_may_not_be_read(tmp_path: Path, workshop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "secret.mp4"
    path.write_bytes(workshop.bytes("h264"))
    path.chmod(0)
    if os.geteuid() == 0:  # to whom nothing is forbidden

        def refuse(*_: object) -> int:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr("trifocal.video.source.os.open", refuse)
    with pytest.raises(VideoNotFound, match=r"secret\.mp4 may not be read"):
        video.probe(path)


def test_a_wrong_extension_does_not_matter(tmp_path: Path, workshop: Any) -> None:
    for recipe, name in (("h264", "a.avi"), ("vp9 webm", "b.txt"), ("mpeg4 avi", "c"), ("h264 ts", "d.m3u8")):
        (tmp_path / name).write_bytes(workshop.bytes(recipe))
        with video.open(tmp_path / name) as opened:
            assert workshop.numbers_of(opened.read(Sampling.uniform(2)).images) == [10, 30]


@pytest.mark.parametrize(
    "recipe_name", ["h264 faststart", "h264 fragmented", "h264 mkv", "vp9 webm", "h264 ts", "mpeg4 avi"]
)
def test_16_a_truncated_file_gives_what_there_is(tmp_path: Path, workshop: Any, recipe_name: str) -> None:
    whole = workshop.bytes(recipe_name)
    path = tmp_path / "cut.mp4"
    path.write_bytes(whole[: len(whole) * 3 // 4 // 188 * 188 + 77])
    with video.open(path) as opened:
        frames = opened.read(Sampling.every())
        numbers = workshop.numbers_of(frames.images)
        # The last picture may be one of which a part is missing.
        assert 5 <= len(numbers) < 40
        assert numbers[:-1] == list(range(len(numbers) - 1))
        assert opened.info.frame_count is None or recipe_name == "h264 fragmented"
        assert frames.warnings == opened.warnings != ()
        assert all("cut.mp4" in warning and "\n" not in warning for warning in frames.warnings)
        sparse = opened.read(Sampling.uniform(6))
        assert 1 <= len(sparse) <= 6
        assert np.all(np.isin(sparse.times_s, frames.times_s))
    assert len(video.probe(workshop.make(recipe_name)).warnings) == 0


def test_a_webm_that_ends_early_is_told_though_no_byte_is_missing(tmp_path: Path, workshop: Any) -> None:
    whole = bytearray(workshop.bytes("vp9 webm"))
    at = whole.index(b"\x44\x89\x88") + 3
    whole[at : at + 8] = struct.pack(">d", 9000.0)
    (tmp_path / "early.webm").write_bytes(whole)
    with video.open(tmp_path / "early.webm") as opened:
        assert opened.info.duration_s == 9.0
        frames = opened.read(Sampling.every())
        assert len(frames) == 40
        assert frames.warnings == ("early.webm ends at 1.56 s although it declares 9.00 s",)


def test_a_damaged_place_is_told_and_passed(tmp_path: Path, workshop: Any) -> None:
    whole = bytearray(workshop.bytes("h264 faststart"))
    at = whole.index(b"mdat") + (len(whole) - whole.index(b"mdat")) // 2
    whole[at : at + 300] = random.Random(3).randbytes(300)
    (tmp_path / "hurt.mp4").write_bytes(whole)
    with video.open(tmp_path / "hurt.mp4") as opened:
        frames = opened.read(Sampling.every())
        numbers = workshop.numbers_of(frames.images)
        assert numbers[:10] == list(range(10))
        assert numbers[-1] == 39
        assert any("is damaged" in warning for warning in frames.warnings)


def test_06_hours_of_black_are_walked_with_flat_memory(tmp_path: Path) -> None:
    path = black(tmp_path, frames=4000, every_s=3.0)
    assert path.stat().st_size < 200_000
    with video.open(path) as opened:
        assert opened.info.duration_s == pytest.approx(12_000, abs=5)
        count = sum(len(frames) for frames in opened.stream(Sampling.every()))
        assert count == 4000
        status = Path(f"/proc/{opened._idle.pid}/status").read_text()  # type: ignore[union-attr]
        peak_kb = int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))
        assert peak_kb < 150_000
    with (
        pytest.raises(VideoLimitExceeded, match=r"more than 100 frames"),
        video.open(path, limits=Limits(frames=100)) as v,
    ):
        v.read(Sampling.every())
    with pytest.raises(VideoLimitExceeded, match="longer than 600 s"):
        video.probe(path, limits=Limits(duration_s=600))


def test_06_a_header_that_lies_about_its_length_is_caught_by_the_times(tmp_path: Path) -> None:
    path = black(tmp_path, frames=10, every_s=2000)
    whole = bytearray(path.read_bytes())
    at = whole.index(b"\x44\x89\x88") + 3
    whole[at : at + 8] = struct.pack(">d", 1000.0)
    path.write_bytes(whole)
    with video.open(path) as opened:
        assert opened.info.duration_s == 1.0
        with pytest.raises(VideoLimitExceeded, match=r"has a frame at 16000\.0 s, later than 14400 s"):
            opened.read(Sampling.every())
        with pytest.raises(VideoLimitExceeded, match="has a frame at"):
            opened.read(Sampling.at_times([14_000, 18_000]))


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (Limits(file_bytes=1000), "bytes, more than 1,000"),
        (Limits(duration_s=1), "lasts 2 s, longer than 1 s"),
        (Limits(max_side=79), "80×48 pixels"),
        (Limits(max_pixels=80 * 48 - 1), "80×48 pixels"),
        (Limits(fps=24), "declares 25 frames a second, more than 24"),
        (Limits(streams=1), "has 2 streams, more than 1"),
        (Limits(frames=20), "more than 20 frames"),
    ],
)
def test_06_every_limit_of_the_header_holds(workshop: Any, limits: Limits, words: str) -> None:
    with (
        pytest.raises(VideoLimitExceeded, match=words),
        video.open(workshop.make("h264 sound"), limits=limits) as opened,
    ):
        opened.read(Sampling.every())


def test_05_only_allowed_containers_and_codecs(workshop: Any) -> None:
    with pytest.raises(UnsupportedVideo, match=r"is mp4, which is not allowed here\. Allowed: avi"):
        video.probe(workshop.make("h264"), limits=Limits(containers=("avi",)))
    with pytest.raises(UnsupportedVideo, match=r"is h264, which is not allowed here\. Allowed: vp9"):
        video.probe(workshop.make("h264"), limits=Limits(codecs=("vp9",)))
    assert video.probe(workshop.make("vp9 webm"), limits=Limits(codecs=("vp9",))).codec == "vp9"


def damaged(whole: bytes, seed: int) -> bytes:
    """A copy with a few bits turned, a piece overwritten, or its end cut off."""
    rng = random.Random(seed)
    copy = bytearray(whole)
    for _ in range(rng.choice([1, 4, 30, 200])):
        # Half of the damage goes to the headers, which is where it does most.
        at = rng.randrange(len(copy) if rng.random() < 0.5 else min(len(copy), 1500))
        copy[at] ^= 1 << rng.randrange(8)
    if rng.random() < 0.3:
        at = rng.randrange(len(copy))
        copy[at : at + 64] = rng.randbytes(64)
    return bytes(copy[: rng.randrange(len(copy) // 2, len(copy)) if rng.random() < 0.3 else len(copy)])


def survive(path: Path, *, threads: int = 1, walks: int = 1) -> str:
    outcome = "frames"
    try:
        limits = Limits(stall_s=10, memory_bytes=2 * 1024**3)
        with video.open(path, limits=limits, threads=threads) as opened:
            assert len(opened.read(Sampling.every(size=24))) >= 1
            for _ in range(walks):
                opened.read(Sampling.uniform(5))
    except TrifocalError as error:
        outcome = str(error)
    # An error of ours, foreseen; "failed with" would be an exception that nobody foresaw.
    assert "the decoder failed with" not in outcome
    assert "no sign of life" not in outcome
    assert "\n" not in outcome
    return outcome


FUZZED = [
    "h264",
    "h264 faststart",
    "h264 fragmented",
    "h264 mkv",
    "vp9 webm",
    "h264 ts",
    "mpeg4 avi",
    "hevc",
    "av1 mp4",
    "mjpeg avi",
]


@pytest.mark.parametrize("recipe_name", FUZZED)
def test_16_bit_flips_are_survived(tmp_path: Path, workshop: Any, recipe_name: str) -> None:
    for seed in range(3):
        (tmp_path / "flipped.bin").write_bytes(damaged(workshop.bytes(recipe_name), seed))
        survive(tmp_path / "flipped.bin")
    assert video.probe(workshop.make("h264")).frame_count == 40


@pytest.mark.parametrize("recipe_name", ["h264", "hevc", "hevc 10 bit mkv"])
def test_16_damage_met_by_several_threads_is_survived(tmp_path: Path, workshop: Any, recipe_name: str) -> None:
    # A decoder's thread that logs needs the interpreter's lock; freeing the decoder with it held waited for ever.
    for seed in (1, 2):
        (tmp_path / "flipped.bin").write_bytes(damaged(workshop.bytes(recipe_name), seed))
        survive(tmp_path / "flipped.bin", threads=4, walks=6)


def test_streams_that_appear_late_are_survived(tmp_path: Path, workshop: Any) -> None:
    # This damage hides the table of programs until the middle of the file.
    path = tmp_path / "late.ts"
    path.write_bytes(damaged(workshop.bytes("h264 ts"), 1041))
    with video.open(path) as opened:
        every = opened.read(Sampling.every())
        assert len(every) > 20
        assert len(opened.read(Sampling.uniform(5))) == 5
        assert len(opened.read(Sampling.at_times([1.2]))) == 1


@pytest.mark.slow
@pytest.mark.parametrize("recipe_name", FUZZED)
def test_16_many_bit_flips_are_survived(tmp_path: Path, workshop: Any, recipe_name: str) -> None:
    outcomes = set()
    for seed in range(100, 250):
        (tmp_path / "flipped.bin").write_bytes(damaged(workshop.bytes(recipe_name), seed))
        outcomes.add(survive(tmp_path / "flipped.bin"))
    assert len(outcomes) > 1
