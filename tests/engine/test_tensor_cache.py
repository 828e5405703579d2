"""Kept tensors are bounded in bytes, however many they are."""

from __future__ import annotations

import torch

from engine.tensor_cache import TensorCache

ROW = torch.zeros(10)  # 40 bytes


def test_the_tensors_that_were_used_longest_ago_go_first() -> None:
    cache = TensorCache(100)
    cache.put("a", ROW)
    cache.put("b", ROW)
    assert cache.get("a") is ROW  # used again: "b" is the older one now
    cache.put("c", ROW)
    assert [key for key in "abc" if cache.get(key) is not None] == ["a", "c"]


def test_several_tensors_of_a_key_count_together_and_a_new_value_counts_alone() -> None:
    cache = TensorCache(100)
    for _ in range(3):
        cache.put("pair", (ROW, ROW))
    assert cache.get("pair") is not None
    cache.put("a", ROW)
    assert cache.get("pair") is None and cache.get("a") is ROW


def test_a_tensor_that_is_too_large_is_not_kept() -> None:
    cache = TensorCache(100)
    cache.put("large", torch.zeros(26))
    assert cache.get("large") is None
    cache.put("a", ROW)
    assert cache.get("a") is ROW
