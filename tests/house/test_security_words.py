"""Item 10 of the security checklist: no unsafe loader anywhere, and nothing in the source names a registry's host."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FORBIDDEN = {
    "an unsafe torch checkpoint": re.compile(r"torch\.load\((?!.*weights_only=True)"),
    "pickle": re.compile(r"^\s*(import|from)\s+(pickle|dill|cloudpickle|shelve|marshal)\b"),
    "numpy's pickles": re.compile(r"allow_pickle\s*=\s*True"),
    "a YAML loader that calls code": re.compile(r"yaml\.(load|unsafe_load|full_load)\("),
    "remote code": re.compile(r"trust_remote_code\s*=\s*True"),
    "eval": re.compile(r"(?<![\w.])(eval|exec)\("),
    "a shell": re.compile(r"shell\s*=\s*True|os\.system\(|os\.popen\("),
    "an HTTP client outside weights": re.compile(r"^\s*(import|from)\s+(requests|httpx|urllib\.request|aiohttp)\b"),
}


def sources() -> list[Path]:
    return sorted((ROOT / "src").rglob("*.py")) + sorted((ROOT / "runs").rglob("*.py"))


@pytest.mark.parametrize("what", FORBIDDEN)
def test_10_no_unsafe_word(what: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in sources()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if FORBIDDEN[what].search(line)
    ]
    assert not found, f"{what}: {found}"


@pytest.mark.parametrize(
    "line",
    [
        "state = torch.load(path)",
        "import pickle",
        "np.load(path, allow_pickle=True)",
        "yaml.load(text)",
        "AutoModel.from_pretrained(x, trust_remote_code=True)",
        "frames = eval(text)",
        "subprocess.run(line, shell=True)",
        "import requests",
    ],
)
def test_10_the_check_can_fail(line: str) -> None:
    assert any(pattern.search(line) for pattern in FORBIDDEN.values())


def test_10_safe_lines_pass() -> None:
    for line in ["torch.load(path, weights_only=True)", "model.eval()", "np.load(path, allow_pickle=False)"]:
        assert not any(pattern.search(line) for pattern in FORBIDDEN.values()), line
