"""Labels through every pair of formats: frames, boxes, tracks and actions survive, or `losses` says what does not."""

from __future__ import annotations

import itertools
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trifocal.action.data.formats import LabelFormat, losses, read_labels, write_labels
from trifocal.action.labels import LabelMap, Labels, VideoLabels

KINDS: tuple[LabelFormat, ...] = ("trifocal", "ava", "cvat", "coco")
CLASSES = LabelMap(("sit", "talk to (e.g., self, a group)", 'say "no" # \\'), (3, 11, 80))
SIZE, RATE, COUNT = (128, 96), 25.0, 60
NAMES = ("a", "sport/b.01", "ü 2")
SUFFIXES: dict[str, str] = {"trifocal": ".json", "ava": ".csv", "coco": ".json", "cvat": ""}


@st.composite
def videos(draw: st.DrawFn, name: str) -> VideoLabels:
    """A video with frames looked at (every n-th, or any), some of them empty or excluded, and up to three actors."""
    if draw(st.booleans()):
        looked = list(range(draw(st.integers(0, 9)), COUNT, draw(st.integers(1, 9))))
    else:
        looked = sorted(draw(st.sets(st.integers(0, COUNT - 1), min_size=1, max_size=9)))
    rows = []
    for index in looked[:5]:
        for track in draw(st.sets(st.sampled_from((-2, -1, 0, 7, 40)), max_size=3)):
            low = (draw(st.integers(0, 60)), draw(st.integers(0, 50)))
            left = low[0] + {-2: 0.2, -1: 0.3}.get(track, 0.0)  # those of no track differ by their box alone
            done = [draw(st.booleans()) for _ in CLASSES.names]
            rows.append((index, (left, low[1], left + 40, low[1] + 30.2), max(track, -1), done))
    excluded = draw(st.sets(st.sampled_from(looked), max_size=2))
    return VideoLabels(
        name,
        np.array([row[0] for row in rows], np.int64),
        np.array([row[1] for row in rows], np.float32).reshape(-1, 4),
        np.array([row[2] for row in rows], np.int64),
        np.array([row[3] for row in rows], np.bool_).reshape(-1, len(CLASSES)),
        RATE,
        *SIZE,
        frame_count=draw(st.sampled_from((COUNT, None))),
        labelled=np.array(looked),
        excluded=np.array(sorted(excluded), np.int64),
    )


@st.composite
def labels(draw: st.DrawFn) -> Labels:
    chosen = draw(st.lists(st.sampled_from(NAMES), unique=True, min_size=1, max_size=2))
    splits = {"train0": tuple(chosen[:1])} if draw(st.booleans()) else {}
    return Labels(CLASSES, tuple(draw(videos(name)) for name in chosen), splits)


Plain = dict[str, tuple[list[int], list[tuple[int, int, tuple[float, ...], tuple[str, ...]]]]]


def plain(found: Labels) -> Plain:
    """By video: frames looked at, and rows of frame, track, box and names, without what is excluded."""
    out: Plain = {}
    for one in found.videos:
        looked = one.looked_at.tolist()
        rows = [
            (int(index), int(track), tuple(box), tuple(np.array(found.classes.names)[own]))
            for index, track, box, own in zip(
                one.indices, one.tracks, one.boxes_xyxy.round().tolist(), one.actions, strict=True
            )
            if int(index) in looked
        ]
        out[one.video] = (looked, sorted(rows))
    return out


def kept(whole: Plain, kind: LabelFormat) -> Plain:
    """What a format must give back; AVA's has no boxes without an action."""
    if kind != "ava":
        return whole
    out: Plain = {}
    for video, (looked, rows) in whole.items():
        doing = [row for row in rows if row[3]]
        silent = {row[0] for row in rows} - {row[0] for row in doing}
        if left := [index for index in looked if index not in silent]:
            out[video] = (left, doing)
    return out


def through(found: Labels, kind: LabelFormat, folder: Path) -> Labels:
    path = folder / f"x{SUFFIXES[kind]}"
    write_labels(found, path, kind=kind)
    back = read_labels(path, rate=RATE)
    return back.measured({one.video: SIZE for one in back.videos})


@pytest.mark.parametrize(("first", "second"), list(itertools.product(KINDS, KINDS)))
@given(truth=labels())
@settings(max_examples=5, deadline=None)
def test_every_pair_of_formats(first: LabelFormat, second: LabelFormat, truth: Labels) -> None:
    before = plain(truth)
    wanted = kept(kept(before, first), second)
    if not kept(before, "ava"):
        return  # an AVA csv of nothing is refused: its own test
    with TemporaryDirectory() as one, TemporaryDirectory() as two:
        middle = through(truth, first, Path(one))
        end = through(middle, second, Path(two))
    assert (end.classes.names, end.classes.ids) == (CLASSES.names, CLASSES.ids)
    assert plain(end) == wanted
    assert all(one.rate == RATE for one in end.videos)
    told = " ".join((*losses(truth, first), *losses(middle, second)))
    silent = any(not row[3] for _, rows in before.values() for row in rows)
    assert ("without an action" in told) == ("ava" in (first, second) and silent)
    assert ("nothing is left" in told) == (set(wanted) != set(before))
    assert ("splits" in told) == (bool(truth.splits) and (first, second) != ("trifocal", "trifocal"))
    excluded = any(len(one.excluded) for one in truth.videos)
    lost = bool({first, second} & {"ava", "coco"})
    assert ("excluded" in told) == (excluded and lost)
    assert lost or [one.excluded.tolist() for one in end.videos] == [one.excluded.tolist() for one in truth.videos]
    assert dict(end.splits) == (dict(truth.splits) if first == second == "trifocal" else {})


def sparse(*frames: int, boxes: tuple[int, ...] = (0, 5), count: int | None = 50) -> Labels:
    """An actor in some of the frames that were looked at."""
    indices = np.array(boxes)
    corners = np.array([[index, 10, index + 20, 40] for index in boxes], np.float32).reshape(-1, 4)
    done = np.tile([True, False, False], (len(boxes), 1))
    one = VideoLabels(
        "v", indices, corners, np.zeros(len(boxes), np.int64), done, RATE, *SIZE, frame_count=count,
        labelled=np.array(frames),
    )  # fmt: skip
    return Labels(CLASSES, (one,))


@pytest.mark.parametrize("kind", KINDS)
def test_frames_that_nobody_looked_at_do_not_become_empty_ones(kind: LabelFormat, tmp_path: Path) -> None:
    one = through(sparse(0, 5, 10, 15), kind, tmp_path)["v"]
    assert one.looked_at.tolist() == [0, 5, 10, 15]
    assert one.indices.tolist() == [0, 5]


def test_a_box_without_an_action_leaves_no_empty_second_in_a_csv(tmp_path: Path) -> None:
    one = sparse(0, 5, 10)["v"]
    silent = Labels(CLASSES, (VideoLabels(
        "v", one.indices, one.boxes_xyxy, one.tracks, np.array([[True, False, False], [False] * 3]), RATE, *SIZE,
        labelled=one.labelled,
    ),))  # fmt: skip
    assert through(silent, "ava", tmp_path)["v"].looked_at.tolist() == [0, 10]
    assert any(
        "without an action are left out: 1, and frames that have no others: 1" in x for x in losses(silent, "ava")
    )


def test_corners_beyond_the_picture_are_cut_in_a_csv(tmp_path: Path) -> None:
    one = sparse(0, boxes=(0,))["v"]
    boxes = np.array([[60, 10, 80, 40]], np.float32)
    cut = Labels(CLASSES, (VideoLabels("v", one.indices, boxes, one.tracks, one.actions, RATE, 64, 96),))
    assert any("cut at its edge: 1" in sentence for sentence in losses(cut, "ava"))
    write_labels(cut, tmp_path / "x.csv", kind="ava")
    assert read_labels(tmp_path / "x.csv").videos[0].boxes_xyxy[0, 2] == 1.0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("source", ["jhmdb_input_gt.pkl", "ucf_input_gt.pkl"])
def test_published_tubes_keep_frames_and_tracks(shared: Path, tmp_path: Path, kind: LabelFormat, source: str) -> None:
    truth = read_labels(shared / "goldens/vad/data" / source, rate=RATE)
    write_labels(truth, tmp_path / f"x{SUFFIXES[kind]}", kind=kind)
    back = read_labels(tmp_path / f"x{SUFFIXES[kind]}", rate=RATE)
    back = back.measured({one.video: (one.width, one.height) for one in truth.videos})
    wanted, found = plain(truth), plain(back)
    assert back.classes.names == truth.classes.names
    for video, (looked, rows) in wanted.items():
        assert found[video][0] == looked
        assert [row[:2] + row[3:] for row in found[video][1]] == [row[:2] + row[3:] for row in rows]
        beyond = kind == "ava" and any("cut at its edge" in sentence for sentence in losses(truth, kind))
        near = np.abs(np.array([row[2] for row in found[video][1]]) - np.array([row[2] for row in rows]))
        assert beyond or near.max(initial=0) <= 1  # both rounded
