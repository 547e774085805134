from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from trifocal.errors import InvalidInput
from trifocal.retrieval.data import (
    Caption,
    CaptionSet,
    read_activitynet,
    read_caption_txt,
    read_charades,
    read_qvhighlights,
    read_tvr,
    write_activitynet,
    write_caption_txt,
    write_charades,
    write_qvhighlights,
    write_tvr,
)

Reader = Callable[[Path], CaptionSet]

ROUND_TRIPS: dict[str, tuple[Callable[[Path, CaptionSet], None], Reader]] = {
    "tvr": (write_tvr, read_tvr),
    "activitynet": (write_activitynet, read_activitynet),
    "qvhighlights": (write_qvhighlights, read_qvhighlights),
}


@pytest.mark.parametrize("name", ROUND_TRIPS)
def test_what_is_written_is_read(name: str, captions: CaptionSet, tmp_path: Path) -> None:
    write, read = ROUND_TRIPS[name]
    write(tmp_path / "file", captions)
    assert read(tmp_path / "file") == captions


def test_a_caption_file_keeps_ids_and_texts(captions: CaptionSet, tmp_path: Path) -> None:
    write_caption_txt(tmp_path / "file", captions)
    found = read_caption_txt(tmp_path / "file")
    assert [(one.id, one.video, one.text) for one in found] == [(one.id, one.video, one.text) for one in captions]
    assert found.durations_s == {}
    assert found.with_moments(captions) == captions


def test_charades_takes_durations_from_its_csv(captions: CaptionSet, tmp_path: Path) -> None:
    write_charades(tmp_path / "sta.txt", captions, durations=tmp_path / "lengths.csv")
    assert read_charades(tmp_path / "sta.txt", durations=tmp_path / "lengths.csv") == captions
    assert read_charades(tmp_path / "sta.txt").durations_s == {}


def test_the_files_of_the_field_are_read_as_they_come(tmp_path: Path) -> None:
    (tmp_path / "tvr.jsonl").write_text(
        '{"vid_name": "castle_s01e02_seg02_clip_09", "duration": 66.7, "ts": [36.94, 46.02], '
        '"desc": "Castle leaves.", "type": "t", "desc_id": 102603}\n\n'
    )
    (one,) = read_tvr(tmp_path / "tvr.jsonl")
    assert (one.id, one.moments_s) == ("castle_s01e02_seg02_clip_09#enc#0", ((36.94, 46.02),))
    (tmp_path / "sta.txt").write_text("AO8RW 0.0 6.9##a person is putting a book on a shelf.\n")
    (one,) = read_charades(tmp_path / "sta.txt")
    assert one == Caption("AO8RW#enc#0", "AO8RW", "a person is putting a book on a shelf.", ((0.0, 6.9),))
    (tmp_path / "act.json").write_text(
        json.dumps({"v_x": {"duration": 8.0, "timestamps": [[1, 20], [6, 2]], "sentences": ["  a man  runs.", " b."]}})
    )
    found = read_activitynet(tmp_path / "act.json")
    assert [one.moments_s for one in found] == [((1.0, 8.0),), ((2.0, 6.0),)]
    assert found.captions[0].text == "a man runs."
    assert found.notes[0].startswith("act.json: 2 moments lay outside the video")


def test_highlights_of_one_source_become_one_video(tmp_path: Path) -> None:
    rows = [
        {
            "qid": 1,
            "query": "2nd",
            "vid": "a_b_150.0_300.0",
            "duration": 150,
            "relevant_windows": [[0, 10], [20, 22]],
        },
        {"qid": 2, "query": "first", "vid": "a_b_0.0_150.0", "duration": 150, "relevant_windows": [[140, 150]]},
        {"qid": 3, "query": "other", "vid": "c_60.0_210.0", "duration": 150, "relevant_windows": [[1, 2]]},
    ]
    (tmp_path / "h.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    plain, merged = read_qvhighlights(tmp_path / "h.jsonl"), read_qvhighlights(tmp_path / "h.jsonl", merge=True)
    assert plain.videos() == ("a_b_150.0_300.0", "a_b_0.0_150.0", "c_60.0_210.0")
    assert merged.videos() == ("a_b", "c")
    assert [one.moments_s for one in merged] == [((150, 160), (170, 172)), ((140, 150),), ((1, 2),)]
    assert merged.durations_s == {"a_b": 300, "c": 150}
    assert [one.id for one in merged] == ["a_b#enc#0", "a_b#enc#1", "c#enc#0"]


BROKEN: list[tuple[Reader, bytes, str]] = [
    (read_caption_txt, b"v#enc#0 fine\nno id here\n", r"line 2: is 'no id here'"),
    (read_caption_txt, b"v#enc#0\n", r"line 1: is 'v#enc#0'"),
    (read_caption_txt, b"v#enc#0 a\n\nv#enc#0 b\n", r"line 3: the caption id 'v#enc#0' stands in line 1 too"),
    (read_caption_txt, b"", "holds no captions"),
    (read_caption_txt, b"v#enc#0 \xff\n", "line 1: is not UTF-8"),
    (read_caption_txt, b"v#enc#0 " + b"x" * 1_100_000, "line 1: is longer than"),
    (read_tvr, b'{"vid_name": "v", "desc": "d"}\n{"vid_name": "v"', r"line 2: is not JSON .*column 17"),
    (read_tvr, b'["v"]\n', "line 1: holds list"),
    (read_tvr, b'{"vid_name": "v"}\n', "line 1: has no desc"),
    (read_tvr, b'{"vid_name": "v", "desc": ""}\n', "line 1: desc is ''"),
    (read_tvr, b'{"vid_name": 3, "desc": "d"}\n', "line 1: vid_name is 3"),
    (read_tvr, b'{"vid_name": "v", "desc": "d", "ts": [1]}\n', r"line 1: ts holds \[1\]"),
    (read_tvr, b'{"vid_name": "v", "desc": "d", "ts": [1, "2"]}\n', "line 1: ts is '2'"),
    (read_tvr, b'{"vid_name": "v", "desc": "d", "ts": [1, NaN]}\n', "line 1: ts is nan"),
    (read_tvr, b'{"vid_name": "v", "desc": "d", "duration": 0}\n', "line 1: duration is 0"),
    (read_tvr, b"[" * 100_000 + b"\n", "line 1: is (nested too deeply|not JSON)"),
    (read_activitynet, b"[]", "line 1: holds list"),
    (read_activitynet, b'{\n"v": {"duration": 1}}', "video 'v' is"),
    (read_activitynet, b'{\n"v": }', "line 2: is not JSON"),
    (read_activitynet, b'{"v": {"timestamps": [[0, 1]], "sentences": []}}', "has 1 timestamps and 0 sentences"),
    (read_activitynet, b'{"v": {"timestamps": [[0]], "sentences": ["s"]}}', r"timestamp 0 is \[0\]"),
    (read_activitynet, b'{"v": {"timestamps": [[0, null]], "sentences": ["s"]}}', "timestamp 0 is None"),
    (read_activitynet, b'{"v": {"timestamps": [[0, 1]], "sentences": [7]}}', "sentence 0 is 7"),
    (read_charades, b"v 0.0 1.0##fine\nv 0.0##x\n", "line 2: is 'v 0.0##x'"),
    (read_charades, b"v 0.0 one##x\n", "line 1: 'one' is no time"),
    (read_charades, b"v 0.0 inf##x\n", "line 1: 'inf' is no time"),
    (read_charades, b"v 0.0 1.0##\n", "line 1: is 'v 0.0 1.0##'"),
    (read_qvhighlights, b'{"vid": "v", "query": "q", "relevant_windows": 3}\n', "line 1: relevant_windows is 3"),
    (read_qvhighlights, b'{"vid": "v", "query": "q", "relevant_windows": [[1, 2, 3]]}\n', "relevant_windows holds"),
    (lambda path: read_qvhighlights(path, merge=True), b'{"vid": "v", "query": "q"}\n', "line 1: vid is 'v'"),
    (
        lambda path: read_qvhighlights(path, merge=True),
        b'{"vid": "a_0_150", "query": "q"}\n{"vid": "b_0_1", "query": "q"}\n{"vid": "a_0.0_100", "query": "q"}\n',
        "line 3: has a clip that begins with another of its source: a_0.0_100 and a_0_150",
    ),
]


@pytest.mark.parametrize(("read", "content", "message"), BROKEN)
def test_a_broken_file_is_told_by_name_and_line(read: Reader, content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.file"
    path.write_bytes(content)
    with pytest.raises(InvalidInput, match=message) as caught:
        read(path)
    assert "broken.file" in str(caught.value)
    assert caught.value.remedy


@pytest.mark.parametrize("read", [read_caption_txt, read_tvr, read_activitynet, read_charades, read_qvhighlights])
def test_a_missing_file_is_told(read: Reader, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"there is no file"):
        read(tmp_path / "nothing")


def test_formats_that_need_moments_say_so(tmp_path: Path) -> None:
    bare = CaptionSet((Caption("a", "v", "text"),))
    for write in (write_activitynet, write_charades):
        with pytest.raises(InvalidInput, match=r"'a' has no moment"):
            write(tmp_path / "x", bare)
    write_tvr(tmp_path / "x", bare)
    assert read_tvr(tmp_path / "x") == bare
