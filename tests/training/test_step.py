"""One move of the weights: batches that are gathered, groups, several processes, and figures that are no numbers."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.training.conftest import CONFIG
from torch import Tensor

from trifocal.errors import InvalidInput, ModelError
from trifocal.training import TrainConfig, fit, load_checkpoint


@pytest.mark.parametrize("clip", [None, 0.05])
def test_accumulated_batches_equal_one_big_batch(curve: Any, tmp_path: Path, clip: float | None) -> None:
    values = {**CONFIG, "ema": None, "clip_norm": clip}
    big, small = curve(batch=20, noisy=False), curve(batch=5, noisy=False)
    fit(big, TrainConfig(**values), folder=tmp_path / "big")
    fit(small, TrainConfig(**values, accumulate=4), folder=tmp_path / "small")
    for name, one in big.weights().items():
        torch.testing.assert_close(small.weights()[name], one, atol=2e-6, rtol=1e-5)


def test_groups_have_their_own_rates(curve: Any, tmp_path: Path) -> None:
    class Grouped(curve):  # type: ignore[misc]
        def parameter_groups(self) -> Mapping[str, Any]:
            named = list(self.model.named_parameters())
            return {"first": named[:2], "rest": named[2:]}

    task = Grouped(noisy=False)
    before = task.weights()
    fit(task, TrainConfig(**CONFIG, group_lr={"first": 0.0}, weight_decay=0.5), folder=tmp_path)
    assert torch.equal(task.weights()["0.weight"], before["0.weight"])
    assert not torch.equal(task.weights()["2.weight"], before["2.weight"])


def test_a_loss_that_is_not_a_number_is_told_with_a_remedy(curve: Any, tmp_path: Path) -> None:
    task = curve(noisy=False)
    task.y[3] = torch.nan
    with pytest.raises(ModelError, match=r"the loss is nan at step \d of epoch 0\. Lower lr \(now 0\.01\)"):
        fit(task, TrainConfig(**CONFIG), folder=tmp_path)
    assert all(torch.isfinite(one).all() for one in task.weights().values())


def test_a_task_without_loss_is_told(curve: Any, tmp_path: Path) -> None:
    class Lossless(curve):  # type: ignore[misc]
        def loss(self, batch: Any) -> Mapping[str, Tensor]:
            return {"total": super().loss(batch)["loss"]}

    with pytest.raises(InvalidInput, match="the task's losses are total"):
        fit(Lossless(), TrainConfig(**CONFIG), folder=tmp_path)


PROGRAM = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from conftest import Curve
from trifocal.training import TrainConfig, fit
out = Path(sys.argv[2])
config = TrainConfig(epochs=3, lr=0.01, monitor="error", device="cpu", accumulate=int(sys.argv[3]))
fit(Curve(count=21, batch=4, noisy=False), config, folder=out)
"""


@pytest.mark.slow
@pytest.mark.parametrize("accumulate", [1, 2])
def test_two_processes_equal_one(tmp_path: Path, accumulate: int) -> None:
    """21 items in batches of 4 leave a last batch of one, of which the second process has nothing."""
    program = tmp_path / "train.py"
    program.write_text(PROGRAM)
    here = str(Path(__file__).parent)
    for count in (1, 2):
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
        arguments = [str(program), here, str(tmp_path / f"out{count}"), str(accumulate)]
        subprocess.run([*command, *arguments], check=True, timeout=200, capture_output=True)
    one, two = (load_checkpoint(tmp_path / f"out{count}" / "last.safetensors") for count in (1, 2))
    assert one[1]["place"]["step"] == two[1]["place"]["step"]
    for name in one[0]:
        torch.testing.assert_close(two[0][name], one[0][name], atol=1e-5, rtol=1e-4)
    for first, second in zip(one[1]["history"], two[1]["history"], strict=True):
        assert second["loss"] == pytest.approx(first["loss"], rel=1e-5)
        assert second["error"] == pytest.approx(first["error"], rel=1e-5)
