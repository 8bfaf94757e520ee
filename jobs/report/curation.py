"""Pages of what happened to frames: videos, tags, labels, selections."""

# pyright: reportAttributeAccessIssue=false
# (pyarrow.compute makes its functions when it is imported)
from __future__ import annotations

from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...engine.records.sample import Row
from ...stages.ranking.columns import scores_column
from ...stages.select import with_mean_ranks
from . import charts
from .pictures import PICTURE_HEIGHT, depth_jpeg, jpeg, small_rgb
from .run_data import RunData
from .samples import Frame, Samples, clock
from .scenes import Scenes
from .site import Site

_VIDEOS_A_PAGE = 25
_STRIP = 12  # thumbnails of a video in the list
_UNSURE, _SURE = 96, 24
_RANKED = 16  # labels at either end
_TRUTHS = 6  # panoramas of a labelled column


def write_videos(site: Site, data: RunData, samples: Samples) -> None:
    """The list of videos, in pages, and a page for each video."""
    frames = samples.by_video
    videos = [_video(data, video_id, frames.get(video_id, [])) for video_id in sorted({*data.videos, *frames})]
    pages = [videos[start : start + _VIDEOS_A_PAGE] for start in range(0, len(videos), _VIDEOS_A_PAGE)] or [[]]
    names = ["frames.html", *(f"frames-{number}.html" for number in range(2, len(pages) + 1))]
    for name, some in zip(names, pages, strict=True):
        site.page(name, "frames", videos=some, names=names, name=name, samples=samples)
    for video in videos:
        site.page(f"video/{video['id']}.html", "video", video=video, samples=samples)


def _video(data: RunData, video_id: str, frames: list[Frame]) -> dict[str, Any]:
    """A video as its pages show it, times as shares of its length."""
    planned = data.videos.get(video_id, {})
    drops = data.dropped_of_videos.get(video_id, [])
    whole = [drop for drop in drops if drop.key == video_id]
    last_s = max((frame.info.get("timestamp_s", 0.0) for frame in frames), default=0.0)
    seconds = max(planned.get("seconds") or 0.0, last_s) or 1.0
    shots: list[dict[str, Any]] = []
    for frame in frames:
        at = 100 * frame.info.get("timestamp_s", 0.0) / seconds
        if not shots or shots[-1]["number"] != frame.info.get("shot", 0):
            shots.append({"number": frame.info.get("shot", 0), "start": 0.0 if not shots else at, "frames": []})
        shots[-1]["frames"].append({"frame": frame, "at": at})
    for shot, after in zip(shots, [*shots[1:], {"start": 100.0}], strict=False):
        shot["width"] = after["start"] - shot["start"]
    return {
        "id": video_id,
        "column": frames[0].column if frames else "frames",
        "plan": planned,
        "length": clock(planned["seconds"]) if planned.get("seconds") else "",
        "frames": frames,
        "strip": frames[:: len(frames) // _STRIP + 1],
        "shots": shots,
        "drops": [drop for drop in drops if drop.key != video_id],
        "whole": whole[0] if whole else None,
    }


def unsure_first(samples: Samples) -> list[str]:
    """The tagged frames, those nearest to an even chance first."""
    rows = samples.rows.get("tags", {})
    there = (key for key in rows if key in samples.frames)
    return sorted(there, key=lambda key: (abs(rows[key]["p_indoor"] - 0.5), key))


def write_tags(site: Site, data: RunData, samples: Samples) -> None:
    """The distribution of the tags of all frames, and pictures of the unsure ones first."""
    if "tags" not in data.columns:
        site.page("tags.html", "tags", chart=None, counts={}, unsure=[], sure={}, rows={}, samples=samples)
        return
    table = data.whole_table("tags")
    threshold = data.settings("tags").get("threshold")
    p_indoor = table["p_indoor"].to_numpy().astype(float)
    chart = charts.histogram({"frames": p_indoor}, {}, "probability of indoors")
    lines = [] if threshold is None else [1 - threshold, threshold]
    chart["layout"]["shapes"] = [charts.line_at(value) for value in lines]
    chart["layout"]["xaxis"]["range"] = [0, 1]
    counts = {row["values"]: row["counts"] for row in table["scene"].value_counts().to_pylist()}
    rows, order = samples.rows["tags"], unsure_first(samples)
    sure = {
        scene: [key for key in reversed(order) if rows[key]["scene"] == scene][:_SURE]
        for scene in sorted(counts)
        if scene != "unsure"
    }
    site.page(
        "tags.html",
        "tags",
        chart=chart,
        counts=counts,
        threshold=threshold,
        unsure=order[:_UNSURE],
        sure=sure,
        rows=rows,
        samples=samples,
        model=table["model"][0].as_py() if len(table) else "",
    )


def ranked(samples: Samples) -> dict[str, tuple[list[str], list[str]]]:
    """The best and the worst scored frames of every column of scores, best and worst first."""
    found = {}
    for column, rows in samples.of_column("scores-"):
        order = sorted((key for key in rows if key in samples.frames), key=lambda key: (-rows[key]["score"], key))
        some = min(_RANKED, len(order) // 2)
        found[column] = order[:some], order[::-1][:some]
    return found


def add_truths(data: RunData, scenes: Scenes) -> dict[str, list[Row]]:
    """The first panoramas of every labelled column, as scenes."""
    found = {column: data.first_rows(column, _TRUTHS) for column in data.named("labelled-")}
    for rows in found.values():
        for row in rows:
            scenes.add(row.key, row.fields["jpg"], {"ground truth": row.fields["depth.png"]}, [])
    return found


def write_labels(site: Site, data: RunData, samples: Samples, scenes: Scenes, truths: dict[str, list[Row]]) -> None:
    """The best and the worst labels by score beside each other, and examples of ground truth."""
    ends = ranked(samples)
    columns = []
    for column, (best, worst) in ends.items():
        labels = _labels_of(column)
        _write_pictures(site, data, labels, [*best, *worst])
        columns.append({"name": column, "labels": labels, "pairs": list(zip(best, worst, strict=True))})
    for row in chain.from_iterable(truths.values()):
        site.write(f"pictures/{row.key}.jpg", jpeg(small_rgb(row.fields["jpg"], PICTURE_HEIGHT)))
        site.write(f"pictures/{row.key}.truth.jpg", depth_jpeg(row.fields["depth.png"]))
    labelled = [
        {"name": column, "samples": data.columns[column].samples[1], "keys": [row.key for row in rows]}
        for column, rows in truths.items()
    ]
    unscored = [name for name in data.named("labels-") if name not in {one["labels"] for one in columns}]
    site.page(
        "labels.html", "labels", columns=columns, truths=labelled, unscored=unscored, samples=samples, scenes=scenes
    )


def _labels_of(scores: str) -> str:
    """The labels that a column of scores judges: `scores-<round>-<variant>`, `labels-<round>`."""
    return f"labels-{scores.split('-')[1]}"


def _write_pictures(site: Site, data: RunData, labels: str, keys: list[str]) -> None:
    for key, jpg in data.pictures(keys).items():
        site.write(f"pictures/{key}.jpg", jpeg(small_rgb(jpg, PICTURE_HEIGHT)))
    for key, png in data.fields(labels, "depth.png", keys).items():
        site.write(f"pictures/{key}.{labels}.jpg", depth_jpeg(png))


def write_selection(site: Site, data: RunData, samples: Samples) -> None:
    """For every selection, how scores are distributed in each scene, and where they were cut."""
    shown = []
    for column in data.named("selection-"):
        settings = data.settings(column)
        candidates, selected = _candidates(data, settings), data.whole_table(column)
        groups, cuts, rows = {}, {}, []
        for scene in sorted(candidates["scene"].unique().to_pylist()):
            of_scene = candidates.filter(pc.equal(candidates["scene"], scene))
            taken = selected.filter(pc.equal(selected["scene"], scene))["score"].to_numpy()
            groups[scene] = of_scene["score"].to_numpy()
            if len(taken):
                cuts[scene] = float(np.nanmin(taken))
            quota = settings.get("top", {}).get(scene)
            rows.append(
                {
                    "scene": scene,
                    "candidates": len(of_scene),
                    "selected": len(taken),
                    "quota": quota,
                    "cut": cuts.get(scene),
                }
            )
        passed_over = bool(settings.get("strata")) or any((settings.get("diversity") or {}).values())
        title = "mean rank" if len(settings.get("scores") or {}) > 1 else "score"
        chart = charts.histogram(groups, cuts, title) if groups else None
        shown.append({"name": column, "chart": chart, "rows": rows, "passed_over": passed_over, "settings": settings})
    site.page("selection.html", "selection", selections=shown)


def _candidates(data: RunData, settings: dict[str, Any]) -> pa.Table:
    """scene and score of all samples that a selection chose from."""
    weights = settings.get("scores") or {settings.get("variant", ""): 1.0}
    table = data.whole_table("tags").select(["key", "scene"])
    for number, variant in enumerate(weights):
        scores = data.whole_table(scores_column(settings.get("round", 1), variant))
        name = "score" if number == 0 else f"score-{number}"
        table = table.join(scores.rename_columns(["key", name]), "key", join_type="inner")
    return with_mean_ranks(table, list(weights.values())) if len(weights) > 1 else table
