"""Dealing videos into shards that take about as long as each other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import groupby


def deal(seconds: Mapping[str, float], most_seconds: float, most_videos: int) -> list[list[str]]:
    """Keys in shards, in sorted order throughout; the order of `seconds` does not matter.

    No shard is longer than `most_seconds` unless one video alone is, and none holds more than `most_videos`. The sorted
    keys are cut into the fewest runs of equal length that allow this, or nearly so: what has been filmed and named
    together stays together. Where a cut falls into a video, the video goes to where its middle is, so that no shard
    is off the mean by more than its longest video.
    """
    limit_ms = int(most_seconds * 1000)
    ms = {key: min(math.ceil(seconds[key] * 1000), limit_ms + 1) for key in sorted(seconds)}
    alone = [[key] for key in ms if ms[key] > limit_ms]
    return sorted([*alone, *_runs({key: ms[key] for key in ms if ms[key] <= limit_ms}, limit_ms, most_videos)])


def extend(
    shards: Mapping[str, Sequence[str]], seconds: Mapping[str, float], most_seconds: float, most_videos: int
) -> dict[str, list[str]]:
    """Planned shards, numbered, as they are now: `seconds` holds all keys that are there.

    What was planned stays in its shard for good, or leaves it when it is gone; what is new is dealt into new shards,
    whose numbers follow, even if earlier ones have room.
    """
    planned = {key for keys in shards.values() for key in keys}
    new = {key: value for key, value in seconds.items() if key not in planned}
    first_free = max(map(int, shards), default=-1) + 1
    return {shard: [key for key in keys if key in seconds] for shard, keys in shards.items()} | {
        f"{number:06d}": keys for number, keys in enumerate(deal(new, most_seconds, most_videos), first_free)
    }


def _runs(ms: Mapping[str, int], limit_ms: int, most_videos: int) -> list[list[str]]:
    """A video counts by its length, or by its place among so many, whichever fills more of a shard."""
    parts = {key: max(value * most_videos, limit_ms) for key, value in ms.items()}  # of limit_ms * most_videos
    count = -(-sum(parts.values()) // (limit_ms * most_videos))
    while True:
        runs = _cut(parts, count)
        if all(len(run) <= most_videos and sum(ms[key] for key in run) <= limit_ms for run in runs):
            return runs
        count += 1 + count // 50


def _cut(parts: Mapping[str, int], count: int) -> list[list[str]]:
    """Cuts keys into `count` runs of equal sums."""
    whole, before, places = sum(parts.values()), 0, {}
    for key, part in parts.items():
        places[key] = (2 * before + part) * count // (2 * whole)
        before += part
    return [list(run) for _, run in groupby(parts, key=places.__getitem__)]
