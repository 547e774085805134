"""Which engine a library searches with, and how one is brought up to date.

The catalogue's `meta` names the engine: nothing for exact files, or JSON `{"engine": "store", "uri": ..., "options":
...}` for a `StoreIndex`, which lies in the library's `index/` folder when no address is given. Secrets are never
stored: object storage and servers read them from the environment.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from trifocal.errors import InvalidInput, LibraryDamaged, LibraryError, LibraryNotFound
from trifocal.retrieval import ExactIndex, StoreIndex

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from trifocal.library.settings import EncoderIdentity
    from trifocal.library.store import Store
    from trifocal.retrieval import IndexItem, PrototypeIndex

__all__ = ["engine_text", "forget", "opened_store", "updated"]

_EMBEDDED = "store"
_AT_ONCE = 256


def engine_text(engine: str, uri: str | None) -> str:
    """What `meta` keeps of a choice.

    Raises:
        InvalidInput: no such engine, or an address for the exact one.
    """
    if engine == "exact" and uri is None:
        return ""
    if engine != "store":
        raise InvalidInput(
            f"the engine is {engine!r}, the address {uri!r}", remedy="Give exact, or store (with a uri)."
        )
    return json.dumps({"engine": "store", "uri": uri}, sort_keys=True)


def forget(store: Store, videos: set[str]) -> int:
    """Take videos out of the indexes in the library's folder, so that nothing of them is left there.

    An exact index gives them up in place (who has it open keeps reading); everything else is deleted, and made again at
    the next search.

    Returns:
        The bytes that were freed by deleting.
    """
    freed = 0
    folder = store.folder / "index"
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        try:
            index = ExactIndex.open(path)
            index.remove([video for video in videos if video in index])
        except (LibraryError, InvalidInput, FileNotFoundError):
            # Damaged, or swept away meanwhile by a reader that has built a newer one.
            freed += store.discard(path)
    return freed


def opened_store(text: str, folder: Path, *, encoder: EncoderIdentity, revision: int, writable: bool) -> StoreIndex:
    """The store that `meta` names, made when it is not there.

    Args:
        text: what `engine_text` gave.
        folder: where it lies when it has no address of its own.
        encoder: whose vectors it holds.
        revision: of the library; each has a table of its own, and those before it go when it is made.
        writable: whether it may be made.

    Raises:
        LibraryNotFound: it is not there and may not be made.
        LibraryDamaged: `text` cannot be read.
        EncoderMismatch: another encoder made it.
        MissingExtra: LanceDB is not installed.
    """
    try:
        uri = json.loads(text)["uri"] or str(folder / _EMBEDDED)
    except (ValueError, KeyError, TypeError) as error:
        raise LibraryDamaged(f"the engine is {text!r}", remedy="Choose one: `trifocal reindex --engine`.") from error
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
        index.remove(gone)
    changed = sorted(video for video, stamp in wanted.items() if held.get(video) != stamp)
    for start in range(0, len(changed), _AT_ONCE):
        index.replace(items(changed[start : start + _AT_ONCE]))
    if isinstance(index, StoreIndex) and (gone or changed):
        index.optimize()
        if gone:
            index.purge()
    return index  # type: ignore[no-any-return]  # an engine, as it came
