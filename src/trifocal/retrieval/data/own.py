"""The user's own videos: a folder, a table of captions, and features by the library's encoders, kept in a cache.

The table is CSV with a header, or JSON Lines: `video` (a path within the folder) and `caption`, and where known also
`start_s`, `end_s`, `split` ("train" where it is missing) and `id`. `trifocal playground make` leaves such a table.
"""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trifocal.errors import InvalidInput
from trifocal.retrieval.data.annotations import Gathering
from trifocal.retrieval.data.captions import CaptionSet
from trifocal.retrieval.data.features import ArrayRows, FolderRows, write_folder_rows
from trifocal.retrieval.data.reading import bad_line, existing, finite, json_lines, word

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from trifocal.retrieval.encoder import FrameTextEncoder

__all__ = [
    "encode_words",
    "extract_features",
    "files_of",
    "read_own",
    "tokens_of",
    "with_durations",
    "write_own_csv",
]

COLUMNS = ("video", "caption", "start_s", "end_s", "split", "id")
_WORD = re.compile(r"\w+(?:['’]\w+)*")


def read_own(path: Path | str) -> dict[str, CaptionSet]:
    """The captions of a CSV or JSON Lines table, by split.

    Args:
        path: `.csv`, or `.jsonl`; see the module's map.

    Returns:
        Split name to captions, in the order of the file. A caption without an id is "<video>#enc#<k>".

    Raises:
        InvalidInput: no such file, another ending, a column or key that is missing or unknown, a start without an
            end, a time that is no number, an id that comes twice, no caption at all; the error names file and line.
    """
    found = existing(path, what="a table of captions")
    suffix = found.suffix.lower()
    if suffix not in (".csv", ".jsonl"):
        raise InvalidInput(f"{found.name} ends in {suffix!r}", remedy="Give a .csv with a header, or a .jsonl.")
    rows = _csv_rows(found) if suffix == ".csv" else json_lines(found, what="a table of captions")
    gathered: dict[str, Gathering] = {}
    numbers: dict[str, int] = {}
    seen: dict[str, int] = {}
    for line, row in rows:
        unknown = sorted(set(row) - set(COLUMNS))
        if unknown:
            raise bad_line(found, line, f"has {', '.join(unknown)}", remedy=f"Known are {', '.join(COLUMNS)}.")
        where = f"{found}, line {line}"
        video = word(row.get("video"), where=f"{where}: video")
        split = word(row.get("split") or "train", where=f"{where}: split")
        number = numbers[video] = numbers.get(video, -1) + 1
        name = word(row.get("id") or f"{video}#enc#{number}", where=f"{where}: id")
        if name in seen:
            raise bad_line(found, line, f"the id {name!r} stands in line {seen[name]} too", remedy="Give each its own.")
        seen[name] = line
        gathered.setdefault(split, Gathering(found)).add(
            video,
            word(row.get("caption"), where=f"{where}: caption"),
            line=line,
            moments_s=_moment(found, line, row),
            caption_id=name,
        )
    if not gathered:
        raise InvalidInput(f"{found} holds no captions", remedy="Give a line a caption below the header.")
    return {split: one.done() for split, one in gathered.items()}


def write_own_csv(path: Path | str, splits: Mapping[str, CaptionSet]) -> None:
    """The CSV that `read_own` reads; of several moments of a caption the first."""
    with Path(path).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for split, captions in splits.items():
            for one in captions:
                start, end = one.moments_s[0] if one.moments_s else ("", "")
                writer.writerow((one.video, one.text, start, end, split, one.id))


def extract_features(
    videos: Mapping[str, Path],
    encoder: FrameTextEncoder,
    *,
    cache: Path | str,
    frames_per_second: float = 1.0,
    max_frames: int = 512,
    progress: Callable[[int, int], None] | None = None,
) -> FolderRows:
    """Features of the videos' frames by an encoder, taken from the cache where the same file was encoded before.

    Args:
        videos: the file by video id.
        encoder: frames to unit vectors.
        cache: a folder; each encoder and sampling has its own below it.
        frames_per_second: how densely to look.
        max_frames: at most so many a video, evenly spread.
        progress: told how many videos are done and how many there are.

    Raises:
        VideoError: a video cannot be decoded.
        InvalidInput: no videos.
    """
    from trifocal import video as reader  # brings the codecs

    if not videos:
        raise InvalidInput("there are no videos", remedy="Name at least one in the table of captions.")
    sampling = reader.Sampling.at_fps(frames_per_second, max_frames=max_frames, size=encoder.frame_size)
    stamp = hashlib.sha256(f"{encoder.id}|{frames_per_second}|{max_frames}".encode()).hexdigest()[:16]
    folder = Path(cache) / f"frames-{stamp}"
    kept = FolderRows(folder) if folder.is_dir() and any(folder.glob("*.npz")) else None
    for done, (name, path) in enumerate(videos.items()):
        if progress is not None:
            progress(done, len(videos))
        content = reader.content_id(path)
        if kept is not None and name in kept and kept.content(name) == content:
            continue
        with reader.open(path) as opened:
            rows: list[NDArray[np.float32]] = []
            times: list[NDArray[np.float64]] = []
            for frames in opened.stream(sampling):
                rows.append(encoder.encode_frames(frames.images))
                times.append(frames.times_s)
            duration = opened.info.duration_s
        times_s = np.concatenate(times)
        end_s = max(float(times_s[-1]), duration if duration > 0 else float(times_s[-1]) + 1 / frames_per_second)
        write_folder_rows(folder, name, np.concatenate(rows), times_s=times_s, end_s=end_s, content=content)
    if progress is not None:
        progress(len(videos), len(videos))
    return FolderRows(folder)


def tokens_of(text: str) -> list[str]:
    """The words of a text, as they are encoded one by one."""
    return _WORD.findall(text)


def encode_words(encoder: FrameTextEncoder, texts: Mapping[str, str], *, batch: int = 256) -> ArrayRows:
    """Word features by caption id: every word by itself and, last, the whole text; the layout of CLIP files.

    Args:
        encoder: texts to unit vectors.
        texts: the text by caption id.
        batch: texts at a time.

    Returns:
        float32 (words + 1, D) an id.

    Raises:
        InvalidInput: no texts.
    """
    if not texts:
        raise InvalidInput("there are no captions", remedy="Give at least one.")
    split = {name: tokens_of(text) for name, text in texts.items()}
    wanted = list(dict.fromkeys([token for tokens in split.values() for token in tokens] + list(texts.values())))
    vectors = np.concatenate(
        [encoder.encode_query(wanted[start : start + batch]) for start in range(0, len(wanted), batch)]
    )
    place = {text: index for index, text in enumerate(wanted)}
    return ArrayRows(
        {name: vectors[[place[token] for token in tokens] + [place[texts[name]]]] for name, tokens in split.items()}
    )


def files_of(folder: Path | str, videos: Iterable[str], *, table: Path | str) -> dict[str, Path]:
    """The file of every video that a table names, within the folder.

    Raises:
        InvalidInput: no such folder, files that are not there (the first few are named), or a path that leads out of
            the folder.
    """
    root = Path(folder)
    if not root.is_dir():
        raise InvalidInput(f"there is no folder {root}", remedy="Name the folder of the videos.")
    files = {video: root / video for video in videos}
    outside = [video for video, path in files.items() if not path.resolve().is_relative_to(root.resolve())]
    if outside:
        raise InvalidInput(f"{table} names {outside[0]!r}, outside {root}", remedy="Name videos within the folder.")
    missing = [video for video, path in files.items() if not path.is_file()]
    if missing:
        some = ", ".join(missing[:3]) + (", …" if len(missing) > 3 else "")
        raise InvalidInput(
            f"{len(missing)} of {len(files)} videos of {table} are not in {root}: {some}",
            remedy="Give the folder that their paths start from.",
        )
    return files


def with_durations(splits: Mapping[str, CaptionSet], features: FolderRows) -> dict[str, CaptionSet]:
    """The splits with the videos' lengths as they were found when the frames were encoded."""
    return {
        name: CaptionSet(one.captions, {video: features.end_s(video) for video in one.videos()}, one.notes)
        for name, one in splits.items()
    }


def _csv_rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        try:
            header = [name.strip() for name in next(reader, [])]
            if not {"video", "caption"} <= set(header):
                raise bad_line(
                    path, 1, f"has the columns {', '.join(header)}", remedy="Give a header with video and caption."
                )
            for row in reader:
                if not any(cell.strip() for cell in row):
                    continue
                if len(row) != len(header):
                    what = f"has {len(row)} cells, the header {len(header)}"
                    raise bad_line(path, reader.line_num, what, remedy="Quote cells that hold a comma.")
                yield reader.line_num, {name: cell for name, cell in zip(header, row, strict=True) if cell.strip()}
        except csv.Error as error:
            raise bad_line(path, reader.line_num, f"is not CSV ({error})", remedy="Mend the quotes.") from error
        except UnicodeDecodeError as error:
            raise bad_line(
                path, reader.line_num + 1, f"is not UTF-8 ({error.reason})", remedy="Save it as UTF-8."
            ) from error


def _moment(path: Path, line: int, row: Mapping[str, Any]) -> Sequence[tuple[float, float]]:
    given = {key: row[key] for key in ("start_s", "end_s") if row.get(key) is not None}
    if len(given) == 1:
        raise bad_line(path, line, f"has {next(iter(given))} alone", remedy="Give both start_s and end_s, or neither.")
    times = []
    for key, value in given.items():
        try:
            number = float(value) if isinstance(value, str) else value
        except ValueError as error:
            raise bad_line(path, line, f"{key} is {value!r:.40}", remedy="Give seconds, such as 12.5.") from error
        times.append(finite(number, where=f"{path}, line {line}: {key}"))
    if times and times[0] > times[1]:
        raise bad_line(path, line, f"goes from {times[0]} s to {times[1]} s", remedy="Give the start first.")
    return [(times[0], times[1])] if times else []
