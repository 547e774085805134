"""`find`: an exact index over all prototypes, derived from the catalogue and built again when that has changed.

`index/<generation>/` holds the index of the catalogue's generation of that number. Whoever searches first after a
change builds it beside, under a name of its own, and renames it into place; of two that do so at once one wins and
both are right. Older ones are deleted; who has them mapped keeps reading. In a folder that may not be written, the
index is built in a temporary folder of this process instead. The folder can be deleted at any time.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from trifocal.errors import InvalidInput, LibraryDamaged, LibraryError, LibraryNotFound
from trifocal.library import contents
from trifocal.library.lease import process_start
from trifocal.library.store import disk_errors, remove_tree
from trifocal.retrieval.index import ExactIndex
from trifocal.retrieval.prototypes import Prototypes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trifocal.library.catalogue import Catalogue
    from trifocal.library.settings import EncoderIdentity
    from trifocal.library.store import Store

__all__ = ["Search", "load_prototypes"]

# A writer may remove a video, and the index with it, while they are being read; then there is something newer to read.
_TRIES = 4
_BUILDING = ".build-"


def load_prototypes(catalogue: Catalogue, store: Store, video: str) -> Prototypes:
    """A video's prototypes, their hash checked.

    Raises:
        LibraryDamaged: the file is missing or not what was written, or does not fit its spans.
    """
    with catalogue.read() as connection:
        row = connection.execute("SELECT prototypes_sha256 FROM videos WHERE id = ?", (video,)).fetchone()
        spans_s = contents.spans(connection, video)
    if row is None:
        raise LibraryDamaged(f"video {video} is not in the catalogue", remedy="Run the command again.")
    vectors = store.read_prototypes(video, sha256=row["prototypes_sha256"])
    try:
        return Prototypes(vectors=vectors, spans_s=spans_s)
    except InvalidInput as error:
        raise LibraryDamaged(
            f"the prototypes of video {video} cannot be used: {error.message}", remedy="Run `trifocal verify --repair`."
        ) from error


class Search:
    """The library's index, kept open between searches; safe to use from several threads.

    Args:
        catalogue: the library's catalogue.
        store: its files.
        encoder: what made its prototypes.
    """

    def __init__(self, catalogue: Catalogue, store: Store, *, encoder: EncoderIdentity) -> None:
        """Nothing is opened before the first search."""
        self._catalogue = catalogue
        self._store = store
        self._encoder = encoder
        self._lock = threading.Lock()
        self._index: tuple[int, ExactIndex] | None = None
        self._hidden: tuple[tuple[int, int], frozenset[str]] | None = None
        self._temporary: tempfile.TemporaryDirectory[str] | None = None

    def index(self) -> tuple[ExactIndex, frozenset[str]]:
        """The index of the catalogue as it is now, and the videos that have no file.

        Raises:
            LibraryDamaged: a prototype file is missing or damaged.
            LibraryError: the disk is full.
        """
        with self._lock:
            for attempt in range(_TRIES):
                with self._catalogue.read() as connection:
                    generation = int(contents.get_meta(connection, contents.GENERATION) or 0)
                    visibility = int(contents.get_meta(connection, contents.VISIBILITY) or 0)
                    if self._hidden is None or self._hidden[0] != (generation, visibility):
                        self._hidden = (generation, visibility), frozenset(contents.hidden_videos(connection))
                if self._index is not None and self._index[0] == generation:
                    break
                try:
                    self._index = generation, self._open_or_build(generation)
                    break
                except LibraryError:
                    if attempt == _TRIES - 1:
                        raise
            assert self._index is not None
            assert self._hidden is not None
            return self._index[1], self._hidden[1]

    def trouble(self) -> tuple[bool, str] | None:
        """What is wrong with the index on the disk: whether it is a problem, and which.

        An index that is older than the catalogue is none: the next search builds it. Nor is one that was never built.
        """
        folder = self._store.folder / "index"
        names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
        names = [name for name in names if not name.startswith(_BUILDING)]
        generation = self._generation()
        if not names:
            return None
        if str(generation) not in names:
            return False, f"the index is of generation {', '.join(names)}, the catalogue of {generation}"
        try:
            index = ExactIndex.open(folder / str(generation), encoder=self._encoder.id)
            index.verify()
        except LibraryError as error:
            return True, error.message
        with self._catalogue.read() as connection:
            known = {str(row["id"]) for row in connection.execute("SELECT id FROM videos")}
        if known != set(index.videos):
            return True, "the index does not hold the catalogue's videos"
        return None

    def clear(self) -> None:
        """Delete the index; the next search builds it again."""
        with self._lock:
            self._index = None
            self._store.discard(self._store.folder / "index")
            self._store.make_folders()

    def close(self) -> None:
        """Let the files go."""
        with self._lock:
            self._index = None
            if self._temporary is not None:
                self._temporary.cleanup()
                self._temporary = None

    def _generation(self) -> int:
        with self._catalogue.read() as connection:
            return int(contents.get_meta(connection, contents.GENERATION) or 0)

    def _open_or_build(self, generation: int) -> ExactIndex:
        if self._catalogue.read_only:
            with contextlib.suppress(LibraryNotFound, LibraryDamaged):  # then built where this process may write
                return ExactIndex.open(self._store.folder / "index" / str(generation), encoder=self._encoder.id)
            self._temporary = self._temporary or tempfile.TemporaryDirectory(prefix="trifocal-index-")
            return self._build(Path(self._temporary.name) / str(generation))
        folder = self._store.folder / "index"
        place = folder / str(generation)
        try:
            return ExactIndex.open(place, encoder=self._encoder.id)
        except (LibraryNotFound, LibraryDamaged):
            pass  # not built yet, or damaged: both are mended by building
        with disk_errors("building the index"):
            folder.mkdir(exist_ok=True)
            beside = folder / f"{_BUILDING}{os.getpid()}-{secrets.token_hex(4)}"
            try:
                self._build(beside)
                try:
                    beside.rename(place)
                except OSError:  # another process was faster, or a damaged one is in the way
                    try:
                        return ExactIndex.open(place, encoder=self._encoder.id)
                    except LibraryError:
                        remove_tree(place)
                        beside.rename(place)
            finally:
                remove_tree(beside)
            self._sweep(folder, keep=place)
        return ExactIndex.open(place, encoder=self._encoder.id)

    def _build(self, folder: Path) -> ExactIndex:
        return ExactIndex.build(folder, self._items(), encoder=self._encoder.id, dim=self._encoder.dim)

    def _items(self) -> Iterator[tuple[str, Prototypes]]:
        with self._catalogue.read() as connection:
            videos = [str(row["id"]) for row in connection.execute("SELECT id FROM videos ORDER BY id")]
        for video in videos:
            yield video, load_prototypes(self._catalogue, self._store, video)

    @staticmethod
    def _sweep(folder: Path, *, keep: Path) -> None:
        """Delete older generations, and what builders left that are gone."""
        for path in sorted(folder.iterdir()):
            if path == keep:
                continue
            if path.name.startswith(_BUILDING):
                owner = path.name.removeprefix(_BUILDING).split("-")[0]
                if owner.isdigit() and process_start(int(owner)) is not None:
                    continue
            # Another reader may sweep at the same time.
            with contextlib.suppress(OSError):
                remove_tree(path)
