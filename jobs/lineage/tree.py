"""Lineage for people: the documents of `sample_lineage` and `model_lineage` as trees."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.filesize import decimal
from rich.text import Text
from rich.tree import Tree

Document = Mapping[str, Any]
_SHARDS_SHOWN = 10


def sample_tree(document: Document) -> Tree:
    """A frame, a labelled panorama, or a video."""
    tree = Tree(Text(f"{document['kind']} {document['key']}", style="bold"))
    if video := document.get("video"):
        _add(tree, f"video {video['uri']}, {_size(video['bytes'])}, split {video['split']} ({video['object']})")
    _add_panorama(tree, document)
    for entry in document.get("labels", ()):
        depths = f"{_metres(entry['min_m'])} to {_metres(entry['max_m'])}, median {_metres(entry['median_m'])}"
        scaled = f", times {entry['scale_factor']:g}" if "scale_factor" in entry else ""
        _add_entry(tree, f"label of round {entry['round']}: {depths}{scaled}", entry)
    for entry in document.get("scores", ()):
        _add_entry(tree, f"score of round {entry['round']}: {entry['score']:.4f}", entry)
    for entry in document.get("selections", ()):
        _add_entry(tree, f"selected in round {entry['round']}: rank {entry['rank']} of {entry['scene']}", entry)
    for entry in document.get("others", ()):
        _add_entry(tree, entry["column"], entry)
    for drop in document["drops"]:
        again = ", can be retried" if drop["retryable"] else ""
        place = f"drops/{drop['column']}/{drop['shard']}.parquet"
        _add(tree, f"dropped: {drop['key']}, {drop['code']} {drop['detail']}".rstrip() + f"{again} ({place})")
    _add_frames(tree, document)
    _add_training(tree, document)
    return tree


def model_tree(document: Document) -> Tree:
    """A model, the models before it, and the columns that all of them came from."""
    tree = Tree(Text(f"model {document['model']} of recipe {document['recipe']}", style="bold"))
    shown: set[str] = set()
    _fill_model(tree, document["model"], document, document["models"], shown)
    for name in document["models"]:
        if name not in shown:
            _add_model(tree, f"behind its data: model {name}", name, document["models"], shown)
    columns = tree.add(Text("columns behind it"))
    for column, entry in document["columns"].items():
        _add_column(columns, column, entry)
    return tree


def _add_panorama(tree: Tree, document: Document) -> None:
    if frame := document.get("frame"):
        where = f"frame {frame['frame_index']}, second {frame['timestamp_s']:.3f}" if "frame_index" in frame else ""
        where = where or f"of {frame['column']}: {frame.get('file') or frame.get('prompt') or document['key']}"
        where += f", {frame.get('width', '?')}×{frame.get('height', '?')}"
        measured = {name: value for name, value in frame.get("horizon", {}).items() if value is not None}
        branch = _add_entry(tree, where, frame)
        if measured:
            _add(branch, "measured: " + ", ".join(f"{name} {value}" for name, value in measured.items()))
    if panorama := document.get("panorama"):
        size = f"{panorama.get('width', '?')}×{panorama.get('height', '?')}"
        _add_entry(tree, f"panorama {size}, split {panorama.get('split', 'train')}", panorama)
    if tag := document.get("tag"):
        _add_entry(tree, f"tag {tag['scene']}, p_indoor {tag['p_indoor']:.3f}, by {tag['model']}", tag)


def _add_frames(tree: Tree, document: Document) -> None:
    packed: dict[str, list[str]] = {}
    for entry in document["training"]:
        packed.setdefault(entry["key"], []).append(entry["object"])
    for frame in document.get("frames", ()):
        went = ", ".join(packed.get(frame["key"], ())) or "not packed"
        _add(tree, f"frame {frame['key']}, second {frame['timestamp_s']:.3f}: {went}")


def _add_training(tree: Tree, document: Document) -> None:
    for entry in document["training"] if document["kind"] != "video" else ():
        _add(tree, f"packed: {entry['object']}, split {entry['split']}, from {entry['source']}")
    for model in document["models"]:
        verb = "taught" if model["split"] == "train" else "validated"
        changed = "" if model["current"] else "; the column has changed since"
        _add(tree, f"{verb} model {model['name']} by {model['column']}, {_sha(model['sha256'])}{changed}")


def _add_entry(tree: Tree, line: str, entry: Document) -> Tree:
    branch = _add(tree, f"{line} ({entry['object']})")
    _add_weights(branch, entry["weights"])
    _add(branch, f"made by {entry['step']} version {entry['version']}, fingerprint {entry['fingerprint'][:12]}…")
    return branch


def _add_weights(tree: Tree, weights: Mapping[str, Document]) -> None:
    for asset, loaded in weights.items():
        _add(tree, f"{asset}: {loaded['name'] or 'replaced since'}, {_sha(loaded['sha256'])}")


def _fill_model(tree: Tree, name: str, model: Document, models: Mapping[str, Document], shown: set[str]) -> None:
    shown.add(name)
    _add(tree, f"{model['object']}, {_sha(model['sha256'])}, {_size(model['bytes'])}")
    made = _add(tree, f"made by {model['step']} version {model['version']}, fingerprint {model['fingerprint'][:12]}…")
    _add(made, f"settings: {flat(model['settings'])}")
    for training in model["training"]:
        changed = "" if training["current"] else "; it has changed since"
        branch = _add(tree, f"trained on {training['column']}: {training['samples']} samples{changed}")
        lines = [f"{it['name']}, {it['samples']} samples, {_sha(it['sha256'])}" for it in training["shards"]]
        _add_some(branch, lines)
    if model["validation"]:
        _add(tree, f"validation: {flat(model['validation'])}")
    for asset, loaded in model["weights"].items():
        line = f"{asset}: {loaded['name'] or 'replaced since'}, {_sha(loaded['sha256'])}"
        if loaded["in_run"]:
            _add_model(tree, line, loaded["name"], models, shown)
        else:
            _add(tree, line)


def _add_model(tree: Tree, line: str, name: str, models: Mapping[str, Document], shown: set[str]) -> None:
    if name in shown:
        _add(tree, f"{line} (see above)")
    else:
        _fill_model(_add(tree, line), name, models[name], models, shown)


def _add_column(tree: Tree, column: str, entry: Document) -> None:
    source = f", from {', '.join(entry['inputs'])}" if entry["inputs"] else ""
    branch = _add(
        tree, f"{column}: {entry['samples']} samples in {entry['shards']} shards, {_sha(entry['sha256'])}{source}"
    )
    for step in entry["steps"]:
        prints = sorted(set(step["fingerprints"].values()))
        more = f" and {len(prints) - 1} more" if len(prints) > 1 else ""
        twig = _add(branch, f"{step['step']} version {step['version']}, fingerprint {prints[0][:12]}…{more}")
        _add_weights(twig, step["weights"])
        _add(twig, f"settings: {flat(step['settings'])}")


def _add(tree: Tree, line: str) -> Tree:
    return tree.add(Text(line))


def _add_some(tree: Tree, lines: Sequence[str]) -> None:
    for line in lines[:_SHARDS_SHOWN]:
        _add(tree, line)
    if len(lines) > _SHARDS_SHOWN:
        _add(tree, f"and {len(lines) - _SHARDS_SHOWN} more (--json names all)")


def flat(settings: Document) -> str:
    """Settings in one line, nested ones with dots in their names."""
    return ", ".join(_flat_items(settings, "")) or "none"


def _flat_items(settings: Document, above: str) -> Iterable[str]:
    for name, value in settings.items():
        if isinstance(value, dict) and value:
            yield from _flat_items(value, f"{above}{name}.")
        else:
            yield f"{above}{name}={json.dumps(value, ensure_ascii=False)}"


def _sha(sha256: str) -> str:
    return f"sha256 {sha256[:12]}…" if len(sha256) == 64 else sha256  # of a hub's model: its name


def _size(size: int) -> str:
    return decimal(size) if size >= 0 else "of unknown size"


def _metres(value: float | None) -> str:
    return "beyond the range" if value is None else f"{value:.2f} m"
