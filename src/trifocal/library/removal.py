"""`remove`: a video leaves the catalogue, the stored files, the index, the caches and the log; its source file stays.

First one transaction takes the rows out and notes down what is to be deleted; then the files go. A process killed in
between has removed the video already, and the next writer deletes the rest.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal

from trifocal.errors import InvalidInput
from trifocal.library import contents
from trifocal.library.lookup import find_video, paths_under, resolved
from trifocal.library.records import RemoveReport

if TYPE_CHECKING:
    from collections.abc import Iterable

    from trifocal.library.session import Session

__all__ = ["remove"]

_TABLES: tuple[Literal["files", "failures", "jobs"], ...] = ("files", "failures", "jobs")


def remove(session: Session, names: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> RemoveReport:
    """Remove videos or files.

    Args:
        session: the right to write.
        names: an id (or the start of one) means the video with all its files; a path means that file, or the files
            below that folder (those that failed or were cut off included): a video goes when it has none left.

    Raises:
        NotInLibrary: a name means no video; then nothing is removed.
        InvalidInput: no name at all.
    """
    given = [names] if isinstance(names, str | os.PathLike) else list(names)
    if not given:
        raise InvalidInput("nothing to remove is named", remedy="Give ids or paths.")
    with session.catalogue.write(session.lease) as connection:
        paths: set[str] = set()
        for name in given:
            place = resolved(name)
            below = [path for table in _TABLES for path in paths_under(connection, place, table=table)]
            if not below:
                below = [
                    str(row["path"])
                    for row in connection.execute(
                        "SELECT path FROM files WHERE video = ?", (find_video(connection, name),)
                    )
                ]
            paths.update(below)
        for path in sorted(paths):
            for table in _TABLES:
                connection.execute(f"DELETE FROM {table} WHERE path = ?", (path,))  # noqa: S608 - own names
        videos = contents.queue_deletions(connection, paths=paths)
        contents.forget_rootless(connection)
        contents.bump(connection, contents.VISIBILITY)
        session.store.trace("remove.committing")
    session.store.trace("remove.committed")
    freed = session.finish_deletions()
    return RemoveReport(videos=tuple(videos), paths=tuple(sorted(paths)), freed_bytes=freed)
