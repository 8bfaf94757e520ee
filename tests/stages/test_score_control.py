"""Controls of a ranking: chance, and the truth that simulated footage has."""

import numpy as np
import pytest

from dap_engine.engine.records.column import TarColumn
from dap_engine.engine.records.sample import Row
from dap_engine.engine.records.tar import read_tar
from dap_engine.models.data.depth_png import decode_depth_png, encode_depth_png
from dap_engine.stages.extract import Extract
from dap_engine.stages.film import Film
from dap_engine.stages.label import Label
from dap_engine.stages.plan import Plan
from dap_engine.stages.score_control import ScoreControl
from tests.runs import FRAMES, Bring, failure, finished, frame, rows_of

FOOTAGE = [
    Film(videos=2, height=192, seconds=3.0, fps=1.0, seed=7),
    Plan(videos="run:footage", validation_share=0.0),
    Extract(every_s=1.0, height=96, near_duplicate_bits=None),
]


def three_metres(rgb: np.ndarray) -> np.ndarray:
    return np.full(rgb.shape[:2], 3.0)


def test_the_oracle_is_the_error_by_the_film_s_own_truth(tmp_path):
    label = Label(model=f"python:{__name__}:three_metres")
    run = finished(tmp_path, *FOOTAGE, label, ScoreControl(kind="oracle"))
    scores = rows_of(run, "scores-1-oracle")
    assert len(scores) >= 4
    path = max(name for name in run.storage.list("footage") if name.endswith(".truth.tar"))
    key = max(key for key in scores if key.startswith(path.split("/")[-1].removesuffix(".truth.tar").replace("_", "-")))
    with run.storage.open(f"footage/{path}") as stream:
        truth = {row.key: row.fields["depth.png"] for row in read_tar(stream)}
    depth_m = decode_depth_png(truth[key[-6:]]).depth_m
    known = np.isfinite(depth_m) & (depth_m > 0)
    weight = np.cos(np.pi * ((np.arange(192) + 0.5) / 192 - 0.5))[:, None] * known
    abs_rel = (np.abs(3 - np.where(known, depth_m, 1)) / np.where(known, depth_m, 1) * weight).sum() / weight.sum()
    assert scores[key]["score"] == pytest.approx(-abs_rel, rel=0.05)


def test_chance_is_the_same_every_time_and_another_by_seed(tmp_path):
    label = Row("a-00", {"depth.png": encode_depth_png(np.full((16, 32), 2.0)), "json": {}})
    column = Bring(TarColumn("labels-1", ("depth.png", "json")), {"000000": [label]})
    found = [
        rows_of(finished(tmp_path / str(n), column, ScoreControl(kind="random", seed=seed)), "scores-1-random")
        for n, seed in enumerate((1, 1, 2))
    ]
    assert found[0] == found[1] != found[2]
    assert 0 <= found[0]["a-00"]["score"] < 1


def test_other_footage_has_no_truth(tmp_path):
    frames = Bring(FRAMES, {"000000": [frame("a-00", video_id="mine-0123456789", frame_index=0)]})
    label = Label(model=f"python:{__name__}:three_metres")
    assert "its truth is not known" in failure(tmp_path, FOOTAGE[0], frames, label, ScoreControl(kind="oracle"))
