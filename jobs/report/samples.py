"""The frames that a report shows: their thumbnails, and what every column says of each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from typing import Any, NamedTuple

from .pictures import THUMB_HEIGHT, Thumb, sheet, small_rgb
from .progress import tracked
from .run_data import RunData
from .site import Site


class Fact(NamedTuple):
    """A line about a sample; `href` leads from the top of the site, and is empty where there is nothing to see."""

    name: str
    text: str
    href: str = ""


@dataclass(frozen=True)
class Frame:
    """A kept frame: the column that it lies in, its JSON, and its thumbnail."""

    key: str
    video_id: str  # of one that comes from no video, its shard
    column: str
    info: dict[str, Any]
    thumb: Thumb

    @property
    def at(self) -> str:
        """Its time in the video."""
        return clock(self.info["timestamp_s"]) if "timestamp_s" in self.info else ""

    @property
    def href(self) -> str:
        """Its place on the page of its video."""
        return f"video/{self.video_id}.html#{self.key}"


@dataclass
class Samples:
    """The frames shown, in the order of their keys, and the rows of other columns about them, by column and key."""

    frames: dict[str, Frame]
    rows: dict[str, dict[str, dict[str, Any]]]
    packed: dict[str, list[tuple[str, str]]]
    scenes: set[str] = field(default_factory=set)

    def of_column(self, prefix: str) -> Iterator[tuple[str, dict[str, dict[str, Any]]]]:
        """The columns whose names begin so, with their rows by key."""
        return ((name, rows) for name, rows in self.rows.items() if name.startswith(prefix))

    @cached_property
    def by_video(self) -> dict[str, list[Frame]]:
        """Frames in the order of their times."""
        found: dict[str, list[Frame]] = {}
        for frame in self.frames.values():
            found.setdefault(frame.video_id, []).append(frame)
        return found

    def facts(self, key: str) -> list[Fact]:
        """What is known of a frame, from its video to the models that it taught."""
        frame = self.frames[key]
        found = [Fact(frame.column, str(frame.info.get("file") or frame.info.get("prompt") or key), frame.href)]
        if frame.column == "frames":
            where = f"{frame.at}, shot {frame.info.get('shot', 0)}"
            found = [Fact("video", f"{frame.video_id}, {where}", frame.href)]
        for column, rows in self.of_column("tags"):
            if row := rows.get(key):
                found.append(Fact(column, f"{row['scene']}, {100 * row['p_indoor']:.0f} % indoor", "tags.html"))
        for column, rows in self.of_column("labels-"):
            if row := rows.get(key):
                found.append(Fact(column, _distances(row), f"lineage.html#{column}"))
        for column, rows in self.of_column("scores-"):
            if row := rows.get(key):
                found.append(Fact(column, f"{row['score']:.4f}", f"labels.html#{column}"))
        for column, rows in self.of_column("selection-"):
            if row := rows.get(key):
                found.append(Fact(column, f"rank {row['rank']} of {row['scene']}", f"selection.html#{column}"))
        for column, shard in self.packed.get(key, []):
            found.append(Fact("packed", f"{column}/{shard}", f"lineage.html#{column}"))
        return found


def read_samples(data: RunData, site: Site) -> Samples:
    """Reads the frames of the shards shown, and writes a sheet of thumbnails for each video."""
    frames: dict[str, Frame] = {}
    for shard in tracked("frames", data.shards):
        column = data.image_shards[shard].column
        for video_id, rows in groupby(data.frames(shard), key=lambda row, of=shard: data.video_of(of, row.key)):
            keys, infos, small = [], [], []
            for row in rows:
                keys.append(row.key)
                infos.append(row.fields["json"])
                small.append(small_rgb(row.fields["jpg"], THUMB_HEIGHT))
            picture, thumbs = sheet(f"thumbs/{video_id}.jpg", small)
            site.write(f"thumbs/{video_id}.jpg", picture)
            frames |= {
                key: Frame(key, video_id, column, info, thumb)
                for key, info, thumb in zip(keys, infos, thumbs, strict=True)
            }
    names = [name for prefix in ("tags", "labels-", "scores-", "selection-") for name in data.named(prefix)]
    rows = {name: data.rows(name) for name in tracked("columns", names)}
    return Samples(frames, rows, data.packed(list(frames)))


def clock(seconds: float) -> str:
    """A time in a video, as 1:02:03.4."""
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02d}:{rest:04.1f}" if hours else f"{minutes}:{rest:04.1f}"


def _distances(row: dict[str, Any]) -> str:
    if row.get("median_m") is None:
        return "beyond the range throughout"
    beyond = f", {100 * row['beyond_range']:.0f} % beyond the range" if row.get("beyond_range") else ""
    return f"{row['min_m']:.2f} to {row['max_m']:.2f} m, median {row['median_m']:.2f} m{beyond}"
