"""Eight bits keep a prefix close to what it was, also where some channels are large."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from trifocal.chat.prefix import PrefixEntry, dequantise, quantise


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_error_is_at_most_half_a_step(make_entry: Callable[..., PrefixEntry], dtype: torch.dtype) -> None:
    entry = make_entry(tokens=40, dtype=dtype)
    back = dequantise(quantise(entry))
    for (keys, values), (keys_back, values_back) in zip(entry.layers, back.layers, strict=True):
        assert keys_back.dtype == dtype
        rounding = torch.finfo(dtype).eps * keys.float().abs().max()
        assert ((keys - keys_back).float().abs() <= keys.float().abs().amax(2, keepdim=True) / 254 + rounding).all()
        assert (
            (values - values_back).float().abs() <= values.float().abs().amax(3, keepdim=True) / 254 + rounding
        ).all()


def test_a_large_key_channel_does_not_drown_the_others() -> None:
    keys = torch.randn(1, 1, 50, 8, generator=torch.Generator().manual_seed(0))
    keys[..., 0] *= 1000
    back = dequantise(quantise(PrefixEntry(layers=((keys, keys),), length=50))).layers[0][0]
    assert (keys - back)[..., 1:].abs().max() < 0.02


def test_zeros_stay_zeros() -> None:
    zeros = torch.zeros(1, 2, 3, 4)
    back = dequantise(quantise(PrefixEntry(layers=((zeros, zeros),), length=3)))
    assert torch.equal(back.layers[0][0], zeros)


def test_it_is_smaller_and_keeps_the_rest(make_entry: Callable[..., PrefixEntry]) -> None:
    entry = make_entry(tokens=400, dtype=torch.bfloat16)
    small = quantise(entry)
    assert small.nbytes < 0.65 * entry.nbytes
    back = dequantise(small)
    assert (back.length, back.facts) == (entry.length, entry.facts)
    assert torch.equal(back.extra["frame_of"], entry.extra["frame_of"])


def test_quantising_twice_changes_nothing_more(make_entry: Callable[..., PrefixEntry]) -> None:
    once = dequantise(quantise(make_entry()))
    twice = dequantise(quantise(once))
    torch.testing.assert_close(once.layers[0][0], twice.layers[0][0], atol=1e-6, rtol=0)
