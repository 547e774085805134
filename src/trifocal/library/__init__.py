"""The library: a folder that holds what is known of a person's videos, and the verbs on it.

`Library` is the front: `create`, `open`, `add`, `find`, `ask`, `videos`, `video`, `remove`, `verify`, `repair`. Behind
it, in the order of an `add`: `scan` (which files), `plan` (what it means), `stages` and `executor` (decode, encode),
`ingest` (the whole, safe to kill), `store` (files), `catalogue`, `schema` and `contents` (SQLite), `lease` and
`session` (who writes); then `view` (the verbs that read), `search`, `lookup`, `removal`, `verify`, `repair`, `salvage`.
"""

from __future__ import annotations

from trifocal.library.executor import Executor, LocalExecutor
from trifocal.library.library import Library
from trifocal.library.query import Query
from trifocal.library.records import (
    AddFailure,
    AddProgress,
    AddReport,
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
    "AddFailure",
    "AddProgress",
    "AddReport",
    "EncoderIdentity",
    "Executor",
    "FileChange",
    "Finding",
    "Library",
    "LibrarySettings",
    "LibraryStatus",
    "LocalExecutor",
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
