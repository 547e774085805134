"""The library: a folder of what is known about a person's videos, and the verbs on it.

`trifocal.json` says what it is, `catalogue.sqlite3` what it holds, `prototypes/` and `thumbnails/` hold one video each,
`index/`, `cache/` and `logs/` can be deleted at any time. The videos stay where they are. One process writes at a
time (`LibraryBusy` for a second), any number read meanwhile. The encoder and the chat model are loaded when they are
first needed. The verbs that read are in `view`, those that keep it in order in `upkeep`, those that change what it
holds here, each in front of a module of its own.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Self

from trifocal.errors import LibraryNotFound
from trifocal.library import contents, removal
from trifocal.library.addition import AddOptions
from trifocal.library.catalogue import Catalogue
from trifocal.library.detection import detect_videos, forget_detector
from trifocal.library.engine import Engine
from trifocal.library.executor import LocalExecutor
from trifocal.library.lease import Lease
from trifocal.library.looker import as_looker
from trifocal.library.opening import (
    check_count,
    check_empty,
    check_encoder,
    lasting_name,
    load_named_encoder,
    not_yet_made,
    open_parts,
)
from trifocal.library.salvage import open_damaged
from trifocal.library.session import writing
from trifocal.library.settings import MANIFEST_NAME, EncoderIdentity, LibrarySettings, Manifest
from trifocal.library.store import Store, disk_errors
from trifocal.library.upkeep import LibraryUpkeep

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType

    from trifocal.action import ActionModel, DetectConfig
    from trifocal.chat import VideoChat
    from trifocal.library.detection import DetectionReport
    from trifocal.library.executor import ExecutorFactory
    from trifocal.library.looker import Looker
    from trifocal.library.records import AddProgress, AddReport, DetectProgress, RemoveReport
    from trifocal.library.stages import VideoReader
    from trifocal.retrieval import FrameTextEncoder
    from trifocal.video import Limits

__all__ = ["Library"]


class Library(LibraryUpkeep):
    """A collection of videos. Make one with `create`, open one with `open`; use it as a context manager or `close` it.

    The verbs that read (`find`, `ask`, `videos`, ...) are those of `LibraryView`, those that keep it in order
    (`verify`, `repair`, `reindex`, ...) those of `LibraryUpkeep`; those that change what it holds are here.

    Attributes:
        folder: where it is.
        settings: the choices it was made with.
        encoder_identity: the encoder it was made with.
        read_only: whether its folder may not be written; then only the verbs that read work.
    """

    @classmethod
    def create(
        cls,
        folder: str | os.PathLike[str],
        *,
        encoder: str | FrameTextEncoder = "default",
        settings: LibrarySettings | None = None,
        device: str = "cpu",
        chat: str | VideoChat = "default",
        reader: VideoReader | None = None,
        limits: Limits | None = None,
        trace: Callable[[str], None] | None = None,
    ) -> Self:
        """Make a library.

        Args:
            folder: new or empty; readable by its owner alone when it is made here.
            encoder: what `trifocal.retrieval.load_encoder` takes, or an encoder; loaded now, as its id is recorded.
            settings: how videos are sampled and stored; fixed from now on.
            device: where encoder and chat model compute, as torch names it.
            chat: what `trifocal.chat.load_chat` takes, or a chat model; loaded at the first question.
            reader: opens videos; `trifocal.video` unless a test or another decoder stands in.
            limits: what a video may cost; the defaults of `trifocal.video` when None.
            trace: told the name of every durable step; for tests.

        Raises:
            InvalidInput: the folder holds something.
            LibraryBusy: another process is making one there.
            LibraryError: it cannot be made.
            WeightsUnavailable: the encoder's files cannot be had.
        """
        place = Path(os.path.abspath(folder))  # noqa: PTH100 - `Path.absolute` keeps ".."
        check_empty(place)
        reference = lasting_name(encoder) if isinstance(encoder, str) else None
        loaded = load_named_encoder(encoder, device=device) if isinstance(encoder, str) else encoder
        manifest = Manifest(
            library=secrets.token_hex(16),
            encoder=EncoderIdentity(id=loaded.id, dim=loaded.dim, reference=reference),
            settings=LibrarySettings() if settings is None else settings,
        )
        store = Store(place, trace=trace)
        with disk_errors(f"making {place}"):
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
        store.make_folders()
        catalogue = Catalogue(place, create=True)
        lease = Lease(catalogue, verb="create")
        try:
            lease.acquire()
            check_empty(place)  # once more: another process may have made one while the encoder was loaded
            with catalogue.write(lease) as connection:
                contents.set_meta(connection, contents.MANIFEST, manifest.to_json())
                contents.set_meta(connection, contents.GENERATION, "0")
                contents.set_meta(connection, contents.VISIBILITY, "0")
            # The last step: a folder without this file is not a library yet.
            store.write_file(place / MANIFEST_NAME, manifest.to_json().encode(), step="manifest")
        finally:
            lease.release()
            catalogue.close()
        return cls.open(place, encoder=loaded, device=device, chat=chat, reader=reader, limits=limits, trace=trace)

    @classmethod
    def open(
        cls,
        folder: str | os.PathLike[str],
        *,
        encoder: str | FrameTextEncoder | None = None,
        device: str = "cpu",
        chat: str | VideoChat = "default",
        reader: VideoReader | None = None,
        limits: Limits | None = None,
        damaged: bool = False,
        trace: Callable[[str], None] | None = None,
    ) -> Self:
        """Open a library.

        Args:
            folder: where it is.
            encoder: None for the one it was made with, which is loaded at the first need.
            device: where encoder and chat model compute.
            chat: see `create`.
            reader: see `create`.
            limits: see `create`.
            damaged: open it although `trifocal.json` or the catalogue is lost or damaged, so that `repair` can run:
                what can be put back is put back at once, a catalogue beyond use is set aside (see `repair`).
            trace: see `create`.

        Raises:
            LibraryNotFound: no library there.
            LibraryDamaged: its files contradict each other.
            EncoderMismatch: `encoder` is another than the one it was made with.
        """
        place = Path(os.path.abspath(folder))  # noqa: PTH100 - as above
        if not damaged and not_yet_made(place):
            raise LibraryNotFound(f"there is no library in {place}", remedy="Check the path, or make one with `add`.")
        notes: tuple[str, ...] = ()
        if damaged:
            manifest, catalogue, notes = open_damaged(place)
        else:
            manifest, catalogue = open_parts(place)
        try:
            check_encoder(encoder, manifest.encoder)
            given = None if isinstance(encoder, str) else encoder
            library = cls(
                place,
                manifest,
                catalogue,
                encoder=given,
                device=device,
                chat=chat,
                reader=reader,
                limits=limits,
                trace=trace,
            )
            library._mended = notes
        except BaseException:
            catalogue.close()
            raise
        return library

    def __enter__(self) -> Self:
        """The library itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def add(
        self,
        paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
        *,
        recursive: bool = True,
        pattern: str | None = None,
        progress: Callable[[AddProgress], None] | None = None,
        workers: int = 1,
        retry_failed: bool = False,
        follow_symlinks: bool = False,
        executor: ExecutorFactory = LocalExecutor,
    ) -> AddReport:
        """Bring the library up to date with files and folders; safe to interrupt anywhere and to run again.

        What has not changed is skipped: by size, time and file number, else by content. Files that moved, changed, went
        or came back are noticed; files with equal bytes are one video. A file that is gone keeps its video, which
        `find` leaves out until the file is back. A file that cannot be used is reported and changes nothing else.

        Args:
            paths: files, folders and globs. A named file is always tried; in a folder, those with a video's suffix.
            recursive: whether folders inside folders count.
            pattern: a glob that file names in folders must match; one that ends in a suffix replaces the list of
                suffixes.
            progress: told how far it is, often.
            workers: how many videos are decoded ahead of the one that is encoded, 1 to 32.
            retry_failed: try again what failed before and has not changed, and what was interrupted too often.
            follow_symlinks: whether links inside folders are followed.
            executor: who runs decode and encode.

        Raises:
            InvalidInput: no path, or a number out of range.
            LibraryBusy: another process is writing.
            LibraryError: the disk is full or may not be written; what was finished is kept.
            EncoderMismatch: the encoder that its name leads to today is not the one that made the library.
        """
        check_count("workers", workers, most=32)
        options = AddOptions(
            recursive=recursive, pattern=pattern, follow_symlinks=follow_symlinks, retry_failed=retry_failed
        )
        with writing(self._catalogue, self._store, self._log, verb="add") as session:
            addition = self._addition(session, progress=progress, workers=workers, executor=executor)
            return addition.add(paths, options=options)

    def detect(
        self,
        videos: str | os.PathLike[str] | Iterable[str | os.PathLike[str]] | None = None,
        *,
        model: str | Path | ActionModel | Looker = "default",
        config: DetectConfig | None = None,
        again: bool = False,
        progress: Callable[[DetectProgress], None] | None = None,
    ) -> DetectionReport:
        """Look for actors and their actions in videos, and keep the tubes; `tubes` and `find` give them back.

        A video that the same detector has looked at in the same way is passed over. In another way, or `again`, what it
        saw replaces what it saw before; what other detectors saw stays. Safe to interrupt anywhere and to run again.

        Args:
            videos: one or several, by id, start of an id, or path of an added file; None for all.
            model: what `trifocal.action.load_action_model` takes, a model, or anything else that looks (`Looker`).
            config: how to look; not with a `Looker`, which knows.
            again: look also where nothing has changed.
            progress: told how far it is, often.

        Raises:
            InvalidInput: a config beside a `Looker`.
            NotInLibrary: one of `videos` is not in the library.
            WeightsError: there is no such detector.
            LibraryBusy: another process is writing.
            LibraryError: the disk is full or may not be written; what was finished is kept.
        """
        names = [videos] if isinstance(videos, str | os.PathLike) else videos
        looker = as_looker(model, config=config, device=self._device)
        with writing(self._catalogue, self._store, self._log, verb="detect") as session:
            return detect_videos(session, looker, names, again=again, limits=self._limits, progress=progress)

    def forget_detector(self, model: str) -> int:
        """Delete everything that a detector saw.

        Args:
            model: its id, or its name.

        Returns:
            Of how many videos.

        Raises:
            InvalidInput: no such detector has looked at the library.
            LibraryBusy: another process is writing.
        """
        with writing(self._catalogue, self._store, self._log, verb="detect") as session:
            return forget_detector(session, model)

    def remove(self, names: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> RemoveReport:
        """Remove videos, with everything that was derived from them; the video files themselves are not touched.

        Args:
            names: an id (or the start of one) means the video; a path means that file, or the files below that
                folder, and a video goes when it has none left. The next `add` of the place adds it again.

        Raises:
            NotInLibrary: a name means nothing here; then nothing is removed.
            LibraryBusy: another process is writing.
        """
        with writing(self._catalogue, self._store, self._log, verb="remove") as session:
            report = removal.remove(session, names)
        with self._catalogue.read() as connection:
            engine = Engine.of(contents.get_meta(connection, contents.ENGINE) or "")
        if engine.uri is not None:
            self._search.index()  # a store elsewhere is told at once; what is in the folder has been changed already
        return report
