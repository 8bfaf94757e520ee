"""The README.md of what is published: the header that the hub reads, and what people should know."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata, resources
from typing import Any

import pyarrow as pa
from huggingface_hub import DatasetCard, DatasetCardData, EvalResult, ModelCard, ModelCardData

from ..lineage.model import recipe_name
from .provenance import FIGURES, Provenance

MARK = "<!-- written by dap publish -->"
_TAGS = ["panorama", "equirectangular", "360", "depth", "dap-engine"]
_SIZES = {1_000: "n<1K", 10_000: "1K<n<10K", 100_000: "10K<n<100K", 1_000_000: "100K<n<1M", 10_000_000: "1M<n<10M"}
_HUB_SPLITS = {"val": "validation"}
_FEATURES = {"jpg": "image", "depth.png": "image", "json": "json", "__key__": "string", "__url__": "string"}


@dataclass(frozen=True)
class Publication:
    """What is published, and as what: `repository` is its id on the hub, or empty for a folder."""

    name: str
    provenance: Provenance
    license: str = ""
    repository: str = ""
    dataset: str = ""  # the hub's data set that a model was trained on


def data_card(it: Publication, shards: list[dict[str, Any]], size: tuple[int, int], videos: pa.Table) -> str:
    """The card of a packed column: `shards` as its index has them, `size` of its pictures (height, width)."""
    splits: dict[str, int] = {}
    for shard in shards:
        splits[shard["split"]] = splits.get(shard["split"], 0) + shard["samples"]
    samples = sum(splits.values())
    files = [{"split": _HUB_SPLITS.get(split, split), "path": f"{split}-*.tar"} for split in splits]
    header = DatasetCardData(
        **_rights(it, videos),
        task_categories=["depth-estimation"],
        size_categories=[next((name for most, name in _SIZES.items() if samples < most), "n>10M")],
        tags=[*_TAGS, "webdataset"],
        pretty_name=it.name,
        configs=[{"config_name": "default", "data_files": files}],
        dataset_info={"features": [{"name": name, "dtype": dtype} for name, dtype in _FEATURES.items()]},
    )
    facts = {"splits": splits, "shards": len(shards), "bytes": sum(shard["bytes"] for shard in shards)}
    facts |= {"height": size[0], "width": size[1], "sources": _sources(it.provenance, it.name), "kind": "data"}
    return str(DatasetCard.from_template(header, template_str=_template(), **facts, **_common(it, videos)))


def model_card(it: Publication, config: Mapping[str, Any], videos: pa.Table) -> str:
    """The card of a model of the run, whose config.json is given."""
    document = it.provenance.models[it.name]
    measured = [row for row in it.provenance.figures if row["model"] == it.name]
    header = ModelCardData(
        **_rights(it, videos),
        library_name="dap-engine",
        pipeline_tag="depth-estimation" if config["model_type"] == "dap" else None,
        tags=_TAGS,
        base_model=it.provenance.base_models(it.name) or None,
        datasets=[it.dataset] if it.dataset else None,
        model_name=it.name,
        eval_results=[
            EvalResult("depth-estimation", row["data"], row["data"], figure, row[figure])
            for row in measured
            for figure in FIGURES
            if row[figure] is not None
        ]
        or None,
    )
    sources = {training["column"]: _sources(it.provenance, training["column"]) for training in document["training"]}
    facts = {"config": config, "validation": document["validation"], "training": sources, "kind": "model"}
    return str(ModelCard.from_template(header, template_str=_template(), **facts, **_common(it, videos)))


def _common(it: Publication, videos: pa.Table) -> dict[str, Any]:
    return {
        "mark": MARK,
        "name": it.name,
        "repository": it.repository,
        "provenance": it.provenance,
        "recipe": recipe_name(it.provenance.run),
        "version": metadata.version("dap-engine"),
        "figure_names": FIGURES,
        "videos": _summary(videos),
    }


def _template() -> str:
    return resources.files("dap_engine.jobs.publish").joinpath("templates/card.md").read_text()


def _sources(provenance: Provenance, column: str) -> list[dict[str, Any]]:
    """Where the samples of a packed column come from, and how: `labels-1` by label, `labelled-sim` by simulate."""
    counts = provenance.sources(column)
    return [{"name": name, "samples": n, "step": provenance.kind_of(name)} for name, n in counts.items()]


def _rights(it: Publication, videos: pa.Table) -> dict[str, Any]:
    """The licence as asked for, or that of all videos, in the hub's words."""
    stated = {it.license} if it.license else set(videos["license"].to_pylist()) if len(videos) else set()
    known = {text for text in stated if text}
    if not known:
        return {"license": "unknown"}
    if len(stated) == 1 and re.fullmatch(r"[a-z0-9.-]+", identifier := known.pop().strip().lower().replace(" ", "-")):
        return {"license": identifier}
    return {"license": "other", "license_name": "see-below"}


def _summary(videos: pa.Table) -> dict[str, Any]:
    """How many videos there are, their licences, and whom they are to be attributed to."""
    by_license: dict[str, int] = {}
    for name in videos["license"].to_pylist():
        by_license[name or "not known"] = by_license.get(name or "not known", 0) + 1
    credits = sorted({text for text in videos["attribution"].to_pylist() if text})
    return {"count": len(videos), "licenses": dict(sorted(by_license.items())), "attributions": credits}
