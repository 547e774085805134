"""What a library holds, as it is listed and read: videos, prototypes, tubes, pictures, files.

`Holdings` has the parts of an open library. `LibraryView` adds searching and asking, `LibraryUpkeep` and
`Library` the verbs that write.
The encoder is loaded when it is first needed.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

import trifocal.video
from trifocal.errors import EncoderMismatch, LibraryDamaged, VideoNotFound
from trifocal.library import account, contents, tubes
from trifocal.library.ingest import QUARANTINE_AFTER
from trifocal.library.log import IngestLog
from trifocal.library.lookup import find_video
from trifocal.library.opening import check_encoder, load_named_encoder
from trifocal.library.records import AddFailure, LibraryStatus, Thumbnail
from trifocal.library.scan import is_under, on_disk
from trifocal.library.search import Search, load_prototypes
from trifocal.library.store import Store, thumbnail_name

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable

    from trifocal.action import DetectReport, Tube
    from trifocal.chat import VideoChat
    from trifocal.library.catalogue import Catalogue
    from trifocal.library.records import Detection, VideoRecord
    from trifocal.library.settings import Manifest
    from trifocal.library.stages import VideoReader
    from trifocal.retrieval import ClipTokens, FrameTextEncoder, Prototypes
    from trifocal.video import Limits

__all__ = ["Holdings"]


class Holdings:
    """An open library, as far as its contents are listed and read; see `Library`."""

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
        self._store = Store(folder, space=manifest.revision, trace=trace)
        self._log = IngestLog(self._store)
        self._search = Search(catalogue, self._store, manifest=manifest)

    def __repr__(self) -> str:
        """Where it is and who made it."""
        return f"Library({str(self.folder)!r}, encoder={self.encoder_identity.id!r})"

    @property
    def read_only(self) -> bool:
        """Whether the folder may not be written."""
        return self._catalogue.read_only

    def _become(self, manifest: Manifest, *, encoder: FrameTextEncoder) -> None:
        """Go on as the revision of the library that was just made."""
        self._search.close()
        self._manifest, self.settings, self.encoder_identity = manifest, manifest.settings, manifest.encoder
        self._encoder = encoder
        self._store = self._store.in_space(manifest.revision)
        self._log = IngestLog(self._store)
        self._search = Search(self._catalogue, self._store, manifest=manifest)

    def close(self) -> None:
        """Let go of all files; twice is once."""
        self._search.close()
        self._catalogue.close()

    def videos(self) -> list[VideoRecord]:
        """All videos, by path; those whose files are gone have the state `missing`."""
        with self._catalogue.read() as connection:
            return account.video_records(connection)

    def video(self, name: str | os.PathLike[str]) -> VideoRecord:
        """One video, by its id, the start of its id (three characters at least), or the path of one of its files.

        Raises:
            NotInLibrary: none, or several, go by that name.
        """
        with self._catalogue.read() as connection:
            return account.video_records(connection, [find_video(connection, name)])[0]

    def prototypes(self, name: str | os.PathLike[str]) -> Prototypes:
        """A video's prototypes: float16 (K, D) unit vectors and float32 (K, 2) spans in seconds.

        Raises:
            NotInLibrary: no such video.
            LibraryDamaged: the stored file is missing or damaged.
        """
        return load_prototypes(self._catalogue, self._store, self._id(name))

    def tokens(self, name: str | os.PathLike[str]) -> ClipTokens | None:
        """A video's clip tokens: every encoded frame; None where the library keeps none (`LibrarySettings`).

        Raises:
            NotInLibrary: no such video.
            LibraryDamaged: the stored file is missing or damaged.
        """
        return self._tokens(self._id(name))

    def detections(self, name: str | os.PathLike[str] | None = None, *, model: str | None = None) -> list[Detection]:
        """Which detectors have looked at a video, or at any; by video, then by the detector's name and id.

        Args:
            name: the video; None for all.
            model: only detectors of this id or name.

        Raises:
            NotInLibrary: no such video.
        """
        video = None if name is None else self._id(name)
        with self._catalogue.read() as connection:
            return tubes.detections(connection, video, model=model)

    def detected(self, name: str | os.PathLike[str], *, model: str | None = None) -> list[DetectReport]:
        """What detectors saw in a video, one report each, by the detector's name and id.

        Args:
            name: the video.
            model: only detectors of this id or name.

        Raises:
            NotInLibrary: no such video.
            LibraryDamaged: stored tubes are damaged.
        """
        video = self._id(name)
        with self._catalogue.read() as connection:
            looked = tubes.detections(connection, video, model=model)
            return [tubes.read_report(connection, video, one.model) for one in looked]

    def tubes(self, name: str | os.PathLike[str], *, model: str | None = None) -> list[Tube]:
        """The tubes that detectors saw in a video, by detector, then by start; empty when none has looked (`detect`).

        Arguments and errors as for `detected`.
        """
        return [tube for report in self.detected(name, model=model) for tube in report.tubes]

    def actions(self) -> list[str]:
        """The actions that detectors know which have looked at the library, sorted."""
        with self._catalogue.read() as connection:
            return tubes.known_actions(connection)

    def unseen(self, actions: Iterable[str] | None = None) -> list[str]:
        """The videos with a file that no detector has looked at, or none that knows one of `actions`; ids, sorted.

        Raises:
            InvalidInput: no detector that looked at the library knows an action.
        """
        with self._catalogue.read() as connection:
            known = None if actions is None else tubes.resolved_actions(connection, actions)
            return sorted(tubes.unseen_videos(connection, known) - contents.hidden_videos(connection))

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
            return account.status(connection, encoder=self.encoder_identity.id, quarantine=QUARANTINE_AFTER)

    def failures(self) -> list[AddFailure]:
        """The files that cannot be used, and those interrupted so often that they are left alone; by path."""
        with self._catalogue.read() as connection:
            return account.failures(connection, quarantine=QUARANTINE_AFTER)

    def roots(self) -> list[str]:
        """The folders and files that were given to `add`; only what lies in them is ever opened."""
        with self._catalogue.read() as connection:
            return [str(row["path"]) for row in connection.execute("SELECT path FROM roots ORDER BY path")]

    def dump(self) -> str:
        """The contents as sorted JSON, without times of day: equal for libraries that hold the same."""
        with self._catalogue.read() as connection:
            return account.dump(connection, settings=self.settings, encoder=self.encoder_identity)

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

    def _holds_nothing(self) -> bool:
        with self._catalogue.read() as connection:
            return connection.execute("SELECT 1 FROM videos LIMIT 1").fetchone() is None

    def _most_prototypes(self) -> int:
        with self._catalogue.read() as connection:
            counts = connection.execute("SELECT count(*) AS k FROM prototypes GROUP BY video")
            return max((int(row["k"]) for row in counts), default=0)

    def _tokens(self, video: str) -> ClipTokens | None:
        with self._catalogue.read() as connection:
            contents.check_revision(connection, self._manifest)
            row = connection.execute("SELECT tokens_sha256 FROM videos WHERE id = ?", (video,)).fetchone()
        if row is None or row["tokens_sha256"] is None:
            return None
        return self._store.read_tokens(video, sha256=row["tokens_sha256"])

    def _id(self, name: str | os.PathLike[str]) -> str:
        with self._catalogue.read() as connection:
            return find_video(connection, name)
