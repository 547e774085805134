from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trifocal.errors import InvalidInput
from trifocal.retrieval.data import (
    Caption,
    CaptionSet,
    encode_words,
    extract_features,
    files_of,
    read_own,
    with_durations,
    write_own_csv,
)
from trifocal.video import write_mp4


class Colours:
    """A three-number encoder: mean red, green and blue of a frame; the letters r, g and b of a text."""

    id = "colours"
    dim = 3
    frame_size = (8, 8)

    def __init__(self) -> None:
        self.frames = 0
        self.texts: list[str] = []

    def encode_frames(self, frames: Any) -> Any:
        self.frames += len(frames)
        means = frames.mean(axis=(1, 2)) + 1.0
        return (means / np.linalg.norm(means, axis=1, keepdims=True)).astype(np.float32)

    def encode_query(self, texts: Sequence[str]) -> Any:
        self.texts.extend(texts)
        counts = np.array([[1.0 + text.count(letter) for letter in "rgb"] for text in texts])
        return (counts / np.linalg.norm(counts, axis=1, keepdims=True)).astype(np.float32)


def make_video(path: Path, colour: tuple[int, int, int], *, seconds: float = 2.0) -> Path:
    frames = np.full((round(10 * seconds), 32, 32, 3), colour, dtype=np.uint8)
    write_mp4(path, frames, fps=10)
    return path


def test_a_table_is_read_by_split(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(
        "\ufeffvideo, caption ,start_s,end_s,split,id\n"
        'a.mp4,"red, and\nbright",0,1.5,train,\n'
        "\n"
        "a.mp4,second,,,,mine\n"
        "b.mp4,third,1,2,test,\n",
        encoding="utf-8",
    )
    found = read_own(tmp_path / "t.csv")
    assert set(found) == {"train", "test"}
    assert found["train"].captions == (
        Caption("a.mp4#enc#0", "a.mp4", "red, and\nbright", ((0.0, 1.5),)),
        Caption("mine", "a.mp4", "second"),
    )
    assert found["test"].captions[0].moments_s == ((1.0, 2.0),)


def test_both_kinds_of_table_say_the_same(tmp_path: Path) -> None:
    splits = {
        "train": CaptionSet((Caption("a#0", "a", "one, two", ((0.5, 1.0),)), Caption("a#1", "a", "“three”"))),
        "test": CaptionSet((Caption("b#0", "b", "four"),)),
    }
    write_own_csv(tmp_path / "t.csv", splits)
    assert read_own(tmp_path / "t.csv") == splits
    (tmp_path / "t.jsonl").write_text(
        '{"video": "a", "caption": "one, two", "start_s": 0.5, "end_s": 1, "id": "a#0"}\n'
        '{"video": "a", "caption": "“three”", "id": "a#1"}\n'
        '{"video": "b", "caption": "four", "split": "test", "id": "b#0"}\n'
    )
    assert read_own(tmp_path / "t.jsonl") == splits


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", b"", r"t\.csv, line 1: has the columns "),
        ("t.csv", b"film,text\n", r"t\.csv, line 1: has the columns film, text"),
        ("t.csv", b"video,caption\n", "holds no captions"),
        ("t.csv", b"video,caption\na\n", r"t\.csv, line 2: has 1 cells, the header 2"),
        ("t.csv", b"video,caption\na,b,c\n", r"t\.csv, line 2: has 3 cells"),
        ("t.csv", b"video,caption,colour\na,b,c\n", r"t\.csv, line 2: has colour"),
        ("t.csv", b"video,caption\na,\n", r"t\.csv, line 2: caption is None"),
        ("t.csv", b"video,caption,start_s\na,b,1\n", r"t\.csv, line 2: has start_s alone"),
        ("t.csv", b"video,caption,start_s,end_s\na,b,x,2\n", r"t\.csv, line 2: start_s is 'x'"),
        ("t.csv", b"video,caption,start_s,end_s\na,b,0,nan\n", r"t\.csv, line 2: end_s is nan"),
        ("t.csv", b"video,caption,start_s,end_s\na,b,3,2\n", r"t\.csv, line 2: goes from 3.0 s to 2.0 s"),
        ("t.csv", b"video,caption,id\na,b,x\na,c,x\n", r"t\.csv, line 3: the id 'x' stands in line 2 too"),
        ("t.csv", b'video,caption\na,"b"c\n', r"t\.csv, line 2: is not CSV"),
        ("t.csv", b"video,caption\na,\xff\n", r"t\.csv, line \d: is not UTF-8"),
        ("t.jsonl", b'{"video": "a"}\n', r"t\.jsonl, line 1: caption is None"),
        ("t.jsonl", b'{"video": "a", "caption": "b", "start_s": true, "end_s": 1}\n', "start_s is True"),
        ("t.jsonl", b"{\n", r"t\.jsonl, line 1: is not JSON"),
        ("t.txt", b"", "ends in '.txt'"),
    ],
)
def test_a_broken_table_is_told_by_line(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidInput, match=message):
        read_own(tmp_path / name)


def test_files_must_lie_in_the_folder(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.mp4").touch()
    assert files_of(tmp_path / "in", ["a.mp4"], table="t.csv") == {"a.mp4": tmp_path / "in" / "a.mp4"}
    with pytest.raises(InvalidInput, match=r"2 of 3 videos of t\.csv are not in .*: b, c"):
        files_of(tmp_path / "in", ["a.mp4", "b", "c"], table="t.csv")
    (tmp_path / "out.mp4").touch()
    with pytest.raises(InvalidInput, match=r"t\.csv names '\.\./out\.mp4', outside"):
        files_of(tmp_path / "in", ["../out.mp4"], table="t.csv")
    with pytest.raises(InvalidInput, match=r"there is no folder"):
        files_of(tmp_path / "nowhere", [], table="t.csv")


def test_frames_are_encoded_once_and_again_when_the_file_changes(tmp_path: Path) -> None:
    videos = {
        "red": make_video(tmp_path / "r.mp4", (200, 0, 0)),
        "sub/blue.mp4": make_video(tmp_path / "b.mp4", (0, 0, 200)),
    }
    encoder = Colours()
    told: list[tuple[int, int]] = []

    def progress(done: int, total: int) -> None:
        told.append((done, total))

    found = extract_features(videos, encoder, cache=tmp_path / "c", frames_per_second=5, progress=progress)
    assert sorted(found.ids()) == ["red", "sub/blue.mp4"]
    assert told == [(0, 2), (1, 2), (2, 2)]
    assert found.read("red").shape == (10, 3)
    assert found.read("red")[:, 0].min() > 0.9
    assert found.times_s("red").tolist() == pytest.approx([0.2 * n for n in range(10)])
    assert found.end_s("red") == pytest.approx(2.0, abs=0.11)
    assert encoder.frames == 20
    extract_features(videos, encoder, cache=tmp_path / "c", frames_per_second=5)
    assert encoder.frames == 20
    make_video(tmp_path / "r.mp4", (0, 200, 0))
    again = extract_features(videos, encoder, cache=tmp_path / "c", frames_per_second=5)
    assert encoder.frames == 30
    assert again.read("red")[:, 1].min() > 0.9
    extract_features(videos, encoder, cache=tmp_path / "c", frames_per_second=2)
    assert encoder.frames > 30  # another sampling has features of its own
    captions = CaptionSet((Caption("i", "red", "t"),))
    assert with_durations({"train": captions}, again)["train"].durations_s == {"red": again.end_s("red")}


def test_words_are_encoded_once_each_and_the_sentence_last() -> None:
    encoder = Colours()
    found = encode_words(encoder, {"1": "red, red dog's", "2": "green dog"}, batch=2)
    assert found.count("1") == 4  # red red dog's + the sentence
    assert sorted(encoder.texts) == sorted({"red", "dog's", "green", "dog", "red, red dog's", "green dog"})
    np.testing.assert_array_equal(found.read("1")[0], found.read("1")[1])
    np.testing.assert_array_equal(found.read("2")[-1], Colours().encode_query(["green dog"])[0])
    assert encode_words(encoder, {"only marks": "?!"}).count("only marks") == 1
    with pytest.raises(InvalidInput, match=r"there are no captions"):
        encode_words(encoder, {})
