"""Which engine a library searches with, and how one is brought up to date.

The catalogue's `meta` names the engine: nothing for exact files, `{"engine": "exact", "codes": ...}` for those with
coarse codes, or `{"engine": "store", "uri": ...}` for a `StoreIndex`, which lies in the library's `index/` folder when
no address is given. Secrets are never stored: object storage and servers read them from the environment.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from trifocal.errors import InvalidInput, LibraryDamaged, LibraryNotFound, TrifocalError
from trifocal.retrieval import ExactIndex, StoreIndex

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from trifocal.library.settings import EncoderIdentity
    from trifocal.library.store import Store
    from trifocal.retrieval import IndexItem, PrototypeIndex

__all__ = ["Engine", "forget", "opened_store", "updated"]

_EMBEDDED = "store"
_CODES = ("int8", "binary")
_AT_ONCE = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """What a library searches with.

    Args:
        engine: `exact` or `store`.
        uri: where the store is; None for the library's own folder.
        codes: what the exact engine reads in its first pass instead of the vectors; None for the vectors.

    Raises:
        InvalidInput: no such engine or codes, an address for the exact one, or codes for the store.
    """

    engine: Literal["exact", "store"] = "exact"
    uri: str | None = None
    codes: Literal["int8", "binary"] | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        if self.engine not in ("exact", "store"):
            raise InvalidInput(f"the engine is {self.engine!r}", remedy="Give exact or store.")
        if self.uri is not None and (self.engine != "store" or not isinstance(self.uri, str)):
            raise InvalidInput(f"the address is {self.uri!r}", remedy="Give one for the store alone.")
        if self.codes is not None and (self.engine != "exact" or self.codes not in _CODES):
            raise InvalidInput(
                f"codes are {self.codes!r} for the engine {self.engine}",
                remedy=f"Give {' or '.join(_CODES)}, for the exact engine alone.",
            )

    @property
    def text(self) -> str:
        """What `meta` keeps of it."""
        if self == Engine():
            return ""
        return json.dumps({name: value for name, value in asdict(self).items() if value is not None}, sort_keys=True)

    @classmethod
    def of(cls, text: str) -> Engine:
        """What `meta` means.

        Raises:
            LibraryDamaged: it cannot be read.
        """
        try:
            return cls(**json.loads(text)) if text else cls()
        except (ValueError, TypeError, InvalidInput) as error:
            raise LibraryDamaged(
                f"the engine is {text!r}", remedy="Choose one: `trifocal reindex --engine`."
            ) from error


def forget(store: Store, videos: set[str]) -> int:
    """Take videos out of the indexes in the library's folder, so that nothing of them is left there.

    An exact index gives them up in place (who has it open keeps reading), and so does the store; what cannot be changed
    is deleted, and made again at the next search.

    Returns:
        The bytes that were freed by deleting.
    """
    freed = 0
    folder = store.folder / "index"
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        try:
            if path.name == _EMBEDDED:
                for table in StoreIndex.tables(path):
                    StoreIndex.open(path, table=table).erase(videos)
            else:
                index = ExactIndex.open(path)
                index.remove([video for video in videos if video in index])
        except (TrifocalError, OSError, RuntimeError, ValueError):  # LanceDB raises the latter
            # Damaged, without its extra, or swept away meanwhile by a reader that has built a newer one.
            freed += store.discard(path)
    return freed


def opened_store(
    engine: Engine, folder: Path, *, encoder: EncoderIdentity, revision: int, writable: bool
) -> StoreIndex:
    """The store of a library, made when it is not there.

    Args:
        engine: what the library searches with.
        folder: where it lies when it has no address of its own.
        encoder: whose vectors it holds.
        revision: of the library; each has a table of its own, and those before it go when it is made.
        writable: whether it may be made.

    Raises:
        LibraryNotFound: it is not there and may not be made.
        EncoderMismatch: another encoder made it.
        MissingExtra: LanceDB is not installed.
    """
    uri = engine.uri or str(folder / _EMBEDDED)
    try:
        return StoreIndex.open(uri, encoder=encoder.id, table=f"prototypes_{revision}")
    except LibraryNotFound:
        if not writable:
            raise
        made = StoreIndex.create(uri, encoder=encoder.id, dim=encoder.dim, table=f"prototypes_{revision}")
        made.drop_tables([f"prototypes_{older}" for older in range(revision)])
        return made


def updated(
    index: Any, wanted: dict[str, str], items: Callable[[Iterable[str]], Iterable[IndexItem]]
) -> PrototypeIndex:
    """Bring an index to the videos and stamps of `wanted`: removals first, then what is new or changed.

    Args:
        index: any engine.
        wanted: the stamp of each video.
        items: makes the items of some videos.

    Returns:
        The index.
    """
    held = index.stamps()
    if gone := sorted(held.keys() - wanted.keys()):
        index.erase(gone) if isinstance(index, StoreIndex) else index.remove(gone)
    changed = sorted(video for video, stamp in wanted.items() if held.get(video) != stamp)
    for start in range(0, len(changed), _AT_ONCE):
        index.replace(items(changed[start : start + _AT_ONCE]))
    if isinstance(index, StoreIndex) and changed:
        index.optimize()
    return index  # type: ignore[no-any-return]  # an engine, as it came
