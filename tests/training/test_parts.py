from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from trifocal.errors import InvalidInput
from trifocal.training import (
    EpochBatches,
    TrainConfig,
    WeightAverage,
    load_checkpoint,
    lr_factor,
    pick_device,
    processes,
    rank_and_world,
    save_checkpoint,
    seed_everything,
    to_device,
    trained_state,
)
from trifocal.training.optimiser import build_optimiser

# ------------------------------------------------------------------------------------------------------------ config

BAD = [
    ({"epochs": 0}, "epochs is 0"),
    ({"epochs": True}, "epochs is True"),
    ({"lr": -1.0}, "lr is -1.0"),
    ({"lr": math.inf}, "lr is inf"),
    ({"lr": math.nan}, "lr is nan"),
    ({"warmup": 1.5}, "at most 1"),
    ({"schedule": "poly"}, "Use one of constant, linear, cosine, steps"),
    ({"precision": "int8"}, "Use one of float32, bf16, fp16"),
    ({"mode": "best"}, "Use one of max, min"),
    ({"ema": 1.0}, "ema is 1.0"),
    ({"betas": (0.9,)}, "betas is"),
    ({"betas": (0.9, 1.0)}, "betas is 1.0"),
    ({"clip_norm": 0.0}, "clip_norm is 0.0"),
    ({"patience": 0}, "patience is 0"),
    ({"group_lr": {"a": -1}}, r"group_lr\['a'\] is -1"),
    ({"milestones": (0,)}, "milestones is 0"),
    ({"monitor": ""}, "monitor is ''"),
    ({"seed": -1}, "seed is -1"),
    ({"accumulate": 1.5}, "accumulate is 1.5"),
]


@pytest.mark.parametrize(("values", "message"), BAD)
def test_a_bad_configuration_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        TrainConfig(**values)


def test_a_configuration_comes_back_from_json() -> None:
    config = TrainConfig(milestones=(3, 5), schedule="steps", group_lr={"text": 1e-4}, ema=0.99, betas=(0.8, 0.9))
    assert TrainConfig.from_dict(json.loads(config.to_json())) == config
    with pytest.warns(UserWarning, match="does not know epcohs"):
        assert TrainConfig.from_dict({"epcohs": 3}) == TrainConfig()


# ---------------------------------------------------------------------------------------------------------- schedule


def factors(**values: Any) -> list[float]:
    config = TrainConfig(epochs=10, **values)
    return [round(lr_factor(step, steps_per_epoch=2, config=config), 4) for step in range(20)]


def test_linear_rises_and_falls() -> None:
    found = factors(schedule="linear", warmup=0.2)
    assert found[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert found[5] == pytest.approx(1 - 1 / 16)
    assert found[-1] == pytest.approx(1 / 16, abs=1e-4)


def test_cosine_ends_at_its_share() -> None:
    config = TrainConfig(epochs=10, schedule="cosine", warmup=0.0, final_lr=0.1)
    assert lr_factor(0, steps_per_epoch=2, config=config) == 1.0
    assert lr_factor(10, steps_per_epoch=2, config=config) == pytest.approx(0.55)
    assert lr_factor(20, steps_per_epoch=2, config=config) == pytest.approx(0.1)
    assert lr_factor(999, steps_per_epoch=2, config=config) == pytest.approx(0.1)


def test_steps_fall_at_their_epochs() -> None:
    found = factors(schedule="steps", warmup=0.0, milestones=(3, 5), gamma=0.5)
    assert found == [1.0] * 6 + [0.5] * 4 + [0.25] * 10


def test_constant_stays() -> None:
    assert set(factors(schedule="constant", warmup=0.0)) == {1.0}


def test_a_negative_step_is_refused() -> None:
    with pytest.raises(InvalidInput, match="step is -1"):
        lr_factor(-1, steps_per_epoch=2, config=TrainConfig())


# ---------------------------------------------------------------------------------------------------------- batching


def make(**values: Any) -> EpochBatches:
    given: dict[str, Any] = {"count": 11, "batch": 4, "collate": list, "epoch": 0} | values
    count = given.pop("count")
    return EpochBatches(count, **given)


def test_every_item_comes_once_an_epoch_in_an_order_of_its_own() -> None:
    first, second = list(make(epoch=0)), list(make(epoch=1))
    assert sorted(item for batch in first for item in batch) == list(range(11))
    assert [len(batch) for batch in first] == [4, 4, 3]
    assert len(make()) == 3
    assert first != second
    assert list(make(epoch=0)) == first
    assert list(make(epoch=0, seed=1)) != first
    assert next(iter(make(shuffle=False))) == [0, 1, 2, 3]
    assert [len(batch) for batch in make(drop_last=True)] == [4, 4]


def test_processes_share_the_same_global_batches() -> None:
    whole = list(make(count=9))
    parts = [list(make(count=9, rank=rank, world=3)) for rank in range(3)]
    assert [len(part) for part in parts] == [3, 2, 2]
    assert [len(make(count=9, rank=rank, world=3)) for rank in range(3)] == [3, 2, 2]
    for index, batch in enumerate(whole):
        shares = [part[index] for part in parts if index < len(part)]
        assert sorted(batch) == sorted(item for share in shares for item in share)


def test_starting_later_skips() -> None:
    assert list(make().starting_at(2)) == list(make())[2:]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"count": 0}, "nothing to train on"),
        ({"rank": 2, "world": 2}, "rank is 2 of 2"),
        ({"batch": 1, "world": 2}, "a batch of 1 for 2"),
        ({"count": 3, "drop_last": True}, "3 items give no batch of 4"),
    ],
)
def test_bad_batches_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        make(**values)


# ------------------------------------------------------------------------------------------------- smaller parts


def test_seeding_repeats_by_place() -> None:
    def draw(*place: int) -> tuple[float, float, float]:
        seed_everything(*place)
        return random.random(), float(np.random.random()), float(torch.rand(()))  # noqa: NPY002

    assert draw(1, 2) == draw(1, 2)
    assert len({draw(1, 2), draw(2, 1), draw(1, 2, 1)}) == 3


def test_the_average_is_put_in_place_and_taken_out_also_after_an_error() -> None:
    one = nn.Parameter(torch.zeros(2))
    average = WeightAverage({"one": one}, decay=0.5)
    one.data.fill_(1.0)
    average.update()  # decay min(0.5, 2 / 11)
    expected = torch.full((2,), 9 / 11)
    torch.testing.assert_close(average.values["one"], expected)
    with average.in_place():
        torch.testing.assert_close(one.detach(), expected)
    assert one.tolist() == [1.0, 1.0]
    broken = average.in_place()
    broken.__enter__()
    torch.testing.assert_close(one.detach(), expected)
    assert not broken.__exit__(KeyError, KeyError(), None)
    assert one.tolist() == [1.0, 1.0]
    assert one.tolist() == [1.0, 1.0]


def test_biases_and_norms_are_not_decayed() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
    optimiser = build_optimiser({"model": list(model.named_parameters())}, TrainConfig(weight_decay=0.3))
    decayed = {name for group in optimiser.param_groups if group["weight_decay"] for name in group["names"]}
    assert decayed == {"0.weight"}
    assert sum(len(group["params"]) for group in optimiser.param_groups) == 4


def test_bad_groups_are_refused() -> None:
    named = list(nn.Linear(3, 4).named_parameters())
    with pytest.raises(InvalidInput, match="group_lr names text"):
        build_optimiser({"model": named}, TrainConfig(group_lr={"text": 1.0}))
    with pytest.raises(InvalidInput, match="in the groups a and b"):
        build_optimiser({"a": named, "b": named}, TrainConfig())
    with pytest.raises(InvalidInput, match="no parameter is to be trained"):
        build_optimiser({"a": []}, TrainConfig())


def test_a_checkpoint_comes_back_exactly(tmp_path: Path) -> None:
    shared = torch.arange(4.0)
    tensors = {"a": shared, "b": shared, "c": torch.tensor(1), "d": torch.ones(2, 3).t(), "e": torch.empty(0)}
    save_checkpoint(tmp_path / "x.safetensors", tensors, state={"third": 1 / 3, "none": None})
    found, state = load_checkpoint(tmp_path / "x.safetensors")
    assert all(torch.equal(found[name], one) for name, one in tensors.items())
    assert (state["third"], state["none"]) == (1 / 3, None)
    assert [path.name for path in tmp_path.iterdir()] == ["x.safetensors"]


def test_bad_checkpoints_are_told(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    path = tmp_path / "x.safetensors"
    with pytest.raises(InvalidInput, match="there is no checkpoint"):
        load_checkpoint(path)
    save_file({"a": torch.ones(1)}, path)
    with pytest.raises(InvalidInput, match="is no checkpoint of this format"):
        load_checkpoint(path)
    save_file({"a": torch.ones(1)}, path, metadata={"trifocal.training": "{"})
    with pytest.raises(InvalidInput, match="is damaged"):
        load_checkpoint(path)
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(InvalidInput, match="is damaged"):
        load_checkpoint(path)


def test_trained_state_leaves_frozen_weights_out() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    model[0].requires_grad_(False)
    assert set(trained_state(model)) == {
        "1.weight",
        "1.bias",
        "1.running_mean",
        "1.running_var",
        "1.num_batches_tracked",
    }


def test_nested_batches_move() -> None:
    moved = to_device({"a": [torch.ones(1)], "b": (torch.ones(1), "text")}, torch.device("meta"))
    assert moved["a"][0].device.type == "meta"
    assert moved["b"][0].device.type == "meta"
    assert moved["b"][1] == "text"


def test_the_environment_of_torchrun_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert rank_and_world() == (1, 2)
    monkeypatch.setenv("RANK", "2")
    with pytest.raises(InvalidInput, match="RANK is 2 of 2"):
        rank_and_world()
    monkeypatch.setenv("RANK", "x")
    with pytest.raises(InvalidInput, match="is no number"):
        rank_and_world()


def test_one_process_talks_to_nobody() -> None:
    with processes("cpu") as group:
        assert group.first
        assert group.world == 1
        assert group.total([1.5]) == [1.5]
        assert group.most(3) == 3
        assert group.told({"a": 1}) == {"a": 1}


def test_odd_devices_are_refused() -> None:
    with pytest.raises(InvalidInput, match="device is 'gpu'"):
        pick_device("gpu")
    if not torch.cuda.is_available():
        with pytest.raises(InvalidInput, match="sees no GPU"):
            pick_device("cuda")
        assert pick_device("auto").type == "cpu"
