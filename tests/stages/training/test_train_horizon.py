"""The recipe behind the weights of horizon validation, in small."""

import json

import numpy as np
import simplejpeg

from dap_engine.jobs.__main__ import main
from dap_engine.models.horizon.tilt import TiltEstimator
from tests.footage import panorama

SMALL = ("synthetic.panoramas=2", "field.panoramas=2", "train.steps=2", "finish.steps=2", "executor=in-process")


def test_simulated_panoramas_and_photographs_to_weights(tmp_path):
    photographs = tmp_path / "photographs"
    (photographs / "walk").mkdir(parents=True)
    for name in ("room.jpg", "walk/1.jpg", "walk/2.jpg"):
        (photographs / name).write_bytes(simplejpeg.encode_jpeg(panorama(96)))
    places = (f"{step}.photographs={photographs}" for step in ("train", "finish"))
    settings = [part for setting in (*SMALL, *places) for part in ("--set", setting)]
    assert main(["run", "horizon", "--run-dir", str(tmp_path / "run"), *settings]) == 0
    models = tmp_path / "run" / "models"
    assert json.loads((models / "tilt-1" / "lineage.json").read_text())["photographs"] == ["room", "walk"]
    first, second = (TiltEstimator(models / name).estimate(panorama(96)) for name in ("tilt-1", "tilt-2"))
    assert np.isfinite([first.tilt_deg, second.tilt_deg]).all()
    assert first != second
