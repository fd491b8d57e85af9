"""A random order of n things in no memory: a Feistel network of 8 rounds, walked until the result is below n.

4 rounds are visibly uneven for small n, 8 are not. Golden values in the tests never change.
"""

from __future__ import annotations

import numpy as np

ROUNDS = 8
GAMMA, FIRST, SECOND = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
SHIFT_8, SHIFT_27, SHIFT_30, SHIFT_31 = (np.uint64(bits) for bits in (8, 27, 30, 31))


def permute(indices: np.ndarray, n: int, key: int) -> np.ndarray:
    """int64, same shape: where each of `indices` (in [0, n)) goes in the order of n things that `key` names."""
    half = np.uint64(max(1, ((n - 1).bit_length() + 1) // 2))
    limit, seed = np.uint64(n), np.uint64(key)
    result = _network(np.asarray(indices, dtype=np.uint64), half, seed)
    while (outside := result >= limit).any():
        result[outside] = _network(result[outside], half, seed)
    return result.astype(np.int64)


def _network(values: np.ndarray, half: np.uint64, key: np.uint64) -> np.ndarray:
    mask = (np.uint64(1) << half) - np.uint64(1)
    left, right = values >> half, values & mask
    for number in range(ROUNDS):
        left, right = right, left ^ (_mix((right << SHIFT_8 | np.uint64(number)) ^ key) & mask)
    return left << half | right


def _mix(x: np.ndarray) -> np.ndarray:
    """One step of splitmix64 (Steele, Lea, Flood 2014), wrapping."""
    z = x + GAMMA
    z = (z ^ (z >> SHIFT_30)) * FIRST
    z = (z ^ (z >> SHIFT_27)) * SECOND
    return z ^ (z >> SHIFT_31)
