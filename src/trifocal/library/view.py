"""What can be read of a library: searching, asking, listing; safe from several threads and beside a writer.

`LibraryView` holds the parts of an open library and the verbs that change nothing; `Library` adds those that write.
The encoder and the chat model are loaded when they are first needed.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trifocal.video
from trifocal.errors import EncoderMismatch, InvalidInput, LibraryDamaged, VideoNotFound
from trifocal.library import contents
from trifocal.library.ingest import QUARANTINE_AFTER
from trifocal.library.log import IngestLog
from trifocal.library.lookup import find_video
from trifocal.library.opening import check_count, check_encoder, load_named_encoder
from trifocal.library.records import AddFailure, LibraryStatus, Thumbnail
from trifocal.library.scan import is_under, on_disk
from trifocal.library.search import Search, load_prototypes
from trifocal.library.store import Store, thumbnail_name

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable

    from trifocal.chat import Answer, VideoChat
    from trifocal.library.catalogue import Catalogue
    from trifocal.library.records import VideoRecord
    from trifocal.library.settings import Manifest
    from trifocal.library.stages import VideoReader
    from trifocal.retrieval import FrameTextEncoder, Moment, Prototypes
    from trifocal.video import Limits

__all__ = ["LibraryView"]


class LibraryView:
    """An open library, as far as it is read; see `Library`."""

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        catalogue: Catalogue,
        *,
        encoder: FrameTextEncoder | None = None,
        device: str = "cpu",
        chat: str | VideoChat = "default",
        reader: VideoReader | None = None,
        limits: Limits | None = None,
        trace: Callable[[str], None] | None = None,
    ) -> None:
        """Use `create` or `open`."""
        self.folder = folder
        self.settings = manifest.settings
        self.encoder_identity = manifest.encoder
        self._manifest = manifest
        self._catalogue = catalogue
        self._encoder = encoder
        self._device = device
        self._chat = chat
        self._reader: VideoReader = trifocal.video if reader is None else reader
        self._limits = trifocal.video.Limits() if limits is None else limits
        self._loading = threading.Lock()
        self._mended: tuple[str, ...] = ()
        self._store = Store(folder, trace=trace)
        self._log = IngestLog(self._store)
        self._search = Search(catalogue, self._store, encoder=manifest.encoder)

    def __repr__(self) -> str:
        """Where it is and who made it."""
        return f"Library({str(self.folder)!r}, encoder={self.encoder_identity.id!r})"

    @property
    def read_only(self) -> bool:
        """Whether the folder may not be written."""
        return self._catalogue.read_only

    def close(self) -> None:
        """Let go of all files; twice is once."""
        self._search.close()
        self._catalogue.close()

    def find(
        self,
        text: str,
        *,
        top: int = 10,
        moments_per_video: int = 1,
        videos: Iterable[str | os.PathLike[str]] | None = None,
        include_missing: bool = False,
    ) -> list[Moment]:
        """The moments that match a text best.

        Args:
            text: what is looked for, in words.
            top: how many moments at most.
            moments_per_video: how many of them from one video.
            videos: look in these alone: ids, starts of ids, or paths.
            include_missing: also in videos whose files are gone; `status().missing` says how many are left out.

        Returns:
            By falling score; ties by video id, then start. Empty when there is no video to look in.

        Raises:
            InvalidInput: the text is empty or not Unicode, or a count is below 1.
            NotInLibrary: one of `videos` is not in the library.
            LibraryDamaged: stored prototypes are missing or damaged.
        """
        if not text.strip():
            raise InvalidInput("the text to find is empty", remedy='Describe a moment, such as "a dog on a beach".')
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise InvalidInput("the text to find is not UTF-8", remedy="Check the terminal's encoding.")
        check_count("top", top)
        check_count("moments_per_video", moments_per_video)
        wanted = None if videos is None else {self._id(name) for name in videos}
        index, hidden = self._search.index()
        chosen: set[str] | None = None
        if wanted is not None or (hidden and not include_missing):
            chosen = {video for video in index.videos if wanted is None or video in wanted}
            chosen -= frozenset() if include_missing else hidden
        if not len(index) or chosen == set():
            return []
        query = self.encoder().encode_query([text])[0]  # (D,)
        return index.search(query, top=top, moments_per_video=moments_per_video, videos=chosen)

    def ask(self, video: str | os.PathLike[str], question: str, **options: Any) -> Answer:
        """Ask something about a video.

        Args:
            video: an id, the start of one, or the path of one of its files.
            question: in words.
            options: passed on to `VideoChat.ask`.

        Returns:
            The answer; its `video` is the id.

        Raises:
            NotInLibrary: no such video.
            VideoNotFound: none of its files is there.
        """
        record = self.video(video)
        path = self.source(record.id)
        answer = self._chat_model().ask(path, question, limits=self._limits, **options)
        return replace(answer, video=record.id)

    def videos(self) -> list[VideoRecord]:
        """All videos, by path; those whose files are gone have the state `missing`."""
        with self._catalogue.read() as connection:
            return contents.video_records(connection)

    def video(self, name: str | os.PathLike[str]) -> VideoRecord:
        """One video, by its id, the start of its id (three characters at least), or the path of one of its files.

        Raises:
            NotInLibrary: none, or several, go by that name.
        """
        with self._catalogue.read() as connection:
            return contents.video_records(connection, [find_video(connection, name)])[0]

    def prototypes(self, name: str | os.PathLike[str]) -> Prototypes:
        """A video's prototypes: float16 (K, D) unit vectors and float32 (K, 2) spans in seconds.

        Raises:
            NotInLibrary: no such video.
            LibraryDamaged: the stored file is missing or damaged.
        """
        return load_prototypes(self._catalogue, self._store, self._id(name))

    def thumbnails(self, name: str | os.PathLike[str]) -> tuple[Thumbnail, ...]:
        """The pictures kept of a video, by time: the frames most like its prototypes.

        Raises:
            NotInLibrary: no such video.
        """
        video = self._id(name)
        with self._catalogue.read() as connection:
            rows = connection.execute(
                "SELECT DISTINCT thumbnail_ms FROM prototypes WHERE video = ? ORDER BY thumbnail_ms", (video,)
            ).fetchall()
        folder = self._store.thumbnails_path(video)
        return tuple(Thumbnail(at_s=row[0] / 1000, path=str(folder / thumbnail_name(row[0]))) for row in rows)

    def thumbnail(self, name: str | os.PathLike[str], *, at_s: float | None = None) -> Path:
        """The picture of a video nearest to a second, or its poster: the picture of its longest-lasting part.

        Raises:
            NotInLibrary: no such video.
            LibraryDamaged: the picture is missing.
        """
        pictures = self.thumbnails(name)
        video = self._id(name)
        if at_s is None:
            with self._catalogue.read() as connection:
                row = connection.execute("SELECT poster_ms FROM videos WHERE id = ?", (video,)).fetchone()
            at_s = row["poster_ms"] / 1000
        path = Path(min(pictures, key=lambda picture: (abs(picture.at_s - at_s), picture.at_s)).path)
        if not path.is_file():
            raise LibraryDamaged(
                f"the thumbnail {path.name} of video {video} is missing", remedy="Run `trifocal verify --repair`."
            )
        return path

    def source(self, name: str | os.PathLike[str]) -> str:
        """The file of a video that may be opened: there now, no link, and inside a registered root.

        Raises:
            NotInLibrary: no such video.
            VideoNotFound: none of its files is there.
        """
        record = self.video(name)
        roots = self.roots()
        known = (*record.paths, *record.missing_paths)
        for path in known:
            if on_disk(path) and any(is_under(path, root) for root in roots):
                return path
        raise VideoNotFound(
            f"no file of video {record.id} is there: {', '.join(known)}",
            remedy="Connect the drive, or `add` the place it has moved to.",
        )

    def status(self) -> LibraryStatus:
        """The library at a glance."""
        with self._catalogue.read() as connection:
            return contents.status(connection, encoder=self.encoder_identity.id, quarantine=QUARANTINE_AFTER)

    def failures(self) -> list[AddFailure]:
        """The files that cannot be used, and those interrupted so often that they are left alone; by path."""
        with self._catalogue.read() as connection:
            return contents.failures(connection, quarantine=QUARANTINE_AFTER)

    def roots(self) -> list[str]:
        """The folders and files that were given to `add`; only what lies in them is ever opened."""
        with self._catalogue.read() as connection:
            return [str(row["path"]) for row in connection.execute("SELECT path FROM roots ORDER BY path")]

    def dump(self) -> str:
        """The contents as sorted JSON, without times of day: equal for libraries that hold the same."""
        with self._catalogue.read() as connection:
            return contents.dump(connection, settings=self.settings, encoder=self.encoder_identity)

    def encoder(self) -> FrameTextEncoder:
        """The encoder that made the library, loaded at the first call.

        Raises:
            EncoderMismatch: what its name leads to today is another one, or it has no name to load it by.
        """
        with self._loading:
            if self._encoder is None:
                identity = self.encoder_identity
                if identity.reference is None:
                    raise EncoderMismatch(
                        f"the library was made with the encoder object {identity.id}, which has no name to load it by",
                        remedy="Pass it: `Library.open(folder, encoder=...)`.",
                    )
                loaded = load_named_encoder(identity.reference, device=self._device)
                check_encoder(loaded, identity)
                self._encoder = loaded
            return self._encoder

    def _chat_model(self) -> VideoChat:
        with self._loading:
            if isinstance(self._chat, str):
                from trifocal.chat import load_chat  # brings torch; only who asks pays for it

                self._chat = load_chat(self._chat, device=self._device)
            return self._chat

    def _id(self, name: str | os.PathLike[str]) -> str:
        with self._catalogue.read() as connection:
            return find_video(connection, name)
