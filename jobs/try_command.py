"""`dap try`: one stage on loose images or videos, without a run directory."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from jobs.errors import EXIT_DONE, UsageError
from jobs.loose import check_distinct_names, check_files, read_pictures


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("what", choices=sorted(_KINDS), help="the stage to try")
    parser.add_argument("files", nargs="+", metavar="FILE", help="images or videos")
    parser.add_argument(
        "--model", default="embedded", help="tag, depth, quality: a model folder or hub id (default: embedded)"
    )
    parser.add_argument("--labeler", default="embedded", help="quality: whose depth is judged (default: embedded)")
    parser.add_argument("--every", type=float, default=2.0, metavar="SECONDS", help="of a video: time between frames")
    parser.add_argument("--height", type=int, default=512, help="of a video: height of the frames")
    parser.add_argument("--out", default="dap-try", metavar="DIR", help="depth: where the depth PNGs go")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")


def main(arguments: argparse.Namespace) -> int:
    """Prints a row per image or frame."""
    if arguments.every <= 0 or arguments.height < 16:
        raise UsageError("--every must be positive, and --height at least 16")
    if arguments.what != "horizon":  # which has an entry for a file that is not there, too
        check_files(arguments.files)
    entries = list(_KINDS[arguments.what](arguments))
    if arguments.json:
        print(json.dumps(entries))
    else:
        _print_table(entries)
    return EXIT_DONE


def _horizon(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    from models.horizon import inspect_file

    for file in arguments.files:
        yield from inspect_file(file, every_s=arguments.every, height=arguments.height)


def _tag(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    from models.tagging.tagger import make_tagger

    tagger = _load(make_tagger, arguments.model)
    for file in arguments.files:
        for picture in read_pictures(file, arguments.every, arguments.height):
            (tag,) = tagger.tag([picture.rgb])
            yield {**picture.entry(), "scene": tag.scene, "p_indoor": tag.p_indoor, "model": tagger.name}


def _depth(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    from models.depth_png import encode_depth_png
    from models.embedded import model_place
    from models.inference import DepthPredictor
    from stages.label import summarise_depth

    check_distinct_names(arguments.files)
    predictor = _load(DepthPredictor, model_place(arguments.model))
    out = Path(arguments.out)
    out.mkdir(parents=True, exist_ok=True)
    for file in arguments.files:
        for picture in read_pictures(file, arguments.every, arguments.height):
            depth_m = predictor.predict([picture.rgb])[0].masked_depth_m()
            path = out / f"{picture.name}.depth.png"
            path.write_bytes(encode_depth_png(depth_m))
            yield {**picture.entry(), "depth_png": str(path), **summarise_depth(depth_m)}


def _quality(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    from models.embedded import EMBEDDED, model_place
    from models.inference import DepthPredictor, QualityScorer

    if arguments.model == EMBEDDED:
        raise UsageError("quality needs --model, the folder of a discriminator; none comes with the package")
    scorer, predictor = _load(QualityScorer, arguments.model), _load(DepthPredictor, model_place(arguments.labeler))
    for file in arguments.files:
        for picture in read_pictures(file, arguments.every, arguments.height):
            depth_m = predictor.predict([picture.rgb])[0].masked_depth_m()
            (score,) = scorer.score([picture.rgb], [depth_m])
            yield {**picture.entry(), "score": score}


def _load(make: Any, model: str) -> Any:
    try:
        return make(model)
    except (ValueError, OSError) as error:
        raise UsageError(f"--model {model}: {' '.join(str(error).split())}") from error


def _print_table(entries: list[dict[str, Any]]) -> None:
    names = list(dict.fromkeys(name for entry in entries for name in entry))
    table = Table(*names)
    for entry in entries:
        table.add_row(*(_text(entry.get(name, "")) for name in names))
    Console().print(table)


def _text(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(value)
    return f"{value:.3g}" if isinstance(value, float) else str(value)


_KINDS = {"horizon": _horizon, "tag": _tag, "depth": _depth, "quality": _quality}
