"""A fork answers as a fresh run does, and leaves the prefix as it was."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicSlidingWindowLayer

from trifocal.chat.prefix import PrefixEntry
from trifocal.errors import InvalidInput

IDS = torch.arange(2, 42)


@torch.inference_mode()
def run(model: PreTrainedModel, ids: torch.Tensor, cache: DynamicCache, *, start: int) -> torch.Tensor:
    positions = torch.arange(start, start + len(ids))[None]
    out = model(input_ids=ids[None], position_ids=positions, past_key_values=cache, use_cache=True)
    logits: torch.Tensor = out.logits[0]
    return logits


def prefilled(model: PreTrainedModel) -> PrefixEntry:
    cache = DynamicCache()
    run(model, IDS, cache, start=0)
    return PrefixEntry.of(cache, length=len(IDS))


def test_a_fork_continues_as_one_run_would(model: PreTrainedModel) -> None:
    entry = prefilled(model)
    question = torch.tensor([60, 61, 62])
    whole = run(model, torch.cat([IDS, question]), DynamicCache(), start=0)[-3:]
    torch.testing.assert_close(run(model, question, entry.fork(), start=entry.length), whole, atol=2e-5, rtol=0)


def test_a_fork_leaves_the_entry_as_it_was(model: PreTrainedModel) -> None:
    entry = prefilled(model)
    before = [(keys.clone(), values.clone()) for keys, values in entry.layers]
    fork = entry.fork()
    for step in range(3):
        run(model, torch.tensor([70 + step]), fork, start=entry.length + step)
    assert fork.get_seq_length() == entry.length + 3
    assert entry.lengths == (len(IDS),) * 3
    for (keys, values), (keys_before, values_before) in zip(entry.layers, before, strict=True):
        assert torch.equal(keys, keys_before)
        assert torch.equal(values, values_before)


def test_forks_do_not_copy_until_they_grow(model: PreTrainedModel) -> None:
    entry = prefilled(model)
    assert entry.fork().layers[0].keys.data_ptr() == entry.layers[0][0].data_ptr()


def test_threads_get_what_one_after_the_other_gets(model: PreTrainedModel) -> None:
    entry = prefilled(model)
    questions = [torch.tensor([50 + n, 51 + n, 2 * n]) for n in range(8)]

    def ask(question: torch.Tensor) -> torch.Tensor:
        return run(model, question, entry.fork(), start=entry.length)

    alone = [ask(question) for question in questions]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(ask, questions))
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))


def test_sizes_are_told() -> None:
    pair = torch.zeros(1, 2, 5, 4), torch.zeros(1, 2, 5, 4)
    entry = PrefixEntry(layers=(pair,), length=5, extra={"x": torch.zeros(3, dtype=torch.int64)})
    assert entry.nbytes == 2 * 2 * 5 * 4 * 4 + 24
    assert repr(entry) == "PrefixEntry(5 positions, 1 layers of 5 tokens, 344 bytes)"


@pytest.mark.parametrize(
    "layers",
    [
        (),
        ((torch.zeros(1, 2, 5), torch.zeros(1, 2, 5)),),
        ((torch.zeros(1, 2, 5, 4), torch.zeros(1, 2, 6, 4)),),
        ((torch.zeros(2, 2, 5, 4), torch.zeros(2, 2, 5, 4)),),
    ],
)
def test_what_is_no_prefix_is_refused(layers: tuple[tuple[torch.Tensor, torch.Tensor], ...]) -> None:
    with pytest.raises(InvalidInput):
        PrefixEntry(layers=layers, length=5)


def test_a_sliding_window_is_refused() -> None:
    cache = DynamicCache()
    layer = DynamicSlidingWindowLayer(sliding_window=4)
    layer.update(torch.zeros(1, 2, 5, 4), torch.zeros(1, 2, 5, 4))
    cache.layers.append(layer)
    with pytest.raises(InvalidInput, match="sliding window"):
        PrefixEntry.of(cache, length=5)


def test_each_layer_goes_where_the_model_has_it(make_entry: Callable[..., PrefixEntry]) -> None:
    entry, cpu, elsewhere = make_entry(), torch.device("cpu"), torch.device("meta")
    assert entry.to(cpu, layers=[cpu, cpu]) is entry
    moved = entry.to(cpu, layers=[cpu, elsewhere])
    assert [(keys.device, values.device) for keys, values in moved.layers] == [(cpu, cpu), (elsewhere, elsewhere)]
    assert moved.layers[0][0] is entry.layers[0][0]
    assert {tensor.device for tensor in moved.extra.values()} == {cpu}
    assert (moved.length, moved.facts) == (entry.length, entry.facts)
    assert {tensor.device for tensor in entry.to(elsewhere, layers=[cpu, cpu]).extra.values()} == {elsewhere}
