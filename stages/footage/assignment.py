"""Assigns videos to shards that take about equally long."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import groupby


def assign_videos(seconds: Mapping[str, float], most_seconds: float, most_videos: int) -> list[list[str]]:
    """Keys in shards, in sorted order throughout; the order of `seconds` does not matter.

    No shard is longer than `most_seconds` unless one video alone is, and none holds more than `most_videos`. The sorted
    keys are cut into the fewest runs of equal length that allow this, or nearly so: neighbours by name stay together. A
    video that a cut falls into goes to the side of its middle, so that no shard differs from the mean by more than its
    longest video.
    """
    limit_ms = int(most_seconds * 1000)
    ms = {key: min(math.ceil(seconds[key] * 1000), limit_ms + 1) for key in sorted(seconds)}
    alone = [[key] for key in ms if ms[key] > limit_ms]
    return sorted([*alone, *_runs({key: ms[key] for key in ms if ms[key] <= limit_ms}, limit_ms, most_videos)])


def extend_assignment(
    shards: Mapping[str, Sequence[str]], seconds: Mapping[str, float], most_seconds: float, most_videos: int
) -> dict[str, list[str]]:
    """The keys of `seconds` in shards, given the shards of an earlier plan.

    A planned key stays in its shard, or leaves it if it is gone. New keys go into new shards, whose numbers follow,
    even if earlier shards have room.
    """
    planned = {key for keys in shards.values() for key in keys}
    new = {key: value for key, value in seconds.items() if key not in planned}
    first_free = max(map(int, shards), default=-1) + 1
    return {shard: [key for key in keys if key in seconds] for shard, keys in shards.items()} | {
        f"{number:06d}": keys for number, keys in enumerate(assign_videos(new, most_seconds, most_videos), first_free)
    }


def _runs(ms: Mapping[str, int], limit_ms: int, most_videos: int) -> list[list[str]]:
    """A video counts by its share of a shard's seconds or of a shard's videos, whichever is larger."""
    parts = {key: max(value * most_videos, limit_ms) for key, value in ms.items()}  # of limit_ms * most_videos
    count = -(-sum(parts.values()) // (limit_ms * most_videos))
    while True:
        runs = _cut(parts, count)
        if all(len(run) <= most_videos and sum(ms[key] for key in run) <= limit_ms for run in runs):
            return runs
        count += 1 + count // 50


def _cut(parts: Mapping[str, int], count: int) -> list[list[str]]:
    """Cuts keys into `count` runs of equal sums."""
    whole, before, runs = sum(parts.values()), 0, {}
    for key, part in parts.items():
        runs[key] = (2 * before + part) * count // (2 * whole)
        before += part
    return [list(run) for _, run in groupby(parts, key=runs.__getitem__)]
