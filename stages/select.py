"""Selects the best-scored samples of each domain: a global quota, so a barrier."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow.compute import field as pa_field

from ..engine.records.column import Column, ParquetColumn
from ..engine.rundir.members import read_members
from ..engine.rundir.receipts import Receipt
from ..engine.steps.barrier import Barrier, BarrierContext, BarrierError, input_of
from ..models.ranking.quality import mean_ranks
from .batches.panoramas import OverPanoramas
from .ranking.choice import Candidate, Chooser, Diversity, Strata, stratum_of
from .ranking.columns import scores_column, selection_column

_SCHEMA = pa.schema([("scene", pa.string()), ("score", pa.float64()), ("rank", pa.int64())])
_FACTS = pa.schema([("key", pa.string()), ("shot", pa.int64()), ("hash", pa.string()), ("stratum", pa.string())])


@dataclass
class Select(OverPanoramas, Barrier):
    """Scores and tags to `selection-<round>`: the `top` best of each scene, equal scores in the order of their keys.

    Of several `scores`, the mean of the ranks within a scene counts, by weight. Scenes that `top` does not name, such
    as `unsure`, are not selected from. Where a scene has fewer samples than its quota, that is said; all are taken, or,
    with `shortfall: fail`, none, before anything is written. `diversity` and `strata` pass over better samples for the
    sake of others (`stages.ranking.choice`).
    """

    name: ClassVar[str] = "select"

    round: int = 1
    variant: str = ""  # of the selection, `selection-<round>-<variant>`, and of the scores, where `scores` names none
    scores: dict[str, float] = field(default_factory=dict)  # variants of the scores, by their weights
    top: dict[str, int] = field(default_factory=lambda: {"indoor": 300_000, "outdoor": 300_000})
    shortfall: Literal["take", "fail"] = "take"
    min_score: float | None = None
    diversity: Diversity = field(default_factory=Diversity)
    strata: Strata | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.top or min(self.top.values()) < 0:
            raise ValueError("select: top needs a number of samples, not below 0, for one scene at least")
        if self.scores and min(self.scores.values()) <= 0:
            raise ValueError("select: the weight of a variant of the scores must be above 0")

    @property
    def _scores(self) -> dict[str, float]:
        """The columns of the scores with their weights."""
        variants = self.scores or {self.variant: 1.0}
        return {scores_column(self.round, variant): weight for variant, weight in variants.items()}

    @property
    def reads(self) -> tuple[str, ...]:
        return ("tags", *self._scores, *(self.image_columns if self._needs_frames else ()))

    @property
    def _needs_frames(self) -> bool:
        return self.diversity.needs_frames or self.strata is not None

    @property
    def _has_rules(self) -> bool:
        return self.strata is not None or self.diversity != Diversity()

    @property
    def writes(self) -> Column:
        return ParquetColumn(selection_column(self.round, self.variant), _SCHEMA)

    @property
    def follows(self) -> tuple[str, ...]:
        return tuple(self._scores)[:1]

    @property
    def joins(self) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
        images = [self.image_columns] if self._needs_frames else []
        return [(self.follows, others) for others in [("tags",), *((column,) for column in self._scores), *images]]

    def shards(self, context: BarrierContext) -> Sequence[str]:
        return list(context.inputs[next(iter(self._scores))])

    def run(self, context: BarrierContext) -> None:
        candidates = pa.concat_tables(self._candidates(context, shard) for shard in self.shards(context))
        if len(self._scores) > 1:
            candidates = with_mean_ranks(candidates, list(self._scores.values()))
        if self.min_score is not None:
            candidates = candidates.filter(pa_field("score") >= self.min_score)
        self._check_quotas(context, candidates)
        selected = pa.concat_tables(self._selected(candidates))
        self._report(context, selected)
        context.keep_only(self.shards(context))
        by_shard = selected.sort_by([("shard", "ascending"), ("key", "ascending")])
        starts = np.searchsorted(by_shard["shard"].to_numpy(), self.shards(context), side="left").tolist()
        ends = np.searchsorted(by_shard["shard"].to_numpy(), self.shards(context), side="right").tolist()
        for shard, start, end in zip(self.shards(context), starts, ends, strict=True):
            self._commit(context, shard, by_shard.slice(start, end - start))

    def _candidates(self, context: BarrierContext, shard: str) -> pa.Table:
        """key, scene, score, shard: one row for every sample of a shard that has a tag and all scores.

        Of several, the scores are called score, score-1, … Rules add what they look at: shot, hash, stratum.
        """
        joined = context.run.table(input_of(context.inputs, shard, "tags")).select(["key", "scene"])
        joined = joined.filter(pa_field("scene").isin(sorted(self.top)))
        for number, column in enumerate(self._scores):
            scores = context.run.table(input_of(context.inputs, shard, column)).select(["key", "score"])
            scores = scores.rename_columns(["key", f"score-{number}" if number else "score"])
            joined = join_on_key(joined, scores)
        if self._needs_frames:
            frames = input_of(context.inputs, shard, *self.image_columns)
            facts = pa.Table.from_pylist(list(self._facts(context, frames)), schema=_FACTS)
            joined = join_on_key(joined, facts)
        return joined.append_column("shard", pa.array([shard] * len(joined), pa.string()))

    def _facts(self, context: BarrierContext, receipt: Receipt) -> Iterator[dict[str, Any]]:
        """What rules look at, of every frame of a shard; of the tar, the JSON is read.

        Raises:
            BarrierError: the frames do not have what a rule looks at.
        """
        members = read_members(context.run.storage, receipt, "json")
        with context.run.storage.open(receipt.output.path) as stream:
            for key, place in zip(members["key"].to_pylist(), members["json"].to_pylist(), strict=True):
                stream.seek(place["offset"])
                info = json.loads(stream.read(place["bytes"]))
                if missing := next((name for name in self._looked_at(info) if name not in info), None):
                    raise BarrierError(f"frame {key} has no {missing!r} in its JSON, which `diversity` needs")
                yield {
                    "key": key,
                    "shot": info.get("shot", 0),
                    "hash": info.get("hash", "0"),
                    "stratum": self._stratum(key, info),
                }

    def _looked_at(self, info: Any) -> Iterator[str]:
        """Fields of a frame's JSON that the rules of diversity need: of what is of no video, no shot."""
        if self.diversity.max_per_shot is not None and "frame_index" in info:
            yield "shot"
        if self.diversity.near_duplicate_bits is not None:
            yield "hash"

    def _stratum(self, key: str, info: Any) -> str:
        if self.strata is None:
            return ""
        try:
            return stratum_of(_field(info, self.strata.by), self.strata.edges)
        except ValueError as error:
            raise BarrierError(f"strata: {self.strata.by} of frame {key}: {error}") from error

    def _check_quotas(self, context: BarrierContext, candidates: pa.Table) -> None:
        """Says which quotas cannot be filled; BarrierError if that is to fail."""
        for scene, wanted in sorted(self.top.items()):
            if (there := _count(candidates, scene)) < wanted:
                short = f"{scene}: {wanted} wanted, {there} there"
                if self.shortfall == "fail":
                    raise BarrierError(f"{short}: the quota cannot be filled")
                context.log(f"{short}: all are candidates")

    def _selected(self, candidates: pa.Table) -> Iterator[pa.Table]:
        """The selected rows of every scene, with their ranks."""
        chooser = Chooser(self.diversity)
        for scene, count in sorted(self.top.items()):
            if self._has_rules:
                rows = best_first(candidates, scene)
                yield with_ranks(rows.take(pa.array(chooser.choose(_candidates(rows), count), pa.int64())))
            else:
                yield top_ranked(candidates, scene, count)

    def _report(self, context: BarrierContext, selected: pa.Table) -> None:
        for scene, wanted in sorted(self.top.items()):
            count = _count(selected, scene)
            if self.shortfall == "fail" and count < wanted:
                raise BarrierError(f"{scene}: {wanted} wanted, {count} left by the rules: the quota cannot be filled")
            context.log(f"{count} {scene} selected")

    def _commit(self, context: BarrierContext, shard: str, table: pa.Table) -> None:
        names = ["key", *_SCHEMA.names]
        rows = table.select(names).cast(pa.schema([("key", pa.string()), *_SCHEMA]))
        with context.scratch() as scratch:
            pq.write_table(rows, scratch / "shard.parquet", compression="zstd")
            samples_in = context.inputs[next(iter(self._scores))][shard].samples_out
            context.commit(shard, scratch / "shard.parquet", samples_in, len(rows))


def join_on_key(left: pa.Table, right: pa.Table) -> pa.Table:
    """The rows of both by their key, copied: a join leaves them in buffers for 32,768, however few they are."""
    joined = left.join(right, "key", join_type="inner")
    return joined.take(pa.array(np.arange(len(joined))))


def _count(rows: pa.Table, scene: str) -> int:
    return len(rows.filter(pa_field("scene") == scene))


def best_first(candidates: pa.Table, scene: str) -> pa.Table:
    """The rows of a scene: higher scores first, equal ones by key."""
    rows = candidates.filter(pa_field("scene") == scene)
    return rows.sort_by([("score", "descending"), ("key", "ascending")])


def top_ranked(candidates: pa.Table, scene: str, count: int) -> pa.Table:
    """The `count` best rows of a scene with their rank from 1."""
    return with_ranks(best_first(candidates, scene).slice(0, count))


def with_ranks(rows: pa.Table) -> pa.Table:
    """Rows with their rank, from 1 in the order given."""
    return rows.append_column("rank", pa.array(range(1, len(rows) + 1), pa.int64()))


def _candidates(rows: pa.Table) -> Iterator[Candidate]:
    videos = (key.rpartition("-")[0] for key in rows["key"].to_pylist())
    if "hash" not in rows.column_names:
        yield from map(Candidate, videos)
        return
    facts = zip(videos, rows["shot"].to_pylist(), rows["hash"].to_pylist(), rows["stratum"].to_pylist(), strict=True)
    yield from (Candidate(video, shot, int(digits, 16), stratum) for video, shot, digits, stratum in facts)


def _field(info: Any, path: str) -> Any:
    """A field of a JSON document by its dotted path; None where it is not there."""
    for name in path.split("."):
        info = info.get(name) if isinstance(info, dict) else None
    return info


def with_mean_ranks(candidates: pa.Table, weights: Sequence[float]) -> pa.Table:
    """Candidates with one score: the weighted mean of their ranks within their scene, 0 to 1, by each of theirs."""
    parts = []
    for scene in candidates["scene"].unique().to_pylist():
        rows = candidates.filter(pa_field("scene") == scene)
        names = [name for name in rows.column_names if name.startswith("score")]
        score = mean_ranks([rows[name].to_numpy() for name in names], weights)
        parts.append(rows.drop_columns(names).append_column("score", pa.array(score)))
    return pa.concat_tables(parts) if parts else candidates
