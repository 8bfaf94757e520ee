"""Quotas of selections that the data cannot fill, said before anything is spent on them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from ...engine.planning.plan import NodePlan
from ...engine.steps.step import SourceStage, Stage
from ...stages.extract import Extract
from ...stages.film import Film
from ...stages.plan import Plan
from ...stages.select import Select
from ..job import Job


def quota_warnings(job: Job, plans: Sequence[NodePlan]) -> Iterator[str]:
    """A line for each selection still to be made that asks for more than there can be, of all or of a scene."""
    quotas = _Quotas(job, {plan.node.name for plan in plans if plan.done})
    for plan in plans:
        if isinstance(plan.node.step, Select) and not plan.done:
            yield from quotas.warnings(plan.node.name, plan.node.step)


class _Quotas:
    def __init__(self, job: Job, done: set[str]) -> None:
        self._job, self._done = job, done

    def warnings(self, name: str, step: Select) -> Iterator[str]:
        wanted, (most, why) = sum(step.top.values()), self._most(step)
        if most is not None and wanted > most:
            yield f"{name}: its quotas are {wanted:,} samples together, but there are {most:,} at most: {why}"
        if self._is_done("tags"):
            scenes = self._scenes()
            for scene, quota in step.top.items():
                if quota > scenes[scene]:
                    yield f"{name}: its quota of {scene} is {quota:,}, but {scenes[scene]:,} samples have that tag"

    def _most(self, step: Select) -> tuple[int | None, str]:
        """How many samples there can be, and by what; None if nothing says so."""
        found = [self._most_in(column, step) for column in self._images(step.reads[1])]
        known = [count for count, _ in found if count is not None]
        return (sum(known), " and ".join(why for _, why in found)) if len(known) == len(found) else (None, "")

    def _images(self, column: str) -> Sequence[str]:
        """The columns of panoramas that scores or labels are of."""
        maker = self._job.graph.producer(column)
        step = maker.step if maker else None
        if not isinstance(step, Stage) or isinstance(step, (SourceStage, Extract)):
            return [column]
        return step.alternatives or self._images(step.reads[0])

    def _most_in(self, column: str, step: Select) -> tuple[int | None, str]:
        """The same of one column of panoramas."""
        if self._is_done(column):
            return self._samples(column), f"the {column} that there are"
        maker, videos = self._job.graph.producer(column), self._videos()
        if count := getattr(maker.step, "panoramas", None) if maker else None:
            return count, f"{count:,} {column}"
        limits = [step.diversity.max_per_video]
        if maker and isinstance(maker.step, Extract):
            limits.append(maker.step.max_frames)
        known = [limit for limit in limits if limit]
        if videos is None or not known:
            return None, ""
        return videos * min(known), f"{videos:,} videos of {min(known)} frames"

    def _videos(self) -> int | None:
        if self._is_done("plan"):
            return self._samples("plan")
        maker = self._job.graph.producer("plan")
        if maker is None or not isinstance(maker.step, Plan):
            return None
        films = [made.step for name in maker.step.reads if (made := self._job.graph.producer(name))]
        if films:
            return films[0].videos if isinstance(films[0], Film) else None
        if (found := maker.step.reachable) is not None:
            return found
        expected = self._job.recipe.expects.get("plan")
        return expected.samples if expected else None

    def _scenes(self) -> Counter[str]:
        counts: Counter[str] = Counter()
        for receipt in self._job.run.receipts("tags").values():
            counts.update(self._job.run.table(receipt)["scene"].to_pylist())
        return counts

    def _samples(self, column: str) -> int:
        return self._job.run.receipts(column).samples[1]

    def _is_done(self, column: str) -> bool:
        maker = self._job.graph.producer(column)
        return maker is not None and maker.name in self._done
