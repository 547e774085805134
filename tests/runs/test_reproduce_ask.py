"""The command lines of `runs/reproduce_ask.sh`, with a command in place of `trifocal` that writes them down."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

from trifocal.cli import eval_ask
from trifocal.cli.app import app
from trifocal.cli.model_options import budget_of

SCRIPT = Path(__file__).parents[2] / "runs" / "reproduce_ask.sh"
STUB = """#!{python}
import json, os, sys
with open(os.environ["SAID"], "a") as file:
    file.write(json.dumps(sys.argv[1:]) + "\\n")
print("| a table |")
"""
ANNOTATIONS = {
    "vnbench": "annotations.json", "videomme": "annotations.parquet", "egoschema": "annotations/questions.json",
    "nextqa": "annotations.csv", "longvideobench": "annotations.json", "mlvu": "annotations/1_plotQA.json",
}  # fmt: skip

Reproduce = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def reproduce(tmp_path: Path) -> Reproduce:
    """Runs the script on a folder of empty files."""
    for name, file in ANNOTATIONS.items():
        path = tmp_path / "data" / name / file
        path.parent.mkdir(parents=True)
        path.touch()
    (tmp_path / "out").mkdir()
    stub = tmp_path / "trifocal"
    stub.write_text(STUB.format(python=sys.executable))
    stub.chmod(0o755)

    def call(*words: str, **given: str) -> subprocess.CompletedProcess[str]:
        clean = {name: value for name, value in os.environ.items() if name not in ("DEVICE", "DEVICE_MAP", "LIMIT")}
        places = {"DATA": str(tmp_path / "data"), "MODEL": "org/name", "TRIFOCAL": str(stub)}
        return subprocess.run(
            ["bash", str(SCRIPT), str(tmp_path / "out"), *words],
            capture_output=True,
            text=True,
            env={**clean, **places, "SAID": str(tmp_path / "said"), **given},
        )

    return call


def said(folder: Path) -> list[dict[str, Any]]:
    """What was said, as the real command understands it."""
    groups: Any = typer.main.get_command(app)
    command = groups.commands["eval"].commands["ask"]
    out = []
    for line in (folder / "said").read_text().splitlines():
        words = json.loads(line)
        assert words[:2] == ["eval", "ask"]
        params = command.make_context("ask", words[2:]).params
        budgets = [budget_of(text) for text in params["budget"] or []]
        params["runs"] = [
            (run.method, run.options)
            for run in eval_ask._runs(params["method"], budgets, options=eval_ask._options(params["option"] or []))
        ]
        out.append(params)
    return out


def published(spatial: float, temporal: float) -> list[tuple[str, dict[str, Any]]]:
    options = {"spatial_threshold": spatial, "temporal_threshold": temporal, "compat": "reference"}
    return [("none", {}), ("sttm", options)]


def test_llava_video_on_every_benchmark(reproduce: Reproduce, tmp_path: Path) -> None:
    done = reproduce(FAMILY="video")
    assert done.returncode == 0, done.stderr
    told = said(tmp_path)
    assert [one["benchmark"] for one in told[::3]] == list(ANNOTATIONS)
    for one in told:
        name = one["benchmark"]
        assert one["annotations"] == tmp_path / "data" / name / Path(ANNOTATIONS[name]).parts[0]
        assert one["videos"] == tmp_path / "data" / name / "videos"
        assert (one["model"], one["layer"], one["dtype"], one["fps"]) == ("org/name", 2, "bfloat16", 1.0)
        assert (one["device"], one["device_map"], one["limit"], one["context"]) == (None, None, None, None)
        vnbench = name == "vnbench"
        assert (one["max_frames"], one["rope_factor"]) == ((180, 2.0) if vnbench else (128, None))
    assert told[0]["runs"] == published(0.85, 0.65)
    assert told[1]["runs"] == published(0.80, 0.60)
    rivals = ("sttm", "tome", "dycoke", "uniform", "random")
    assert told[2]["runs"] == [(method, {"budget": much}) for method in rivals for much in (0.5, 0.3)]
    assert told[2]["plot"] == tmp_path / "out" / "vnbench.png"
    assert (tmp_path / "out" / "vnbench.md").read_text() == "| a table |\n"


@pytest.mark.parametrize(
    ("family", "benchmark", "layer", "shown", "thresholds"),
    [
        ("onevision", "vnbench", 2, (1.0, 180, 2.0, None, None), [(0.90, 0.65), (0.85, 0.65)]),
        ("onevision", "nextqa", 2, (1.0, 128, None, None, None), [(0.95, 0.65), (0.90, 0.60)]),
        ("qwen2vl", "vnbench", 2, (2.0, 360, None, 200_000, None), [(0.80, 0.65), (0.75, 0.50)]),
        ("qwen2vl", "videomme", 2, (2.0, 256, None, 200_000, None), [(0.85, 0.60), (0.80, 0.60)]),
        ("video72", "videomme", 0, (1.0, 128, None, None, "auto"), [(0.94, 0.82), (0.90, 0.90)]),
    ],
)
def test_each_family_has_its_own_settings(
    family: str,
    benchmark: str,
    layer: int,
    shown: tuple[Any, ...],
    thresholds: list[tuple[float, float]],
    reproduce: Reproduce,
    tmp_path: Path,
) -> None:
    assert reproduce(benchmark, FAMILY=family).returncode == 0
    told = said(tmp_path)
    assert len(told) == 3
    names = ("fps", "max_frames", "rope_factor", "context", "device_map")
    for one in told:
        assert (one["layer"], tuple(one[name] for name in names)) == (layer, shown)
    assert [one["runs"] for one in told[:2]] == [published(*pair) for pair in thresholds]


def test_where_it_runs_can_be_said(reproduce: Reproduce, tmp_path: Path) -> None:
    given = {"DEVICE": "cuda:1", "DEVICE_MAP": "balanced", "DTYPE": "float16", "LIMIT": "9"}
    assert reproduce("mlvu", FAMILY="video", **given).returncode == 0
    for one in said(tmp_path):
        place = (one["device"], one["device_map"], one["dtype"], one["limit"])
        assert place == ("cuda:1", "balanced", "float16", 9)


def test_a_benchmark_without_a_row_is_left_out(reproduce: Reproduce, tmp_path: Path) -> None:
    done = reproduce("mlvu", "videomme", FAMILY="video72")
    assert done.returncode == 0
    assert "no published thresholds for video72 on mlvu; left out" in done.stderr
    assert {one["benchmark"] for one in said(tmp_path)} == {"videomme"}


@pytest.mark.parametrize(
    ("family", "extra", "words"),
    [
        ("", "", "FAMILY chooses the published thresholds"),
        ("video7", "", "FAMILY is video7"),
        ("video", "annotations.json", "there must be one file or folder"),
    ],
)
def test_what_stops_it(family: str, extra: str, words: str, reproduce: Reproduce, tmp_path: Path) -> None:
    if extra:
        (tmp_path / "data" / "mlvu" / extra).touch()
    done = reproduce("mlvu", FAMILY=family)
    assert done.returncode != 0
    assert words in done.stderr
    assert not (tmp_path / "said").exists()


def test_a_run_that_fails_stops_it(reproduce: Reproduce, tmp_path: Path) -> None:
    done = reproduce("mlvu", "nextqa", FAMILY="video", TRIFOCAL="false")
    assert done.returncode != 0
