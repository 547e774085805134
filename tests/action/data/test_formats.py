"""Readers and writers of labels: round trips, one set of labels in every format, and errors that say where."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from trifocal.action.data.formats import read_label_map, read_labels, write_labels
from trifocal.action.data.formats.ava import read_excluded
from trifocal.action.labels import LabelMap, Labels, VideoLabels
from trifocal.errors import InvalidInput

CLASSES = LabelMap.of(["walk", "wave", "sit"])


def example(*, tracks: bool = True) -> Labels:
    """Two videos; an actor with two actions at once, one with none, and frames without anybody."""
    draw = np.random.default_rng(0)
    videos = []
    for name, count in (("a", 12), ("b", 7)):
        indices = np.repeat(np.arange(2, count - 2), 2)
        low = draw.uniform(0, 60, (len(indices), 2))
        boxes = np.concatenate([low, low + draw.uniform(5, 30, (len(indices), 2))], axis=1).round(2)
        actions = draw.random((len(indices), 3)) > 0.4
        actions[0] = True
        actions[1] = False
        own = np.tile([3, 8], len(indices) // 2) if tracks else np.full(len(indices), -1)
        videos.append(
            VideoLabels(
                name, indices, boxes.astype(np.float32), own, actions, 25.0, 128, 96,
                frame_count=count, labelled=np.arange(count),
            )
        )  # fmt: skip
    return Labels(CLASSES, tuple(videos), {"train0": ("a",), "test0": ("b",)})


def assert_same(found: Labels, expected: Labels, *, atol: float = 0.02, rows: bool = True) -> None:
    assert found.classes.names == expected.classes.names
    assert [one.video for one in found.videos] == [one.video for one in expected.videos]
    for one, want in zip(found.videos, expected.videos, strict=True):
        assert (one.rate, one.width, one.height) == (want.rate, want.width, want.height)
        assert np.array_equal(one.looked_at, want.looked_at)
        if rows:
            assert np.array_equal(one.indices, want.indices)
            assert np.array_equal(one.tracks, want.tracks)
            assert np.allclose(one.boxes_xyxy, want.boxes_xyxy, atol=atol)
            assert np.array_equal(one.actions, want.actions)


def test_the_projects_own_json_keeps_everything(tmp_path: Path) -> None:
    labels = example()
    write_labels(labels, tmp_path / "labels.json", kind="trifocal")
    found = read_labels(tmp_path / "labels.json")
    assert_same(found, labels, atol=1e-3)
    assert dict(found.splits) == dict(labels.splits)
    assert [one.frame_count for one in found.videos] == [12, 7]
    assert [one.video for one in found.split("test0").videos] == ["b"]


def test_coco_round_trip(tmp_path: Path) -> None:
    write_labels(example(), tmp_path / "coco.json", kind="coco")
    assert_same(read_labels(tmp_path / "coco.json"), example())


def test_cvat_round_trip(tmp_path: Path) -> None:
    write_labels(example(), tmp_path / "xml", kind="cvat")
    (tmp_path / "classes.json").write_text('["walk", "wave", "sit"]')
    assert sorted(path.name for path in (tmp_path / "xml").iterdir()) == ["a.xml", "b.xml"]
    assert_same(read_labels(tmp_path / "xml", label_map=tmp_path / "classes.json"), example())


def test_ava_round_trip(tmp_path: Path) -> None:
    labels = example()
    write_labels(labels, tmp_path / "ava.csv", kind="ava")
    (tmp_path / "map.pbtxt").write_text(
        "".join(f'item {{\n  name: "{name}"\n  id: {n}\n}}\n' for n, name in zip((1, 2, 3), CLASSES.names, strict=True))
    )
    found = read_labels(tmp_path / "ava.csv", label_map=tmp_path / "map.pbtxt", rate=25.0)
    sized = found.measured({"a": (128, 96), "b": (128, 96)})
    # What this format cannot say is a box without an action.
    said = [one.actions.any(axis=1) for one in labels.videos]
    for one, want, rows in zip(sized.videos, labels.videos, said, strict=True):
        assert np.array_equal(one.indices, want.indices[rows])
        assert np.array_equal(one.tracks, want.tracks[rows])
        assert np.allclose(one.boxes_xyxy, want.boxes_xyxy[rows], atol=1e-3)
        assert np.array_equal(one.actions, want.actions[rows])
        assert np.array_equal(one.looked_at, want.looked_at)


def test_avas_own_files(tmp_path: Path) -> None:
    (tmp_path / "ava.csv").write_text(
        "vid1,0902,0.1,0.2,0.5,0.9,12,0\nvid1,0902,0.1,0.2,0.5,0.9,80,0\nvid1,0903,0.1,0.2,0.5,0.9,4,1\n"
        "vid1,0904,,,,,\nvid2,0910,0,0,1,1.0001,12,3\n"
    )
    (tmp_path / "map.pbtxt").write_text(
        'label {\n  name: "walk"\n  label_id: 12\n}\nlabel { \n name: "watch"\n id: 80\n}\n'
    )
    (tmp_path / "out.csv").write_text("vid1,0903\n")
    labels = read_labels(tmp_path / "ava.csv", label_map=tmp_path / "map.pbtxt", excluded=tmp_path / "out.csv")
    first = labels["vid1"]
    assert labels.classes.ids == (12, 80)
    assert first.rate == 1
    assert first.actions.tolist() == [[True, True], [False, False]]  # 4 is not among the classes: a box without action
    assert first.labelled is not None
    assert first.labelled.tolist() == [902, 903, 904]
    assert first.looked_at.tolist() == [902, 904]
    assert not first.measured
    assert first.resized(100, 50).boxes_xyxy[0].tolist() == pytest.approx([10, 10, 50, 45])
    assert read_excluded(tmp_path / "out.csv") == {"vid1": {903.0}}
    assert read_labels(tmp_path / "ava.csv").classes.names == ("action 4", "action 12", "action 80")


def test_the_released_loaders_json(shared: Path) -> None:
    labels = read_labels(shared / "goldens/vad/data/ava_input.json")
    (one,) = labels.videos
    assert one.times_s[0] == 900
    assert len(one) == 12
    assert labels.classes.ids == (1, 12, 80)


def test_tubes_of_a_pickle(shared: Path) -> None:
    labels = read_labels(shared / "goldens/vad/data/ucf_input_gt.pkl")
    one = labels["B/v_c"]
    assert (one.width, one.height, one.frame_count) == (320, 240, 70)
    assert set(one.tracks.tolist()) == {0, 1}
    assert one.indices[one.tracks == 0].tolist() == list(range(9, 30))  # the file counts from 1
    assert len(labels.split("test0")) == 6


CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version>
<meta><task><name>shop.mp4</name><size>20</size><original_size><width>640</width><height>480</height></original_size>
</task></meta>
<track id="0" label="person">
 <box frame="2" keyframe="1" outside="0" xtl="10" ytl="20" xbr="30" ybr="60">
  <attribute name="action">walk, wave</attribute><attribute name="sit">false</attribute></box>
 <box frame="6" keyframe="1" outside="0" xtl="50" ytl="20" xbr="70" ybr="60">
  <attribute name="action">__undefined__</attribute><attribute name="sit">true</attribute></box>
 <box frame="8" keyframe="1" outside="1" xtl="50" ytl="20" xbr="70" ybr="60"></box>
</track>
<track id="5" label="jump"><box frame="0" outside="0" xtl="1" ytl="1" xbr="2" ybr="2"/></track>
</annotations>"""


def test_cvat_as_the_tool_writes_it(tmp_path: Path) -> None:
    (tmp_path / "x.xml").write_text(CVAT)
    labels = read_labels(tmp_path / "x.xml", rate=30.0)
    (one,) = labels.videos
    assert (one.video, one.frame_count, one.rate) == ("shop", 20, 30.0)
    assert labels.classes.names == ("jump", "sit", "walk", "wave")
    walked = one.tracks == 0
    assert one.indices[walked].tolist() == [2, 3, 4, 5, 6, 7]  # filled in up to where it leaves
    assert one.boxes_xyxy[walked][2].tolist() == [30, 20, 50, 60]
    assert one.actions[walked][2].tolist() == [False, False, True, True]
    assert one.actions[walked][5].tolist() == [False, True, False, False]
    assert one.actions[~walked].tolist() == [[True, False, False, False]]


def coco(**change: object) -> dict[str, object]:
    value: dict[str, object] = {
        "videos": [{"id": 1, "name": "v.mp4", "width": 64, "height": 48}],
        "images": [{"id": 4, "video_id": 1, "frame_id": 3}],
        "categories": [{"id": 1, "name": "walk"}, {"id": 2, "name": "wave"}],
        "annotations": [
            {"id": 1, "image_id": 4, "track_id": 7, "category_id": 1, "bbox": [1, 2, 10, 20]},
            {"id": 2, "image_id": 4, "track_id": 7, "category_id": 2, "bbox": [1, 2, 10, 20]},
        ],
    }
    return value | change


def test_two_annotations_of_one_box_are_two_actions(tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text(json.dumps(coco()))
    (one,) = read_labels(tmp_path / "c.json").videos
    assert (one.video, len(one), one.indices[0], one.tracks[0]) == ("v", 1, 3, 7)
    assert one.boxes_xyxy.tolist() == [[1, 2, 11, 22]]
    assert one.actions.tolist() == [[True, True]]


def film(**change: object) -> dict[str, object]:
    return {"id": 1, "name": "v.mp4", "width": 64, "height": 48} | change


def annotation(**change: object) -> dict[str, object]:
    return {"id": 1, "image_id": 4, "track_id": 7, "category_id": 1, "bbox": [1, 2, 10, 20]} | change


def native(*, splits: object = None, **change: object) -> dict[str, object]:
    one = {
        "video": "v", "file": None, "rate": 25.0, "width": 64, "height": 48, "frame_count": 9, "labelled": [[0, 9]],
        "excluded": [], "indices": [0], "tracks": [0], "boxes_xyxy": [[1, 2, 3, 4]], "actions": [[0]],
    }  # fmt: skip
    classes = [{"id": 1, "name": "walk"}]
    top = {"format": "trifocal-labels", "version": 1, "classes": classes, "splits": splits or {}}
    return top | {"videos": [one | change]}


def test_a_null_track_is_no_track(tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text(json.dumps(coco(annotations=[annotation(track_id=None)])))
    assert read_labels(tmp_path / "c.json")["v"].tracks.tolist() == [-1]


def truth_pickle(**change: object) -> dict[str, object]:
    tube = np.array([[1, 2, 3, 20, 30], [2, 2, 3, 20, 30]], np.float32)
    value: dict[str, object] = {
        "labels": ["walk", "wave"], "nframes": {"v": 9}, "resolution": {"v": (48, 64)},
        "train_videos": [["v"]], "test_videos": [[]], "gttubes": {"v": {0: [tube]}},
    }  # fmt: skip
    return value | change


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"gttubes": {"v": {"0": []}}}, "a.pkl, video 'v': the class '0' is unknown"),
        ({"gttubes": {"v": {7: []}}}, "a.pkl, video 'v': the class 7 is unknown"),
        ({"gttubes": {"v": [1]}}, "a.pkl, video 'v': its gttubes are of the type list"),
        ({"gttubes": {"v": {0: 3}}}, "the tubes of class 0 are no list"),
        ({"gttubes": {"v": {0: [np.array([[1, 9, 9, 3, 30]])]}}}, "video 'v': a box of a tube ends before it begins"),
        ({"gttubes": {"v": {0: [np.array([list("abcde")])]}}}, "a.pkl: the pickle holds numbers of the type 'U1'"),
        ({"resolution": {"v": ("48", "64")}}, "video 'v': the resolution is ('48', '64')"),
        ({"resolution": {"v": (0, 64)}}, "video 'v': the resolution is (0, 64)"),
        ({"nframes": {"v": 0}}, "video 'v': it has 0 frames"),
        ({"train_videos": [5]}, "a.pkl, train_videos, split 0: it is 5"),
    ],
)
def test_a_wrong_pickle_says_where(tmp_path: Path, change: dict[str, object], where: str) -> None:
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(truth_pickle(), protocol=2))
    assert len(read_labels(tmp_path / "a.pkl")["v"]) == 2
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(truth_pickle(**change), protocol=2))
    with pytest.raises(InvalidInput) as caught:
        read_labels(tmp_path / "a.pkl")
    assert where in str(caught.value)
    assert caught.value.remedy


def test_multisports_tubes_and_folders(tmp_path: Path) -> None:
    """Its videos stand in folders by sport, and a class has several tubes in a video, that may end and begin anew."""
    tube = np.array([[frame, 2, 3, 20, 30] for frame in (4, 5, 6)], np.float32)
    later, other = tube + np.array([4, 0, 0, 0, 0], np.float32), tube + np.array([0, 9, 0, 9, 0], np.float32)
    name = "aerobic_gymnastics/v_crsi07chcV8_c004"
    value = truth_pickle(
        gttubes={name: {1: [tube, later, other], 0: [tube]}}, nframes={name: 12}, resolution={name: (720, 1280)},
        train_videos=[[name]],
    )  # fmt: skip
    (tmp_path / "multisports_GT.pkl").write_bytes(pickle.dumps(value, protocol=4))
    labels = read_labels(tmp_path / "multisports_GT.pkl")
    one = labels.split("train0")[name]
    assert (one.width, one.height, one.frame_count) == (1280, 720, 12)
    assert [sorted(one.indices[one.tracks == track]) for track in range(4)] == [
        [3, 4, 5],
        [7, 8, 9],
        [3, 4, 5],
        [3, 4, 5],
    ]
    assert [int(one.actions[one.tracks == track][0].argmax()) for track in range(4)] == [1, 1, 1, 0]


def test_a_folder_with_two_files_of_one_video(tmp_path: Path) -> None:
    for name in ("x.xml", "y.xml"):
        (tmp_path / name).write_text(CVAT)
    with pytest.raises(InvalidInput, match=r"y\.xml and x\.xml are both of the video 'shop'"):
        read_labels(tmp_path)


def test_a_rate_that_nobody_told_is_the_videos_own(tmp_path: Path) -> None:
    (tmp_path / "x.xml").write_text(CVAT)
    guessed = read_labels(tmp_path / "x.xml")
    assert (guessed["shop"].rate, guessed["shop"].rate_told) == (25.0, False)
    assert guessed.timed({"shop": 30.0})["shop"].rate == 30.0
    assert read_labels(tmp_path / "x.xml", rate=10.0).timed({"shop": 30.0})["shop"].rate == 10.0
    write_labels(guessed, tmp_path / "x.json", kind="trifocal")
    assert read_labels(tmp_path / "x.json").timed({"shop": 30.0})["shop"].rate == 30.0
    (tmp_path / "c.json").write_text(json.dumps(coco()))
    assert read_labels(tmp_path / "c.json").timed({"v": 12.0})["v"].rate == 12.0
    (tmp_path / "c.json").write_text(json.dumps(coco(videos=[film(fps=24)])))
    assert read_labels(tmp_path / "c.json").timed({"v": 12.0})["v"].rate == 24.0


@pytest.mark.parametrize(
    ("name", "text", "where"),
    [
        ("a.csv", "v,902,0,0,1,1,3,0\nv,903,0,0,x,1,3,0\n", "a.csv, line 2: x2 is 'x'"),
        ("a.csv", "v,902,0,0,1,1,3\nv,903,10,10,60,90,3\n", "line 2: the box is"),
        ("a.csv", "v,902\nv\n", "line 2: it has 1 columns"),
        ("a.csv", "v,902,0,0,1\n", "line 1: it has 5 columns"),
        ("a.csv", "v,902,0,0,1,1,2.5\n", "line 1: the action or the person"),
        ("a.csv", "v,-1,0,0,1,1,2\n", "line 1: the second"),
        ("a.json", '{"a":\n 1,,}', "a.json, line 2: it is no JSON"),
        ("a.json", "[1, 2]", "no label format"),
        ("a.json", '{"v,902": {"bboxes": [[0, 0, 1]], "acts": [[1]]}}', "entry 'v,902'"),
        ("a.json", '{"v,902": {"bboxes": [[0, 0, 1, 1]], "acts": []}}', "entry 'v,902': 1 boxes, 0 acts"),
        ("a.xml", "<annotations>", "line 1: it is no XML"),
        ("a.xml", "<!DOCTYPE x [<!ENTITY a 'b'>]><annotations>&a;</annotations>", "declares entities"),
        ("a.xml", "<annotations><image id='1'/></annotations>", "not of a video"),
        ("a.xml", CVAT.replace('ytl="20"', 'ytl="up"', 1), '<track id="0">, <box frame="2">: a corner is no number'),
        ("a.xml", CVAT.replace('frame="6"', 'frame="2"'), '<box frame="2">: the frame stands twice'),
        ("a.xml", CVAT.replace("original_size", "size2"), "<meta>: there is no <original_size>"),
        ("a.json", json.dumps(coco(images=[{"id": 4, "video_id": 9, "frame_id": 0}])), "images, id 4: video_id is 9"),
        ("a.json", json.dumps(coco(images=[{"id": 4, "video_id": 1}])), "images, id 4: frame_id is None"),
        ("a.json", json.dumps(coco(categories=[{"id": 1, "name": "walk"}])), "annotations, entry 1: the category 2"),
        ("a.json", json.dumps(coco(annotations=[{"id": 1, "image_id": 4, "bbox": [1, 2]}])), "entry 0: bbox is [1, 2]"),
        ("a.json", '{"format": "trifocal-labels", "version": 9}', "version: it is 9"),
        (
            "a.json",
            json.dumps({"format": "trifocal-labels", "version": 1, "classes": [], "splits": {}, "videos": []}),
            "a.json: there are 0 names",
        ),
        ("a.json", json.dumps(coco(annotations=[annotation(track_id="x")])), "annotations, entry 0: track_id is 'x'"),
        ("a.json", json.dumps(coco(annotations=[annotation(track_id=1.5)])), "annotations, entry 0: track_id is 1.5"),
        ("a.json", json.dumps(coco(annotations=[annotation(bbox=[9, 9, -2, 3])])), "entry 0: bbox is [9, 9, -2, 3]"),
        ("a.json", json.dumps(coco(annotations=[annotation(action_ids=[[1]])])), "entry 0: the category [1]"),
        ("a.json", json.dumps(coco(videos=[film(fps="fast")])), "a.json, videos, id 1: fps is 'fast'"),
        ("a.json", json.dumps(coco(videos=[film(height=0)])), "videos, id 1: its picture is 64 x 0"),
        ("a.json", json.dumps(coco(videos=[film(), film(id=2)])), "videos, id 2: another video is called 'v' too"),
        ("a.xml", CVAT.replace("<height>480", "<height>0"), "a.xml, <original_size>: it is 640 x 0"),
        ("a.xml", CVAT.replace('xbr="30"', 'xbr="3"'), '<box frame="2">: the box [10.0, 20.0, 3.0, 60.0] ends before'),
        ("a.csv", "v,902,0.5,0,0.2,1,3,0\n", "a.csv, line 1: the box [0.5, 0.0, 0.2, 1.0] ends before"),
        ("a.json", '{"v,902": {"bboxes": [[0.5, 0, 0.1, 1]], "acts": [[1]]}}', "entry 'v,902': a box is [0.5"),
        ("a.json", '{"v,902": {"bboxes": [[0, 0, 1, 1]], "acts": [3]}}', "entry 'v,902': a box is [0, 0, 1, 1]"),
        ("a.json", json.dumps(native(splits={"x": 5})), "a.json, splits, 'x': it is 5"),
        ("a.json", json.dumps(native(splits={"x": ["w"]})), "a.json: the split 'x' names 'w'"),
        ("a.json", json.dumps(native(frame_count="many")), "a.json, video 'v': frame_count is 'many'"),
        ("a.json", json.dumps(native(height=0)), "a.json: v has 25.0 frames a second and 64 x 0 pixels"),
        ("a.pkl", "cposix\nsystem\n(S'true'\ntR.", "the name posix.system"),
        ("a.pkl", "nothing", "a.pkl is not a pickle"),
        ("a.txt", "x", "no label format"),
    ],
)
def test_a_wrong_file_says_where(tmp_path: Path, name: str, text: str, where: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InvalidInput) as caught:
        read_labels(tmp_path / name)
    assert where in str(caught.value)
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("name", "text", "where"),
    [
        ("m.pbtxt", 'item {\n name: "a"\n}\n', "line 3: an item ends"),
        ("m.pbtxt", "rubbish\n", "line 1: it says 'rubbish'"),
        ("m.pbtxt", 'item {\n name: "a"\n id: 1\n', "not closed"),
        ("m.json", '{"x": "a"}', "entry x"),
        ("m.json", '[{"id": 1, "name": "a"}, {"id": 2, "name": "a"}]', "'a' is empty or repeated"),
        ("m.pbtxt", "", "no class"),
    ],
)
def test_a_wrong_label_map_says_where(tmp_path: Path, name: str, text: str, where: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InvalidInput) as caught:
        read_label_map(tmp_path / name)
    assert where in str(caught.value)


def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    row = np.zeros(1, np.int64)
    bare = Labels(CLASSES, (VideoLabels("v", row, np.ones((1, 4), np.float32), row, np.ones((1, 3), np.bool_), 1.0),))
    for kind in ("cvat", "coco"):
        with pytest.raises(InvalidInput, match="size of its picture"):
            write_labels(bare, tmp_path / "x.xml", kind=kind)
    with pytest.raises(InvalidInput, match="is not written"):
        write_labels(bare, tmp_path / "x", kind="tubes")
    with pytest.raises(InvalidInput, match="cannot be written"):
        write_labels(bare, tmp_path / "no" / "x.csv", kind="ava")
