"""Annotation files of the benchmarks as they are published, read into `Item`s.

Nothing is downloaded: the user has the files. A wrong file gives an error that names the entry. Where a benchmark comes
in several files (MLVU: one per task; EgoSchema: questions apart from answers), their folder is given. Of the others a
folder will do that holds one file. The ending tells the format: .json, .jsonl, .parquet, for NExT-QA .csv.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from trifocal.chat.evaluation.item import LETTERS, Item
from trifocal.errors import InvalidInput

__all__ = ["BENCHMARKS", "read_benchmark"]

Entry = Mapping[str, Any]
_NEXTQA_OPTIONS = 5
_MLVU_CHOICE = ("plotQA", "findNeedle", "needle", "ego", "count", "order", "anomaly_reco", "topic_reasoning")


def read_benchmark(name: str, annotations: str | Path, *, videos: str | Path) -> list[Item]:
    """The questions of a benchmark.

    Args:
        name: one of `BENCHMARKS`.
        annotations: the published file, or the folder that holds its parts.
        videos: the folder of the videos.

    Raises:
        InvalidInput: an unknown name, or a file that is not of this benchmark; the entry is named.
    """
    if name not in BENCHMARKS:
        raise InvalidInput(f"benchmark is {name!r}", remedy=f"Give one of {', '.join(BENCHMARKS)}.")
    path, folder = Path(annotations), Path(videos)
    if not path.exists():
        raise InvalidInput(f"there is no {path}", remedy=f"Give the annotations of {name}.")
    if not folder.is_dir():
        raise InvalidInput(f"there is no folder {folder}", remedy="Give the folder that holds the videos.")
    items: dict[str, Item] = {}
    for place, make in BENCHMARKS[name](path, folder):
        with _named(place):
            item = make()
            if item is not None and item.id in items:
                raise InvalidInput(f"the question {item.id} is there twice", remedy="Correct the annotation file.")
        if item is not None:
            items[item.id] = item
    if not items:
        raise InvalidInput(f"{path} holds no multiple-choice question of {name}", remedy="Give its published file.")
    return list(items.values())


Rows = Iterator[tuple[str, Callable[[], Item | None]]]
"""Where an entry stands, and how it becomes an item; None for one that is no multiple-choice question."""


def _vnbench(path: Path, videos: Path) -> Rows:
    def item(number: int, entry: Entry) -> Item:
        options = _options(entry, "options")
        return Item(
            id=str(number),
            video=_find(videos, str(entry["video"])),
            question=str(entry["question"]),
            options=options,
            answer=_answer(entry.get("gt_option", entry.get("gt")), options),
            kind=str(entry.get("type", "")),
            group=f"{entry['video']} {entry['question']}",
            seconds=float(entry.get("length") or 0),
        )

    return _made(path, item)


def _videomme(path: Path, videos: Path) -> Rows:
    def item(number: int, entry: Entry, inner: Entry) -> Item:
        options = _options(inner, "options")
        name = entry.get("videoID") or str(entry.get("url", "")).rpartition("=")[2] or entry["video_id"]
        return Item(
            id=str(inner.get("question_id", number)),
            video=_find(videos, str(name)),
            question=str(inner["question"]),
            options=options,
            answer=_answer(inner.get("answer"), options),
            kind=str(entry.get("duration") or entry.get("duration_category") or ""),
        )

    for place, number, entry in _entries(path):
        listed = entry.get("questions")
        # The first release nests a video's questions; later ones have one row a question.
        for inner in listed if isinstance(listed, list) else [entry]:
            yield place, partial(item, number, entry, inner)


def _mlvu(path: Path, videos: Path) -> Rows:
    def item(stem: str, number: int, entry: Entry) -> Item | None:
        if str(entry.get("question_type")) not in _MLVU_CHOICE:
            return None  # sub-scene captions and summaries are answered in free words
        options = _options(entry, "candidates")
        return Item(
            id=f"{stem}/{number}",
            video=_find(videos, str(entry["video"])),
            question=str(entry["question"]),
            options=options,
            answer=_answer(entry.get("answer"), options),
            kind=str(entry["question_type"]),
            seconds=float(entry.get("duration") or 0),
        )

    for file in sorted(path.glob("*.json")) if path.is_dir() else [path]:
        yield from _made(file, partial(item, file.stem))


def _longvideobench(path: Path, videos: Path) -> Rows:
    def item(number: int, entry: Entry) -> Item:
        options = _options(entry, "candidates")
        return Item(
            id=str(entry.get("id", number)),
            video=_find(videos, str(entry["video_path"])),
            question=str(entry["question"]),
            options=options,
            answer=_answer(entry.get("correct_choice"), options),
            kind=str(entry.get("duration_group", "")),
            seconds=float(entry.get("duration") or 0),
        )

    return _made(path, item)


def _nextqa(path: Path, videos: Path) -> Rows:
    path = _only(path, (".csv",))
    beside = path.with_name("map_vid_vidorID.json")
    places: Mapping[str, Any] = _json(beside) if beside.exists() else {}

    def item(entry: Entry) -> Item:
        options = tuple(str(entry[f"a{place}"]) for place in range(_NEXTQA_OPTIONS))
        video = str(entry["video"])
        return Item(
            id=f"{video}/{entry['qid']}",
            video=_find(videos, str(places.get(video, video))),
            question=str(entry["question"]),
            options=options,
            answer=_answer(entry["answer"], options),
            kind=str(entry["type"]),
        )

    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, ValueError, csv.Error) as error:
        raise InvalidInput(f"{path} cannot be read: {error}", remedy="Give the published .csv file.") from error
    for number, entry in enumerate(rows, start=2):
        yield f"{path.name}, line {number}", partial(item, entry)


def _egoschema(path: Path, videos: Path) -> Rows:
    folder = path if path.is_dir() else path.parent
    beside = folder / "subset_answers.json"
    answers: Mapping[str, Any] = _json(beside) if beside.exists() else {}

    def item(_: int, entry: Entry) -> Item | None:
        name = str(entry["q_uid"])
        right = entry.get("answer", entry.get("truth", answers.get(name)))
        if right is None:
            return None  # the answers of the full set are kept by its authors
        options = tuple(str(entry[key]) for key in sorted(key for key in entry if key.startswith("option ")))
        answer = _answer(right, options)
        return Item(id=name, video=_find(videos, name), question=str(entry["question"]), options=options, answer=answer)

    return _made(folder / "questions.json" if path.is_dir() else path, item)


def _playground(path: Path, videos: Path) -> Rows:
    def item(number: int, entry: Entry) -> Item:
        options = _options(entry, "choices")
        return Item(
            id=str(number),
            video=_find(videos, str(entry["video"])),
            question=str(entry["question"]),
            options=options,
            answer=_answer(entry["answer"], options),
            kind=str(entry["type"]),
        )

    return _made(path / "questions.jsonl" if path.is_dir() else path, item)


BENCHMARKS: Mapping[str, Callable[[Path, Path], Rows]] = MappingProxyType(
    {
        "vnbench": _vnbench,
        "videomme": _videomme,
        "mlvu": _mlvu,
        "longvideobench": _longvideobench,
        "nextqa": _nextqa,
        "egoschema": _egoschema,
        "playground": _playground,
    }
)
"""Reader by the benchmark's name."""


def _made(path: Path, item: Callable[[int, Entry], Item | None]) -> Rows:
    for place, number, entry in _entries(path):
        yield place, partial(item, number, entry)


class _named:  # noqa: N801 -- used like a function
    """Around the reading of one entry: what goes wrong names the file and the entry."""

    def __init__(self, where: str) -> None:
        self._where = where

    def __enter__(self) -> None:
        """Nothing to do."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, KeyError):
            raise InvalidInput(
                f"{self._where}: there is no {error.args[0]!r}", remedy="Is it the file of this benchmark?"
            ) from error
        if isinstance(error, InvalidInput):
            raise InvalidInput(f"{self._where}: {error.message}", remedy=error.remedy) from error
        if isinstance(error, TypeError | ValueError):
            raise InvalidInput(f"{self._where}: {error}", remedy="Is it the file of this benchmark?") from error


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise InvalidInput(f"{path} cannot be read: {error}", remedy="Give a JSON file.") from error


def _entries(path: Path) -> Iterator[tuple[str, int, Entry]]:
    """The objects of a JSON list, of JSON lines, or the rows of a Parquet file, with where they stand."""
    path = _only(path, (".json", ".jsonl", ".parquet"))
    rows: list[Any]
    if path.suffix == ".parquet":
        rows = _parquet(path)
    elif path.suffix == ".jsonl":
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError) as error:
            raise InvalidInput(f"{path} cannot be read: {error}", remedy="Give a JSON lines file.") from error
        rows = []
        for number, line in enumerate(lines, start=1):
            with _named(f"{path.name}, line {number}"):
                rows.append(json.loads(line))
    else:
        rows = _json(path)
        if not isinstance(rows, list):
            raise InvalidInput(f"{path.name} holds no list", remedy="Is it the file of this benchmark?")
    for number, entry in enumerate(rows):
        place = f"{path.name}, {'line' if path.suffix == '.jsonl' else 'entry'} {number + (path.suffix == '.jsonl')}"
        if not isinstance(entry, dict):
            raise InvalidInput(f"{place}: it is no object", remedy="Is it the file of this benchmark?")
        yield place, number, entry


def _only(path: Path, endings: tuple[str, ...]) -> Path:
    """The file itself, or the one that a folder holds."""
    if not path.is_dir():
        return path
    found = sorted(file for file in path.iterdir() if file.suffix in endings and file.is_file())
    if len(found) != 1:
        raise InvalidInput(
            f"{path} is a folder with {len(found)} files that end in {', '.join(endings)}",
            remedy="Give the annotation file in it.",
        )
    return found[0]


def _parquet(path: Path) -> list[Any]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        from trifocal.errors import MissingExtra

        raise MissingExtra(
            f"{path.name} is Parquet, which needs pyarrow", remedy="pip install 'trifocal[scale]', or give JSON."
        ) from error
    try:
        return list(parquet.read_table(path).to_pylist())
    except (ArrowException, OSError) as error:
        raise InvalidInput(f"{path} cannot be read: {error}", remedy="Give a Parquet file.") from error


def _options(entry: Entry, key: str) -> tuple[str, ...]:
    """The options without their letters."""
    listed = entry[key]
    if not isinstance(listed, list):
        raise InvalidInput(f"{key} is {listed!r:.60}, no list", remedy="Is it the file of this benchmark?")
    texts = [str(option).strip() for option in listed]
    lettered = all(text[:2] in (f"{LETTERS[place]}.", f"{LETTERS[place]})") for place, text in enumerate(texts))
    return tuple(text[2:].strip() if lettered else text for text in texts)


def _answer(value: object, options: tuple[str, ...]) -> int:
    """Which option an annotation means: by letter, by number, or by its words."""
    text = str(value).strip()
    if text in options:
        return options.index(text)
    letter = text.strip("().").upper()
    if len(letter) == 1 and letter in LETTERS[: len(options)]:
        return LETTERS.index(letter)
    if text.isdecimal() and int(text) < len(options):
        return int(text)
    for place, option in enumerate(options):
        if text[2:].strip() == option and text[:1].upper() == LETTERS[place]:
            return place
    raise InvalidInput(f"the answer {value!r} is none of the options", remedy="Correct the file.")


def _find(videos: Path, name: str) -> Path:
    """A video by its name in the annotations: as it stands, without its first folder, or by its last part."""
    relative = Path(name.lstrip("/"))
    if ".." in relative.parts:
        raise InvalidInput(f"the video {name!r} is outside of the folder of videos", remedy="Correct the file.")
    tails = [relative, Path(*relative.parts[1:]) if len(relative.parts) > 1 else relative, Path(relative.name)]
    for tail in tails:
        for ending in ("", ".mp4", ".mkv", ".webm", ".avi", ".mov"):
            if (path := videos / f"{tail}{ending}").is_file():
                return path
    return videos / relative  # it may come later; whoever opens it says that it is missing
