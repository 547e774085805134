"""Small data sets in the field's files, made by the library's own writers and by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from trifocal.retrieval.data import Caption, CaptionSet, write_bigfile, write_caption_txt, write_hdf5, write_tvr

CAPTIONS = CaptionSet(
    (
        Caption("v_one#enc#0", "v_one", "a dog runs, and stops", ((0.5, 2.25),)),
        Caption("v_one#enc#1", "v_one", "the dog “sleeps”", ((3.0, 4.0),)),
        Caption("v_two#enc#0", "v_two", "a car drives past", ((0.0, 10.0),)),
    ),
    {"v_one": 5.5, "v_two": 10.0},
)


@pytest.fixture
def captions() -> CaptionSet:
    return CAPTIONS


def rows(count: int, width: int, seed: int) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    return np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)


def make_layout(
    root: Path, *, train: int = 6, test: int = 4, prefix: str = "v_", widths: tuple[int, int] = (8, 6)
) -> Path:
    """The field's layout as its training scripts expect it, both kinds of features; gives the folder."""
    folder = root / "toy"
    features, texts = folder / "FeatureData", folder / "TextData"
    features.mkdir(parents=True)
    texts.mkdir()
    frames, words = {}, {}
    for split, first, count in (("train", 0, train), ("val", train, test)):
        captions = []
        for number in range(first, first + count):
            video = f"{prefix}{number}"
            frames[video] = rows(5 + number, widths[0], number)
            for k in range(2):
                captions.append(Caption(f"{video}#enc#{k}", video, f"caption {k} of {number}", ((k, k + 2.0),)))
                words[captions[-1].id] = rows(3 + k, widths[1], 100 * number + k)
        durations = {f"{prefix}{number}": 5.0 + number for number in range(first, first + count)}
        made = CaptionSet(tuple(captions), durations)
        write_caption_txt(texts / f"toy{split}.caption.txt", made)
        write_tvr(texts / f"toy_{split}_release.jsonl", made)
    (texts / "toytest.caption.txt").write_bytes((texts / "toyval.caption.txt").read_bytes())
    write_bigfile(features / "i3d", frames)
    write_hdf5(features / "toy_clip_L14.h5", {video.removeprefix("v_"): one for video, one in frames.items()})
    write_hdf5(texts / "roberta_toy_query_feat.hdf5", words)
    return folder


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    return make_layout(tmp_path)
