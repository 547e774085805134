"""`trifocal train detect` and `eval detect --model` as a user types them, from every format of labels."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from tests.cli.conftest import Run

from trifocal.action import ActionModel, Detector, DetectorConfig, VitConfig, load_action_model
from trifocal.action.data.formats import write_labels
from trifocal.action.labels import LabelMap, Labels, VideoLabels
from trifocal.video import write_mp4

COUNT, HEIGHT, WIDTH, FPS = 12, 48, 64, 10.0
CLASSES = LabelMap.of(["walk left", "walk right"])
MAP = '[{"id": 1, "name": "walk left"}, {"id": 2, "name": "walk right"}]'
AVA_AT_S = 900


def place(name: str, index: int) -> tuple[int, int, int, int]:
    left = 2 * index if name == "a" else WIDTH - 20 - 2 * index
    return left, 8, left + 18, 40


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two films of 10 frames a second, of a square that walks right (`a`) or left (`b`)."""
    folder = tmp_path_factory.mktemp("films")
    for name in ("a", "b"):
        frames = np.full((COUNT, HEIGHT, WIDTH, 3), 30, np.uint8)
        for index, frame in enumerate(frames):
            x1, y1, x2, y2 = place(name, index)
            frame[y1:y2, x1:x2] = (220, 60, 60)
        write_mp4(folder / f"{name}.mp4", list(frames), fps=FPS, crf=10)
    return folder


def truth(*, told: bool = True) -> Labels:
    videos = []
    for number, name in enumerate(("b", "a")):
        boxes = np.array([place(name, index) for index in range(COUNT)], np.float32)
        actions = np.tile(np.arange(2) == number, (COUNT, 1))
        rate = FPS if told else 25.0
        videos.append(
            VideoLabels(
                name, np.arange(COUNT), boxes, np.zeros(COUNT, np.int64), actions, rate, WIDTH, HEIGHT,
                frame_count=COUNT, rate_told=told,
            )
        )  # fmt: skip
    return Labels(CLASSES, tuple(videos), {"train0": ("a",), "test0": ("b",)})


def tiny(mode: Literal["keyframe", "tube"]) -> DetectorConfig:
    return DetectorConfig(
        backbone=VitConfig(width=48, depth=1, heads=4, drop_path=0.0), mode=mode, frames=4, frame_stride=1,
        short_side=32, classes=2, actors=2, width=32, heads=4, feedforward=32, encoder_layers=1, decoder_layers=1,
        points=2,
    )  # fmt: skip


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two tiny models, `keyframe` and `tube`."""
    folder = tmp_path_factory.mktemp("models")
    modes: tuple[Literal["keyframe", "tube"], ...] = ("keyframe", "tube")
    for mode in modes:
        torch.manual_seed(0)
        ActionModel(Detector(tiny(mode)).eval(), CLASSES.names, fps=FPS, name="tiny").save(folder / mode)
    return folder


@dataclass(frozen=True)
class Kind:
    """A format: how labels are written in it, what reading them needs, a wrong file, and what it is told."""

    name: str
    suffix: str
    write: Callable[[Path], object]
    options: tuple[str, ...]
    wrong: str | bytes
    told: str


def by_writer(kind: str) -> Callable[[Path], object]:
    return lambda path: write_labels(truth(), path, kind=kind)  # type: ignore[arg-type]


def write_coco_without_rate(path: Path) -> None:
    write_labels(truth(), path, kind="coco")
    value = json.loads(path.read_text())
    for one in value["videos"]:
        del one["fps"]
    path.write_text(json.dumps(value))


def write_ava_seconds(path: Path) -> None:
    """AVA's own: a key frame at whole seconds, counted in the film that this one was cut out of."""
    rows = []
    for number, name in enumerate(("b", "a"), start=1):
        x1, y1, x2, y2 = place(name, int(FPS))
        corners = f"{x1 / WIDTH:.4f},{y1 / HEIGHT:.4f},{x2 / WIDTH:.4f},{y2 / HEIGHT:.4f}"
        rows.append(f"{name},{AVA_AT_S + 1:04d},{corners},{number},0\n")
    path.write_text("".join(rows))


def write_ava_json(path: Path) -> None:
    found = {}
    for number, name in enumerate(("b", "a")):
        x1, y1, x2, y2 = place(name, int(FPS))
        box = [x1 / WIDTH, y1 / HEIGHT, x2 / WIDTH, y2 / HEIGHT]
        found[f"{name},{AVA_AT_S + 1:04d}"] = {"bboxes": [box], "acts": [[number]]}
    path.write_text(json.dumps({"video_frame_bbox": found, "frame_keys_list": sorted(found)}))


def write_pickle(path: Path, *, videos: str = "{}", resolution: tuple[int, int] = (HEIGHT, WIDTH)) -> None:
    """As JHMDB, UCF101-24 (one array a tube) and MultiSports (several, keys with a folder) have it."""
    tubes: dict[str, dict[int, list[np.ndarray]]] = {}
    for number, name in enumerate(("b", "a")):
        rows = np.array([[index + 1, *place(name, index)] for index in range(COUNT)], np.float32)
        tubes[videos.format(name)] = {number: [rows[:5], rows[5:]]}
    value = {
        "labels": list(CLASSES.names),
        "gttubes": tubes,
        "nframes": dict.fromkeys(tubes, COUNT),
        "resolution": dict.fromkeys(tubes, resolution),
        "train_videos": [[videos.format("a")]],
        "test_videos": [[videos.format("b")]],
    }
    path.write_bytes(pickle.dumps(value, protocol=2))


def write_wrong_pickle() -> bytes:
    value = {"labels": ["walk"], "gttubes": {"a": [1]}, "nframes": {"a": 9}, "resolution": {"a": (48, 64)}}
    return pickle.dumps(value | {"train_videos": [["a"]], "test_videos": [[]]}, protocol=2)


SECONDS = ("--label-map", "map.json", "--start-s", f"-{AVA_AT_S}")
KINDS = [
    Kind("trifocal", "x.json", by_writer("trifocal"), (), '{"format": "trifocal-labels", "version": 9}', "version"),
    Kind("ava", "x.csv", write_ava_seconds, SECONDS, "a,901,0,0,1,1,1\na,902,0,0,x,1,1\n", "x.csv, line 2: x2 is 'x'"),
    Kind("ava-json", "x.json", write_ava_json, SECONDS, '{"a,0901": {"bboxes": [1], "acts": [[1]]}}', "entry 'a,0901'"),
    Kind("cvat", "x", by_writer("cvat"), (), "<annotations><track>", "a.xml, line 1: it is no XML"),
    Kind(
        "coco", "x.json", write_coco_without_rate, (),
        '{"videos": [], "images": [{"id": 1, "video_id": 3}], "annotations": [], "categories": [{"id":1,"name":"w"}]}',
        "x.json, images, id 1: video_id is 3",
    ),
    Kind("jhmdb", "x.pkl", write_pickle, ("--split", "train0"), write_wrong_pickle(), "x.pkl, video 'a': its gttubes"),
    Kind(
        "multisports", "x.pkl", lambda path: write_pickle(path, videos="aerobic/{}"), ("--split", "train0"), b"nothing",
        "x.pkl is not a pickle",
    ),
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS, ids=[one.name for one in KINDS])
def test_every_format_trains_to_a_model_that_is_evaluated(
    kind: Kind, run: Run, films: Path, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("map.json").write_text(MAP)
    path = Path(kind.suffix)
    kind.write(path)
    videos = films
    if kind.name == "multisports":
        videos = tmp_path / "sports"
        (videos / "aerobic").mkdir(parents=True)
        for name in ("a", "b"):
            (videos / "aerobic" / f"{name}.mp4").write_bytes((films / f"{name}.mp4").read_bytes())
    pickled = kind.name in ("jhmdb", "multisports")
    mode, recipe = ("tube", "jhmdb-vit-b") if pickled else ("keyframe", "small")
    words = ["train", "detect", path, "--videos", videos, "--out", "run", "--init", models / mode, "--recipe", recipe]
    words += [*kind.options, "--epochs", "1", "--batch", "4", "--device", "cpu", "--no-augment", "--ema", "0"]
    done = run(*words, "--format", "json")
    assert done.code == 0, done.err
    assert done.json["epochs"] == 1
    model = load_action_model("run/model")
    assert model.fps == FPS  # the film's, which a pickle does not tell
    assert set(model.classes) == set(CLASSES.names)
    options = [one for one in kind.options if one not in ("--split", "train0")]
    judged = run("eval", "detect", "--labels", path, "--videos", videos, "--model", "run/model", *options, "-f", "json")
    assert judged.code == 0, judged.err
    assert 0 <= judged.json["figures"]["frame_map@.5"] <= 1
    detections = sum(row["detections"] for row in judged.json["classes"])
    frames = 2 if kind.name.startswith("ava") else 2 * COUNT
    assert detections == 2 * 2 * frames  # every query and class of every labelled frame


@pytest.mark.parametrize("kind", KINDS, ids=[one.name for one in KINDS])
def test_a_wrong_file_of_every_format_says_where(kind: Kind, run: Run, films: Path, tmp_path: Path) -> None:
    path = tmp_path / kind.suffix
    if kind.name == "cvat":
        path.mkdir()
        (path / "a.xml").write_text(str(kind.wrong))
    elif isinstance(kind.wrong, bytes):
        path.write_bytes(kind.wrong)
    else:
        path.write_text(kind.wrong)
    done = run("train", "detect", path, "--videos", films, "--out", tmp_path / "run")
    assert done.code == 2
    assert kind.told in done.err
    assert "Traceback" not in done.err


def test_options_that_do_not_fit_are_told(run: Run, films: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_labels(truth(), path, kind="trifocal")
    words = ["train", "detect", path, "--videos", films, "--out", tmp_path / "run"]
    for more, told in (
        (["--kind", "voc"], "the format is 'voc'"),
        (["--flip", "0"], "--flip is given and clips do not vary"),
        (["--device", "gpu"], "device is 'gpu'"),
        (["--excluded", path], "excluded seconds are given for trifocal"),
        (["--attribute", "x"], "names of attributes are given for trifocal"),
        (["--backbone", tmp_path], "has its own published weights"),
        (["--ema", "1.5"], "ema is 1.5"),
    ):
        done = run(*words, *more)
        assert done.code == 2, more
        assert told in done.err
    done = run("eval", "detect", "--labels", path)
    assert (done.code, "one of --detections and --model" in done.err) == (2, True)
    done = run("eval", "detect", "--labels", path, "--model", "default")
    assert (done.code, "Give their folder with --videos" in done.err) == (2, True)


def test_published_protocols_and_a_threshold(run: Run, films: Path, models: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_labels(truth(), path, kind="trifocal")
    words = ["eval", "detect", "--labels", path, "--videos", films, "--device", "cpu", "--format", "json"]
    for mode, policy, figure in (
        ("keyframe", "reference-ava", "frame_map@.5"),
        ("tube", "reference-ucf", "video_map@.5"),
        ("tube", "reference-jhmdb", "video_map@.5"),
    ):
        done = run(*words, "--model", models / mode, "--policy", policy)
        assert done.code == 0, done.err
        assert figure in done.json["figures"]
    done = run(*words, "--model", models / "keyframe", "--threshold", "1")
    assert sum(row["detections"] for row in done.json["classes"]) == 0
