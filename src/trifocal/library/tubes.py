"""The statements for tubes: what detectors saw, as rows of the catalogue, and back.

`detections` has a row for each video and detector, `tubes` one for each actor, `tube_actions` one for each action of
it, with its peak beside the scores so that a search reads only what can count. Times, boxes and scores are stored as
the little-endian numbers they were; a hash over them all tells damage. Like `contents`, all functions take a connection
inside `Catalogue.read()` or `Catalogue.write()`, and none commits.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from trifocal.errors import InvalidInput, LibraryDamaged
from trifocal.library.contents import now
from trifocal.library.records import ActionSpan, Detection

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Sequence

    from trifocal.action import DetectReport, Tube
    from trifocal.library.looker import Looker

__all__ = [
    "action_spans",
    "delete_detection",
    "detections",
    "known_actions",
    "looked_with",
    "put_detection",
    "read_report",
    "resolved_actions",
    "unseen_videos",
]

_LISTED = 12
_REPAIR = "Run `trifocal verify --repair`."


def put_detection(connection: sqlite3.Connection, video: str, *, looker: Looker, report: DetectReport) -> Detection:
    """Write what a detector saw in a video, in place of what it saw before."""
    delete_detection(connection, video, looker.id)
    digest, size = _digest(report.tubes)
    values: dict[str, Any] = {
        "video": video,
        "model": looker.id,
        "name": looker.name,
        "caveat": report.caveat,
        "classes": json.dumps(looker.classes, ensure_ascii=False),
        "config": looker.config,
        "width": report.width,
        "height": report.height,
        "moments": report.moments,
        "end_s": report.end_s,
        "warnings": json.dumps(report.warnings, ensure_ascii=False),
        "tubes": len(report.tubes),
        "tubes_sha256": digest,
        "tubes_bytes": size,
        "detected_at": now(),
    }
    connection.execute(
        f"INSERT INTO detections ({', '.join(values)}) VALUES ({', '.join('?' * len(values))})",  # noqa: S608 - own names
        tuple(values.values()),
    )
    for place, tube in enumerate(report.tubes):
        key = (video, looker.id, place)
        times, boxes = tube.times_s.astype("<f8").tobytes(), tube.boxes_xyxy.astype("<f4").tobytes()
        connection.execute("INSERT INTO tubes VALUES (?, ?, ?, ?, ?, ?)", (*key, tube.actor, times, boxes))
        connection.executemany(
            "INSERT INTO tube_actions VALUES (?, ?, ?, ?, ?, ?, ?)",
            [
                (*key, rank, action, float(scores.max()), scores.astype("<f4").tobytes())
                for rank, (action, scores) in enumerate(tube.actions.items())
            ],
        )
    return detections(connection, video, model=looker.id)[0]


def delete_detection(connection: sqlite3.Connection, video: str, model: str) -> None:
    """Delete what a detector saw in a video, tubes and all."""
    connection.execute("DELETE FROM detections WHERE video = ? AND model = ?", (video, model))


def detections(
    connection: sqlite3.Connection, video: str | None = None, *, model: str | None = None
) -> list[Detection]:
    """What was looked at, by video, then by the detector's name and id.

    Args:
        connection: inside `read()`.
        video: of this video alone.
        model: by detectors of this id or name alone.
    """
    rows = connection.execute(
        "SELECT * FROM detections WHERE (?1 IS NULL OR video = ?1) AND (?2 IS NULL OR model = ?2 OR name = ?2)"
        " ORDER BY video, name, model",
        (video, model),
    )
    return [
        Detection(
            video=row["video"],
            model=row["model"],
            name=row["name"],
            classes=tuple(json.loads(row["classes"])),
            tubes=row["tubes"],
            moments=row["moments"],
            end_s=row["end_s"],
            stored_bytes=row["tubes_bytes"],
            detected_at=row["detected_at"],
        )
        for row in rows
    ]


def looked_with(connection: sqlite3.Connection, model: str) -> dict[str, str]:
    """For each video that the detector of this id has looked at, the config it did so with."""
    rows = connection.execute("SELECT video, config FROM detections WHERE model = ?", (model,))
    return {str(row["video"]): str(row["config"]) for row in rows}


def read_report(connection: sqlite3.Connection, video: str, model: str) -> DetectReport:
    """What a detector saw in a video, its hash checked.

    Args:
        connection: inside `read()`.
        video: its id.
        model: the detector's id; there is such a row.

    Raises:
        LibraryDamaged: the rows are not what was written.
    """
    from trifocal.action import DetectReport, Tube  # brings torch; only who asks for tubes pays for it

    about = connection.execute("SELECT * FROM detections WHERE video = ? AND model = ?", (video, model)).fetchone()
    actions: dict[int, dict[str, Any]] = {}
    found: list[Tube] = []
    try:
        for row in connection.execute(
            "SELECT number, action, scores FROM tube_actions WHERE video = ? AND model = ? ORDER BY number, place",
            (video, model),
        ):
            actions.setdefault(row["number"], {})[row["action"]] = np.frombuffer(row["scores"], "<f4")
        for row in connection.execute(
            "SELECT number, actor, times, boxes FROM tubes WHERE video = ? AND model = ? ORDER BY number",
            (video, model),
        ):
            boxes = np.frombuffer(row["boxes"], "<f4").reshape(-1, 4)
            seconds = np.frombuffer(row["times"], "<f8")
            found.append(Tube(video, row["actor"], seconds, boxes, actions.get(row["number"], {})))
    except ValueError as error:
        raise LibraryDamaged(
            f"the tubes of video {video} by {about['name']} are damaged: {str(error).splitlines()[0]}", remedy=_REPAIR
        ) from error
    if (len(found), _digest(found)[0]) != (about["tubes"], about["tubes_sha256"]):
        raise LibraryDamaged(f"the tubes of video {video} by {about['name']} are not what was written", remedy=_REPAIR)
    return DetectReport(
        video=video,
        tubes=tuple(found),
        width=about["width"],
        height=about["height"],
        moments=about["moments"],
        end_s=about["end_s"],
        model=about["name"],
        caveat=about["caveat"],
        warnings=tuple(json.loads(about["warnings"])),
    )


def action_spans(connection: sqlite3.Connection, actions: Sequence[str], *, least_score: float) -> list[ActionSpan]:
    """The stretches in which an actor of any video does one of the actions, best first.

    Args:
        connection: inside `read()`.
        actions: as `resolved_actions` gives them.
        least_score: an action is going on while its score is at least this.

    Returns:
        To the millisecond, by falling mean score; ties by video, start, action, actor.
    """
    from trifocal.action import Tube
    from trifocal.action import action_spans as spans_of

    # Scores are float32, and so is the bound that they are compared with; a peak at the bound must not be passed over.
    bound = float(np.float32(least_score))
    spans: list[ActionSpan] = []
    for row in connection.execute(
        "SELECT tubes.video, tubes.model, actor, action, times, scores, duration_s FROM tube_actions"
        " JOIN tubes USING (video, model, number) JOIN videos ON videos.id = tubes.video"
        " WHERE peak >= ? AND action IN (SELECT value FROM json_each(?))",
        (bound, json.dumps(actions)),
    ):
        try:
            times, scores = np.frombuffer(row["times"], "<f8"), np.frombuffer(row["scores"], "<f4")
            boxes = np.zeros((len(times), 4), np.float32)  # where does not matter here
            tube = Tube(row["video"], row["actor"], times, boxes, {row["action"]: scores})
        except ValueError as error:
            raise LibraryDamaged(f"the tubes of video {row['video']} are damaged", remedy=_REPAIR) from error
        for action, start_s, end_s, score in spans_of(tube, least_score=bound):
            start_s = min(start_s, row["duration_s"])
            spans.append(
                ActionSpan(
                    video=row["video"],
                    action=action,
                    actor=row["actor"],
                    start_s=round(start_s, 3),
                    end_s=round(max(start_s, min(end_s, row["duration_s"])), 3),
                    score=round(score, 6),
                    model=row["model"],
                )
            )
    return sorted(spans, key=ActionSpan.sort_key)


def known_actions(connection: sqlite3.Connection) -> list[str]:
    """The actions that the detectors know which have looked at any video, sorted."""
    rows = connection.execute("SELECT DISTINCT classes FROM detections")
    return sorted({action for row in rows for action in json.loads(row["classes"])})


def resolved_actions(connection: sqlite3.Connection, actions: Iterable[str]) -> tuple[str, ...]:
    """Names of actions as the detectors spell them; capitals do not matter.

    Raises:
        InvalidInput: no detector knows one of them, none is named, or no video has been looked at.
    """
    wanted, known = list(dict.fromkeys(actions)), known_actions(connection)
    if not wanted:
        raise InvalidInput("no action is named", remedy="Name at least one.")
    if not known:
        raise InvalidInput(
            "no video of the library has been looked at by a detector", remedy="Run `trifocal detect --all`."
        )
    by_fold: dict[str, list[str]] = {}
    for name in known:
        by_fold.setdefault(name.casefold(), []).append(name)
    found: list[str] = []
    for name in wanted:
        if name in known:
            found.append(name)
            continue
        folded = name.strip().casefold()
        if folded not in by_fold:
            near = difflib.get_close_matches(folded, by_fold, n=3, cutoff=0.5)
            near += [fold for fold in by_fold if folded and folded in fold and fold not in near][: 3 - len(near)]
            close = [one for fold in near for one in by_fold[fold]]
            more = f" and {len(known) - _LISTED} more" if len(known) > _LISTED else ""
            remedy = (
                f"Did you mean {' or '.join(close)}?" if close else f"Known are {', '.join(known[:_LISTED])}{more}."
            )
            raise InvalidInput(f"no detector that looked at the library knows the action {name!r}", remedy=remedy)
        found += by_fold[folded]
    return tuple(dict.fromkeys(found))


def unseen_videos(connection: sqlite3.Connection, actions: Iterable[str] | None = None) -> set[str]:
    """The videos that no detector has looked at, or none that knows one of the actions."""
    wanted = None if actions is None else set(actions)
    seen = {
        str(row["video"])
        for row in connection.execute("SELECT video, classes FROM detections")
        if wanted is None or wanted & set(json.loads(row["classes"]))
    }
    return {str(row["id"]) for row in connection.execute("SELECT id FROM videos")} - seen


def _digest(tubes: Iterable[Tube]) -> tuple[str, int]:
    """The SHA-256 over everything that tubes say, and the bytes of their numbers."""
    digest, size = hashlib.sha256(), 0
    for tube in tubes:
        digest.update(f"tube {tube.actor} {len(tube)} {len(tube.actions)}\n".encode())
        parts = [tube.times_s.astype("<f8").tobytes(), tube.boxes_xyxy.astype("<f4").tobytes()]
        for action, scores in tube.actions.items():
            digest.update(f"{json.dumps(action)}\n".encode())
            parts.append(scores.astype("<f4").tobytes())
        for part in parts:
            digest.update(part)
            size += len(part)
    return digest.hexdigest(), size
