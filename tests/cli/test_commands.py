"""Every verb as a user types it, with good input."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.cli.conftest import Run

from trifocal import __version__, video

pytestmark = pytest.mark.weights


def test_add_tells_what_it_did_and_does_it_once(run: Run, clips: Path, made: Path) -> None:
    again = run("add", clips, "--library", made)
    assert again.code == 0
    assert again.out.strip() == "3 unchanged"


@pytest.mark.parametrize(
    ("query", "clip"),
    [
        ("a cartoon rabbit in the grass", "bigbuckbunny.mp4"),
        ("a man with a bow tie in a car", "carphone_pristine.mp4"),
        ("cars and bicycles in a street", "bikes.mp4"),
    ],
)
def test_find_puts_the_right_clip_on_top(run: Run, made: Path, query: str, clip: str) -> None:
    moments = run("find", query, "--library", made, "--format", "json").json[0]["moments"]
    assert len(moments) == 3
    assert Path(moments[0]["path"]).name == clip
    assert all(0 <= moment["start_s"] < moment["end_s"] for moment in moments)
    assert [moment["score"] for moment in moments] == sorted((m["score"] for m in moments), reverse=True)


def test_find_writes_clips_sheet_and_page(run: Run, made: Path, tmp_path: Path) -> None:
    clips, sheet, page = tmp_path / "clips", tmp_path / "out" / "sheet.jpg", tmp_path / "out" / "page.html"
    done = run("find", "a rabbit", "a car", "-n", "2", "-L", made, "--clips", clips, "--sheet", sheet, "--page", page)
    assert done.code == 0
    assert "“a rabbit”" in done.out
    written = sorted(clips.glob("*.mp4"))
    assert [path.name[:5] for path in written] == ["1-01-", "1-02-", "2-01-", "2-02-"]
    assert video.probe(written[0]).codec == "h264"
    assert sheet.read_bytes()[:3] == b"\xff\xd8\xff"
    text = page.read_text(encoding="utf-8")
    assert text.count("<video") == 4
    assert "#t=" in text
    assert "<script" not in text
    assert len(list((tmp_path / "out" / "page_files").glob("*.jpg"))) >= 2


def test_a_clip_holds_the_moment(run: Run, made: Path, tmp_path: Path) -> None:
    found = run("find", "a bicycle", "-n", "1", "-L", made, "--clips", tmp_path / "clips", "-f", "json").json[0]
    moment = found["moments"][0]
    duration_s = video.probe(moment["clip"]).duration_s
    assert duration_s == pytest.approx(max(1.0, moment["end_s"] - moment["start_s"]), abs=0.2)


def test_find_within_one_video(run: Run, made: Path, clips: Path) -> None:
    words = ("find", "a rabbit", "-L", made, "--in", clips / "bikes.mp4", "--per-video", "3", "-f", "json")
    moments = run(*words).json[0]["moments"]
    assert len(moments) == 3
    assert {Path(moment["path"]).name for moment in moments} == {"bikes.mp4"}


def test_ask_answers_from_a_file_and_from_the_library(run: Run, made: Path, clips: Path) -> None:
    from_file = run("ask", clips / "bikes.mp4", "What is shown in this video?", "-f", "json").json
    assert from_file["text"]
    assert from_file["caveat"]
    assert all(0 <= frame["time_s"] <= 10 for frame in from_file["evidence"])
    listed = run("list", "-L", made, "-f", "json").json
    video_id = next(one["id"] for one in listed if one["paths"][0].endswith("bikes.mp4"))
    from_library = run("ask", video_id, "What is shown in this video?", "-L", made)
    assert from_library.out.strip() == from_file["text"]
    assert "looked most at" in from_library.err


def test_list_show_remove_verify(run: Run, library: Path) -> None:
    listed = run("list", "-L", library)
    assert "3 videos" in listed.out
    assert "bigbuckbunny.mp4" in listed.out
    first = run("list", "-L", library, "-f", "json").json[0]
    shown = run("show", first["id"][:6], "-L", library, "-f", "json").json
    assert shown["sha256"] == first["sha256"]
    assert len(shown["spans_s"]) == first["prototypes"]
    assert first["id"] in run("show", first["id"], "-L", library).out
    assert run("verify", "-L", library).code == 0
    assert "removed 1 video," in run("remove", first["id"], "--yes", "-L", library).out
    assert "2 videos" in run("list", "-L", library).out
    assert Path(first["paths"][0]).exists()


def test_verify_finds_damage_and_repairs_it(run: Run, library: Path) -> None:
    victim = min((library / "prototypes").iterdir())
    victim.write_bytes(b"not a prototype")
    broken = run("verify", "-L", library)
    assert broken.code == 5
    assert "problem:" in broken.out
    mended = run("verify", "--repair", "-L", library)
    assert mended.code == 0, mended.out + mended.err
    assert "repaired:" in mended.out


def test_show_writes_a_contact_sheet(run: Run, made: Path, clips: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.jpg"
    assert run("show", clips / "bikes.mp4", "-L", made, "--sheet", sheet).code == 0
    assert sheet.stat().st_size > 1000


def test_weights(run: Run) -> None:
    listed = run("weights", "list", "-f", "json").json
    assert {"efficientnet-lite0", "minilm-l6-v2", "smollm2-135m"} <= {one["name"] for one in listed}
    folder = run("weights", "path", "sample-clips").out.strip()
    assert (Path(folder) / "bikes.mp4").is_file()
    assert "sample-clips: whole" in run("weights", "verify", "sample-clips").out
    assert run("weights", "fetch", "sample-clips").out.strip() == f"sample-clips: {folder}"
    assert "sample-clips" in run("weights", "list").out


def test_doctor(run: Run, made: Path) -> None:
    done = run("doctor", "-L", made, "-f", "json")
    checks = {check["name"]: check["ok"] for check in done.json}
    assert done.code == 0
    assert checks["decoding in its own process"] is True
    assert checks["library"] is True


def test_version_help_and_completion(run: Run) -> None:
    assert run("--version").out.strip() == f"trifocal {__version__}"
    for verb in ("add", "find", "ask", "list", "show", "remove", "verify", "doctor", "weights", "playground"):
        helped = run(verb, "--help")
        assert helped.code == 0
        assert "Usage:" in helped.out
    assert run("--help").out.count("│") > 20


def test_playground_makes_what_it_says(run: Run, tmp_path: Path) -> None:
    words = ("playground", "make", tmp_path / "pg", "--count", "2", "--duration", "10", "11", "--size", "64", "96")
    made = run(*words, "--fps", "5", "--theme", "dog in the park", "-f", "json").json
    assert len(made) == 2
    probed = video.probe(made[0])
    assert (probed.height, probed.width) == (64, 96)
    assert (tmp_path / "pg" / "captions.csv").is_file()
    assert "dog in the park" in run("playground", "themes").out.splitlines()
