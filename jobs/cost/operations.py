"""What the networks of a recipe compute, counted from their settings alone: weights need not be there."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

from ...engine.planning.graph import Graph
from ...engine.planning.recipe import Node
from ...engine.steps.assets import RUN_SCHEME
from ...models.inference.embedded import EMBEDDED, resolve_model
from ...models.ranking.views import Views
from ...stages.generate import Generate
from ...stages.label import Label
from ...stages.reports.evaluate import Evaluate
from ...stages.score import Score
from ...stages.tag import Tag
from ...stages.training.cards import FORWARDS
from ...stages.training.judge import JudgeTraining
from ...stages.training.train import Train
from .rates import rates

_BACKBONE = re.compile(r"(dinov[23])[-_](vit[shblg]\d+(?:plus)?)")
_BILLIONS = re.compile(r"(\d+(?:\.\d+)?)B\b")
_PIXELS_PER_TOKEN = 28 * 28
_PIXELS_OF_TOKEN = 16  # along a side, of a generated picture


class Operations:
    """Floating-point operations of the steps of a recipe; None for a network that is not known."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph

    def of_sample(self, node: Node, height: int) -> float | None:
        """A sample of a map stage, a panorama of some height; 0 where its rate has all of it."""
        step = node.step
        if isinstance(step, Label):
            one = self._depth(step.model, height=None)
            views = len(step.views) if step.views else 1
            return None if one is None else one * views
        if isinstance(step, Generate):
            return _generator_operations(step)
        if isinstance(step, Score):
            return self._of_score(step)
        if isinstance(step, Tag) and step.model != EMBEDDED:
            billions = _BILLIONS.search(Path(step.model).name)
            pixels = min(step.max_pixels, 2 * min(height, step.height) ** 2)
            tokens = pixels / _PIXELS_PER_TOKEN + rates().tokens
            return 2e9 * float(billions[1]) * tokens if billions else None
        return 0.0

    def _of_score(self, step: Score) -> float | None:
        if not step.model and not step.teachers:
            return 0.0  # the labels know how far their views agree
        if step.ranker == "consistency" and step.model:
            one = self._depth(step.model, height=None)
            return None if one is None else one * len(step.views or Views())
        return self._judge(step.model) if step.model else None

    def of_step(self, node: Node) -> float | None:
        """A step of a training, of all ranks together."""
        step = node.step
        if isinstance(step, Train):
            forward = self._depth(f"{RUN_SCHEME}{step.produces}", height=step.batches.image_height)
            return None if forward is None else FORWARDS * forward * step.batches.batch_size
        if isinstance(step, JudgeTraining):
            labeler = next(iter(step.assets().values()), "")
            forward = self._depth(labeler, height=step.batches.image_height)
            judged = 2 * FORWARDS * _judge_operations(step.size, **step.config)  # the truth, and a prediction
            return None if forward is None else (forward + judged) * step.batches.batch_size
        return None

    def of_evaluation(self, step: Evaluate) -> float | None:
        """A panorama that all models of an evaluation see."""
        each = [self._depth(model, height=None) for model in step.models.values()]
        return sum(one for one in each if one is not None) if None not in each else None

    def _depth(self, model: str, height: int | None) -> float | None:
        """Of a depth network for one panorama, at its own height if none is given."""
        config = self._config(model)
        return None if config is None else _depth_operations(config.to_json_string(), height or config.image_size[0])

    def _config(self, model: str) -> Any:
        from ...models.network.config import DapConfig

        maker = self._graph.producer(model.removeprefix(RUN_SCHEME)) if model.startswith(RUN_SCHEME) else None
        if maker and isinstance(maker.step, Train):
            network = maker.step.network
            if maker.step.init:
                return self._config(maker.step.init)
            if network.backbone:
                named = _BACKBONE.search(network.backbone)
                return DapConfig.of("_".join(named.groups()), **network.config) if named else None
            return DapConfig.tiny(**network.config) if network.size == "tiny" else DapConfig(**network.config)
        folder = Path(resolve_model(model))
        return DapConfig.from_pretrained(folder) if (folder / "config.json").is_file() else None

    def _judge(self, model: str) -> float | None:
        maker = self._graph.producer(model.removeprefix(RUN_SCHEME))
        if maker and isinstance(maker.step, JudgeTraining):
            return _judge_operations(maker.step.size, **maker.step.config)
        return None


def _generator_operations(step: Generate) -> float | None:
    """A panorama of all steps of denoising, by the network that the model's name has a word of."""
    known = (sizes for word, sizes in rates().generators.items() if word in step.model.lower())
    if (sizes := next(known, None)) is None:
        return None
    tokens = 2 * (step.picture_height / _PIXELS_OF_TOKEN) ** 2 + sizes["text_tokens"]
    attention = 4 * sizes["blocks"] * sizes["width"] * tokens**2
    return step.steps * (2 * sizes["parameters"] * tokens + attention)


@cache
def _depth_operations(config: str, height: int) -> float:
    import json

    from ...models.network.config import DapConfig
    from ...models.network.operations import depth_operations

    return depth_operations(DapConfig.from_dict(json.loads(config)), height)


def _judge_operations(size: str, **fields: Any) -> float:
    from ...models.network.discriminator import DiscriminatorConfig
    from ...models.network.operations import judge_operations

    return judge_operations((DiscriminatorConfig.tiny if size == "tiny" else DiscriminatorConfig)(**fields))
