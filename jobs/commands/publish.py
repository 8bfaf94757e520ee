"""`dap publish`: a model or a packed column of a run with a card, in a folder or on the hub."""

from __future__ import annotations

import argparse
from pathlib import Path

from ...engine.rundir.rundir import RunDir
from ..errors import EXIT_DONE, UsageError
from ..job import check_run_dir

_HUB = "hf:"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("--run-dir", required=True, metavar="URI")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--model", metavar="NAME", help="a model of the run")
    what.add_argument("--column", metavar="train-NAME", help="a packed column of the run")
    parser.add_argument("--to", required=True, metavar="DIR|hf:OWNER/NAME", help="a folder, or a repository of the hub")
    parser.add_argument("--license", default="", metavar="ID", help="the hub's id (default: that of all videos)")
    parser.add_argument("--dataset", default="", metavar="OWNER/NAME", help="of a model: its data set on the hub")
    parser.add_argument("--private", action="store_true", help="a new repository is yours alone")


def main(arguments: argparse.Namespace) -> int:
    """Writes the folder, sends it to the hub if asked to, and prints where it is."""
    from ...stages.packing.assignment import packed_columns
    from ..publish.card import Publication
    from ..publish.folder import publish_column, publish_model, upload
    from ..publish.provenance import Provenance

    run = RunDir(check_run_dir(arguments.run_dir))
    if run.storage.size("run.yaml") is None:
        raise UsageError(f"{run.uri}: no run directory (it has no run.yaml)")
    repository = _repository(arguments.to)
    if (arguments.private and not repository) or (arguments.dataset and not arguments.model):
        raise UsageError("--private goes with --to hf:…, and --dataset with --model")
    if arguments.column and arguments.column not in (packed := packed_columns(run)):
        raise UsageError(f"no packed column {arguments.column!r} in {run.uri}; it has {packed}")
    of, write = (Provenance.of_model, publish_model) if arguments.model else (Provenance.of_column, publish_column)
    name = arguments.model or arguments.column
    publication = Publication(name, of(run, name), arguments.license, repository, arguments.dataset)
    folder = write(publication, str(_staging(repository)) if repository else arguments.to)
    if repository:
        kind = "model" if arguments.model else "dataset"
        print(upload(folder, repository, kind, private=arguments.private))
    else:
        print(folder)
    return EXIT_DONE


def _repository(to: str) -> str:
    """The id of a repository of the hub, or nothing for a folder; raises UsageError for what is no id."""
    if not to.startswith(_HUB):
        return ""
    from huggingface_hub.utils import validate_repo_id

    repository = to.removeprefix(_HUB)
    try:
        validate_repo_id(repository)
    except ValueError as error:
        raise UsageError(f"--to {to}: {error}") from error
    return repository


def _staging(repository: str) -> Path:
    """Where a publication lies until the hub has it: a rerun goes on there."""
    from huggingface_hub import constants

    return Path(constants.HF_HOME) / "dap-publish" / repository.replace("/", "--")
