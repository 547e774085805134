"""Annotation files as they are published, in small; and wrong ones."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trifocal.chat.evaluation import BENCHMARKS, Item, read_benchmark
from trifocal.errors import InvalidInput
from trifocal.playground import make_collection

OPTIONS = ["a red car", "a dog", "nothing", "two men"]


def vnbench(folder: Path) -> Path:
    rows = [
        {
            "video": "VNBench_new/v1.mp4", "question": "What is inserted?", "options": OPTIONS, "gt": "a dog",
            "gt_option": "B", "type": "ret_edit1", "try": number, "length": 60.0, "needle_time": [3, 4],
        }
        for number in range(4)
    ]  # fmt: skip
    return dump(folder / "vnbench.json", rows)


def videomme(folder: Path) -> Path:
    row = {
        "video_id": "001", "duration": "short", "domain": "Knowledge", "videoID": "v1", "question_id": "001-1",
        "task_type": "Counting", "question": "What runs?", "answer": "B",
        "options": [f"{letter}. {text}" for letter, text in zip("ABCD", OPTIONS, strict=True)],
    }  # fmt: skip
    return dump(folder / "videomme.json", [row])


def mlvu(folder: Path) -> Path:
    (folder / "mlvu").mkdir()
    row = {"video": "v1.mp4", "duration": 480.0, "question": "What runs?", "candidates": OPTIONS, "answer": "a dog"}
    dump(folder / "mlvu" / "1_plotQA.json", [{**row, "question_type": "plotQA"}])
    dump(folder / "mlvu" / "9_summary.json", [{"video": "v1.mp4", "question": "Sum up.", "answer": "A long one.",
                                               "question_type": "summary"}])  # fmt: skip
    return folder / "mlvu"


def longvideobench(folder: Path) -> Path:
    row = {
        "video_id": "v1", "question": "What runs?", "candidates": OPTIONS, "correct_choice": 1, "id": "v1_0",
        "video_path": "v1.mp4", "duration_group": 600, "duration": 412.3, "question_category": "E2O",
    }  # fmt: skip
    return dump(folder / "lvb_val.json", [row])


def nextqa(folder: Path) -> Path:
    path = folder / "val.csv"
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(
            [
                "video",
                "frame_count",
                "width",
                "height",
                "question",
                "answer",
                "qid",
                "type",
                "a0",
                "a1",
                "a2",
                "a3",
                "a4",
            ]
        )
        rows.writerow(["4010069381", 369, 640, 480, "what runs", 1, 6, "CW", *OPTIONS, "five"])
    dump(folder / "map_vid_vidorID.json", {"4010069381": "1164/v1"})
    return path


def egoschema(folder: Path) -> Path:
    (folder / "ego").mkdir()
    row = {"q_uid": "v1", "google_drive_id": "x", "question": "What runs?"}
    row |= {f"option {number}": text for number, text in enumerate([*OPTIONS, "five"])}
    dump(folder / "ego" / "questions.json", [row, {**row, "q_uid": "unanswered"}])
    dump(folder / "ego" / "subset_answers.json", {"v1": 1})
    return folder / "ego"


def playground(folder: Path) -> Path:
    row = {"video": "v1.mp4", "type": "what", "question": "What runs?", "answer": "a dog", "choices": OPTIONS}
    path = folder / "questions.jsonl"
    path.write_text(json.dumps(row) + "\n")
    return path


WRITERS = {
    writer.__name__: writer for writer in (vnbench, videomme, mlvu, longvideobench, nextqa, egoschema, playground)
}


def dump(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value))
    return path


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    folder = tmp_path / "videos"
    (folder / "1164").mkdir(parents=True)
    for name in ("v1.mp4", "1164/v1.mp4"):
        (folder / name).write_bytes(b"")
    return folder


def test_every_benchmark_has_a_small_one() -> None:
    assert set(WRITERS) == set(BENCHMARKS)


@pytest.mark.parametrize("name", WRITERS)
def test_a_published_file_is_read(name: str, tmp_path: Path, videos: Path) -> None:
    items = read_benchmark(name, WRITERS[name](tmp_path), videos=videos)
    assert len(items) == (4 if name == "vnbench" else 1)
    for item in items:
        assert item.video.is_file()
        assert item.options[:4] == tuple(OPTIONS)
        assert item.answer == 1
    if name == "vnbench":
        assert len({item.group for item in items}) == 1


def test_what_the_playground_writes_is_read(tmp_path: Path) -> None:
    make_collection(tmp_path, count=1, seed=3, duration_s=(3.0, 4.0), size=(96, 128), fps=4.0)
    items = read_benchmark("playground", tmp_path, videos=tmp_path)
    assert len(items) == len((tmp_path / "questions.jsonl").read_text().splitlines()) > 2
    assert all(
        item.video.is_file() and item.question.strip() and 0 <= item.answer < len(item.options) for item in items
    )


def test_parquet_is_read_too(tmp_path: Path, videos: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    rows = json.loads(videomme(tmp_path).read_text())
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "test.parquet")
    (item,) = read_benchmark("videomme", tmp_path / "test.parquet", videos=videos)
    assert (item.id, item.answer, item.kind) == ("001-1", 1, "short")


def test_the_nested_release_of_videomme(tmp_path: Path, videos: Path) -> None:
    row = json.loads(videomme(tmp_path).read_text())[0]
    outer = {"video_id": "001", "url": "https://x/watch?v=v1", "duration_category": "short"}
    path = dump(tmp_path / "nested.json", [{**outer, "questions": [row, {**row, "question_id": "001-2"}]}])
    assert [item.id for item in read_benchmark("videomme", path, videos=videos)] == ["001-1", "001-2"]


@pytest.mark.parametrize("name", ["vnbench", "videomme", "longvideobench", "nextqa"])
def test_a_folder_that_holds_one_file_will_do(name: str, tmp_path: Path, videos: Path) -> None:
    folder = tmp_path / "annotations"
    folder.mkdir()
    path = WRITERS[name](folder)
    (folder / "README.md").write_text("")
    assert read_benchmark(name, folder, videos=videos) == read_benchmark(name, path, videos=videos)
    path.with_stem("another").write_text("[]")
    with pytest.raises(InvalidInput, match="is a folder with 2 files"):
        read_benchmark(name, folder, videos=videos)


Change = Callable[[dict[str, Any]], Any]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda row: row.pop("options"), r"vnbench.json, entry 0: there is no 'options'"),
        (lambda row: row.update(gt_option="E", gt="E"), r"entry 0: the answer 'E' is none"),
        (lambda row: row.update(options="A"), "options is 'A', no list"),
        (lambda row: row.update(options=["one"], gt_option="A"), "1 options"),
        (lambda row: row.update(question=" "), "question 0 is empty"),
        (lambda row: row.update(video="../../etc/passwd"), "outside"),
        (lambda row: row.update(length="long"), "entry 0: could not convert"),
    ],
)
def test_a_wrong_entry_is_named(change: Change, said: str, tmp_path: Path, videos: Path) -> None:
    rows = json.loads(vnbench(tmp_path).read_text())
    change(rows[0])
    with pytest.raises(InvalidInput, match=said):
        read_benchmark("vnbench", dump(tmp_path / "vnbench.json", rows), videos=videos)


def test_wrong_files_are_told(tmp_path: Path, videos: Path) -> None:
    for name, text, said in (
        ("x.json", "{", "cannot be read"),
        ("x.json", "{}", "no list"),
        ("x.json", "[]", "no multiple-choice"),
        ("x.json", "[3]", "entry 0: it is no object"),
        ("x.jsonl", '{"a": 1}\nx\n', "line 2"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(InvalidInput, match=said):
            read_benchmark("playground" if name == "x.jsonl" else "vnbench", tmp_path / name, videos=videos)
    csv_file = nextqa(tmp_path)
    csv_file.write_text(csv_file.read_text().replace(",1,6,CW", ",7,6,CW"))
    with pytest.raises(InvalidInput, match=r"val\.csv, line 2: the answer '7' is none of the options"):
        read_benchmark("nextqa", csv_file, videos=videos)
    csv_file.write_bytes(b"video\xff\xfe")
    with pytest.raises(InvalidInput, match=r"val\.csv cannot be read"):
        read_benchmark("nextqa", csv_file, videos=videos)
    with pytest.raises(InvalidInput, match="one of vnbench"):
        read_benchmark("imagenet", tmp_path, videos=videos)
    with pytest.raises(InvalidInput, match="no folder"):
        read_benchmark("vnbench", vnbench(tmp_path), videos=tmp_path / "absent")
    with pytest.raises(InvalidInput, match="there is no"):
        read_benchmark("vnbench", tmp_path / "absent.json", videos=videos)


def test_a_question_that_is_there_twice_is_told(tmp_path: Path, videos: Path) -> None:
    rows = json.loads(longvideobench(tmp_path).read_text())
    path = dump(tmp_path / "lvb_val.json", rows * 2)
    with pytest.raises(InvalidInput, match=r"entry 1: the question v1_0 is there twice"):
        read_benchmark("longvideobench", path, videos=videos)


def test_an_item_needs_a_right_option() -> None:
    with pytest.raises(InvalidInput):
        Item(id="x", video=Path("v"), question="?", options=("a", "b"), answer=2)
