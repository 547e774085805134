from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from trifocal.chat.language_model import LanguageModel
from trifocal.chat.small.low_rank import attach, fold, low_rank_tensors
from trifocal.errors import InvalidInput, WeightsCorrupt

NAMES = ("q_proj", "v_proj")


def states(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return model.model(inputs_embeds=x, use_cache=False).last_hidden_state  # type: ignore[no-any-return, operator]


def test_attached_it_changes_nothing_until_trained_and_folded_it_is_the_same(language_model: LanguageModel) -> None:
    torch.manual_seed(0)
    model, x = copy.deepcopy(language_model.model), torch.randn(1, 5, 32)
    before = states(model, x)
    changes = attach(model, rank=2, names=NAMES)
    assert len(changes) == 2 * language_model.layers
    torch.testing.assert_close(states(model, x), before)
    for change in changes.values():
        nn.init.normal_(change.up, std=0.1)
    trained = states(model, x)
    assert not torch.allclose(trained, before)
    folded = copy.deepcopy(language_model.model)
    fold(folded, low_rank_tensors(changes))
    torch.testing.assert_close(states(folded, x), trained, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(states(language_model.model, x), before)


def test_only_the_change_is_trained(language_model: LanguageModel) -> None:
    model = copy.deepcopy(language_model.model)
    changes = attach(model, rank=2, names=NAMES)
    torch.autograd.backward(states(model, torch.randn(1, 5, 32)).sum())
    trained = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert len(trained) == 2 * len(changes)
    assert all(name.endswith((".up", ".down")) for name in trained)


@pytest.mark.parametrize(("rank", "names"), [(0, NAMES), (2, ("no_such_layer",))])
def test_what_cannot_be_attached_is_refused(language_model: LanguageModel, rank: int, names: tuple[str, ...]) -> None:
    with pytest.raises(InvalidInput):
        attach(copy.deepcopy(language_model.model), rank=rank, names=names)


@pytest.mark.parametrize(
    ("layer", "shapes"),
    [
        (9, {"up": (32, 2), "down": (2, 32)}),
        (0, {"up": (32, 2)}),
        (0, {"up": (31, 2), "down": (2, 32)}),
    ],
)
def test_what_does_not_fit_is_refused(
    language_model: LanguageModel, layer: int, shapes: dict[str, tuple[int, int]]
) -> None:
    tensors = {f"model.layers.{layer}.self_attn.q_proj.{part}": torch.zeros(shape) for part, shape in shapes.items()}
    with pytest.raises(WeightsCorrupt, match="does not fit the language model"):
        fold(copy.deepcopy(language_model.model), tensors)
