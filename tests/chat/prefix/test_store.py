"""The two levels together: what is found where, what is evicted, and who makes it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from trifocal.chat.prefix import PrefixEntry, PrefixKey, PrefixStore
from trifocal.errors import InvalidInput


def test_found_in_memory_then_on_disk_after_a_restart(
    tmp_path: Path, key: PrefixKey, make_entry: Callable[..., PrefixEntry]
) -> None:
    store = PrefixStore(folder=tmp_path)
    assert store.get(key) is None
    entry = store.put(key, make_entry())
    assert store.get(key) is entry
    again = PrefixStore(folder=tmp_path)
    back = again.get(key)
    assert back is not None
    assert torch.equal(back.layers[0][0], entry.layers[0][0])
    assert again.get(key) is back
    assert (again.stats.from_disk, again.stats.from_memory, again.stats.entries) == (1, 1, 1)


def test_least_recently_used_go_first(key: PrefixKey, make_entry: Callable[..., PrefixEntry]) -> None:
    size = make_entry().nbytes
    store = PrefixStore(memory_bytes=2 * size)
    keys = [replace(key, model=f"m{number}") for number in range(3)]
    store.put(keys[0], make_entry())
    store.put(keys[1], make_entry())
    store.get(keys[0])
    store.put(keys[2], make_entry())
    assert [store.get(each) is not None for each in keys] == [True, False, True]
    assert store.stats.evicted == 1
    assert store.stats.memory_bytes <= 2 * size


def test_an_entry_larger_than_memory_is_handed_out_and_not_kept(
    key: PrefixKey, make_entry: Callable[..., PrefixEntry]
) -> None:
    store = PrefixStore(memory_bytes=10)
    entry = make_entry()
    assert store.put(key, entry) is entry
    assert store.get(key) is None


def test_security_11_another_salt_finds_nothing(
    tmp_path: Path, key: PrefixKey, make_entry: Callable[..., PrefixEntry]
) -> None:
    PrefixStore(folder=tmp_path, salt="a").put(key, make_entry())
    assert PrefixStore(folder=tmp_path, salt="b").get(key) is None
    assert PrefixStore(folder=tmp_path, salt="a").get(key) is not None


def test_security_11_equal_digests_do_not_meet_in_memory(
    key: PrefixKey, make_entry: Callable[..., PrefixEntry], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PrefixKey, "digest", property(lambda self: "0" * 64))
    store = PrefixStore()
    store.put(key, make_entry())
    assert store.get(replace(key, model="another")) is None


def test_int8_gives_the_same_entry_whichever_level_serves(
    tmp_path: Path, key: PrefixKey, make_entry: Callable[..., PrefixEntry]
) -> None:
    store = PrefixStore(folder=tmp_path, int8=True)
    first = store.put(key, make_entry())
    from_memory = store.get(key)
    from_disk = PrefixStore(folder=tmp_path, int8=True).get(key)
    assert from_memory is not None
    assert from_disk is not None
    for a, b, c in zip(first.layers, from_memory.layers, from_disk.layers, strict=True):
        assert torch.equal(a[0], b[0])
        assert torch.equal(a[0], c[0])
        assert torch.equal(a[1], c[1])
    assert not torch.equal(first.layers[0][0], make_entry().layers[0][0])


@pytest.mark.parametrize("int8", [False, True])
def test_exact_and_int8_stores_over_one_folder_do_not_serve_each_other(
    int8: bool, tmp_path: Path, key: PrefixKey, make_entry: Callable[..., PrefixEntry]
) -> None:
    PrefixStore(folder=tmp_path, int8=int8).put(key, make_entry())
    other = PrefixStore(folder=tmp_path, int8=not int8)
    assert other.get(key) is None
    own, found = other.get_or_make(key, make_entry)
    assert not found
    assert torch.equal(own.layers[0][0], make_entry().layers[0][0]) == int8  # the exact one where the folder has int8
    assert len(list(tmp_path.iterdir())) == 2
    assert PrefixStore(folder=tmp_path, int8=int8).get(key) is not None


def test_threads_make_an_entry_once(key: PrefixKey, make_entry: Callable[..., PrefixEntry]) -> None:
    store = PrefixStore()
    made: list[int] = []
    gate = threading.Barrier(6)

    def make() -> PrefixEntry:
        made.append(1)
        time.sleep(0.05)
        return make_entry()

    def ask(_: int) -> tuple[PrefixEntry, bool]:
        gate.wait()
        return store.get_or_make(key, make)

    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(ask, range(6)))
    assert len(made) == 1
    assert sorted(found for _, found in results) == [False] + [True] * 5
    assert len({id(entry) for entry, _ in results}) == 1
    assert store.stats.made == 1


def test_a_failed_making_leaves_the_next_to_try(key: PrefixKey, make_entry: Callable[..., PrefixEntry]) -> None:
    store = PrefixStore()

    def fail() -> PrefixEntry:
        raise ValueError("out of memory")

    with pytest.raises(ValueError, match="out of memory"):
        store.get_or_make(key, fail)
    _, found = store.get_or_make(key, make_entry)
    assert not found


def test_clearing_forgets_both_levels(tmp_path: Path, key: PrefixKey, make_entry: Callable[..., PrefixEntry]) -> None:
    store = PrefixStore(folder=tmp_path)
    store.put(key, make_entry())
    store.clear()
    assert store.get(key) is None
    assert not list(tmp_path.iterdir())


def test_a_negative_bound_is_refused() -> None:
    with pytest.raises(InvalidInput, match="memory_bytes"):
        PrefixStore(memory_bytes=-1)
