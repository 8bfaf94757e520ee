"""Dealing videos into shards: every video once, in any order the same, and as even as can be."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dap_engine.stages.footage.assignment import assign_videos, extend_assignment

SECONDS = st.dictionaries(st.text("abcdef", min_size=1, max_size=4), st.floats(0, 9000), max_size=40)


@given(SECONDS, st.floats(1, 5000), st.integers(1, 10), st.randoms(use_true_random=False))
def test_every_video_is_in_one_shard_and_the_order_does_not_matter(seconds, most_seconds, most_videos, random):
    shards = assign_videos(seconds, most_seconds, most_videos)
    assert sorted(key for shard in shards for key in shard) == sorted(seconds)
    shuffled = list(seconds.items())
    random.shuffle(shuffled)
    assert assign_videos(dict(shuffled), most_seconds, most_videos) == shards
    for shard in shards:
        assert 1 <= len(shard) <= most_videos
        assert len(shard) == 1 or sum(seconds[key] for key in shard) <= most_seconds


@given(st.dictionaries(st.integers(0, 10**6).map(str), st.floats(1, 300), min_size=20, max_size=200))
def test_no_shard_is_off_the_mean_by_more_than_the_longest_video(seconds):
    lengths = [sum(seconds[key] for key in shard) for shard in assign_videos(seconds, 600, 1000)]
    mean = sum(lengths) / len(lengths)
    assert all(abs(length - mean) <= max(seconds.values()) + 1 for length in lengths)
    assert len(lengths) <= 2 * sum(seconds.values()) / 600 + 2


@given(st.lists(st.tuples(SECONDS, st.sets(st.text("abcdef", min_size=1, max_size=4))), max_size=6))
def test_whatever_comes_and_goes_nothing_moves(changes):
    """Videos are added and taken away, by turns; one that comes back is new."""
    shards: dict[str, list[str]] = {}
    there: dict[str, float] = {}
    for added, removed in changes:
        before = {key: shard for shard, keys in shards.items() for key in keys}
        there = {key: value for key, value in {**added, **there}.items() if key not in removed}
        shards = extend_assignment(shards, there, 3600, 5)
        now = {key: shard for shard, keys in shards.items() for key in keys}
        assert sorted(key for keys in shards.values() for key in keys) == sorted(there)
        assert all(now[key] == shard for key, shard in before.items() if key in there)
        for keys in shards.values():
            assert len(keys) <= 5
            assert len(keys) <= 1 or sum(there[key] for key in keys) <= 3600


def test_what_is_named_together_stays_together():
    assert assign_videos(dict.fromkeys("dacb", 10.0), 3600, 2) == [["a", "b"], ["c", "d"]]
    assert assign_videos({"a": 50, "b": 50, "c": 50, "d": 50, "e": 500}, 110, 9) == [["a", "b"], ["c", "d"], ["e"]]


def test_many_videos_fill_their_shards():
    shards = assign_videos({f"{n:06d}": 30 + n % 1000 for n in range(40_000)}, 3600, 256)
    lengths = [sum(30 + int(key) % 1000 for key in shard) for shard in shards]
    assert max(lengths) <= 3600
    assert min(lengths) > 1500
    assert sum(map(len, shards)) == 40_000


@pytest.mark.parametrize("seconds", [{}, {"a": 0.0}, {"a": 10**9}])
def test_few(seconds):
    assert assign_videos(seconds, 3600, 1) == [[key] for key in seconds]
