"""What a scan means for the catalogue, decided before anything is changed.

`make_plan` is a pure function of the catalogue's files, the files on the disk with their content ids, and the files
that are gone. Each file found is one of: unchanged, restored (was missing), moved (its video lost another path), a
duplicate (its video has other paths), or content that the library does not hold yet, which becomes a task. What is
decided depends on the two states alone, not on the order of listing, so an `add` that was killed half-way plans the
rest to the same end.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from trifocal.library.scan import FoundFile

__all__ = ["FileRow", "FileUpdate", "IngestTask", "Plan", "SeenFile", "make_plan"]

Kind = Literal["unchanged", "restored", "moved", "duplicate"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRow:
    """A file in the catalogue."""

    path: str
    video: str
    sha256: str
    root: str
    size: int
    mtime_ns: int
    inode: int
    state: str

    def looks_like(self, found: FoundFile) -> bool:
        """Whether size, time and file number say that the content is the one that was read."""
        return (self.size, self.mtime_ns, self.inode) == (found.size, found.mtime_ns, found.inode)


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenFile:
    """A file on the disk with the SHA-256 of its content."""

    found: FoundFile
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FileUpdate:
    """A file whose content the library holds: what its row becomes.

    Args:
        kind: what happened to it.
        seen: the file.
        video: the video it holds.
        was: its former path, if it moved.
    """

    kind: Kind
    seen: SeenFile
    video: str
    was: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestTask:
    """Content that the library does not hold yet.

    Args:
        sha256: of the content.
        files: where it was found, sorted by path; the first is decoded.
        before: the video that a path held until now, by path.
    """

    sha256: str
    files: tuple[FoundFile, ...]
    before: Mapping[str, str] = field(default_factory=dict)

    @property
    def path(self) -> str:
        """The file that is decoded."""
        return self.files[0].path


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do.

    Args:
        updates: rows to write, sorted by path.
        vacated: rows to delete: former paths of what moved.
        missing: rows whose file is gone, to be marked.
        tasks: content to ingest, sorted by path.
    """

    updates: tuple[FileUpdate, ...]
    vacated: tuple[str, ...]
    missing: tuple[FileRow, ...]
    tasks: tuple[IngestTask, ...]


def make_plan(
    rows: Iterable[FileRow],
    seen: Iterable[SeenFile],
    *,
    gone: set[str],
    exists: Callable[[str], bool],
) -> Plan:
    """Decide what becomes of every file.

    Args:
        rows: the catalogue's files, all of them.
        seen: the files found, each path once.
        gone: paths of the catalogue that were looked for and are not on the disk.
        exists: whether a path that was not looked for is on the disk; asked only about other paths of a video that
            turned up at a new one.
    """
    by_path = {row.path: row for row in rows}
    by_content: dict[str, list[FileRow]] = {}
    for row in sorted(by_path.values(), key=lambda row: row.path):
        by_content.setdefault(row.sha256, []).append(row)
    now = {file.found.path: file.sha256 for file in seen}

    def vacant(row: FileRow) -> bool:
        if row.path in now:
            return now[row.path] != row.sha256
        return row.path in gone or not exists(row.path)

    updates: list[FileUpdate] = []
    claimed: set[str] = set()
    waiting: dict[str, list[FoundFile]] = {}
    for file in sorted(seen, key=lambda file: file.found.path):
        held = by_path.get(file.found.path)
        if held is not None and held.sha256 == file.sha256:
            kind: Kind = "restored" if held.state == "missing" else "unchanged"
            updates.append(FileUpdate(kind=kind, seen=file, video=held.video))
        elif file.sha256 in by_content:
            others = by_content[file.sha256]
            former = next((other for other in others if other.path not in claimed and vacant(other)), None)
            if former is not None:
                claimed.add(former.path)
            updates.append(
                FileUpdate(
                    kind="duplicate" if former is None else "moved",
                    seen=file,
                    video=others[0].video,
                    was="" if former is None else former.path,
                )
            )
        else:
            waiting.setdefault(file.sha256, []).append(file.found)
    rewritten = {update.seen.found.path for update in updates}
    return Plan(
        updates=tuple(updates),
        vacated=tuple(sorted(claimed - rewritten)),
        missing=tuple(
            row for path, row in sorted(by_path.items()) if path in gone - claimed and row.state == "present"
        ),
        tasks=tuple(
            IngestTask(
                sha256=sha256,
                files=tuple(files),
                before={file.path: by_path[file.path].video for file in files if file.path in by_path},
            )
            for sha256, files in waiting.items()
        ),
    )
