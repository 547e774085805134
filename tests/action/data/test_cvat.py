"""CVAT's files: which frames count as looked at, what is shown between key frames, and what a person goes on from."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from trifocal.action.data.check import check_labels
from trifocal.action.data.formats import losses, read_labels, write_labels
from trifocal.action.labels import LabelMap, Labels, VideoLabels
from trifocal.errors import InvalidInput

CLASSES = LabelMap(("sit", "talk to (e.g., self, a group)"), (11, 80))


def export(task: str, boxes: str) -> str:
    """A file as CVAT exports it."""
    return f"""<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version><meta><task><name>shop.mp4</name>{task}
<original_size><width>640</width><height>480</height></original_size></task></meta>
<track id="0" label="person">{boxes}</track></annotations>"""


def box(frame: int, *, outside: int = 0, key: int = 1, left: int | None = None, attribute: str = "action") -> str:
    x = 10 * frame if left is None else left
    return (
        f'<box frame="{frame}" keyframe="{key}" outside="{outside}" xtl="{x}" ytl="20" xbr="{x + 20}" ybr="60">'
        f'<attribute name="{attribute}">walk</attribute></box>'
    )


def grid(*, size: int, start: int, stop: int, step: str) -> str:
    return (
        f"<size>{size}</size><start_frame>{start}</start_frame><stop_frame>{stop}</stop_frame>"
        f"<frame_filter>{step}</frame_filter>"
    )


def labels(looked: list[int], tracks: dict[int, list[int]], *, count: int | None = 50) -> Labels:
    """Actors in some of the frames that were looked at."""
    rows = [(index, track) for track, frames in tracks.items() for index in frames]
    indices = np.array([index for index, _ in rows], np.int64)
    boxes = np.array([[index, 10, index + 20, 40] for index in indices], np.float32).reshape(-1, 4)
    done = np.tile([True, True], (len(rows), 1)).reshape(-1, 2)
    one = VideoLabels(
        "v", indices, boxes, np.array([track for _, track in rows], np.int64), done, 30.0, 128, 96, frame_count=count,
        labelled=np.array(looked, np.int64),
    )  # fmt: skip
    return Labels(CLASSES, (one,))


def test_a_task_of_every_fifth_frame(tmp_path: Path) -> None:
    """As CVAT exports it: frames with the video's numbers, boxes of all of them, `size` the frames of the task."""
    task = grid(size=4, start=10, stop=25, step="step=5")
    boxes = box(10) + box(15, key=0) + box(20) + box(25, outside=1, left=200)
    (tmp_path / "x.xml").write_text(export(task, boxes))
    one = read_labels(tmp_path / "x.xml")["shop"]
    assert one.looked_at.tolist() == [10, 15, 20, 25]
    assert one.indices.tolist() == [10, 15, 20]  # and nothing in between
    assert one.frame_count is None
    (tmp_path / "x.xml").write_text(export(task, box(10) + box(20) + box(25, outside=1)))
    filled = read_labels(tmp_path / "x.xml")["shop"]
    assert filled.indices.tolist() == [10, 15, 20]
    assert filled.boxes_xyxy[1].tolist() == [150, 20, 170, 60]


def test_a_part_of_a_video(tmp_path: Path) -> None:
    (tmp_path / "x.xml").write_text(export(grid(size=3, start=100, stop=102, step=""), box(101)))
    one = read_labels(tmp_path / "x.xml")["shop"]
    assert one.looked_at.tolist() == [100, 101, 102]
    assert one.frame_count is None


def test_a_task_that_tells_only_its_size(tmp_path: Path) -> None:
    (tmp_path / "x.xml").write_text(export("<size>4</size><start_frame></start_frame>", box(1)))
    one = read_labels(tmp_path / "x.xml")["shop"]
    assert (one.looked_at.tolist(), one.frame_count) == ([0, 1, 2, 3], 4)


@pytest.mark.parametrize(
    ("task", "told"),
    [
        (grid(size=4, start=9, stop=3, step=""), "<task>: stop_frame 3 lies before start_frame 9"),
        (grid(size=4, start=0, stop=3, step="every third"), "<frame_filter>: it is 'every third'"),
        (grid(size=4, start=0, stop=3, step="step=0"), "<frame_filter>: it is 'step=0'"),
        ("<size>many</size>", "<task>: size is 'many'"),
        (grid(size=4, start=0, stop=10**12, step=""), "stop_frame is '1000000000000'"),
    ],
)
def test_a_wrong_head_says_where(tmp_path: Path, task: str, told: str) -> None:
    (tmp_path / "x.xml").write_text(export(task, box(1)))
    with pytest.raises(InvalidInput) as caught:
        read_labels(tmp_path / "x.xml")
    assert told in str(caught.value)


def written(found: Labels, path: Path) -> tuple[list[tuple[int, str]], ET.Element]:
    """(frame, outside) of the boxes, and the task."""
    write_labels(found, path, kind="cvat")
    root = ET.parse(path).getroot()
    task = root.find("meta/task")
    assert task is not None
    return [(int(one.get("frame", "")), one.get("outside", "")) for one in root.iter("box")], task


def without_own_words(path: Path) -> Path:
    """The same file as a reader sees it that knows CVAT's words alone."""
    path.write_text(re.sub(r"<trifocal>.*</trifocal>", "", path.read_text(), flags=re.DOTALL))
    return path


def test_outside_stands_only_where_somebody_looked(tmp_path: Path) -> None:
    boxes, task = written(labels([0, 5, 10, 15, 20], {0: [0, 5, 15, 20]}), tmp_path / "v.xml")
    assert boxes == [(0, "0"), (5, "0"), (10, "1"), (15, "0"), (20, "0")]
    told = [task.findtext(name) for name in ("size", "start_frame", "stop_frame", "frame_filter")]
    assert told == ["5", "0", "20", "step=5"]
    one = read_labels(without_own_words(tmp_path / "v.xml"))["v"]
    assert one.looked_at.tolist() == [0, 5, 10, 15, 20]
    assert one.indices.tolist() == [0, 5, 15, 20]


def test_frames_without_a_regular_step(tmp_path: Path) -> None:
    truth = labels([4, 8, 20], {0: [4, 20], 3: [8]})
    boxes, task = written(truth, tmp_path / "v.xml")
    assert boxes == [(4, "0"), (8, "1"), (20, "0"), (8, "0"), (20, "1")]
    assert task.findtext("frame_filter") == "step=4"  # on which all of them lie
    assert "no regular step" in losses(truth, "cvat")[0]
    assert losses(labels([4, 8, 12], {0: [4]}), "cvat") == ()
    one = read_labels(tmp_path / "v.xml")["v"]
    assert one.looked_at.tolist() == [4, 8, 20]
    assert one.indices.tolist() == [4, 8, 20]


def test_the_head_keeps_what_cvat_has_no_words_for(tmp_path: Path) -> None:
    truth = labels([0, 1, 2], {-1: [0, 1], 6: [2]})
    write_labels(truth, tmp_path / "v.xml", kind="cvat")
    found = read_labels(tmp_path / "v.xml", rate=10.0)
    one = found["v"]
    assert (found.classes.names, found.classes.ids) == (CLASSES.names, CLASSES.ids)
    assert (one.rate, one.rate_told, one.frame_count) == (30.0, True, 50)
    assert one.tracks.tolist() == [-1, -1, 6]
    assert one.actions.all()  # a name with commas is one name
    plain = read_labels(without_own_words(tmp_path / "v.xml"))
    assert plain["v"].tracks.tolist() == [7, 8, 6]
    assert len(plain.classes) > 2


def test_a_label_map_tells_names_with_commas(tmp_path: Path) -> None:
    write_labels(labels([0], {0: [0]}), tmp_path / "v.xml", kind="cvat")
    (tmp_path / "map.json").write_text('{"11": "sit", "80": "talk to (e.g., self, a group)"}')
    found = read_labels(without_own_words(tmp_path / "v.xml"), label_map=tmp_path / "map.json")
    assert found["v"].actions.tolist() == [[True, True]]


def test_a_class_that_was_added_by_hand(tmp_path: Path) -> None:
    write_labels(labels([0], {0: [0]}), tmp_path / "v.xml", kind="cvat")
    text = (tmp_path / "v.xml").read_text()
    (tmp_path / "v.xml").write_text(text.replace(">sit, talk to (e.g., self, a group)<", ">sit, wave<"))
    found = read_labels(tmp_path / "v.xml")
    assert (found.classes.names[-1], found.classes.ids) == ("wave", (11, 80, 81))
    assert found["v"].actions.tolist() == [[True, False, True]]


@pytest.mark.parametrize(
    ("own", "told"),
    [
        ("nothing", "<trifocal>: it is no JSON"),
        ('{"version": 2}', "<trifocal>: its version is 2"),
        ('{"version": 1, "classes": [], "excluded": []}', "<trifocal>: there are 0 names"),
        ('{"version": 1, "classes": [{"id": 1}], "excluded": []}', "name is None"),
        ('{"version": 1, "rate": "fast", "classes": [], "excluded": []}', "rate is 'fast'"),
        (
            '{"version": 1, "classes": [{"id": 1, "name": "a"}], "excluded": [], "looked_at": [1]}',
            "<trifocal>: a value cannot be used",
        ),
        *(
            (
                f'{{"version": 1, "classes": [{{"id": 1, "name": "a"}}], "excluded": [], "looked_at": {runs}}}',
                "<trifocal>: a value cannot be used: the frames looked at are no rising runs",
            )
            for runs in ("[[0, 9000000000]]", "[[0, 50], [0, 50]]", "[[5, 3]]", "[[-5, 3]]")
        ),
    ],
)
def test_wrong_words_of_our_own(tmp_path: Path, own: str, told: str) -> None:
    text = export(grid(size=1, start=0, stop=0, step=""), box(0)).replace(
        "</task>", f"</task><trifocal>{own}</trifocal>"
    )
    (tmp_path / "x.xml").write_text(text)
    with pytest.raises(InvalidInput) as caught:
        read_labels(tmp_path / "x.xml")
    assert told in str(caught.value)


def test_what_cannot_be_told_apart_is_refused(tmp_path: Path) -> None:
    both = Labels(LabelMap.of(["a", "a, b", "b"]), (VideoLabels(
        "v", np.zeros(1, np.int64), np.ones((1, 4), np.float32), np.zeros(1, np.int64), np.array([[True, False, True]]),
        30.0, 128, 96,
    ),))  # fmt: skip
    with pytest.raises(InvalidInput, match="'a, b': these actions cannot be told apart"):
        write_labels(both, tmp_path / "v.xml", kind="cvat")
    twice = labels([0, 1], {0: [0, 1, 1]})
    with pytest.raises(InvalidInput, match="the actor 0 has two boxes in frame 1"):
        write_labels(twice, tmp_path / "v.xml", kind="cvat")


def test_one_file_holds_one_video(tmp_path: Path) -> None:
    one = labels([0], {0: [0]})["v"]
    two = Labels(CLASSES, (one, VideoLabels(
        "w/x", one.indices, one.boxes_xyxy, one.tracks, one.actions, 30.0, 128, 96
    )))  # fmt: skip
    with pytest.raises(InvalidInput, match=r"there are 2 videos, and all\.xml is the name of one file"):
        write_labels(two, tmp_path / "all.xml", kind="cvat")
    assert not (tmp_path / "all.xml").exists()
    assert write_labels(two, tmp_path / "all", kind="cvat") == (tmp_path / "all/v.xml", tmp_path / "all/w_x.xml")
    assert [one.video for one in read_labels(tmp_path / "all").videos] == ["v", "w/x"]
    assert write_labels(two.only(["v"]), tmp_path / "one.xml", kind="cvat") == (tmp_path / "one.xml",)
    assert (tmp_path / "one.xml").is_file()


def test_attributes_that_no_action_is_made_of_are_told(tmp_path: Path) -> None:
    task = grid(size=3, start=0, stop=2, step="")
    path = tmp_path / "x.xml"
    path.write_text(export(task, box(0, attribute="activity") + box(1, attribute="activity") + box(2, outside=1)))
    report = check_labels(read_labels(path))
    assert report.unread == {"activity": 2}
    assert [problem.kind for problem in report.problems] == ["no action"]
    assert "'activity' (2 boxes)" in report.problems[0].text
    named = check_labels(read_labels(path, attributes=["activity"]))
    assert (named.unread, named.problems, named.boxes_of_class) == ({}, (), {"walk": 2})
    path.write_text(export(task, box(0, attribute="activity") + box(1)))
    mixed = check_labels(read_labels(path))
    assert (mixed.unread, mixed.problems) == ({"activity": 1}, ())
    (tmp_path / "x.csv").write_text("v,1,0,0,1,1,3,0\n")
    with pytest.raises(InvalidInput, match="names of attributes are given for ava"):
        read_labels(tmp_path / "x.csv", attributes=["activity"])
