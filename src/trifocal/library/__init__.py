"""The library: a folder that holds what is known of a person's videos, and the verbs on it.

`Library` is the front: `create`, `open`, `add`, `find`, `ask`, `detect`, `videos`, `remove`, `verify`, ... Behind
it, in the order of an `add`: `addition` (the whole), `scan` (which files), `plan` (what it means), `stages` and
`executor` (decode, encode), `ingest` (each new content, safe to kill), `tally` (the report), `store` (files),
`catalogue`, `schema` and `contents` (SQLite), `lease` and `session` (who writes); then `view` (the verbs that read),
`search`, `lookup`, `removal`; `upkeep` (the verbs that keep it in order) with `verify`, `repair`, `salvage`, `reindex`.
Of a `detect`: `looker` (a detector), `detection` (the act), `tubes` (rows), `acting` (moments where somebody acts).
"""

from __future__ import annotations

from trifocal.library.detection import DetectionReport
from trifocal.library.executor import Executor, LocalExecutor
from trifocal.library.library import Library
from trifocal.library.looker import Looker
from trifocal.library.query import Query
from trifocal.library.records import (
    ActionSpan,
    AddFailure,
    AddProgress,
    AddReport,
    Detection,
    DetectProgress,
    FileChange,
    LibraryStatus,
    RemoveReport,
    StageTimes,
    Thumbnail,
    VideoRecord,
)
from trifocal.library.reindex import ReindexReport
from trifocal.library.repair import RepairReport
from trifocal.library.settings import EncoderIdentity, LibrarySettings
from trifocal.library.verify import Finding, VerifyReport
from trifocal.retrieval import Moment, VideoFilter

__all__ = [
    "ActionSpan",
    "AddFailure",
    "AddProgress",
    "AddReport",
    "DetectProgress",
    "Detection",
    "DetectionReport",
    "EncoderIdentity",
    "Executor",
    "FileChange",
    "Finding",
    "Library",
    "LibrarySettings",
    "LibraryStatus",
    "LocalExecutor",
    "Looker",
    "Moment",
    "Query",
    "ReindexReport",
    "RemoveReport",
    "RepairReport",
    "StageTimes",
    "Thumbnail",
    "VerifyReport",
    "VideoFilter",
    "VideoRecord",
]
