"""Writing what is published: files of a run with a card in a folder, resumable, and from there to the hub."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from huggingface_hub import HfApi

from ...engine.rundir.rundir import RunDir
from ...engine.storage.faults import StorageError, cause
from ...engine.storage.hashing import hash_file
from ...engine.storage.storage import Output
from ...stages.packing.assignment import SAMPLES
from ...stages.packing.index import read_index
from ..errors import UsageError
from ..output import output_folder, write_file
from .card import MARK, Publication, data_card, model_card

_CARD, _VIDEOS, _UNFINISHED = "README.md", "videos.parquet", ".dap-publish.unfinished"
_CHUNK_BYTES = 4 << 20
_LOADABLE = ("dap", "dap_discriminator")


def publish_column(it: Publication, to: str) -> Path:
    """Writes a packed column to a folder: shards, index, table of samples, table of videos, card last.

    Raises:
        UsageError: the column is not packed, or the folder holds something else.
        StorageError: a file of the run is not what its receipt says, or the folder cannot be written.
    """
    run = it.provenance.run
    receipts = run.receipts(it.name)
    names = [entry["name"].removesuffix(".tar") for entry in read_index(run.storage, it.name)]
    files = {Path(out.path).name: out for out in (receipts[name].output for name in ["index", SAMPLES, *names])}
    info = next(run.rows(receipts[names[0]])).fields["json"]
    videos = it.provenance.videos(it.name)
    card = data_card(it, read_index(run.storage, it.name), (info["height"], info["width"]), videos)
    return _write(run, files, {_VIDEOS: _parquet(videos)} if len(videos) else {}, card, to)


def publish_model(it: Publication, to: str) -> Path:
    """The same for a model: its files, but for those that show its training. UsageError for a kind without a card."""
    run = it.provenance.run
    receipt = run.receipts("models")[it.name]
    folder = receipt.output.path
    if not run.hashes_match(receipt):
        raise StorageError(f"{run.storage.address(folder)}: is not what its receipt says (dap verify tells more)")
    names = run.storage.content(folder)
    config = json.loads(run.storage.read_bytes(f"{folder}/config.json")) if "config.json" in names else {}
    if config.get("model_type") not in _LOADABLE:
        raise UsageError(f"models/{it.name}: is neither a depth model nor a judge of labels, which have cards")
    files = {
        name: Output(f"{folder}/{name}", run.storage.hash_object(f"{folder}/{name}") or "", entry.bytes)
        for name, entry in names.items()
    }
    videos = [it.provenance.videos(training["column"]) for training in it.provenance.models[it.name]["training"]]
    return _write(run, files, {}, model_card(it, config, pa.concat_tables(videos)), to)


def _write(run: RunDir, files: Mapping[str, Output], tables: Mapping[str, bytes], card: str, to: str) -> Path:
    """Files that are there already stay; what a kill left is gone on with."""
    out = output_folder(to, "--to")
    _check_ours(out, {*files, *tables, _CARD, _UNFINISHED})
    write_file(out / _UNFINISHED, b"the same command goes on here\n")
    for name, output in files.items():
        _copy(run, output, out / name)
    for name, data in {**tables, _CARD: card.encode()}.items():
        write_file(out / name, data)
    (out / _UNFINISHED).unlink()
    return out


def _check_ours(out: Path, names: set[str]) -> None:
    there = {path.name for path in out.iterdir()}
    is_ours = _UNFINISHED in there or (_CARD in there and MARK in (out / _CARD).read_text(errors="replace"))
    if foreign := sorted(there if there and not is_ours else there - names - {".cache"}):
        raise UsageError(f"--to {out}: holds {foreign[0]}, which is not part of this; name another folder")


def _copy(run: RunDir, output: Output, target: Path) -> None:
    """Copies an object and compares its hash, unless it is there."""
    if target.is_file() and target.stat().st_size == output.bytes and hash_file(target) == output.sha256:
        return
    unfinished, digest = target.with_name(f".{target.name}.unfinished"), hashlib.sha256()
    try:
        with run.storage.open(output.path) as source, unfinished.open("wb") as sink:
            while chunk := source.read(_CHUNK_BYTES):
                digest.update(chunk)
                sink.write(chunk)
        if digest.hexdigest() != output.sha256:
            address = run.storage.address(output.path)
            raise StorageError(f"{address}: is not what its receipt says (dap verify tells more)")
        os.replace(unfinished, target)
    except StorageError:
        raise
    except OSError as error:
        raise StorageError(f"{target}: {cause(error)}") from error
    finally:
        unfinished.unlink(missing_ok=True)


def _parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return sink.getvalue().to_pybytes()


def upload(folder: Path, repository: str, repo_type: str, *, private: bool) -> str:
    """Moves a folder to the hub; where it is cut off, it stays, for another try. Returns the address.

    Raises:
        StorageError: it cannot be sent.
    """
    api = HfApi()
    try:
        api.create_repo(repository, repo_type=repo_type, private=private or None, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repository, folder_path=folder, repo_type=repo_type, commit_message="dap publish"
        )
    except Exception as error:
        raise StorageError(f"hf:{repository}: {cause(error)}") from error
    shutil.rmtree(folder)
    return str(commit.repo_url)
