"""The page of drops: by code, pictures of what was dropped, with the measurements that decided and their thresholds."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass

import numpy as np

from ...engine.records.sample import Drop
from ...stages.extract import Extract
from .dropped import DroppedFrames, Seen
from .measurements import Rule, measures_of, rules_of
from .pictures import picture_jpeg
from .progress import tracked
from .run_data import Dropped, RunData
from .samples import Samples, clock
from .site import Site

_EXAMPLES = 12  # of a code
_BUDGET_S = 45.0  # for looking at videos again
_BARS = 40


@dataclass(frozen=True)
class Scale:
    """A measurement on an axis of 0 to 100, with its threshold, above bars of how it is distributed in kept frames."""

    rule: Rule
    value: float
    at: float
    cut: float
    bars: list[float]  # heights, 0 to 1

    @property
    def decided(self) -> bool:
        """Whether the value is on the side of dropping."""
        return self.rule.speaks(self.value)


@dataclass(frozen=True)
class Example:
    """One dropped sample as it is shown."""

    drop: Drop
    video_id: str
    at: str = ""
    picture: str = ""
    beside: str = ""
    scales: tuple[Scale, ...] = ()


def write_drops(site: Site, data: RunData, samples: Samples) -> None:
    """The page; without drops it says so."""
    kept = [measures_of(f.info.get("quality", {}), f.info.get("horizon", {})) for f in samples.frames.values()]
    videos = {*data.videos, *samples.by_video}
    sections = []
    for column, receipts in data.columns.items():
        found = {code: data.drops(column, code, _EXAMPLES) for code in receipts.drops}
        looked_at = _look_again(data, samples, found) if _can_look(data, column) else {}
        rules = rules_of(data.settings(column)) if looked_at else {}
        for code, dropped in found.items():
            examples = []
            for one in dropped:
                seen = looked_at.get(one.drop.key, [])
                for each in seen or [None]:
                    examples.append(_example(site, videos, one.drop, each, rules.get(code, ()), kept))
            count = receipts.drops[code]
            sections.append({"column": column, "code": code, "count": count, "examples": examples[: 2 * _EXAMPLES]})
    site.page("drops.html", "drops", sections=sections, videos=videos, samples=samples)


def _can_look(data: RunData, column: str) -> bool:
    """Whether what this version measures is what the extraction looked at."""
    receipts = data.column(column)
    basis = next((receipt.basis for receipt in receipts.values()), None)
    return basis is not None and (basis.step, basis.version) == (Extract.name, Extract.version)


def _look_again(data: RunData, samples: Samples, found: dict[str, list[Dropped]]) -> dict[str, list[Seen]]:
    """Dropped frames by the key of their drop; of a video that was dropped whole, some of its frames."""
    by_video: dict[str, list[Drop]] = {}
    for dropped in found.values():
        for one in dropped:
            video_id = one.drop.key if one.drop.key in data.videos else one.drop.key.rpartition("-")[0]
            by_video.setdefault(video_id, []).append(one.drop)
    frames, seen = samples.by_video, dict[str, list[Seen]]()
    again = DroppedFrames(data.settings("frames"), data.run.storage.address(""), _BUDGET_S)
    try:
        videos = [video_id for video_id in by_video if video_id in data.videos]
        videos.sort(key=lambda video_id: (data.videos[video_id].get("seconds") or 0.0, video_id))  # short ones first
        for video_id in tracked("dropped frames", videos):
            drops = by_video[video_id]
            kept = {f.key: int(f.info["hash"], 16) for f in frames.get(video_id, []) if "hash" in f.info}
            sampled = dict.fromkeys(kept, "")
            sampled |= {d.key: d.code for d in data.dropped_of_videos.get(video_id, []) if d.key != video_id}
            whole, single = [d for d in drops if d.key == video_id], [d for d in drops if d.key != video_id]
            for some in (whole, single):
                for drop, one in again.of_video(data.videos[video_id], some, sampled, kept) if some else ():
                    seen.setdefault(drop.key, []).append(one)
    finally:
        again.close()
    return seen


def _example(
    site: Site, videos: Set[str], drop: Drop, seen: Seen | None, rules: tuple[Rule, ...], kept: list[dict[str, float]]
) -> Example:
    video_id = drop.key if drop.key in videos else drop.key.rpartition("-")[0]
    if seen is None:
        return Example(drop, video_id)
    picture = site.write(f"pictures/{seen.key}.jpg", picture_jpeg(seen.rgb))
    scales = tuple(_scale(rule, seen.measures[rule.measure], kept) for rule in rules if rule.measure in seen.measures)
    return Example(drop, video_id, clock(seen.timestamp_s), picture, seen.beside, scales)


def _scale(rule: Rule, value: float, kept: list[dict[str, float]]) -> Scale:
    others = np.array([measures[rule.measure] for measures in kept if rule.measure in measures])
    points = [value, rule.threshold, *(np.quantile(others, [0.01, 0.99]) if len(others) else ())]
    lowest, highest = min(points), max(points)
    margin = 0.08 * (highest - lowest) or 1.0
    lowest, highest = lowest - margin, highest + margin
    counts, _ = np.histogram(others, _BARS, (lowest, highest))
    bars = (counts / max(counts.max(), 1)).round(3).tolist()

    def place(number: float) -> float:
        return round(100 * (number - lowest) / (highest - lowest), 2)

    return Scale(rule, value, place(value), place(rule.threshold), bars)
