"""The index of hashes finds what comparing with all finds."""

from hypothesis import given
from hypothesis import strategies as st

from dap_engine.models.frames.near_duplicates import NearDuplicates
from dap_engine.models.frames.yaw_hash import HASH_BITS, hash_distance

HASHES = st.integers(0, 2**HASH_BITS - 1)
FLIPS = st.sets(st.integers(0, HASH_BITS - 1), max_size=24)


@given(st.lists(HASHES, max_size=8), st.lists(st.tuples(st.integers(0, 7), FLIPS), max_size=8), st.integers(0, 20))
def test_it_agrees_with_comparing_with_all(hashes, near_ones, bits):
    index = NearDuplicates(bits)
    for value in hashes:
        index.add(value)
    queries = [*hashes[:2], *(_flipped(hashes[i % len(hashes)], flips) for i, flips in near_ones if hashes)]
    for query in queries:
        assert index.near(query) == any(hash_distance(query, value) <= bits for value in hashes)


def _flipped(value: int, places: set[int]) -> int:
    for place in places:
        value ^= 1 << place
    return value


def test_it_grows():
    index = NearDuplicates(0)
    for value in range(3000):
        index.add(value << 100)
    assert index.near(2999 << 100)
    assert not index.near(3000 << 100)
