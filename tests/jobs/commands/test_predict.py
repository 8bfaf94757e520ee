"""`dap predict`: what the model sees may be larger than its own size; what is written has the input's size."""

import base64
import json
import re

import cv2
import numpy as np

from dap_engine.jobs.__main__ import main
from dap_engine.models.data.depth_png import decode_depth_png, decode_units
from dap_engine.models.network.dap import DapConfig, DapModel


def test_the_model_may_look_closer(picture, tiny_model, tmp_path):
    depths = []
    for name, options in (("own", []), ("closer", ["--input-height", "128"])):
        out = tmp_path / name
        assert main(["predict", str(picture), "--model", str(tiny_model), "--out", str(out), *options]) == 0
        depths.append(decode_depth_png((out / "panorama.depth.png").read_bytes()).depth_m)
    assert depths[0].shape == depths[1].shape == cv2.imread(str(picture)).shape[:2]
    assert not np.allclose(*depths, rtol=0.01)


def test_a_height_that_patches_do_not_fill_is_one_line(capsys, picture, tiny_model, tmp_path):
    for height in ("100", "0"):
        command = ["predict", str(picture), "--model", str(tiny_model), "--out", str(tmp_path)]
        assert main([*command, "--input-height", height]) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert f"a height of {height} is no multiple of the model's patch, 16" in line


def test_a_nearer_mask_is_applied_where_it_is_asked_to(picture, tmp_path):
    config = DapConfig.tiny(range_threshold_m=10.0, initial_beyond_range=0.999)
    DapModel.new(config).save_pretrained(tmp_path / "model")
    shares = []
    for options in ([], ["--nearer-mask"]):
        assert (
            main(["predict", str(picture), "--model", str(tmp_path / "model"), "--out", str(tmp_path), *options]) == 0
        )
        shares.append(decode_depth_png((tmp_path / "panorama.depth.png").read_bytes()).valid.mean())
    assert shares[0] == 1
    assert shares[1] < 0.5


def test_the_viewer_is_one_file_with_the_distances_that_were_written(picture, tiny_model, tmp_path):
    assert main(["predict", str(picture), "--model", str(tiny_model), "--out", str(tmp_path), "--viewer"]) == 0
    text = (tmp_path / "panorama.html").read_text()
    (scene,) = json.loads(re.search(r'id="scenes">(.*?)</script>', text, re.S)[1])
    units = decode_units(base64.b64decode(scene["maps"]["depth"].partition(",")[2]))
    assert np.array_equal(units, decode_units((tmp_path / "panorama.depth.png").read_bytes()))
    assert not re.search(r'(src|href)="(?!data:)', text)  # it needs no other file
