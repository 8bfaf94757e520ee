"""How long a card waits for its stage: stand-ins that take a card's time and no processor, on two cores."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import simplejpeg

from dap_engine.engine.records.column import Column, TarColumn
from dap_engine.engine.records.sample import Row, Sample
from dap_engine.engine.rundir.rundir import RunDir
from dap_engine.engine.steps.step import SourceStage, Stage, StageContext
from dap_engine.models.data.depth_png import encode_depth_png
from dap_engine.models.simulator.rendering.panoramas import labelled_panoramas
from dap_engine.models.tagging.tagger import Tagger
from dap_engine.stages.label import Label
from dap_engine.stages.score import Score
from dap_engine.stages.tag import Tag
from tests.benchmarks.material import SHARD, finished_run, shard_work
from tests.benchmarks.measure import Result

HEIGHT, FRAMES = 512, 192
LABEL_S, TAG_S, SCORE_S = 0.012, 0.030, 0.005  # of a card, a panorama
_MOST_CPU_MS = 18
_MAPS: dict[str, list[np.ndarray]] = {}


def smooth(rgb: np.ndarray) -> np.ndarray:
    """A labeler: the simulator's own distances."""
    return _label("smooth", rgb)


def rough(rgb: np.ndarray) -> np.ndarray:
    """A labeler: the same with two per cent of noise, which no codec can make small."""
    return _label("rough", rgb)


def _label(kind: str, rgb: np.ndarray) -> np.ndarray:
    time.sleep(LABEL_S)
    return _MAPS[kind][int(rgb[0, 0, 0]) % len(_MAPS[kind])]


class SleepingScene:
    """A scene model of the tagger."""

    def prepare(self, rgb: np.ndarray) -> np.ndarray:
        return rgb

    def log_odds(self, prepared: list[np.ndarray]) -> list[float]:
        time.sleep(TAG_S * len(prepared))
        return [0.0] * len(prepared)


class SleepingScorer:
    """What `QualityScorer` is to its stage."""

    def score(self, rgbs: list[np.ndarray], depths_m: list[np.ndarray]) -> list[float]:
        time.sleep(SCORE_S * len(rgbs))
        return [0.5] * len(rgbs)


@dataclass
class SleepingTag(Tag):
    def setup(self, context: StageContext) -> None:
        self._tagger = Tagger("sleeping", SleepingScene(), self.threshold)


@dataclass
class SleepingScore(Score):
    model: str = "sleeping"

    def setup(self, context: StageContext) -> None:
        self._scorer = SleepingScorer()  # type: ignore[assignment]


@dataclass
class Given(SourceStage):
    """`FRAMES` times over, rows with these fields."""

    name = "given"
    column: Column
    fields: Sequence[Any]

    @property
    def writes(self) -> Column:
        return self.column

    def settings(self) -> dict[str, Any]:
        return {}

    def shards(self) -> Sequence[str]:
        return [SHARD]

    def source(self, shard: str) -> Iterator[Sample]:
        return (Sample(f"k-{number:06d}", {"row": self.fields[number % len(self.fields)]}) for number in range(FRAMES))

    def process(self, batch: list[Sample]) -> Iterator[Row]:
        return (Row(sample.key, sample["row"]) for sample in batch)


def benchmark(repeats: int) -> Iterator[Result]:
    """Label with maps that are easy and hard to write, tag, and score."""
    with _run() as run:
        for kind in (smooth, rough):
            stage = Label(model=f"python:{__name__}:{kind.__name__}")
            yield _busy(f"label, {kind.__name__} maps", stage, run, LABEL_S, 0.85, repeats)
        yield _busy("tag", SleepingTag(), run, TAG_S, 0.9, repeats)
        yield _busy("score", SleepingScore(), run, SCORE_S, 0.6, repeats)


@contextmanager
def _run() -> Iterator[RunDir]:
    panoramas = list(labelled_panoramas(0, 4, "field", HEIGHT))
    rng = np.random.Generator(np.random.PCG64(0))
    _MAPS["smooth"] = [one.depth_m for one in panoramas]
    _MAPS["rough"] = [one.depth_m * rng.normal(1, 0.02, one.depth_m.shape).astype(np.float32) for one in panoramas]
    frames = [{"jpg": simplejpeg.encode_jpeg(one.rgb, 90), "json": {}} for one in panoramas]
    labels = [{"depth.png": encode_depth_png(one), "json": {}} for one in _MAPS["smooth"]]
    with TemporaryDirectory() as folder:
        yield finished_run(
            Path(folder) / "run",
            Given(TarColumn("frames", ("jpg", "json")), frames),
            _Labels(TarColumn("labels-1", ("depth.png", "json")), labels),
        )


@dataclass
class _Labels(Given):
    name = "labels"


def _busy(name: str, stage: Stage, run: RunDir, card_s: float, target: float, repeats: int) -> Result:
    """The card's share of the time of a shard, and the processor's time for a frame."""
    wall, cpu = [], []
    with shard_work(stage, run, {}) as work:
        for _ in range(repeats + 1):
            started_s, started_cpu_s = time.perf_counter(), time.process_time()
            work()
            wall.append((time.perf_counter() - started_s) / FRAMES)
            cpu.append((time.process_time() - started_cpu_s) / FRAMES)
    busy, cpu_ms = card_s / median(wall[1:]), 1000 * median(cpu[1:])
    return Result(
        f"{name}, {HEIGHT}×{2 * HEIGHT}, a stand-in card of {1000 * card_s:.0f} ms a panorama",
        "the card alone",
        f"{busy:.2f}",
        f"≥ {target:g}, CPU ≤ {_MOST_CPU_MS} ms" if isinstance(stage, Label) else f"≥ {target:g}",
        f"{1000 * median(wall[1:]):.1f} ms a frame; {cpu_ms:.1f} ms of CPU",
    )
