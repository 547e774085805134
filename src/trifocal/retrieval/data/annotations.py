"""Readers and writers of the field's annotation files: who says what about which part of which video.

    caption txt        "<video>#enc#<k> <text>" a line; no moments                 MS-SL and its line
    TVR                *_release.jsonl: vid_name, duration, ts, desc, desc_id
    ActivityNet        {video: {duration, timestamps, sentences}}
    Charades-STA       "<video> <start> <end>##<text>" a line; durations from the Charades csv
    QVHighlights       highlight_*_release.jsonl: qid, query, vid, duration, relevant_windows

All give a `CaptionSet`. Caption ids are "<video>#enc#<k>", k counting the captions of a video in the file, as the
field's text features are keyed; a file that says its own (`cap_id`) is believed.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from trifocal.errors import InvalidInput
from trifocal.retrieval.data.captions import Caption, CaptionSet, Span, tidy_moments
from trifocal.retrieval.data.reading import LARGEST_JSON, bad_line, existing, finite, json_lines, json_text, text_lines
from trifocal.retrieval.data.reading import word as text_of

__all__ = [
    "Gathering",
    "read_activitynet",
    "read_caption_txt",
    "read_charades",
    "read_qvhighlights",
    "read_tvr",
    "write_activitynet",
    "write_caption_txt",
    "write_charades",
    "write_qvhighlights",
    "write_tvr",
]


class Gathering:
    """Captions as a reader meets them: numbered per video, with tidy moments, and errors that know the line.

    Args:
        path: the file that is read.
    """

    def __init__(self, path: Path) -> None:
        """Nothing gathered yet."""
        self._path = path
        self._captions: list[Caption] = []
        self._lines: dict[str, int] = {}
        self._numbers: dict[str, int] = {}
        self._mended: list[str] = []
        self.durations_s: dict[str, float] = {}

    def add(
        self,
        video: str,
        text: str,
        *,
        line: int,
        moments_s: Sequence[Span] = (),
        duration_s: float | None = None,
        caption_id: str | None = None,
    ) -> None:
        """Take in one caption.

        Raises:
            InvalidInput: an id that was there, or a duration that is not positive.
        """
        number = self._numbers.get(video, 0)
        self._numbers[video] = number + 1
        name = caption_id or f"{video}#enc#{number}"
        if name in self._lines:
            raise bad_line(
                self._path,
                line,
                f"the caption id {name!r} stands in line {self._lines[name]} too",
                remedy="Give every caption its own id.",
            )
        if duration_s is not None:
            if duration_s <= 0:
                raise bad_line(self._path, line, f"duration is {duration_s}", remedy="Give seconds above 0.")
            self.durations_s[video] = duration_s
        moments, mended = tidy_moments(moments_s, duration_s=duration_s)
        self._mended.extend([f"{name} (line {line})"] if mended else [])
        self._lines[name] = line
        self._captions.append(Caption(name, video, text, moments))

    def done(self) -> CaptionSet:
        """All captions.

        Raises:
            InvalidInput: there are none.
        """
        if not self._captions:
            raise InvalidInput(f"{self._path} holds no captions", remedy="Check that it is the right file.")
        count = len(self._mended)
        note = (
            f"{self._path.name}: {count} moment{'s' * (count != 1)} lay outside the video or ended before the start, "
            f"and {'were' if count != 1 else 'was'} put right: {', '.join(self._mended[:3])}"
        )
        return CaptionSet(tuple(self._captions), self.durations_s, (note,) if count else ())


def read_caption_txt(path: Path | str) -> CaptionSet:
    """Lines "<video>#enc#<k> <text>"; the video is what stands before the first "#".

    Raises:
        InvalidInput: no such file, a line without an id or a text, an id that comes twice, no line at all.
    """
    found = Path(path)
    gathered = Gathering(found)
    for line, text in text_lines(found, what="a caption file"):
        name, _, sentence = text.partition(" ")
        video, mark, _ = name.partition("#")
        if not (mark and video and sentence.strip()):
            raise bad_line(found, line, f"is {text!r:.60}", remedy="Give '<video>#enc#<number> <caption>'.")
        gathered.add(video, sentence.strip(), line=line, caption_id=name)
    return gathered.done()


def write_caption_txt(path: Path | str, captions: CaptionSet) -> None:
    """The file that `read_caption_txt` reads; moments and durations have no place in it."""
    _write(path, "".join(f"{one.id} {one.text}\n" for one in captions))


def read_tvr(path: Path | str) -> CaptionSet:
    """TVR's *_release.jsonl, and files of the same keys: vid_name, duration, ts, desc; cap_id where there is one.

    Raises:
        InvalidInput: no such file, a line that is not such an object, an id that comes twice, no line at all.
    """
    found = Path(path)
    gathered = Gathering(found)
    for line, value in json_lines(found, what="a TVR release file"):
        _need(found, line, value, ("vid_name", "desc"))
        gathered.add(
            text_of(value["vid_name"], where=f"{found}, line {line}: vid_name"),
            text_of(value["desc"], where=f"{found}, line {line}: desc"),
            line=line,
            moments_s=[_span(found, line, "ts", value["ts"])] if "ts" in value else [],
            duration_s=_duration(found, line, value),
            caption_id=text_of(value["cap_id"], where=f"{found}, line {line}: cap_id") if "cap_id" in value else None,
        )
    return gathered.done()


def write_tvr(path: Path | str, captions: CaptionSet) -> None:
    """The file that `read_tvr` reads; of several moments the first."""
    rows = []
    for number, one in enumerate(captions):
        row: dict[str, Any] = {"vid_name": one.video, "desc": one.text, "desc_id": number, "cap_id": one.id}
        row |= {"ts": list(one.moments_s[0])} if one.moments_s else {}
        rows.append(_with_duration(row, captions, one.video))
    _write(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def read_activitynet(path: Path | str, *, text: str | None = None) -> CaptionSet:
    """ActivityNet Captions: {video: {"duration": s, "timestamps": [[start, end], ...], "sentences": [...]}}.

    Args:
        path: the file, or only its name where `text` is given.
        text: the document, for one that lies in an archive.

    Raises:
        InvalidInput: no such file, not such a document, as many timestamps as sentences missing; errors name the
            video, since the file is one line.
    """
    found = Path(path)
    if text is None:
        size = existing(found, what="an ActivityNet Captions file").stat().st_size
        if size > LARGEST_JSON:
            raise InvalidInput(f"{found} has {size} bytes", remedy=f"Give a file of at most {LARGEST_JSON}.")
        try:
            text = found.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise InvalidInput(f"{found} is not UTF-8 ({error.reason})", remedy="Save it as UTF-8.") from error
    gathered = Gathering(found)
    for video, entry in json_text(found, text).items():
        where = f"{found}, video {video!r}"
        if not isinstance(entry, dict) or not {"timestamps", "sentences"} <= entry.keys():
            raise InvalidInput(f"{where} is {entry!r:.60}", remedy="Give duration, timestamps and sentences.")
        spans, sentences = entry["timestamps"], entry["sentences"]
        if not isinstance(spans, list) or not isinstance(sentences, list) or len(spans) != len(sentences):
            counts = [len(value) if isinstance(value, list) else type(value).__name__ for value in (spans, sentences)]
            raise InvalidInput(
                f"{where} has {counts[0]} timestamps and {counts[1]} sentences", remedy="Give one each, as lists."
            )
        duration = finite(entry["duration"], where=f"{where}: duration") if "duration" in entry else None
        for number, (span, sentence) in enumerate(zip(spans, sentences, strict=True)):
            if not isinstance(span, list) or len(span) != 2:
                raise InvalidInput(f"{where}: timestamp {number} is {span!r:.60}", remedy="Give [start, end].")
            start, end = (finite(value, where=f"{where}: timestamp {number}") for value in span)
            said = text_of(sentence, where=f"{where}: sentence {number}")
            gathered.add(video, " ".join(said.split()), line=1, moments_s=[(start, end)], duration_s=duration)
    return gathered.done()


def write_activitynet(path: Path | str, captions: CaptionSet) -> None:
    """The file that `read_activitynet` reads; ids are numbered anew, and every caption needs a moment.

    Raises:
        InvalidInput: a caption without a moment.
    """
    document: dict[str, Any] = {}
    for video, ones in captions.by_video().items():
        bare = [one.id for one in ones if not one.moments_s]
        if bare:
            raise InvalidInput(f"the caption {bare[0]!r} has no moment", remedy="This format needs one each.")
        row = {"timestamps": [list(one.moments_s[0]) for one in ones], "sentences": [one.text for one in ones]}
        document[video] = _with_duration(row, captions, video)
    _write(path, json.dumps(document, ensure_ascii=False))


def read_charades(path: Path | str, *, durations: Path | str | None = None) -> CaptionSet:
    """Charades-STA: lines "<video> <start> <end>##<text>".

    Args:
        path: the annotation file.
        durations: the Charades csv with the columns `id` and `length` (seconds); without it durations are unknown.

    Raises:
        InvalidInput: no such file, a line that is not of this form, no line at all.
    """
    found = Path(path)
    lengths = {} if durations is None else _lengths(Path(durations))
    gathered = Gathering(found)
    for line, text in text_lines(found, what="a Charades-STA file"):
        head, mark, sentence = text.partition("##")
        parts = head.split()
        if len(parts) != 3 or not mark or not sentence.strip():
            raise bad_line(found, line, f"is {text!r:.60}", remedy="Give '<video> <start> <end>##<caption>'.")
        start, end = (_seconds(found, line, value) for value in parts[1:])
        gathered.add(parts[0], sentence.strip(), line=line, moments_s=[(start, end)], duration_s=lengths.get(parts[0]))
    return gathered.done()


def write_charades(path: Path | str, captions: CaptionSet, *, durations: Path | str | None = None) -> None:
    """The file that `read_charades` reads; of several moments the first, and every caption needs one.

    Raises:
        InvalidInput: a caption without a moment.
    """
    lines = []
    for one in captions:
        if not one.moments_s:
            raise InvalidInput(f"the caption {one.id!r} has no moment", remedy="This format needs one each.")
        start, end = one.moments_s[0]
        lines.append(f"{one.video} {start} {end}##{one.text}\n")
    _write(path, "".join(lines))
    if durations is not None:
        rows = io.StringIO()
        writer = csv.writer(rows, lineterminator="\n")
        writer.writerow(("id", "length"))
        writer.writerows(captions.durations_s.items())
        _write(durations, rows.getvalue())


def read_qvhighlights(path: Path | str, *, merge: bool = False) -> CaptionSet:
    """QVHighlights' highlight_*_release.jsonl; a query may have several windows.

    Args:
        path: the file.
        merge: make the videos of partially relevant retrieval: the clips "<source>_<start>_<end>" of one source become
            one video named by the source, in the order of their starts, one after the other, and the windows move
            along.

    Raises:
        InvalidInput: no such file, a line that is not such an object, a clip name without start and end where merging
            needs them, two clips of one source that begin together.
    """
    found = Path(path)
    rows: list[tuple[int, str, str, list[Span], float | None, str | None]] = []
    for line, value in json_lines(found, what="a QVHighlights release file"):
        _need(found, line, value, ("vid", "query"))
        windows = value.get("relevant_windows", [])
        if not isinstance(windows, list):
            raise bad_line(found, line, f"relevant_windows is {windows!r:.60}", remedy="Give [[start, end], ...].")
        video = text_of(value["vid"], where=f"{found}, line {line}: vid")
        query = text_of(value["query"], where=f"{found}, line {line}: query")
        spans = [_span(found, line, "relevant_windows", window) for window in windows]
        name = text_of(value["cap_id"], where=f"{found}, line {line}: cap_id") if "cap_id" in value else None
        rows.append((line, video, query, spans, _duration(found, line, value), name))
    places = _merged_places(found, {video: (line, seconds) for line, video, _, _, seconds, _ in rows}) if merge else {}
    gathered = Gathering(found)
    for line, video, query, spans, seconds, name in rows:
        source, offset, whole = places.get(video, (video, 0.0, seconds))
        moved, _ = tidy_moments(spans, duration_s=seconds) if merge else (tuple(spans), False)
        shifted = [(start + offset, end + offset) for start, end in moved]
        gathered.add(source, query, line=line, moments_s=shifted, duration_s=whole, caption_id=name)
    return gathered.done()


def write_qvhighlights(path: Path | str, captions: CaptionSet) -> None:
    """The file that `read_qvhighlights` reads, with the captions' ids under cap_id."""
    rows = []
    for number, one in enumerate(captions):
        row: dict[str, Any] = {"qid": number, "query": one.text, "vid": one.video, "cap_id": one.id}
        row["relevant_windows"] = [list(span) for span in one.moments_s]
        rows.append(_with_duration(row, captions, one.video))
    _write(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def _merged_places(
    path: Path, clips: Mapping[str, tuple[int, float | None]]
) -> dict[str, tuple[str, float, float | None]]:
    """For every clip: its source, where the clip begins in the merged video, and how long that is."""
    sources: dict[str, list[tuple[float, float, str]]] = {}
    for video, (line, seconds) in clips.items():
        parts = video.rsplit("_", 2)
        if len(parts) != 3:
            raise bad_line(path, line, f"vid is {video!r}", remedy="Merging needs '<source>_<start>_<end>'.")
        start, end = (_seconds(path, line, value) for value in parts[1:])
        sources.setdefault(parts[0], []).append((start, seconds if seconds is not None else end - start, video))
    places: dict[str, tuple[str, float, float | None]] = {}
    for source, found in sources.items():
        total = sum(length for _, length, _ in found)
        offset = 0.0
        found.sort()
        for (start, _, one), (other_start, _, other) in pairwise(found):
            if start == other_start:
                raise bad_line(
                    path,
                    max(clips[one][0], clips[other][0]),
                    f"has a clip that begins with another of its source: {one} and {other}",
                    remedy="Merging puts clips one after the other; leave one of them out.",
                )
        for _, length, video in found:
            places[video] = (source, offset, total)
            offset += length
    return places


def _lengths(path: Path) -> dict[str, float]:
    lengths: dict[str, float] = {}
    rows = csv.reader(text for _, text in text_lines(path, what="the Charades csv"))
    header = next(rows, [])
    if not {"id", "length"} <= set(header):
        raise bad_line(path, 1, f"has the columns {', '.join(header)}", remedy="Give a csv with id and length.")
    for row in rows:
        if len(row) == len(header):
            values = dict(zip(header, row, strict=True))
            lengths[values["id"]] = _seconds(path, rows.line_num, values["length"])
    return lengths


def _need(path: Path, line: int, value: Mapping[str, Any], keys: Sequence[str]) -> None:
    missing = [key for key in keys if key not in value]
    if missing:
        raise bad_line(path, line, f"has no {', '.join(missing)}", remedy=f"Give an object with {', '.join(keys)}.")


def _span(path: Path, line: int, key: str, value: Any) -> Span:
    if not isinstance(value, list) or len(value) != 2:
        raise bad_line(path, line, f"{key} holds {value!r:.60}", remedy="Give [start, end] in seconds.")
    start, end = (finite(one, where=f"{path}, line {line}: {key}") for one in value)
    return start, end


def _duration(path: Path, line: int, value: Mapping[str, Any]) -> float | None:
    return finite(value["duration"], where=f"{path}, line {line}: duration") if "duration" in value else None


def _seconds(path: Path, line: int, text: str) -> float:
    try:
        return finite(float(text), where=f"{path}, line {line}: a time")
    except ValueError as error:
        raise bad_line(path, line, f"{text!r:.60} is no time", remedy="Give seconds, such as 12.5.") from error


def _with_duration(row: dict[str, Any], captions: CaptionSet, video: str) -> dict[str, Any]:
    return row | ({"duration": captions.durations_s[video]} if video in captions.durations_s else {})


def _write(path: Path | str, text: str) -> None:
    Path(path).write_text(text, encoding="utf-8")
