"""Puts a report together: reads the run once, and writes page after page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...engine.rundir.rundir import RunDir
from . import curation, results
from .drop_page import write_drops
from .run_data import RunData
from .samples import read_samples
from .scenes import Scenes, others
from .site import Site

_FEATURED_UNSURE = 24


def build_report(run: RunDir, out: str, measured: tuple[str, str] | None = None) -> Path:
    """Writes the report of a run to a folder, whole or not at all; returns its first page.

    `measured`: a model, and a labelled column whose worst images with it are shown.

    Raises:
        UsageError: the folder holds something else, or the model cannot be measured.
        StorageError: it cannot be written.
    """
    data = RunData(run)
    with Site(out, run.storage.address("")) as site:
        samples, scenes = read_samples(data, site), Scenes(site)
        worst = _measured(site, scenes, data, *measured) if measured else None
        ranked = [key for ends in curation.ranked(samples).values() for end in ends for key in end]
        scenes.add_frames(data, samples, [*ranked, *curation.unsure_first(samples)[:_FEATURED_UNSURE]])
        truths = curation.add_truths(data, scenes)
        scenes.add_frames(data, samples, others(samples))
        curation.write_labels(site, data, samples, scenes, truths)
        curation.write_tags(site, data, samples)
        curation.write_selection(site, data, samples)
        curation.write_videos(site, data, samples)
        write_drops(site, data, samples)
        results.write_training(site, data)
        results.write_evaluation(site, data, worst)
        results.write_lineage(site, data)
        results.write_overview(site, data, samples, scenes.keys)
        site.page("viewer.html", "viewer", keys=scenes.keys)
    return site.out / "index.html"


def _measured(site: Site, scenes: Scenes, data: RunData, model: str, column: str) -> dict[str, Any]:
    from .measured import write_measured  # importing the metrics costs seconds: only when there is a model to measure

    return write_measured(site, scenes, data, model, column)
