from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from trifocal.errors import InvalidInput
from trifocal.retrieval.data import read_two_annotations
from trifocal.retrieval.data.lsa import LatentSpace
from trifocal.retrieval.data.stop_words import ENGLISH_STOP_WORDS
from trifocal.retrieval.data.two_annotations import both_annotations, reference_space

TEXTS = ["a dog runs", "a cat sleeps", "the car drives", "a dog sleeps", "the cat runs", "a red car", "the red dog"]


def entry(duration: float, *moments: tuple[float, float, str]) -> dict[str, object]:
    return {
        "duration": duration,
        "timestamps": [[start, end] for start, end, _ in moments],
        "sentences": [text for _, _, text in moments],
    }


FIRST = {f"v_{n}": entry(4.0, (0, 2, TEXTS[n]), (1, 3, TEXTS[n + 1])) for n in range(5)}
FIRST["v_x"] = entry(3, (0, 1, "a"))
SECOND = {f"v_{n}": entry(4.0, (0, 2, TEXTS[n + 2])) for n in range(5)}


def letters(texts: object) -> np.ndarray:
    return np.array([[text.count("d"), text.count("c"), 1.0] for text in texts], dtype=np.float32)  # type: ignore[attr-defined]


def write(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    for name, value in (("val_1", FIRST), ("val_2", SECOND), ("train", {"t": entry(9, *[(0, 1, t) for t in TEXTS])})):
        (folder / f"{name}.json").write_text(json.dumps(value))
    return folder


def test_one_annotation_is_frames_and_the_other_queries(tmp_path: Path) -> None:
    data = read_two_annotations(write(tmp_path), encode=letters, noise=0.0)
    assert data.split("train").videos() == ("v_0", "v_2", "v_4")
    assert data.split("test").videos() == ("v_1", "v_3")
    frames = data.features.read("v_0")
    first, second = letters(TEXTS[:2])
    np.testing.assert_array_equal(frames, [first, second, second, np.zeros(3)])  # the one that starts last; silence
    words = data.words.read("v_0#enc#0")
    np.testing.assert_array_equal(words[-1], letters([TEXTS[2]])[0])
    assert len(words) == 4
    assert data.split("train").captions[0].moments_s == ((0.0, 2.0),)


def test_the_noise_is_a_function_of_the_seed(tmp_path: Path) -> None:
    write(tmp_path)
    one, other, third = (
        read_two_annotations(tmp_path, encode=letters, seed=seed).features.read("v_1") for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(one, other)
    assert not np.array_equal(one, third)


def test_a_zip_gives_the_same_as_a_folder(tmp_path: Path) -> None:
    write(tmp_path / "f")
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        for path in (tmp_path / "f").iterdir():
            archive.write(path, f"inside/{path.name}")
    one, other = (read_two_annotations(tmp_path / name, encode=letters) for name in ("f", "z.zip"))
    assert one.splits == other.splits
    np.testing.assert_array_equal(one.features.read("v_3"), other.features.read("v_3"))


def test_broken_sources_are_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"there is no file"):
        read_two_annotations(tmp_path / "nothing.zip", encode=letters)
    with pytest.raises(InvalidInput, match=r"there is no file .*val_1\.json"):
        read_two_annotations(tmp_path, encode=letters)
    (tmp_path / "z.zip").write_bytes(b"no zip")
    with pytest.raises(InvalidInput, match=r"cannot be read"):
        read_two_annotations(tmp_path / "z.zip", encode=letters)
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.writestr("val_1.json", "{}")
    with pytest.raises(InvalidInput, match=r"holds no captions"):
        read_two_annotations(tmp_path / "z.zip", encode=letters)


def test_texts_that_share_words_are_close() -> None:
    space = LatentSpace.fit(TEXTS, dim=4, seed=0)
    dog, dogs, car, nothing = space.encode(["a dog runs", "the dog sleeps", "the red car", "zebra"])
    assert dog @ dogs > dog @ car
    np.testing.assert_allclose(np.linalg.norm([dog, dogs, car], axis=1), 1, atol=1e-5)
    assert not nothing.any()
    np.testing.assert_array_equal(LatentSpace.fit(TEXTS, dim=4, seed=0).directions, space.directions)
    with pytest.raises(InvalidInput, match=r"have no 40 dimensions"):
        LatentSpace.fit(TEXTS, dim=40)


def test_stop_words_and_rare_words_do_not_count() -> None:
    space = LatentSpace.fit(TEXTS, dim=2, least=2, stop_words={"the", "a"})
    assert set(space.vocabulary) == {"dog", "cat", "car", "runs", "sleeps", "red"}
    np.testing.assert_array_equal(space.encode(["The dog"]), space.encode(["dog"]))
    assert not space.encode(["the drives"]).any()
    assert "dog" not in ENGLISH_STOP_WORDS
    assert len(ENGLISH_STOP_WORDS) == 318


def test_words_are_split_as_the_space_was_told() -> None:
    space = LatentSpace.fit(TEXTS, dim=2, split=lambda text: text.replace("'", " ").split())
    np.testing.assert_array_equal(space.encode(["dog's"]), space.encode(["dog"]))
    assert not LatentSpace.fit(TEXTS, dim=2).encode(["dog's"]).any()


def test_the_reference_ends_words_at_apostrophes_and_leaves_out_what_says_little(tmp_path: Path) -> None:
    texts = [f"the {name}'s dog a {thing}" for name in ("man", "boy", "girl") for thing in ("sofa", "tree", "lake")]
    (tmp_path / "train.json").write_text(json.dumps({"t": entry(9, *[(0, 1, text) for text in texts])}))
    space = reference_space(tmp_path, dim=3)
    assert set(space.vocabulary) == {"man", "boy", "girl", "dog", "sofa", "tree", "lake"}


def test_both_annotations_have_the_same_videos(tmp_path: Path) -> None:
    first, second = both_annotations(write(tmp_path))
    assert first.videos() == second.videos() == tuple(SECOND)
    assert [len(first), len(second)] == [10, 5]


@pytest.mark.slow
def test_the_real_annotations_have_their_counts(shared: Path) -> None:
    data = read_two_annotations(shared / "data" / "activitynet" / "annotations.zip")
    assert [len(data.split(name).videos()) for name in ("train", "test")] == [2443, 2442]
    assert sum(len(part) for part in data.splits.values()) == 17_031
