"""The data sets of the field by name: where their files lie below one root, their widths, and their recipes.

Two kinds of features each: those of the first line (ResNet152 and I3D with RoBERTa) and CLIP's (specs/prvr.md §10). The
layouts are those that the public training scripts share, so a folder prepared for one of them is read as it is. Recipes
are the field's (§11): rate, warm-up, dropout, margin, weights of InfoNCE; the model's form is chosen apart from them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from trifocal.errors import InvalidInput
from trifocal.retrieval.data.annotations import (
    read_activitynet,
    read_caption_txt,
    read_charades,
    read_qvhighlights,
    read_tvr,
)
from trifocal.retrieval.data.bigfile import BigFileRows
from trifocal.retrieval.data.collection import RetrievalData
from trifocal.retrieval.data.hdf5 import Hdf5Rows

if TYPE_CHECKING:
    from trifocal.retrieval.data.captions import CaptionSet
    from trifocal.retrieval.data.features import RowSource

__all__ = ["FIELD_PRESETS", "FieldPreset", "open_field", "open_layout"]

Reader = Callable[[Path], "CaptionSet"]


@dataclass(frozen=True, slots=True)
class FieldPreset:
    """One data set with one kind of features.

    Args:
        collection: the folder's name, and the stem of its files' names.
        visual: below FeatureData: a BigFile folder, or an HDF5 file.
        text: below TextData: the HDF5 file of words.
        dims: widths (d_v, d_t).
        moments: files with the moments of a split, and their reader; missing ones only cost the moments.
        recipe: what training differs in from the defaults: keys of the training configuration and of the model's.
        note: what a reader of its figures must know.
    """

    collection: str
    visual: str
    text: str
    dims: tuple[int, int]
    moments: Mapping[str, tuple[str, Reader]] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""


def _charades(path: Path) -> CaptionSet:
    lengths = path.with_name("Charades_v1_train.csv" if "train" in path.name else "Charades_v1_test.csv")
    return read_charades(path, durations=lengths if lengths.is_file() else None)


def _merged(path: Path) -> CaptionSet:
    return read_qvhighlights(path, merge=True)


_TVR = {"train": ("tvr_train_release.jsonl", read_tvr), "test": ("tvr_val_release.jsonl", read_tvr)}
_ACTIVITYNET = {"train": ("train.json", read_activitynet), "test": ("val_1.json", read_activitynet)}
_CHARADES = {"train": ("charades_sta_train.txt", _charades), "test": ("charades_sta_test.txt", _charades)}
_QVHIGHLIGHTS = {
    "train": ("highlight_train_release.jsonl", _merged),
    "test": ("highlight_val_release.jsonl", _merged),
}
_COUNTS = "counts differ between papers (9,043 and 4,430 videos, or 10,009 and 4,917): say which these files have"


def _recipe(lr: float, dropout: float, margin: float, nce: float, words: int, hard_from: int = 20) -> Mapping[str, Any]:
    return MappingProxyType(
        {
            "train": {"lr": lr, "warmup": 0.01, "epochs": 100, "patience": 10},
            "batch_videos": 128,
            "model": {
                "dropout": dropout,
                "margin": margin,
                "max_words": words,
                "hard_negatives_from_epoch": hard_from,
            },
            "parity": {"retrieval": "dot", "nce_weight": nce},
        }
    )


FIELD_PRESETS: Mapping[str, FieldPreset] = MappingProxyType(
    {
        "tvr-i3d": FieldPreset(
            "tvr",
            "i3d_resnet",
            "roberta_tvr_query_feat.hdf5",
            (3072, 768),
            _TVR,
            _recipe(3e-4, 0.2, 0.1, 0.05, 30),
        ),
        "tvr-clip": FieldPreset(
            "tvr", "tvr_clip_L14.h5", "tvr_clip_L14.h5", (768, 768), _TVR, _recipe(3e-4, 0.2, 0.1, 0.05, 77)
        ),
        "activitynet-i3d": FieldPreset(
            "activitynet",
            "i3d",
            "roberta_activitynet_query_feat.hdf5",
            (1024, 1024),
            _ACTIVITYNET,
            _recipe(2.5e-4, 0.2, 0.2, 0.02, 30),
            _COUNTS,
        ),
        "activitynet-clip": FieldPreset(
            "activitynet",
            "activitynet_clip_L14.h5",
            "activitynet_clip_L14.h5",
            (768, 768),
            _ACTIVITYNET,
            _recipe(2.5e-4, 0.31, 0.2, 0.02, 77),
            _COUNTS,
        ),
        "charades-i3d": FieldPreset(
            "charades",
            "i3d_rgb_lgi",
            "roberta_charades_query_feat.hdf5",
            (1024, 1024),
            _CHARADES,
            _recipe(2e-4, 0.25, 0.2, 0.02, 30),
        ),
        "charades-clip": FieldPreset(
            "charades",
            "charades_clip_L14.h5",
            "charades_clip_L14.h5",
            (768, 768),
            _CHARADES,
            _recipe(2e-4, 0.25, 0.2, 0.02, 77),
        ),
        "qvhighlights-slowfast": FieldPreset(
            "qvhighlight",
            "qvhighlight_slowfast_clip.h5",
            "qvhighlight_slowfast_clip.h5",
            (2816, 512),
            _QVHIGHLIGHTS,
            _recipe(2.5e-4, 0.2, 0.2, 0.02, 77),
            "2,214 and 474 videos: clips of one source merged; the test part is the official validation part",
        ),
        "qvhighlights-clip": FieldPreset(
            "qvhighlight",
            "qvhighlight_clip_L14.h5",
            "qvhighlight_clip_L14.h5",
            (768, 768),
            _QVHIGHLIGHTS,
            _recipe(2.5e-4, 0.2, 0.2, 0.02, 77),
            "2,214 and 474 videos: clips of one source merged; the test part is the official validation part",
        ),
    }
)


def open_field(name: str, root: Path | str) -> RetrievalData:
    """A data set of the field, by the name of its preset.

    Args:
        name: one of `FIELD_PRESETS`.
        root: the folder that holds the collection's folder (or is it).

    Raises:
        InvalidInput: no such preset, or files that are missing or broken; the error names the file.
        MissingExtra: HDF5 files without h5py installed.
    """
    if name not in FIELD_PRESETS:
        raise InvalidInput(f"there is no preset {name!r}", remedy=f"Use one of {', '.join(FIELD_PRESETS)}.")
    preset = FIELD_PRESETS[name]
    folder = Path(root)
    folder = folder / preset.collection if (folder / preset.collection).is_dir() else folder
    return open_layout(
        folder,
        collection=preset.collection,
        visual=preset.visual,
        text=preset.text,
        moments=preset.moments,
        dims=preset.dims,
        name=name,
    )


def open_layout(
    folder: Path | str,
    *,
    collection: str | None = None,
    visual: str | None = None,
    text: str | None = None,
    moments: Mapping[str, tuple[str, Reader]] | None = None,
    dims: tuple[int, int] | None = None,
    name: str | None = None,
) -> RetrievalData:
    """Any data set in the field's layout.

    <folder>/FeatureData/<visual> (a BigFile folder or an HDF5 file), <folder>/TextData/<text> and
    <folder>/TextData/<collection>{train,val,test}.caption.txt. In the field "val" is "test": where there is no
    "test", or where both are equal, it is called "test". Moments come from files in TextData, by default of TVR's form
    (<collection>_{train,val}_release.jsonl); a split without such a file has none.

    Args:
        folder: the collection's folder.
        collection: the stem of file names; the folder's name by default.
        visual: by default the one BigFile folder or HDF5 file that is there.
        text: by default the HDF5 file whose name has "query_feat" in it, else the one that is there.
        moments: file and reader by split.
        dims: the widths (d_v, d_t) that are expected.
        name: what the set is called; `collection` by default.

    Raises:
        InvalidInput: files that are missing or broken, or several where one should be; the error names them.
        MissingExtra: HDF5 files without h5py installed.
    """
    root = Path(folder)
    stem = collection or root.resolve().name
    videos, texts = root / "FeatureData", root / "TextData"
    for part in (videos, texts):
        if not part.is_dir():
            raise InvalidInput(f"there is no folder {part}", remedy="Give the folder with FeatureData and TextData.")
    splits: dict[str, CaptionSet] = {}
    for split in ("train", "val", "test"):
        path = texts / f"{stem}{split}.caption.txt"
        if path.is_file():
            splits[split] = read_caption_txt(path)
    if not splits:
        raise InvalidInput(f"there is no {stem}train.caption.txt in {texts}", remedy="Name the collection.")
    if "val" in splits and ("test" not in splits or splits["test"].captions == splits["val"].captions):
        splits["test"] = splits.pop("val")
    given = moments or {
        "train": (f"{stem}_train_release.jsonl", read_tvr),
        "val": (f"{stem}_val_release.jsonl", read_tvr),
        "test": (f"{stem}_test_release.jsonl", read_tvr),
    }
    known = {split: texts / file for split, (file, _) in given.items() if (texts / file).is_file()}
    for split, captions in splits.items():
        source = split if split in known else {"val": "test", "test": "val"}.get(split, split)
        if source in known:
            splits[split] = captions.with_moments(given[source][1](known[source]))
    return RetrievalData(
        name=name or stem,
        features=_visual(videos, visual),
        words=Hdf5Rows(texts / text if text else _only(texts, prefer="query_feat")),
        splits=splits,
        dims=dims,
    )


def _visual(folder: Path, name: str | None) -> RowSource:
    if name is None:
        bigfiles = sorted(path.parent for path in folder.glob("*/feature.bin"))
        if len(bigfiles) > 1:
            listed = ", ".join(path.name for path in bigfiles)
            raise InvalidInput(f"{folder} has several features: {listed}", remedy="Name one.")
        return BigFileRows(bigfiles[0]) if bigfiles else Hdf5Rows(_only(folder))
    path = folder / name
    return Hdf5Rows(path) if path.suffix in (".h5", ".hdf5") else BigFileRows(path)


def _only(folder: Path, *, prefer: str = "") -> Path:
    files = sorted(path for path in folder.iterdir() if path.suffix in (".h5", ".hdf5"))
    chosen = [path for path in files if prefer and prefer in path.name] or files
    if len(chosen) != 1:
        listed = ", ".join(path.name for path in chosen) or "none"
        raise InvalidInput(f"{folder} should have one HDF5 file and has {listed}", remedy="Name the file.")
    return chosen[0]
