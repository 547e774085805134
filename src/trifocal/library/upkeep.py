"""Keeping a library in order: checked, mended, encoded anew, and searched by the engine that suits it.

`LibraryUpkeep` adds to the verbs that read (`LibraryView`) those that change nothing of what a person has put into the
library; each stands in front of a module of its own. `Library` adds the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from trifocal.errors import InvalidInput
from trifocal.library import contents
from trifocal.library.addition import Addition
from trifocal.library.engine import Engine
from trifocal.library.executor import LocalExecutor
from trifocal.library.meter import Meter
from trifocal.library.opening import check_count, lasting_name, load_named_encoder
from trifocal.library.reindex import check_settings, next_manifest, reindex
from trifocal.library.repair import repair
from trifocal.library.session import writing
from trifocal.library.settings import EncoderIdentity
from trifocal.library.verify import verify
from trifocal.library.view import LibraryView

if TYPE_CHECKING:
    from collections.abc import Callable

    from trifocal.library.executor import Executor, ExecutorFactory
    from trifocal.library.records import AddProgress
    from trifocal.library.reindex import ReindexReport
    from trifocal.library.repair import RepairReport
    from trifocal.library.session import Session
    from trifocal.library.settings import LibrarySettings
    from trifocal.library.verify import VerifyReport
    from trifocal.retrieval import FrameTextEncoder

__all__ = ["LibraryUpkeep"]


class LibraryUpkeep(LibraryView):
    """An open library, as far as it is read and kept in order; see `Library`."""

    def verify(self, *, sources: bool = False) -> VerifyReport:
        """Check everything against everything; changes nothing.

        Damage is a finding, not an error; only what stops the check itself is raised.

        Args:
            sources: also read every video file and compare its content; without it, sizes and times are compared.
        """
        return verify(
            self._catalogue, self._store, self._search, manifest=self._manifest, reader=self._reader, sources=sources
        )

    def repair(self, *, sources: bool = False, progress: Callable[[AddProgress], None] | None = None) -> RepairReport:
        """Put right what `verify` finds, and say what was done. Open the library with `damaged=True` for the worst.

        Args:
            sources: as for `verify`.
            progress: told how far the videos that are made again are.

        Raises:
            LibraryBusy: another process is writing.
            LibraryDamaged: the catalogue's pages are damaged, and the library was not opened with `damaged=True`.
        """
        before = self.verify(sources=sources)
        mended, self._mended = self._mended, ()
        with writing(self._catalogue, self._store, self._log, verb="repair") as session:
            return repair(
                session,
                lambda: self._addition(session, progress=progress, workers=1, executor=LocalExecutor),
                check=lambda: self.verify(sources=sources),
                search=self._search,
                manifest=self._manifest,
                reader=self._reader,
                before=before,
                mended=mended,
            )

    def reindex(
        self,
        *,
        encoder: str | FrameTextEncoder | None = None,
        settings: LibrarySettings | None = None,
        leave_out: bool = False,
        workers: int = 1,
        progress: Callable[[AddProgress], None] | None = None,
        executor: ExecutorFactory = LocalExecutor,
    ) -> ReindexReport:
        """Encode all videos again with another encoder or other settings, beside what is there, and swap at the end.

        Searching goes on with the old until then. Safe to interrupt anywhere: the next call with the same aim goes on.
        Ids stay as they are. Other processes that have the library open are told to open it again.

        Args:
            encoder: the new one, by name or as it is; None keeps the one there is.
            settings: the new ones; None keeps those there are.
            leave_out: let videos whose files cannot be encoded leave the library; otherwise there is no swap while
                there are any, and the report names them.
            workers: how many videos are decoded ahead of the one that is encoded, 1 to 32.
            progress: told how far it is, often.
            executor: who runs decode and encode.

        Raises:
            InvalidInput: nothing would change, prototypes are to change of an encoder that makes its own, or a number
                is out of range.
            LibraryBusy: another process is writing.
            LibraryError: the disk is full or may not be written; what was finished is kept.
            WeightsUnavailable: the encoder's files cannot be had.
        """
        check_count("workers", workers, most=32)
        loaded = self.encoder() if encoder is None else encoder
        if isinstance(loaded, str):
            loaded = load_named_encoder(loaded, device=self._device)
        reference = (
            self.encoder_identity.reference
            if encoder is None
            else lasting_name(encoder)
            if isinstance(encoder, str)
            else None
        )
        identity = EncoderIdentity(id=loaded.id, dim=loaded.dim, reference=reference)
        chosen = self.settings if settings is None else settings
        if (identity, chosen) == (self.encoder_identity, self.settings):
            raise InvalidInput(
                "the library has this encoder and these settings already", remedy="Name another encoder, or setting."
            )
        check_settings(loaded, now=self.settings, chosen=chosen)
        aim = next_manifest(self._manifest, encoder=identity, settings=chosen)

        def make_executor() -> Executor:
            return executor(reader=self._reader, encoder=loaded, settings=chosen, limits=self._limits, workers=workers)

        with writing(self._catalogue, self._store, self._log, verb="reindex") as session:
            report = reindex(session, make_executor, aim=aim, meter=Meter(progress), leave_out=leave_out)
        if report.swapped:
            self._become(aim, encoder=loaded)
        return report

    def use_engine(
        self,
        engine: Literal["exact", "store"],
        *,
        uri: str | None = None,
        codes: Literal["int8", "binary"] | None = None,
    ) -> None:
        """Choose the index that the library searches with; it is made at the next search.

        Args:
            engine: `exact` files, or the `store` for large collections (`StoreIndex`; needs the extra `scale`).
            uri: where the store is: a folder, object storage, or a server; None for the library's own folder.
            codes: coarse codes that `exact` keeps beside the vectors and reads first (`ExactIndex.search`): less to
                read from the disk, no longer exact. Several queries at once are searched exactly all the same.

        Raises:
            InvalidInput: no such engine or codes, an address for `exact`, or codes for the store.
            LibraryBusy: another process is writing.
        """
        text = Engine(engine=engine, uri=uri, codes=codes).text
        with writing(self._catalogue, self._store, self._log, verb="reindex") as session:
            with session.catalogue.write(session.lease) as connection:
                contents.set_meta(connection, contents.ENGINE, text)
            self._search.clear()

    def _addition(
        self,
        session: Session,
        *,
        progress: Callable[[AddProgress], None] | None,
        workers: int,
        executor: ExecutorFactory,
    ) -> Addition:
        def make_executor() -> Executor:
            return executor(
                reader=self._reader,
                encoder=self.encoder(),
                settings=self.settings,
                limits=self._limits,
                workers=workers,
            )

        return Addition(
            session,
            reader=self._reader,
            executor=make_executor,
            settings=self.settings,
            limits=self._limits,
            meter=Meter(progress),
        )
