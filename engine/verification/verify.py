"""Verifies a whole run: every receipt against its outputs, column against column, and objects without a receipt."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from ..planning.graph import Graph
from ..rundir.listing import Listing, error_path, is_claim, receipt_path, retry_path
from ..rundir.rundir import RunDir
from ..steps.outcome import cause_line
from .recipe_check import RecipeCheck, StepChecks
from .run_check import RunCheck
from .shard_check import Findings, ShardCheck

_WAITING = 4  # shard ids in line behind each that is being checked

Advance = Callable[[int, int, int], None]
"""Is told how many shard ids of how many are checked, and how many bytes were read so far."""


@dataclass(frozen=True)
class Verification:
    """What was found: one line per problem, sorted, and the samples of every column."""

    problems: list[str]
    samples: dict[str, int]

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.problems


def verify_run(
    run: RunDir,
    graph: Graph | None = None,
    step_checks: StepChecks | None = None,
    *,
    threads: int = 8,
    advance: Advance = lambda *_: None,
) -> Verification:
    """Reads every output of a run once, shard id by shard id. With its recipe, receipts are compared with that too.

    Raises:
        StorageError: the storage cannot be used.
    """
    paths = list(run.storage.list(""))
    listings = {column: Listing.of(run.storage, column) for column in _columns(paths)}
    shards = _by_shard(listings)
    recipe, run_check, read_bytes = RecipeCheck(graph, step_checks or StepChecks()), RunCheck(paths), 0

    def check(shard: str) -> Findings:
        return ShardCheck(run, recipe, shard).check(shards[shard])

    for done, findings in enumerate(_side_by_side(check, sorted(shards), threads), start=1):
        run_check.add(findings)
        read_bytes += findings.bytes
        advance(done, len(shards), read_bytes)
    problems = [*run_check.problems(), *_failures(run, listings), *_orphans(paths, listings)]
    return Verification(sorted(problems), {column: run_check.samples(column) for column in listings})


def _columns(paths: Iterable[str]) -> list[str]:
    """The columns that have receipts, failures or marks."""
    return sorted({path.split("/")[1] for path in paths if path.startswith("receipts/") and path.count("/") > 1})


def _by_shard(listings: Mapping[str, Listing]) -> dict[str, list[str]]:
    """The columns that have a receipt of a shard id, for each of them."""
    shards: dict[str, list[str]] = defaultdict(list)
    for column, listing in listings.items():
        for shard in listing.receipts["shard"].to_pylist():
            shards[shard].append(column)
    return shards


def _failures(run: RunDir, listings: Mapping[str, Listing]) -> Iterator[str]:
    """What failed and was not made good since."""
    for column, listing in listings.items():
        tracebacks = run.failures(column) if listing.failures else {}
        for shard, traceback in tracebacks.items():
            yield f"{error_path(column, shard)}: the last attempt failed: {cause_line(traceback)}"


def _orphans(paths: Iterable[str], listings: Mapping[str, Listing]) -> Iterator[str]:
    """What lies among the receipts and is none, nor a failure or a mark."""
    known: set[str] = set()
    for column, listing in listings.items():
        known.update(receipt_path(column, shard) for shard in listing.receipts["shard"].to_pylist())
        known.update(error_path(column, shard) for shard in listing.failures)
        known.update(retry_path(column, shard) for shard in listing.marks)
    unknown = (path for path in paths if path.startswith("receipts/") and path not in known)
    return (f"{path}: is no receipt" for path in unknown if not is_claim(path))


_Result = TypeVar("_Result")


def _side_by_side(work: Callable[[str], _Result], items: Iterable[str], threads: int) -> Iterator[_Result]:
    """Results in the order of the items; no more are under way than there is need for."""
    waiting: deque[Future[_Result]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > threads * _WAITING:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
