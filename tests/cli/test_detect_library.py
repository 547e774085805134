"""`trifocal detect --all`, `find --action` and what `show` says of it, with a small detector of random weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.cli.conftest import Run

from trifocal.action import ActionModel, Detector, DetectorConfig, VitConfig

pytestmark = pytest.mark.weights


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
    ActionModel(detector, ("walk", "wave"), fps=10.0, name="tiny", caveat="It knows nothing.").save(folder)
    return folder


def test_the_library_learns_who_does_what(run: Run, library: Path, model: Path, tmp_path: Path) -> None:
    own = ("--library", library)
    look = ("detect", "--all", "--model", model, *own)
    ids = [one["id"] for one in run("list", *own, "--format", "json").json]
    # One by its id: its tubes are kept, and files are written as of any video.
    alone = run("detect", ids[0][:8], "--model", model, *own, "--out", tmp_path / "x.json", "--format", "json")
    assert alone.code == 0, alone.err
    assert alone.json["video"] == ids[0]
    assert alone.json["tubes"]
    assert (tmp_path / "x.json").exists()
    found = run("find", "--action", "walk", "--least-action", "0.3", *own)
    assert found.code == 0, found.err
    assert "2 videos have not been looked at; run trifocal detect --all" in found.err
    # All: only what is left.
    ran = run(*look, "--format", "json")
    assert (ran.code, len(ran.json["detected"]), len(ran.json["unchanged"])) == (0, 2, 1)
    ran = run(*look)
    assert "0 videos looked at, 3 unchanged" in ran.out
    assert "It knows nothing." in ran.err
    # The spans themselves, by score.
    ran = run(
        "find", "--action", "walk", "--action", "WAVE", "--least-action", "0.3", "--top", "100", *own, "-f", "json"
    )
    assert ran.code == 0, ran.err
    assert "not been looked at" not in ran.err
    (listed,) = ran.json
    assert listed["query"] == "walk or WAVE"
    scores = [moment["score"] for moment in listed["moments"]]
    assert scores == sorted(scores, reverse=True)
    assert {moment["action"] for moment in listed["moments"]} <= {"walk", "wave"}
    assert {moment["video"] for moment in listed["moments"]} == set(ids)
    assert {"start_s", "end_s", "actor", "path"} <= set(listed["moments"][0])
    table = run("find", "--action", "walk", "--least-action", "0.3", "--sheet", tmp_path / "s.jpg", *own)
    assert "walk" in table.out
    assert (tmp_path / "s.jpg").exists()
    # A text, where somebody does it: scores as ever.
    plain = run("find", "a bicycle", *own, "--top", "3", "-f", "json").json[0]["moments"]
    ran = run("find", "a bicycle", "--action", "walk", "--least-action", "0.3", *own, "--top", "3", "-f", "json")
    kept = ran.json[0]["moments"]
    assert kept
    assert all(moment in plain for moment in kept)
    assert (
        run("find", "a bicycle", "--action", "walk", "--least-action", "1", *own, "-f", "json").json[0]["moments"] == []
    )
    assert "nobody was seen" in run("find", "--action", "walk", "--least-action", "1", *own).out
    # And what is known of one.
    shown = run("show", ids[0], *own)
    assert "by tiny" in shown.out
    assert "actor 1" in shown.out
    facts = run("show", ids[0], *own, "-f", "json").json
    assert facts["detections"][0]["model"] == "tiny"
    assert facts["detections"][0]["tubes"][0]["actor"] == 1
    assert run("verify", *own).code == 0


def test_a_file_that_is_gone_is_told(run: Run, library: Path, model: Path, tmp_path: Path) -> None:
    own = ("--library", library)
    film = tmp_path / "film.mp4"
    path = Path(run("list", *own, "--format", "json").json[0]["paths"][0])
    film.write_bytes(path.read_bytes() + b"\0" * 8)
    assert run("add", film, *own).code == 0
    video = run("show", film, *own, "-f", "json").json["id"]
    film.unlink()
    ran = run("detect", video, "--model", model, *own)
    assert (ran.code, ran.out) == (3, "")
    assert "no file of video" in ran.err
    assert "film.mp4" in ran.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("detect",), "no video is named"),
        (("detect", "x.mp4", "--all"), "--all is given beside x.mp4"),
        (("detect", "--all", "--out", "x.json"), "for one video"),
        (("detect", "-", "--again"), "--again is for videos of the library"),
        (("detect", "abcdef", "--seconds", "3"), "for streams"),
        (("detect", "abcdef"), "neither a file nor a video of the library"),
        (("find", "--action", "wave"), "Run `trifocal detect --all`"),
        (("find",), "--action"),
    ],
)
def test_what_cannot_be_is_told(run: Run, made: Path, model: Path, words: tuple[str, ...], said: str) -> None:
    more = ("--model", model) if words[0] == "detect" else ()
    ran = run(*words, *more, "--library", made)
    assert ran.code in (2, 3)
    assert said in ran.err


def test_close_names_are_told(run: Run, library: Path, model: Path) -> None:
    video = run("list", "--library", library, "--format", "json").json[0]["id"]
    assert run("detect", video, "--model", model, "--library", library).code == 0
    ran = run("find", "x", "--action", "wav", "--library", library)
    assert ran.code == 2
    assert "Did you mean wave" in ran.err
