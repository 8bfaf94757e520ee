"""`dap lineage`: from a training sample back to the second of its video, from a model back to its data."""

from __future__ import annotations

import argparse
import json

from ...engine.rundir.rundir import RunDir
from ..errors import EXIT_DONE, UsageError
from ..job import check_run_dir
from ..lineage.model import ModelLineage
from ..lineage.sample import SampleLineage
from ..lineage.tree import model_tree, sample_tree
from ..tables import people_console


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("--run-dir", required=True, metavar="URI")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("key", nargs="?", metavar="KEY", help="a sample, or a video_id")
    what.add_argument("--model", metavar="NAME", help="a model of the run")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")


def main(arguments: argparse.Namespace) -> int:
    """Prints a tree, or one JSON document."""
    run = RunDir(check_run_dir(arguments.run_dir))
    if run.storage.size("run.yaml") is None:
        raise UsageError(f"{run.uri}: no run directory (it has no run.yaml)")
    if arguments.model:
        document, tree = ModelLineage(run).of(arguments.model), model_tree
    else:
        document, tree = SampleLineage(run).of(arguments.key), sample_tree
    if arguments.json:
        print(json.dumps(document))
    else:
        people_console().print(tree(document))
    return EXIT_DONE
