"""`dap evaluate`: a model on a data set with ground truth."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from rich.console import Console
from rich.table import Table

from engine.columns import ColumnError, read_rows
from jobs.errors import EXIT_DONE, UsageError
from jobs.evaluate import Labelled, decode_labelled, measure
from models.embedded import EMBEDDED, model_place
from models.inference import DepthPredictor


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("--model", default=EMBEDDED, metavar="PATH", help="a model folder (default: the embedded one)")
    parser.add_argument("--dataset", required=True, choices=["shards"], help="shards: KEY.jpg, KEY.depth.png, KEY.json")
    parser.add_argument("--root", required=True, metavar="DIR", help="folder of the data set")
    parser.add_argument("--split", help="only samples whose json has this split")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")


def main(arguments: argparse.Namespace) -> int:
    """Prints the figures."""
    items = _read_shards(Path(arguments.root), arguments.split)
    try:
        predictor = DepthPredictor(model_place(arguments.model), arguments.device)
    except (ValueError, OSError) as error:
        raise UsageError(f"--model {arguments.model}: {' '.join(str(error).split())}") from error
    figures = measure(items, predictor.predict([item.rgb for item in items]))
    document = {"dataset": arguments.dataset, **figures}
    if arguments.json:
        print(json.dumps(document))
        return EXIT_DONE
    table = Table("figure", "value", title=f"{arguments.model} on {arguments.root}")
    for name, value in document.items():
        if not isinstance(value, dict):
            table.add_row(name, f"{value:.4f}" if isinstance(value, float) else str(value))
    Console().print(table)
    return EXIT_DONE


def _read_shards(root: Path, split: str | None) -> list[Labelled]:
    """All panoramas of the tar shards in a folder; raises UsageError if there are none, or one is damaged."""
    shards = sorted(root.glob("*.tar"))
    if not shards:
        raise UsageError(f"{root}: no tar shards there")
    items = []
    for shard in shards:
        try:
            with shard.open("rb") as stream:
                rows = [
                    row for row in read_rows(shard.name, stream) if split in (None, row.fields["json"].get("split"))
                ]
            items += [decode_labelled(row.key, row.fields) for row in rows]
        except (ColumnError, KeyError, ValueError) as error:
            raise UsageError(f"{shard}: {' '.join(str(error).split())}") from error
    if not items:
        raise UsageError(f"{root}: no panorama of the split {split!r}")
    return items
