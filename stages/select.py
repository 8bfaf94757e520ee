"""Selects the best-scored samples of each domain: a global quota, so a barrier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow.dataset import field as pa_field

from ..engine.records.column import Column, ParquetColumn
from ..engine.steps.barrier import Barrier, BarrierContext
from ..models.ranking.quality import mean_ranks
from .ranking.columns import scores_column, selection_column

_SCHEMA = pa.schema([("scene", pa.string()), ("score", pa.float64()), ("rank", pa.int64())])


@dataclass
class Select(Barrier):
    """Scores and tags to `selection-<round>`: the `top` best of each scene, equal scores in the order of their keys.

    Of several `scores`, the mean of the ranks within a scene counts, by weight. Scenes that `top` does not name, such
    as `unsure`, are not selected from.
    """

    name: ClassVar[str] = "select"

    round: int = 1
    variant: str = ""  # of the selection, `selection-<round>-<variant>`, and of the scores, where `scores` names none
    scores: dict[str, float] = field(default_factory=dict)  # variants of the scores, by their weights
    top: dict[str, int] = field(default_factory=lambda: {"indoor": 300_000, "outdoor": 300_000})

    def __post_init__(self) -> None:
        if not self.top or min(self.top.values()) < 0:
            raise ValueError("select: top needs a number of samples, not below 0, for one scene at least")
        if self.scores and min(self.scores.values()) <= 0:
            raise ValueError("select: the weight of a variant of the scores must be above 0")

    @property
    def _scores(self) -> dict[str, float]:
        """The columns of the scores with their weights."""
        return {
            scores_column(self.round, name): weight for name, weight in (self.scores or {self.variant: 1.0}).items()
        }

    @property
    def reads(self) -> tuple[str, ...]:
        return ("tags", *self._scores)

    @property
    def writes(self) -> Column:
        return ParquetColumn(selection_column(self.round, self.variant), _SCHEMA)

    def shards(self, context: BarrierContext) -> Sequence[str]:
        return list(context.inputs[next(iter(self._scores))])

    def run(self, context: BarrierContext) -> None:
        candidates = pa.concat_tables(self._candidates(context, shard) for shard in self.shards(context))
        if len(self._scores) > 1:
            candidates = with_mean_ranks(candidates, list(self._scores.values()))
        ranked = pa.concat_tables(top_ranked(candidates, scene, count) for scene, count in sorted(self.top.items()))
        for scene in sorted(self.top):
            context.log(f"{ranked['scene'].to_pylist().count(scene)} {scene} selected")
        context.keep_only(self.shards(context))
        for shard in self.shards(context):
            self._commit(context, shard, ranked.filter(pa_field("shard") == shard))

    def _candidates(self, context: BarrierContext, shard: str) -> pa.Table:
        """key, scene, score, shard: one row for every sample of a shard that has a tag and all scores.

        Of several, the scores are called score, score-1, …
        """
        joined = context.run.table(context.inputs["tags"][shard]).select(["key", "scene"])
        for number, column in enumerate(self._scores):
            scores = context.run.table(context.inputs[column][shard]).select(["key", "score"])
            scores = scores.rename_columns(["key", f"score-{number}" if number else "score"])
            joined = joined.join(scores, "key", join_type="inner")
        return joined.append_column("shard", pa.array([shard] * len(joined), pa.string()))

    def _commit(self, context: BarrierContext, shard: str, table: pa.Table) -> None:
        names = ["key", *_SCHEMA.names]
        rows = table.select(names).sort_by("key").cast(pa.schema([("key", pa.string()), *_SCHEMA]))
        with context.scratch() as scratch:
            pq.write_table(rows, scratch / "shard.parquet", compression="zstd")
            samples_in = context.inputs[next(iter(self._scores))][shard].samples_out
            context.commit(shard, scratch / "shard.parquet", samples_in, len(rows))


def top_ranked(candidates: pa.Table, scene: str, count: int) -> pa.Table:
    """The `count` best rows of a scene with their rank from 1; higher scores first, equal ones by key."""
    rows = candidates.filter(pa_field("scene") == scene)
    rows = rows.sort_by([("score", "descending"), ("key", "ascending")]).slice(0, count)
    return rows.append_column("rank", pa.array(range(1, len(rows) + 1), pa.int64()))


def with_mean_ranks(candidates: pa.Table, weights: Sequence[float]) -> pa.Table:
    """Candidates with one score: the weighted mean of their ranks within their scene, 0 to 1, by each of theirs."""
    parts = []
    for scene in candidates["scene"].unique().to_pylist():
        rows = candidates.filter(pa_field("scene") == scene)
        names = [name for name in rows.column_names if name.startswith("score")]
        score = mean_ranks([rows[name].to_numpy() for name in names], weights)
        parts.append(rows.drop_columns(names).append_column("score", pa.array(score)))
    return pa.concat_tables(parts) if parts else candidates
