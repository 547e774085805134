"""The library's index: derived from the catalogue, and brought up to date by whoever searches first after a change.

The exact engine lies in `index/<generation>/`, the state of the catalogue's generation of that number. A newer one is
made beside, under a name of its own, from the files of the one before (hard links, as an index's files never change)
and the videos that differ, and renamed into place; of two that do so at once one wins and both are right. Older ones
are deleted; who has them mapped keeps reading. In a folder that may not be written, the index is built in a temporary
folder of this process. The store engine (`engine`) is one table, changed in place. Both can be deleted at any time.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from trifocal.errors import EncoderMismatch, InvalidInput, LibraryDamaged, LibraryError, LibraryNotFound
from trifocal.library import contents
from trifocal.library.engine import Engine, opened_store, updated
from trifocal.library.lease import process_start
from trifocal.library.store import disk_errors, remove_tree
from trifocal.retrieval import ExactIndex, IndexItem, PrototypeIndex, Prototypes, VideoFacts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from trifocal.library.catalogue import Catalogue
    from trifocal.library.settings import Manifest
    from trifocal.library.store import Store
    from trifocal.retrieval.index.codes import Codes

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
        manifest: what the library was when it was opened; a later revision of it is refused.
    """

    def __init__(self, catalogue: Catalogue, store: Store, *, manifest: Manifest) -> None:
        """Nothing is opened before the first search."""
        self._catalogue = catalogue
        self._store = store
        self._manifest = manifest
        self._encoder = manifest.encoder
        self._lock = threading.Lock()
        self._index: tuple[tuple[int, str], PrototypeIndex] | None = None
        self._hidden: tuple[tuple[int, int], frozenset[str]] | None = None
        self._temporary: tempfile.TemporaryDirectory[str] | None = None

    def index(self) -> tuple[PrototypeIndex, frozenset[str]]:
        """The index of the catalogue as it is now, and the videos that have no file.

        Raises:
            LibraryDamaged: a prototype file is missing or damaged.
            LibraryError: the disk is full.
            EncoderMismatch: the library has been indexed again by another encoder since it was opened.
        """
        with self._lock:
            for attempt in range(_TRIES):
                with self._catalogue.read() as connection:
                    contents.check_revision(connection, self._manifest)
                    generation = int(contents.get_meta(connection, contents.GENERATION) or 0)
                    visibility = int(contents.get_meta(connection, contents.VISIBILITY) or 0)
                    engine = contents.get_meta(connection, contents.ENGINE) or ""
                    if self._hidden is None or self._hidden[0] != (generation, visibility):
                        self._hidden = (generation, visibility), frozenset(contents.hidden_videos(connection))
                if self._index is not None and self._index[0] == (generation, engine):
                    break
                try:
                    chosen = Engine.of(engine)
                    stored = chosen.engine == "store"
                    made = self._stored(chosen) if stored else self._open_or_build(generation, chosen.codes)
                    self._index = (generation, engine), made
                    break
                except EncoderMismatch:
                    raise
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
        with self._catalogue.read() as connection:
            generation = int(contents.get_meta(connection, contents.GENERATION) or 0)
            text = contents.get_meta(connection, contents.ENGINE) or ""
            known = contents.index_rows(connection)
        try:
            engine = Engine.of(text)
        except LibraryDamaged as error:
            return True, error.message
        if engine.engine == "store":
            return self._store_trouble(engine, {video: row[0] for video, row in known.items()})
        folder = self._store.folder / "index"
        names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
        names = [name for name in names if not name.startswith(_BUILDING)]
        if not names:
            return None
        if str(generation) not in names:
            return False, f"the index is of generation {', '.join(names)}, the catalogue of {generation}"
        try:
            index = ExactIndex.open(folder / str(generation), encoder=self._encoder.id)
            index.verify()
        except LibraryError as error:
            return True, error.message
        if set(known) != set(index.videos):
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

    def _open_or_build(self, generation: int, codes: Codes | None) -> ExactIndex:
        if self._catalogue.read_only:
            # Not there, or not usable: then built where this process may write.
            with contextlib.suppress(LibraryNotFound, LibraryDamaged, InvalidInput):
                return self._open(self._store.folder / "index" / str(generation), codes)
            self._temporary = self._temporary or tempfile.TemporaryDirectory(prefix="trifocal-index-")
            place = Path(self._temporary.name) / str(generation)
            self._build(place, codes)
            return self._open(place, codes)
        folder = self._store.folder / "index"
        place = folder / str(generation)
        try:
            return self._open(place, codes)
        except (LibraryNotFound, LibraryDamaged, InvalidInput):
            pass  # not built yet, damaged, or without these codes: all are mended by building
        with disk_errors("building the index"):
            folder.mkdir(exist_ok=True)
            beside = folder / f"{_BUILDING}{os.getpid()}-{secrets.token_hex(4)}"
            try:
                if not self._grown(folder, beside, codes):
                    remove_tree(beside)
                    self._build(beside, codes)
                try:
                    beside.rename(place)
                except OSError:  # another process was faster, or a damaged one is in the way
                    try:
                        return self._open(place, codes)
                    except (LibraryError, InvalidInput):
                        remove_tree(place)
                        beside.rename(place)
            finally:
                remove_tree(beside)
            self._sweep(folder, keep=place)
        return self._open(place, codes)

    def _open(self, place: Path, codes: Codes | None) -> ExactIndex:
        return ExactIndex.open(place, encoder=self._encoder.id, codes=codes)

    def _build(self, folder: Path, codes: Codes | None) -> None:
        with self._catalogue.read() as connection:
            rows = contents.index_rows(connection)
        kinds = [] if codes is None else [codes]
        items = self._items(sorted(rows))
        ExactIndex.build(folder, items, encoder=self._encoder.id, dim=self._encoder.dim, codes=kinds)

    def _grown(self, folder: Path, beside: Path, codes: Codes | None) -> bool:
        """Make the index out of the newest older one; False when there is none that can be used."""
        older = sorted((int(path.name), path) for path in folder.iterdir() if path.name.isdigit())
        if not older:
            return False
        try:
            shutil.copytree(older[-1][1], beside, copy_function=_linked)
            self._update(self._open(beside, codes))
        except (LibraryError, InvalidInput, OSError):
            # Damaged, without these codes, of another encoder, or swept away by another process meanwhile: built from
            # the prototypes then.
            return False
        return True

    def _stored(self, engine: Engine) -> PrototypeIndex:
        folder = self._store.folder / "index"
        with disk_errors("opening the store"):
            folder.mkdir(exist_ok=True)
        writable = not self._catalogue.read_only
        index = opened_store(engine, folder, encoder=self._encoder, revision=self._manifest.revision, writable=writable)
        if not self._catalogue.read_only:
            self._update(index)
        return index

    def _store_trouble(self, engine: Engine, known: dict[str, str]) -> tuple[bool, str] | None:
        try:
            folder = self._store.folder / "index"
            index = opened_store(
                engine, folder, encoder=self._encoder, revision=self._manifest.revision, writable=False
            )
            index.verify()
            held = index.stamps()
        except LibraryNotFound:
            return None
        except LibraryError as error:
            return True, error.message
        return None if held == known else (False, "the index is older than the catalogue")

    def _update(self, index: PrototypeIndex) -> None:
        """Bring an index to the catalogue's state."""
        with self._catalogue.read() as connection:
            rows = contents.index_rows(connection)
        updated(index, {video: row[0] for video, row in rows.items()}, self._items)

    def _items(self, videos: Iterable[str]) -> Iterator[IndexItem]:
        with self._catalogue.read() as connection:
            rows = contents.index_rows(connection)
        for video in videos:
            if video not in rows:
                raise LibraryDamaged(f"video {video} left the library just now", remedy="Run the command again.")
            stamp, duration_s = rows[video]
            prototypes = load_prototypes(self._catalogue, self._store, video)
            yield IndexItem(video, prototypes, VideoFacts(duration_s=duration_s), stamp)

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


def _linked(source: str, target: str) -> str:
    """The same file under a second name, or a copy where the disk has no such thing."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return target
