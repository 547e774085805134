"""A playground video on disk: an mp4 to look at, and a JSON from which mp4 and truth can be made again.

The JSON holds format, version, seed, spec and truth; frames are never kept. The mp4 is written first and moved into
place whole, so a JSON means that its video is complete. `regenerate` makes the mp4 anew from the JSON alone, from
identical frames; whether its bytes are identical too is up to the encoder.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trifocal.errors import InvalidInput
from trifocal.playground.render import render
from trifocal.playground.spec import SPEC_VERSION, VideoSpec, from_json, to_json
from trifocal.playground.truth import Truth, truth, truth_from_json, truth_to_json

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["FORMAT", "Record", "is_written", "load", "regenerate", "write", "write_text"]

FORMAT = "trifocal-playground"


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """What a JSON file holds.

    Attributes:
        spec: of the video.
        truth: of the video.
        video: path of the mp4 beside the JSON; it may have been deleted.
    """

    spec: VideoSpec
    truth: Truth
    video: Path


def write(spec: VideoSpec, folder: str | os.PathLike[str], *, name: str | None = None) -> Path:
    """Write `name.mp4` and `name.json` into a folder, which is made if need be.

    Args:
        spec: the video.
        folder: where to.
        name: without ending; "playground-SEED" by default.

    Returns:
        The path of the JSON.

    Raises:
        InvalidInput: the name is not a plain file name, or the folder cannot be written.
    """
    name = f"playground-{spec.seed}" if name is None else name
    if not name or name != Path(name).name or name in (".", ".."):
        raise InvalidInput(f"name is {name!r}", remedy="Give a plain file name without folders.")
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInput(f"{folder} cannot be made: {error.strerror}", remedy="Choose another folder.") from error
    video = folder / f"{name}.mp4"
    _write_video(spec, video)
    return write_text(folder / f"{name}.json", (_document(spec, video.name),))


def load(path: str | os.PathLike[str]) -> Record:
    """Read a JSON that `write` made.

    Raises:
        InvalidInput: there is no such file, or it is not one of ours, or of another version.
    """
    path = Path(path)
    data = _read(path)
    spec = from_json(VideoSpec, data["spec"])
    try:
        facts = truth_from_json(data["truth"])
        name = str(data["video"])
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInput(f"{path} is damaged: {error!r}", remedy="Write it again from its seed.") from error
    return Record(spec, facts, path.with_name(Path(name).name))


def regenerate(path: str | os.PathLike[str], *, target: str | os.PathLike[str] | None = None) -> Path:
    """Make the mp4 of a JSON again.

    Args:
        path: of the JSON.
        target: of the mp4; beside the JSON by default.

    Returns:
        The path of the mp4.
    """
    record = load(path)
    video = record.video if target is None else Path(target)
    _write_video(record.spec, video)
    return video


def is_written(spec: VideoSpec, path: Path) -> bool:
    """Whether `path` is the JSON of exactly this video, written by this version, with its mp4 whole beside it."""
    try:
        text = path.read_text(encoding="utf-8")
        whole = _is_whole(path.with_suffix(".mp4"))
    except OSError:
        return False
    return whole and text == _document(spec, path.with_suffix(".mp4").name)


def _is_whole(path: Path) -> bool:
    """Whether the top-level boxes of an mp4 fill the file exactly; a cut one ends inside a box."""
    size, at = path.stat().st_size, 0
    with path.open("rb") as file:
        while at < size:
            file.seek(at)
            head = file.read(16)
            length = int.from_bytes(head[:4], "big")
            if length == 1:
                length = int.from_bytes(head[8:16], "big")
            if len(head) < 8 or length < 8:
                return False
            at += length
    return at == size > 0


def write_text(path: Path, pieces: Iterable[str]) -> Path:
    """Write a text file whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    with part.open("w", encoding="utf-8", newline="") as file:
        file.writelines(pieces)
    part.replace(path)
    return path


def _document(spec: VideoSpec, video: str) -> str:
    data = {
        "format": FORMAT,
        "version": SPEC_VERSION,
        "seed": spec.seed,
        "video": video,
        "spec": to_json(spec),
        "truth": truth_to_json(truth(spec)),
    }
    return json.dumps(data, separators=(",", ":"), ensure_ascii=False) + "\n"


def _read(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}", remedy="Check the path.") from error
    except ValueError as error:
        raise InvalidInput(f"{path} is not JSON", remedy="Give the JSON of a playground video.") from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise InvalidInput(f"{path} is not the JSON of a playground video", remedy="Give one that `write` made.")
    if data.get("version") != SPEC_VERSION:
        remedy = f"This release reads version {SPEC_VERSION}; write it again from its seed."
        raise InvalidInput(f"{path} has version {data.get('version')!r}", remedy=remedy)
    if "spec" not in data or "truth" not in data:
        raise InvalidInput(f"{path} lacks spec or truth", remedy="Write it again from its seed.")
    return data


def _write_video(spec: VideoSpec, path: Path) -> None:
    # Imported here: composing and truth need no codec, and importing PyAV takes longer than they do.
    from trifocal.video import write_mp4

    part = path.with_name(f".{path.stem}.part.mp4")
    try:
        write_mp4(part, render(spec), fps=spec.fps)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
