"""A writer's turn at the library: the lease, and the tidying that comes first.

Whoever gets the lease finds what killed writers left: files in `tmp/`, stored files whose video never made it into the
catalogue, deletions whose files were not all gone. `writing` puts that in order before it hands over, so every verb
that writes starts from a library whose files and catalogue agree.
"""

from __future__ import annotations

import json
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from trifocal.errors import EncoderMismatch, LibraryDamaged, LibraryError
from trifocal.library import contents
from trifocal.library.engine import forget
from trifocal.library.lease import Lease
from trifocal.library.settings import MANIFEST_NAME, Manifest, read_manifest
from trifocal.library.store import remove_tree

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from trifocal.library.catalogue import Catalogue
    from trifocal.library.log import IngestLog
    from trifocal.library.store import Store

__all__ = ["Session", "writing"]


class Session:
    """The right to write, and what is written with.

    Args:
        catalogue: the library's catalogue.
        store: its files.
        log: its log.
        lease: held.
    """

    def __init__(self, catalogue: Catalogue, store: Store, log: IngestLog, lease: Lease) -> None:
        """Use `writing`."""
        self.catalogue = catalogue
        self.store = store
        self.log = log
        self.lease = lease

    def settle(self) -> None:
        """Write `trifocal.json` again when a `reindex` was killed between its swap and that.

        Raises:
            EncoderMismatch: the library was indexed again since it was opened.
        """
        with self.catalogue.read() as connection:
            kept = Manifest.from_json(contents.get_meta(connection, contents.MANIFEST) or "")
        if kept.revision != self.store.space:
            raise EncoderMismatch(
                f"the library has been indexed again since it was opened, by the encoder {kept.encoder.id}",
                remedy="Open it again.",
            )
        with suppress(LibraryDamaged):  # told by `verify`, put right by `repair`
            if read_manifest(self.store.folder).revision < kept.revision:
                self.store.write_file(self.store.folder / MANIFEST_NAME, kept.to_json().encode(), step="manifest")

    def tidy(self) -> list[str]:
        """Put in order what killed writers left.

        Returns:
            What was deleted, as paths below the library's folder.
        """
        self.store.make_folders()
        removed = [f"tmp ({count} files)"] if (count := self.store.clear_temporary()) else []
        self.finish_deletions()
        with self.catalogue.read() as connection:
            known = {str(row["id"]) for row in connection.execute("SELECT id FROM videos")}
            pending = contents.pending_revision(connection)
        for stray in self.store.strays(known, pending=pending):
            remove_tree(stray)
            removed.append(str(stray.relative_to(self.store.folder)))
        return removed

    def finish_deletions(self, *, only: Iterable[str] | None = None) -> int:
        """Delete the stored files and the log lines of videos that the catalogue has let go.

        Args:
            only: these videos; None for all that are noted down; one without a video only has files to forget.

        Returns:
            The bytes that were freed.
        """
        with self.catalogue.read() as connection:
            rows = connection.execute("SELECT video, paths FROM deletions ORDER BY video").fetchall()
            back = {str(row["id"]) for row in connection.execute("SELECT id FROM videos")}
        wanted = None if only is None else set(only)
        rows = [row for row in rows if wanted is None or row["video"] in wanted]
        if not rows:
            return 0
        freed = 0
        for row in rows:
            if row["video"] and row["video"] not in back:
                freed += self.store.delete_video(row["video"])
        self.log.forget(
            videos={row["video"] for row in rows} - back,
            paths={path for row in rows for path in json.loads(row["paths"])},
        )
        # What was searched is derived from the videos; they go from it, or it goes with them.
        freed += forget(self.store, {row["video"] for row in rows} - {""})
        self.store.make_folders()
        self.store.trace("deletion.files")
        with self.catalogue.write(self.lease) as connection:
            connection.executemany("DELETE FROM deletions WHERE video = ?", [(row["video"],) for row in rows])
        self.catalogue.shrink()
        self.store.trace("deletion.done")
        return freed


@contextmanager
def writing(catalogue: Catalogue, store: Store, log: IngestLog, *, verb: str) -> Iterator[Session]:
    """Take the lease, tidy up, and give it back at the end.

    Raises:
        LibraryBusy: another writer holds it.
        LibraryError: the folder may not be written, or the disk is full.
    """
    lease = Lease(catalogue, verb=verb)
    lease.acquire()
    try:
        session = Session(catalogue, store, log, lease)
        session.settle()
        session.tidy()
        try:
            yield session
        except BaseException:
            # What was half written goes at once; but not if another writer has taken over, or the disk does not let it.
            with suppress(LibraryError):
                with catalogue.write(lease):
                    pass
                session.tidy()
            raise
    finally:
        lease.release()
