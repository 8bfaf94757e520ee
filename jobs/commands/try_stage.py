"""`dap try`: one stage on loose images or videos, without a run directory."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from ..errors import EXIT_DONE, UsageError
from ..output import output_folder, write_file
from ..report.pictures import scene_document
from ..report.site import viewer_page
from ..tables import show_table
from .parts.calibrated import calibrated, sentence
from .parts.loose_files import (
    Picture,
    UnreadableError,
    check_distinct_names,
    check_files,
    check_sampling,
    frame_name,
    read_pictures,
)

Entry = dict[str, Any]
Maps = dict[str, bytes]  # depth PNGs by name


@dataclass(frozen=True)
class Tried:
    """What was said of a picture, uint8 RGB (H, W, 3), and its depth, if there is one; a file that cannot be read."""

    entry: Entry
    rgb: np.ndarray | None = None
    maps: Maps = field(default_factory=dict)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("what", choices=sorted(_KINDS), help="the stage to try")
    parser.add_argument("files", nargs="+", metavar="FILE", help="images or videos")
    parser.add_argument(
        "--model",
        default="embedded",
        help="tag, depth: a model folder or hub id (default: embedded); quality: a model folder, which it needs",
    )
    parser.add_argument(
        "--truth",
        metavar="FILE",
        help="tag: a CSV with file,scene (indoor or outdoor), to calibrate by",
    )
    parser.add_argument("--labeler", default="embedded", help="quality: whose depth is scored (default: embedded)")
    parser.add_argument("--every", type=float, default=2.0, metavar="SECONDS", help="of a video: time between frames")
    parser.add_argument("--height", type=int, default=512, help="of a video: height of the frames")
    parser.add_argument(
        "--out",
        metavar="DIR",
        help="depth: where the depth PNGs go (default: dap-try); horizon: pictures of the verdicts",
    )
    parser.add_argument("--max-tilt", type=float, default=15.0, metavar="DEG", help="horizon: how far it may lean")
    parser.add_argument("--verbose", action="store_true", help="horizon: every measurement, not the verdict alone")
    parser.add_argument("--html", metavar="FILE", help="write a page, too: one file, to look around in what was tried")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")


def main(arguments: argparse.Namespace) -> int:
    """Prints a row per image or frame; of a file that cannot be read, one that says so."""
    check_sampling(arguments.every, arguments.height)
    if not arguments.max_tilt > 0:
        raise UsageError("--max-tilt must be positive")
    if arguments.what != "horizon":  # which has an entry for a file that is not there, too
        check_files(arguments.files)
    if arguments.html and not Path(arguments.html).absolute().parent.is_dir():
        raise UsageError(f"--html {arguments.html}: there is no such folder")
    if arguments.truth and arguments.what != "tag":
        raise UsageError("--truth is for `dap try tag`")
    entries, scenes = [], []
    for tried in _KINDS[arguments.what](arguments):
        entries.append(tried.entry)
        if arguments.html and tried.rgb is not None:
            scenes.append(_scene(tried, tried.rgb))
    if all("error" in entry for entry in entries):
        raise UsageError(entries[0]["error"])
    if scenes:
        write_file(Path(arguments.html), viewer_page(f"dap try {arguments.what}", scenes))
    calibration = calibrated(arguments.truth, entries) if arguments.truth else None
    if arguments.json:
        print(json.dumps({"files": entries, **calibration._asdict()} if calibration else entries))
    elif arguments.what == "horizon" and not arguments.verbose:
        _print_verdicts(entries)
    else:
        _print_table(entries)
        if calibration:
            print(sentence(calibration))
    return EXIT_DONE


def _scene(tried: Tried, rgb: np.ndarray) -> dict[str, Any]:
    entry = tried.entry
    facts = [(name, _text(value)) for name, value in entry.items() if name != "file" and value is not None]
    return scene_document(frame_name(entry["file"], entry.get("timestamp_s")), rgb, tried.maps, facts)


def _horizon(arguments: argparse.Namespace) -> Iterator[Tried]:
    from ...models.horizon.check import PanoramaCheck, check_file

    check = PanoramaCheck(arguments.max_tilt)
    if arguments.out:
        check_distinct_names(arguments.files)
    out = output_folder(arguments.out) if arguments.out else None
    for file in arguments.files:
        for checked in check_file(file, arguments.every, arguments.height, check):
            picture = _write_verdict(out, checked) if out and checked.verdict else {}
            yield Tried(checked.entry | picture, checked.rgb)


def _write_verdict(out: Path, checked: Any) -> Entry:
    from ...models.drawing.horizon import draw_verdict
    from ...models.drawing.png import encode_png

    entry = checked.entry
    path = out / f"{frame_name(entry['file'], entry.get('timestamp_s'))}.horizon.png"
    write_file(path, encode_png(draw_verdict(checked.rgb, checked.verdict)))
    return {"picture": str(path)}


def _tag(arguments: argparse.Namespace) -> Iterator[Tried]:
    from ...models.tagging.tagger import make_tagger

    tagger = _load(make_tagger, arguments.model)

    def describe(picture: Picture) -> tuple[Entry, Maps]:
        log_odds = tagger.log_odds([tagger.model.prepare(picture.rgb)])
        (tag,) = tagger.tags(log_odds)
        odds = {"log_odds": log_odds[0]} if arguments.truth else {}
        return {"scene": tag.scene, "p_indoor": tag.p_indoor, **odds, "model": tagger.name}, {}

    return _describe_all(arguments, describe)


def _depth(arguments: argparse.Namespace) -> Iterator[Tried]:
    from ...models.data.depth_png import encode_depth_png, summarise_depth
    from .parts.metric_labeler import MetricLabeler

    check_distinct_names(arguments.files)
    out = output_folder(arguments.out or "dap-try")
    labeler = MetricLabeler(arguments.model)

    def describe(picture: Picture) -> tuple[Entry, Maps]:
        depth_m = labeler.depth_m(picture.rgb)
        path = out / f"{picture.name}.depth.png"
        png = encode_depth_png(depth_m)
        write_file(path, png)
        return {"depth_png": str(path), **summarise_depth(depth_m)}, {"depth": png}

    return _describe_all(arguments, describe)


def _quality(arguments: argparse.Namespace) -> Iterator[Tried]:
    from ...models.data.depth_png import encode_depth_png
    from ...models.inference.embedded import EMBEDDED, resolve_model
    from ...models.inference.predictor import DepthPredictor, QualityScorer

    if arguments.model == EMBEDDED:
        raise UsageError("quality needs --model, the folder of a discriminator; none comes with the package")
    scorer, predictor = _load(QualityScorer, arguments.model), _load(DepthPredictor, resolve_model(arguments.labeler))

    def describe(picture: Picture) -> tuple[Entry, Maps]:
        depth_m = predictor.predict([picture.rgb])[0].masked_depth_m()
        (score,) = scorer.score([picture.rgb], [depth_m])
        return {"score": score}, {"depth": encode_depth_png(depth_m)}

    return _describe_all(arguments, describe)


def _describe_all(arguments: argparse.Namespace, describe: Callable[[Picture], tuple[Entry, Maps]]) -> Iterator[Tried]:
    """An entry per picture; a file that cannot be read is an entry with its `error`, and the others go on."""
    for file in arguments.files:
        try:
            for picture in read_pictures(file, arguments.every, arguments.height):
                entry, maps = describe(picture)
                yield Tried(picture.entry() | entry, picture.rgb, maps)
        except UnreadableError as error:
            yield Tried({"file": file, "error": str(error)})


def _load(make: Any, model: str) -> Any:
    try:
        return make(model)
    except (ValueError, OSError) as error:
        raise UsageError(f"--model {model}: {' '.join(str(error).split())}") from error


def _print_table(entries: list[Entry]) -> None:
    names = list(dict.fromkeys(name for entry in entries for name in entry))
    table = Table(*names)
    for entry in entries:
        table.add_row(*(_text(entry.get(name, "")) for name in names))
    show_table(table)


def _print_verdicts(entries: list[Entry]) -> None:
    """A line for each picture: whether it is a level panorama, how far it leans, and what is wrong with it."""
    for entry in entries:
        at = f" at {entry['timestamp_s']:.2f} s" if "timestamp_s" in entry else ""
        reasons = " ".join(entry["reasons"]) + (f" ({entry['detail']})" if entry.get("detail") else "")
        known = [name for name in ("roll", "pitch") if entry[f"{name}_deg"] is not None]
        angles = [f"{name} {entry[f'{name}_deg']:.0f}°" for name in known]
        verdict = "valid  " if entry["valid"] else "invalid"
        file = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in entry["file"])
        print(f"{verdict}  {file}{at}: {', '.join([reasons or 'level', *angles])}")
    print(f"{sum(entry['valid'] for entry in entries)} of {len(entries)} are level panoramas (--verbose: measurements)")


def _text(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(value)
    return f"{value:.3g}" if isinstance(value, float) else str(value)


_KINDS = {"horizon": _horizon, "tag": _tag, "depth": _depth, "quality": _quality}
