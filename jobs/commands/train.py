"""`dap train`: the training steps of a recipe, or one training by itself, from a packed column to a model folder."""

from __future__ import annotations

import argparse
import ctypes
import dataclasses
import json
import signal
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from ...engine.planning.setting_meanings import settings_text
from ...engine.planning.settings import RecipeError, build_settings, did_you_mean, override_setting, read_yaml
from ...engine.rundir.holder import FOLDER as HOLDERS
from ...engine.rundir.receipts import Basis
from ...engine.rundir.rundir import RunDir
from ...engine.steps.fingerprint import basis_of
from ...engine.storage.place import WEB, Place, is_uri
from ...engine.storage.storage import Storage
from ...stages.packing.index import read_index
from ...stages.training.resume import Resume
from ...stages.training.settings import columns_of, is_under_torchrun, packed_at, torchrun_rank
from ...stages.training.train import Train
from ...stages.training.training import LINEAGE, LIVE, Task, Training, resolve_assets, train, write_lineage
from ..begin import add_take_over_argument, held
from ..errors import EXIT_DONE, UsageError
from ..job import Job, check_place, job_from_text, launch_ranks, read_recipe
from ..metrics_server import serve_metrics
from .run import run_job

_EPILOG = """
With --run-dir, brings the training steps of a recipe up to date; the columns that they read must be finished.

With --data and --out, trains one depth model. CONFIG is a YAML file of settings; those of a `train` step of a recipe:

  training: {steps: 1000, backbone_lr: 5.0e-6, decoder_lr: 5.0e-5, warmup_steps: 100}
  batches: {image_height: 512, batch_size: 8, num_workers: 4}
  hardware: {precision: bf16-mixed}

It runs in this process; in those of torchrun (torchrun --nproc-per-node 8 -m dap_engine.jobs train …); or on the
workers of a Ray cluster: hardware: {workers: 8, num_cpus: 8, num_gpus: 1}. The same command resumes a killed one.
The folder `training` of the model shows it while it runs: metrics.csv, TensorBoard's events, images, the best models,
and all settings as config.yaml.

settings:
"""
_UNFINISHED = "unfinished-"
_MARKER = f"{_UNFINISHED}training.txt"  # so that half a model in a folder is not taken for somebody else's
_PR_SET_PDEATHSIG = 1
_GIVEN = {"model"}  # by the command line
_SETTINGS = {field.name for field in dataclasses.fields(Train)} - _GIVEN


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _EPILOG + settings_text(Train, without=_GIVEN)
    parser.add_argument("recipe", metavar="RECIPE|CONFIG", help="a recipe (with --run-dir), or a file of settings")
    parser.add_argument("--run-dir", metavar="URI", help="the run whose training steps are brought up to date")
    parser.add_argument("--only", default="", metavar="A,B", help="of a recipe: just these training steps")
    parser.add_argument(
        "--data",
        metavar="URI",
        action="append",
        default=[],
        help="a packed column: a folder with index.json, local or s3://…; several times for several, which the setting "
        "data: {URI: WEIGHT} mixes",
    )
    parser.add_argument("--out", metavar="DIR", help="the model folder to write")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides")
    parser.add_argument("--metrics-port", type=int, metavar="N", help="where this process serves Prometheus")
    add_take_over_argument(parser)


def main(arguments: argparse.Namespace) -> int:
    """Trains by recipe or by config."""
    port = arguments.metrics_port if torchrun_rank() == 0 else None
    if arguments.run_dir and not (arguments.data or arguments.out):
        job = _training_job(arguments)
        with serve_metrics(port):
            return run_job(job, arguments.take_over)
    if arguments.out and not (arguments.run_dir or arguments.only):
        with serve_metrics(port):
            return _train_alone(arguments)
    raise UsageError("give a recipe with --run-dir, or a config with --data and --out")


def _training_job(arguments: argparse.Namespace) -> Job:
    """The recipe, with nothing but training steps to run."""
    if is_under_torchrun():
        raise UsageError("a recipe does not run under torchrun: give a config, or set hardware.workers in the recipe")
    job = job_from_text(read_recipe(arguments.recipe), arguments.run_dir, arguments.overrides, arguments.recipe)
    only = [name for name in arguments.only.split(",") if name]
    nodes = job.graph.select(only, None)
    if other := [node.name for node in nodes if only and not isinstance(node.step, Training)]:
        raise UsageError(f"--only: {other[0]!r} trains nothing")
    nodes = [node for node in nodes if isinstance(node.step, Training)]
    if not nodes:
        raise UsageError(f"{arguments.recipe}: has no training step")
    if job.run.storage.size("run.yaml") is None and any(job.graph.needs(node) for node in nodes):
        raise UsageError(
            f"{job.run.uri}: no run directory (it has no run.yaml), and {nodes[0].name!r} reads what is in it"
        )
    return dataclasses.replace(job, nodes=nodes)


def _train_alone(arguments: argparse.Namespace) -> int:
    """Trains one model; what is finished is left alone."""
    training = _read_config(arguments.recipe, arguments.overrides, arguments.data)
    packed = [_packed(uri) for uri in columns_of(training.data)]
    data, column = packed[0]
    if isinstance(training.data, str):
        training = dataclasses.replace(training, data=column)
    if training.hardware.workers and is_under_torchrun():
        raise UsageError("hardware.workers are those of Ray: leave them out under torchrun")
    basis = _check(training, data)
    out = _open_out(arguments.out)
    if _is_finished(out, basis):
        print("up to date: nothing to do", file=sys.stderr)
        return EXIT_DONE
    if is_under_torchrun():
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # a rank ends with its launcher
    with held(out, take_over=arguments.take_over) if torchrun_rank() == 0 else nullcontext():
        _train_into(out, training, data, basis)
        _log(f"done: {arguments.out}")
    return EXIT_DONE


def _train_into(out: Storage, training: Train, data: RunDir, basis: Basis) -> None:
    out.clean_scratch()
    resume = Resume(out, f"{_UNFINISHED}{basis.fingerprint[:16]}.ckpt", training.checkpoint_every, LIVE)
    with out.scratch() as scratch:
        if torchrun_rank() == 0:
            out.write_bytes(_MARKER, b"the same command goes on here\n")
        figures = train(
            Task(training, data, resolve_assets(data, training), resume), scratch / "model", _log, launch_ranks
        )
        if (scratch / "model").is_dir():  # on rank 0
            write_lineage(scratch / "model", basis, figures)
            _publish(scratch / "model", out)


def _packed(uri: str) -> tuple[RunDir, str]:
    """The place that a packed column lies in, and its name there."""
    if uri.partition("://")[0].lower() not in WEB:  # which `reader: webdataset` streams from
        place = Place.parse(check_place("--data", uri))
        return RunDir(str(place.parent)), place.name
    try:
        place = Place.parse(uri)
        Storage(uri, expected=False).read_bytes("index.json")  # one try: nobody knows whether the server is there
    except (ValueError, FileNotFoundError) as error:
        raise UsageError(f"--data {uri}: {error}") from error
    return RunDir(str(place.parent)), place.name


def _read_config(file: str, overrides: list[str], data: list[str]) -> Train:
    if not Path(file).is_file():
        raise UsageError(f"{file}: no such config file")
    try:
        settings = read_yaml(Path(file).read_text(), file) or {}
    except (RecipeError, UnicodeDecodeError) as error:
        raise UsageError(f"{file}: not YAML: {error}") from error
    if not isinstance(settings, dict):
        raise UsageError(f"{file}: needs settings, not {settings!r}")
    for override in overrides:
        override_setting(settings, override)
    if unknown := sorted(map(str, settings.keys() - _SETTINGS)):
        raise UsageError(f"{file}: unknown setting {unknown[0]!r}{did_you_mean(unknown[0], _SETTINGS)}")
    if bool(data) == ("data" in settings):
        raise UsageError("give packed columns with --data, or as the setting data")
    if data:
        settings["data"] = data[0] if len(data) == 1 else [_whole(uri) for uri in data]
    training = build_settings(Train, {"model": "model", **settings}, where=file)
    if isinstance(training.data, dict):
        return dataclasses.replace(training, data={_whole(uri): weight for uri, weight in training.data.items()})
    return training


def _whole(uri: str) -> str:
    """A path here from the root on, as workers have working folders of their own; a URI as it is."""
    return uri if is_uri(uri) else str(Path(uri).resolve())


def _check(training: Train, data: RunDir) -> Basis:
    """Looks at everything that the training needs; raises UsageError, or says what the weights will depend on."""
    try:
        training.check()
        weights = {name: asset.sha256 for name, asset in resolve_assets(data, training).items()}
        packed = [packed_at(data.storage, name) for name in columns_of(training.data)]
        found = [read_index(storage, column) for storage, column in packed]
    except (ValueError, OSError) as error:
        raise UsageError(str(error)) from error
    for (storage, column), entries in zip(packed, found, strict=True):
        there = storage.list(column) if storage.can_list else {entry["name"] for entry in entries}
        if missing := [entry["name"] for entry in entries if entry["name"] not in there]:
            raise UsageError(f"{storage.address(column)}: {missing[0]} is missing")
    samples = sum(entry["samples"] for entries in found for entry in entries if entry["split"] == "train")
    if samples < training.batches.batch_size:
        raise UsageError(f"{samples} samples to train on do not fill one batch of {training.batches.batch_size}")
    try:
        training.check_data(data.storage)
    except (ValueError, OSError) as error:
        raise UsageError(str(error)) from error
    contents = {column: storage.hash_object(f"{column}/index.json") or "" for storage, column in packed}
    return basis_of(training, weights, contents)  # an index names the hash of every shard


def _open_out(uri: str) -> Storage:
    out = Storage(check_place("--out", uri))
    if out.is_local and Path(uri).exists() and not Path(uri).is_dir():
        raise UsageError(f"--out {uri}: is a file, not a folder")
    return out


def _is_finished(out: Storage, wanted: Basis) -> bool:
    """Whether the model is there already; raises UsageError for a folder that holds something else."""
    there = out.list("")
    if LINEAGE not in there:
        foreign = [name for name in there if not name.startswith((_UNFINISHED, ".tmp/", f"{HOLDERS}/"))]
        if foreign and _MARKER not in there:
            raise UsageError(f"--out {out.uri}: holds {foreign[0]}, and no training of ours; choose another folder")
        return False
    lineage: dict[str, Any] = json.loads(out.read_bytes(LINEAGE))
    if lineage["fingerprint"] == wanted.fingerprint:
        return True
    before = Basis(**{field.name: lineage[field.name] for field in dataclasses.fields(Basis)})
    changes = ", ".join(wanted.differences(before)) or "something changed"
    raise UsageError(f"--out {out.uri}: holds the model of another training ({changes}); choose another folder")


def _publish(folder: Path, out: Storage) -> None:
    """Puts the files into place, the lineage last: it says that the model is whole. Then clears up."""
    for file in sorted(folder.iterdir(), key=lambda file: file.name == LINEAGE):
        out.publish(file, file.name)
    for name in out.list(""):
        if name.startswith(_UNFINISHED):
            out.delete(name)


def _log(line: str) -> None:
    if torchrun_rank() == 0:
        print(line, file=sys.stderr, flush=True)
