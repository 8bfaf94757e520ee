"""What the truth says of tags: a table of files and scenes, and the calibration of a tagger by it."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ....models.support.files import list_lines
from ...errors import UsageError

if TYPE_CHECKING:
    from ....models.tagging.calibration import Calibration


def calibrated(truth: str, entries: list[dict[str, Any]]) -> Calibration:
    """The calibration by the tags that were made, with their `log_odds`; UsageError for a truth that does not do."""
    from ....models.tagging.calibration import calibrate

    scenes = _read(truth)
    tags = [entry for entry in entries if "log_odds" in entry]
    for entry in tags:
        name = entry["file"]
        entry["truth"] = scenes.get(name) or scenes.get(Path(name).name)
        if entry["truth"] is None:
            raise UsageError(f"--truth {truth}: it does not say the scene of {name}")
    try:
        return calibrate([entry["log_odds"] for entry in tags], [entry["truth"] == "indoor" for entry in tags])
    except ValueError as error:
        raise UsageError(f"--truth {truth}: {error}") from error


def sentence(found: Calibration) -> str:
    """What was found, and what to write into a recipe."""
    return (
        f"{found.accuracy:.1%} are right at p = 0.5; the probabilities are off by {found.calibration_error:.3f} "
        f"(expected calibration error). To set: temperature: {found.temperature:g}, threshold: {found.threshold:g}"
    )


def _read(truth: str) -> dict[str, str]:
    """The scene of each file, under its whole name and, where that tells it, its last part; other columns are left."""
    try:
        lines = list_lines(Path(truth).read_bytes())
        reader = csv.DictReader(line for _, line in lines)
        rows = [(lines[reader.line_num - 1][0], row.get("file"), row.get("scene")) for row in reader]
    except (OSError, ValueError, csv.Error) as error:
        raise UsageError(f"--truth {truth}: {error}") from error
    scenes, by_name = dict[str, str](), dict[str, set[str]]()
    for number, file, scene in rows:
        if not file or scene not in ("indoor", "outdoor"):
            raise UsageError(f"--truth {truth}, line {number}: a file and its scene, indoor or outdoor, not {scene!r}")
        scenes[file] = scene
        by_name.setdefault(Path(file).name, set()).add(scene)
    return {name: min(said) for name, said in by_name.items() if len(said) == 1} | scenes
