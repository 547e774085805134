"""`trifocal detect` as a user types it, with a small detector of random weights."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
import torch
from PIL import Image
from tests.cli.conftest import Run

from trifocal import video
from trifocal.action import ActionModel, Detector, DetectorConfig, VitConfig

COUNT, HEIGHT, WIDTH, FPS = 30, 48, 64, 10.0


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    config = DetectorConfig(
        backbone=VitConfig(width=48, depth=1, heads=4, grid=14, drop_path=0.0),
        frames=4, frame_stride=2, short_side=32, classes=2, actors=2, width=32, heads=4, feedforward=32,
        encoder_layers=1, decoder_layers=1, points=2,
    )  # fmt: skip
    detector = Detector(config).eval()
    with torch.no_grad():
        for name, one in detector.named_parameters():
            if "person" in name and name.endswith("bias"):
                one.copy_(torch.tensor([-5.0, 5.0, -5.0]))  # everything is somebody
    folder = tmp_path_factory.mktemp("model")
    ActionModel(detector, ("walk", "wave"), fps=FPS, name="tiny", caveat="It knows nothing.").save(folder)
    return folder


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("film") / "v.mkv"
    pictures = np.random.default_rng(0).integers(0, 255, (COUNT, HEIGHT, WIDTH, 3), np.uint8)
    video.write_mp4(path.with_suffix(".mp4"), pictures, fps=FPS)
    return path.with_suffix(".mp4")


def test_a_file_becomes_tubes_in_every_form(run: Run, model: Path, film: Path, tmp_path: Path) -> None:
    out = [tmp_path / f"x.{ending}" for ending in ("json", "csv", "xml", "vtt", "mp4")]
    words = [word for path in out for word in ("--out", path)]
    done = run("detect", film, "--model", model, *words, "--format", "json", "--heat", tmp_path / "h.jpg")
    assert done.code == 0, done.err
    report = done.json
    assert (report["width"], report["height"], report["moments"]) == (WIDTH, HEIGHT, 8)
    assert report["tubes"]
    assert json.loads(out[0].read_text()) == report
    assert out[1].read_text().startswith("v,0.")
    assert f"written: {tmp_path / 'x.pbtxt'}" in done.err
    assert '"wave"' in (tmp_path / "x.pbtxt").read_text()
    assert "<track" in out[2].read_text()
    assert out[3].read_text().startswith("WEBVTT")
    assert video.probe(out[4]).frame_count == COUNT
    with Image.open(tmp_path / "h.jpg") as image:
        assert image.format == "JPEG"


def test_people_get_a_table_and_the_caveat(run: Run, model: Path, film: Path) -> None:
    done = run("detect", film, "--model", model, "--least", "0.4")
    assert done.code == 0, done.err
    assert "in 8 moments" in done.out
    assert "walk 0.5" in done.out
    assert "It knows nothing." in done.err


def test_the_standard_input_gives_what_the_file_gives(model: Path, film: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "trifocal", "detect", "-", "--model", str(model), "--format", "json"]
    with film.open("rb") as file:
        piped = subprocess.run(command, stdin=file, capture_output=True, text=True, check=False)
    assert piped.returncode == 0, piped.stderr
    command[4] = str(film)
    direct = subprocess.run(command, capture_output=True, text=True, check=True)
    first, second = json.loads(piped.stdout), json.loads(direct.stdout)
    assert [{**tube, "video": ""} for tube in first["tubes"]] == [{**tube, "video": ""} for tube in second["tubes"]]


def test_raw_pictures_through_the_standard_input(model: Path) -> None:
    raw = np.random.default_rng(1).integers(0, 255, (COUNT, HEIGHT, WIDTH, 3), np.uint8).tobytes()
    command = [sys.executable, "-m", "trifocal", "detect", "-", "--model", str(model), "--format", "json"]
    command += ["--size", f"{WIDTH}x{HEIGHT}", "--fps", str(FPS), "--linker", "online", "--seconds", "2"]
    done = subprocess.run(command, input=raw, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["end_s"] < 2


INTERRUPTIBLE = """
import signal, sys
from trifocal.cli.app import main
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests may have it ignored
main(sys.argv[1:])
"""


def test_what_was_seen_before_an_interrupt_is_kept(model: Path, tmp_path: Path) -> None:
    raw = np.random.default_rng(1).integers(0, 255, (200, HEIGHT, WIDTH, 3), np.uint8).tobytes()
    out, said = [tmp_path / "x.json", tmp_path / "x.vtt"], [tmp_path / "out.txt", tmp_path / "err.txt"]
    command = [sys.executable, "-c", INTERRUPTIBLE, "detect", "-", "--model", str(model), "--linker", "online"]
    command += ["--size", f"{WIDTH}x{HEIGHT}", "--fps", str(FPS), "--out", str(out[0]), "--out", str(out[1])]
    with (
        said[0].open("wb") as shown,
        said[1].open("wb") as told,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=shown, stderr=told) as running,
    ):
        assert running.stdin is not None
        running.stdin.write(raw)
        running.stdin.flush()  # a pipe holds few of these pictures, so most are taken; and the stream stays open
        running.send_signal(signal.SIGINT)
        try:
            code = running.wait(timeout=120)
        finally:
            running.kill()
    assert code == 0, said[1].read_text()
    assert "actor 1" in said[0].read_text()
    assert "interrupted: this is what was seen until" in said[1].read_text()
    report = json.loads(out[0].read_text())
    assert report["tubes"]
    assert 0 < report["end_s"] < 20
    assert out[1].read_text().startswith("WEBVTT")


def test_frames_that_a_camera_lost_are_told(run: Run, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = np.random.default_rng(1).integers(0, 255, (COUNT, HEIGHT, WIDTH, 3), np.uint8)

    def opened(*_: object, **__: object) -> video.Camera:
        camera = video.Camera(iter([(at / FPS, one) for at, one in enumerate(pictures)]), size=(HEIGHT, WIDTH))
        camera._thread.join()  # all have come before the first is wanted
        return camera

    monkeypatch.setattr(video.Camera, "open", opened)
    done = run("detect", "/dev/video9", "--camera", "--model", model)
    assert done.code == 0, done.err
    assert f"{COUNT - 4} frames of the camera came too fast and were dropped" in done.err


@pytest.mark.parametrize("how", [(), ("--size", f"{WIDTH}x{HEIGHT}", "--fps", str(FPS))])
def test_an_empty_standard_input_is_told(model: Path, how: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", "trifocal", "detect", "-", "--model", str(model), *how]
    done = subprocess.run(command, input="", capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "came through" in done.stderr


def test_a_foreign_label_map_is_told_before_anything_is_looked_at(
    run: Run, model: Path, film: Path, tmp_path: Path
) -> None:
    (tmp_path / "x.pbtxt").write_text('item { name: "fly" id: 1 }')
    done = run("detect", film, "--model", model, "--out", tmp_path / "x.json", "--out", tmp_path / "x.csv")
    assert done.code != 0
    assert "x.pbtxt is a label map of other classes" in done.err
    assert not (tmp_path / "x.json").exists()


def test_the_video_is_not_written_over(run: Run, model: Path, film: Path) -> None:
    before = film.read_bytes()
    for words in (("--out", film), ("--heat", film)):
        done = run("detect", film, "--model", model, *words)
        assert done.code != 0
        assert "is the video itself" in done.err
    assert film.read_bytes() == before


def test_a_picture_of_nobody_is_told_after_the_table(run: Run, model: Path, film: Path, tmp_path: Path) -> None:
    nobody = ActionModel.load(model)
    with torch.no_grad():
        nobody.detector.decoder.person_head.bias.copy_(torch.tensor([5.0, -5.0, 5.0]))
    folder = nobody.save(tmp_path / "nobody")
    done = run("detect", film, "--model", folder, "--heat", tmp_path / "h.jpg")
    assert done.code != 0
    assert "0 actors in 8 moments" in done.out
    assert "nobody was detected, so there is no h.jpg" in done.err


def test_frame_numbers_of_raw_pictures_count_in_their_own_rate(model: Path, tmp_path: Path) -> None:
    raw = np.random.default_rng(1).integers(0, 255, (COUNT, HEIGHT, WIDTH, 3), np.uint8).tobytes()
    command = [sys.executable, "-m", "trifocal", "detect", "-", "--model", str(model), "--out", str(tmp_path / "x.xml")]
    command += ["--size", f"{WIDTH}x{HEIGHT}", "--fps", str(FPS)]
    done = subprocess.run(command, input=raw, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    frames = [int(box.get("frame", -1)) for box in ET.parse(tmp_path / "x.xml").iter("box")]
    assert 20 < max(frames) < COUNT


def test_how_it_runs_can_be_said(run: Run, model: Path, film: Path) -> None:
    words = ("--device", "cpu", "--precision", "bf16", "--keep-above", "0.1", "--batch", "1", "--format", "json")
    done = run("detect", film, "--model", model, *words)
    assert done.code == 0, done.err
    assert done.json["moments"] == 8


def test_a_sheet_of_a_model_with_one_map_says_so(
    run: Run, model: Path, film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    titles = []

    def sheet(pictures: Sequence[np.ndarray], *, title: str, **_: object) -> np.ndarray:
        titles.append(title)
        return pictures[0]

    monkeypatch.setattr(video, "contact_sheet", sheet)
    shared = ActionModel.load(model)
    config = replace(shared.detector.config, class_queries="shared")
    weights = shared.detector.state_dict()
    detector = Detector(config).eval()
    fitting = {name: value for name, value in weights.items() if not name.startswith("decoder.class_queries")}
    detector.load_state_dict(fitting, strict=False)
    one_map = ActionModel(detector, shared.classes, fps=FPS).save(tmp_path / "shared")
    for folder in (model, one_map):
        assert run("detect", film, "--model", folder, "--heat", tmp_path / "h.jpg", "--action", "wave").code == 0
    assert titles[0].endswith("where “wave” looks")
    assert titles[1].endswith("where the model looks (one map for all actions)")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nothing.mp4",), "neither a file nor a video of the library"),
        (("-", "--size", "64x48"), "belong together"),
        (("-", "--size", "64", "--fps", "10"), "--size is 64"),
        (("FILM", "--seconds", "3"), "for streams"),
        (("FILM", "--out", "x.txt"), "x.txt ends in no known way"),
        (("FILM", "--heat", "x.png"), "x.png ends in no known way"),
        (("FILM", "--out", "no/where.json"), "no/where.json has no folder no"),
        (("FILM", "--actor", "1"), "--actor says what --heat draws"),
        (("FILM", "--action", "walk"), "--action says what --heat draws"),
        (("-", "--out", "x.MP4"), "a picture of a stream"),
        (("-", "--out", "x.xml"), "frame numbers of a stream"),
        (("FILM", "--heat", "x.jpg", "--actor", "99"), "no actor 99"),
        (("FILM", "--heat", "x.jpg", "--action", "fly"), "no action 'fly'"),
        (("FILM", "--model", "nowhere"), "nowhere"),
        (("/dev/no-such-camera", "--camera"), "cannot be opened"),
        (("FILM", "--device", "abacus"), "--device is 'abacus'"),
        (("FILM", "--device", "cuda:99"), "--device is 'cuda:99'"),
        (("FILM", "--precision", "fp8"), "fp8"),
        (("FILM", "--keep-above", "1.5"), "keep_above is 1.5"),
        (("FILM", "--batch", "0"), "--batch"),
    ],
)
def test_what_cannot_be_is_told(
    run: Run,
    model: Path,
    film: Path,
    words: tuple[str, ...],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    given = [str(film) if word == "FILM" else word for word in words]
    if "--model" not in given:
        given += ["--model", str(model)]
    done = run("detect", *given, "--library", tmp_path / "library")
    assert done.code != 0
    assert said in done.err
