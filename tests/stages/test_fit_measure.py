"""The recipe behind what comes embedded, in small: a depth model, the tagger's numbers and the pole measure's."""

import json

import numpy as np
import pytest
import simplejpeg

from dap_engine.jobs.__main__ import main
from dap_engine.models import DepthPredictor
from dap_engine.models.horizon import projection_poles
from dap_engine.models.tagging import embedded
from tests.footage import panorama

pytestmark = pytest.mark.slow
SMALL = (
    "executor=in-process",
    *("synthetic.panoramas=4", "synthetic.panoramas_per_shard=4", "field.panoramas=4", "field.panoramas_per_shard=4"),
    *("synthetic.height=32", "field.height=32", "synthetic.test_share=0", "field.test_share=0"),
    *("dap.training.steps=2", "dap.batches.image_height=32", "dap.batches.batch_size=2", "dap.batches.num_workers=0"),
    *("scenes.panoramas=12", "scenes-field.panoramas=12", "scenes.height=96", "scenes-field.height=96"),
)


def run(folder, *settings: str) -> int:
    given = [part for setting in (*SMALL, *settings) for part in ("--set", setting)]
    return main(["run", "embedded", "--run-dir", str(folder), *given])


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("embedded")
    assert run(folder) == 0
    return folder


def numbers(folder, measure: str) -> dict:
    return json.loads((folder / "reports" / measure / "fit.json").read_text())


def test_the_depth_model_predicts(made):
    prediction = DepthPredictor(made / "models" / "dap", "cpu").predict([panorama(32)])[0]
    assert np.isfinite(prediction.depth_m).all()


def test_the_tagger_has_a_coefficient_a_cue_and_is_right_on_scenes_held_out(made):
    fitted = numbers(made, "tagger")
    assert list(fitted["coefficients"]) == list(embedded._COEFFICIENTS)
    assert fitted["fitted"] + fitted["held_out"] == 24
    assert fitted["accuracy"] >= 0.8


def test_poles_are_told_from_edges_that_were_cut_and_more_change_across_speaks_against_a_pole(made):
    fitted = numbers(made, "poles")
    assert (len(fitted["weights"]), len(fitted["bias"])) == (len(projection_poles._WEIGHTS), 2)
    assert fitted["weights"][0] > 0
    assert fitted["accuracy"] >= 0.9


def test_photographs_count_by_their_sub_folder(made, tmp_path, capsys):
    for scene in ("indoor", "outdoor"):
        (tmp_path / scene).mkdir()
        for seed in range(2):
            (tmp_path / scene / f"{seed}.jpg").write_bytes(simplejpeg.encode_jpeg(panorama(64, seed)))
    before = numbers(made, "tagger")
    assert run(made, f"tagger.photographs={tmp_path}") == 0
    after = numbers(made, "tagger")
    assert after["fitted"] == before["fitted"] + 2
    assert after["held_out"] == before["held_out"] + 2
    (tmp_path / "indoor" / "0.jpg").write_bytes(b"no picture")
    assert run(made, f"tagger.photographs={tmp_path}") == 1
    assert "0.jpg: unreadable" in capsys.readouterr().err
