"""An index of perceptual hashes: whether one within so many bits is there already, without comparing with all."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from .yaw_hash import HASH_BITS

_WORDS = -(-HASH_BITS // 64)


class NearDuplicates:
    """Hashes of `HASH_BITS` bits; `near` finds those at a Hamming distance of at most `bits`, exactly.

    Multi-index hashing (Norouzi, Punjani and Fleet 2012): hashes that differ in at most `bits` places are equal in one
    of bits + 1 parts at least, so only those that share a part are compared.
    """

    def __init__(self, bits: int):
        self._bits = bits
        edges = np.linspace(0, HASH_BITS, bits + 2).astype(int).tolist()
        self._parts = [(start, (1 << (end - start)) - 1) for start, end in pairwise(edges)]
        self._members: list[dict[int, list[int]]] = [{} for _ in self._parts]
        self._words = np.empty((1024, _WORDS), np.uint64)
        self._count = 0

    def add(self, value: int) -> None:
        """Adds a hash."""
        if self._count == len(self._words):
            self._words = np.concatenate([self._words, np.empty_like(self._words)])
        self._words[self._count] = _as_words(value)
        for members, (start, mask) in zip(self._members, self._parts, strict=True):
            members.setdefault(value >> start & mask, []).append(self._count)
        self._count += 1

    def near(self, value: int) -> bool:
        """Whether a hash that was added is at most `bits` away."""
        words = _as_words(value)
        for members, (start, mask) in zip(self._members, self._parts, strict=True):
            if found := members.get(value >> start & mask):
                distances = np.bitwise_count(self._words[found] ^ words).sum(axis=1)
                if distances.min() <= self._bits:
                    return True
        return False


def _as_words(value: int) -> np.ndarray:
    return np.frombuffer(value.to_bytes(8 * _WORDS, "little"), np.uint64)
