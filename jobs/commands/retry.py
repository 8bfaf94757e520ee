"""`dap retry`: puts dropped or failed work of one column back, and does just that."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections import Counter
from collections.abc import Mapping

from ...engine.planning.plan import is_map
from ...engine.planning.recipe import Node
from ...engine.rundir.receipts import Receipt
from ...engine.rundir.retry_marks import RetryMark, mark_for_retry
from ...engine.rundir.rundir import RunDir
from ...engine.steps.barrier import Barrier
from ..begin import add_take_over_argument, begun
from ..errors import EXIT_DONE, UsageError
from ..job import Job, bring_up_to_date, check_run_dir, open_saved_job
from .run import report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("--run-dir", required=True, metavar="URI")
    parser.add_argument("--column", required=True, metavar="C", help="the column whose drops and failures to put back")
    parser.add_argument("--code", metavar="X", help="only drops of this code; else failures and all retryable drops")
    add_take_over_argument(parser)


def main(arguments: argparse.Namespace) -> int:
    """Puts the work back and runs its step on the shards that hold it; later steps follow with the next `dap run`.

    What lists the inputs comes before it: a video may have been mended.
    """
    job = open_saved_job(RunDir(check_run_dir(arguments.run_dir)))
    node = _maker(job, arguments.column)
    lists = [need for need in job.graph.needs(node) if isinstance(need.step, Barrier) and need.step.only_lists]
    job = dataclasses.replace(job, nodes=[*lists, node])
    with begun(job, arguments.take_over):
        receipts = job.run.validated(arguments.column, by_mtime=True).receipts  # the others are done anew, whole
        shards = _mark(job.run, receipts, RetryMark.of(arguments.code))
        failed = set(job.run.failures(arguments.column)) if arguments.code is None else set()
        if not shards | failed:
            return _nothing(arguments, receipts)
        what = f"drops of {len(shards)} shards, {len(failed)} failed shards"
        print(f"put back in {arguments.column}: {what}", file=sys.stderr)
        return report(bring_up_to_date(job, shards | failed), job.run)


def _maker(job: Job, column: str) -> Node:
    nodes = {node.step.writes.name: node for node in job.graph.nodes if is_map(node)}
    if column not in nodes:
        raise UsageError(f"no column {column!r} that is made shard by shard; those are {sorted(nodes)}")
    return nodes[column]


def _mark(run: RunDir, receipts: Mapping[str, Receipt], what: RetryMark) -> set[str]:
    """Marks every finished shard that holds a drop that is wanted back; returns their ids."""
    shards = {shard for shard, receipt in receipts.items() if what.wants_any(run, receipt)}
    for shard in sorted(shards):
        mark_for_retry(run, receipts[shard].column, shard, what)
    return shards


def _nothing(arguments: argparse.Namespace, receipts: Mapping[str, Receipt]) -> int:
    """Says which drops are left alone; raises UsageError for a code that none of them has."""
    codes: Counter[str] = Counter()
    for receipt in receipts.values():
        codes.update(receipt.drops)
    if codes and arguments.code is not None:
        raise UsageError(f"no drop of {arguments.column} has the code {arguments.code!r}; there are {sorted(codes)}")
    left = ", ".join(f"{count} {code}" for code, count in sorted(codes.items()))
    rest = f"; left alone: {left} (--code takes them)" if left else ""
    print(f"nothing to put back in {arguments.column}{rest}", file=sys.stderr)
    return EXIT_DONE
