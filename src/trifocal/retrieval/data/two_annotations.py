"""A real-language set that needs no video: one annotation of ActivityNet stands for the frames of the other's queries.

`val_1.json` and `val_2.json` are two independent annotations of the same videos. The captions of the first, laid out on
the time axis, are the frames: second t has the embedding of the caption that covers it (the one that starts last, where
several do) with a little noise, and silence where none does. The captions of the second are the queries. Videos are
parted by their sorted ids: even ones train, odd ones test. It is not ActivityNet retrieval, and its figures must not
stand beside those.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trifocal.errors import InvalidInput
from trifocal.retrieval.data.annotations import read_activitynet
from trifocal.retrieval.data.collection import RetrievalData
from trifocal.retrieval.data.features import ArrayRows
from trifocal.retrieval.data.lsa import LatentSpace
from trifocal.retrieval.data.own import tokens_of
from trifocal.retrieval.data.reading import LARGEST_JSON
from trifocal.retrieval.data.stop_words import ENGLISH_STOP_WORDS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from trifocal.retrieval.data.captions import CaptionSet

__all__ = ["both_annotations", "read_two_annotations", "reference_space"]

_PLAIN_WORD = re.compile(r"\b\w\w+\b")
FILES = ("train.json", "val_1.json", "val_2.json")


def read_two_annotations(
    source: Path | str,
    *,
    encode: Callable[[Sequence[str]], NDArray[np.float32]] | None = None,
    noise: float = 0.01,
    seed: int = 0,
) -> RetrievalData:
    """The surrogate set from ActivityNet Captions.

    Args:
        source: a folder, or a zip, with val_1.json and val_2.json, and train.json where `encode` is not given.
        encode: texts to vectors (N, D); by default TF-IDF and a latent space of 256 dimensions fitted on train.json.
        noise: standard deviation of what is added to every number of a second's vector.
        seed: of the noise.

    Returns:
        A data set with the splits "train" and "test", rows of one a second, and words: each by itself, then the whole.

    Raises:
        InvalidInput: a file is missing or broken, or the two annotations share no video.
    """
    spoken, asked = both_annotations(source)
    videos = sorted(asked.videos())
    embed = encode
    if embed is None:
        embed = LatentSpace.fit([one.text for one in _annotation(Path(source), FILES[0])], dim=256, seed=0).encode
    frames = _frames(spoken, embed, noise=noise, rng=np.random.default_rng(seed))
    words = _words(asked, embed)
    return RetrievalData(
        name="anet-2a",
        features=ArrayRows(frames),
        words=ArrayRows(words),
        splits={"train": asked.only(videos[0::2]), "test": asked.only(videos[1::2])},
    )


def both_annotations(source: Path | str) -> tuple[CaptionSet, CaptionSet]:
    """The captions of val_1 and of val_2, for the videos that both annotate.

    Raises:
        InvalidInput: a file is missing or broken, or the two share no two videos.
    """
    first, second = (_annotation(Path(source), name) for name in FILES[1:])
    videos = sorted(set(first.videos()) & set(second.videos()))
    if len(videos) < 2:
        raise InvalidInput(f"the annotations in {source} share {len(videos)} videos", remedy="Give val_1 and val_2.")
    return first.only(videos), second.only(videos)


def reference_space(source: Path | str, *, dim: int = 256) -> LatentSpace:
    """TF-IDF without stop words and a latent space, fitted on train.json: the usual recipe of scikit-learn's parts.

    Words have two letters at least and end at an apostrophe, which is `TfidfVectorizer`'s rule and counts for half a
    point of SumR here.

    Args:
        source: a folder or a zip with train.json.
        dim: D.

    Raises:
        InvalidInput: the file is missing or broken, or has too few texts for D dimensions.
    """
    texts = [one.text for one in _annotation(Path(source), FILES[0])]
    return LatentSpace.fit(texts, dim=dim, least=3, stop_words=ENGLISH_STOP_WORDS, split=_PLAIN_WORD.findall)


def _annotation(source: Path, name: str) -> CaptionSet:
    if source.is_dir():
        return read_activitynet(source / name)
    try:
        with zipfile.ZipFile(source) as archive:
            members = [info for info in archive.infolist() if Path(info.filename).name == name]
            if not members or members[0].file_size > LARGEST_JSON:
                raise InvalidInput(f"{source} has no {name} of a usable size", remedy="Give the three json files.")
            with archive.open(members[0]) as file:
                text = file.read(LARGEST_JSON).decode("utf-8-sig")
    except FileNotFoundError as error:
        raise InvalidInput(f"there is no file {source}", remedy="Give a folder or a zip.") from error
    except (zipfile.BadZipFile, UnicodeDecodeError, OSError) as error:
        raise InvalidInput(f"{source} cannot be read ({error})", remedy="Give a folder or a whole zip.") from error
    return read_activitynet(f"{source}/{name}", text=text)


def _frames(
    captions: CaptionSet,
    embed: Callable[[Sequence[str]], NDArray[np.float32]],
    *,
    noise: float,
    rng: np.random.Generator,
) -> dict[str, NDArray[np.float32]]:
    vectors = embed([one.text for one in captions])
    place = {one.id: index for index, one in enumerate(captions)}
    frames = {}
    for video, ones in sorted(captions.by_video().items()):
        end = captions.durations_s.get(video, max(span[1] for one in ones for span in one.moments_s))
        seconds = np.arange(max(1, round(end))) + 0.5
        rows = np.zeros((len(seconds), vectors.shape[1]), dtype=np.float32)
        for one in sorted(ones, key=lambda one: one.moments_s[0]):
            start, stop = one.moments_s[0]
            rows[(start <= seconds) & (seconds < stop)] = vectors[place[one.id]]
        frames[video] = rows + rng.normal(size=rows.shape).astype(np.float32) * noise
    return frames


def _words(
    captions: CaptionSet, embed: Callable[[Sequence[str]], NDArray[np.float32]]
) -> dict[str, NDArray[np.float32]]:
    split = {one.id: tokens_of(one.text.lower()) for one in captions}
    vocabulary = sorted({token for tokens in split.values() for token in tokens})
    place = {token: index for index, token in enumerate(vocabulary)}
    vectors, whole = embed(vocabulary), embed([one.text for one in captions])
    return {
        one.id: np.concatenate([vectors[[place[token] for token in split[one.id]]], whole[index][None]])
        for index, one in enumerate(captions)
    }
