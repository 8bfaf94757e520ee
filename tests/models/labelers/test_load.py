"""Models of any origin: tiny random ones of the real classes, saved to disk, and functions."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from dap_engine.models.labelers.function import source_hash
from dap_engine.models.labelers.load import check_labeler, make_labeler, split_reference, weights_of
from dap_engine.models.labelers.outputs import check_alignment, check_metric
from dap_engine.models.labelers.patches import Patches
from dap_engine.models.labelers.transformers import TransformersDepth, output_of
from tests.footage import panorama
from tests.models.tiny_depth import TINY

RGBS = [panorama(32, 1), panorama(48, 2), panorama(48, 3)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made: dict[str, Path] = {}

    def make(name: str) -> Path:
        if name not in made:
            made[name] = tmp_path_factory.mktemp(name)
            TINY[name](made[name])
        return made[name]

    return make


OUTPUTS = {
    "depth-anything": "relative-disparity",
    "depth-anything-metric": "metric-depth",
    "dpt": "relative-disparity",
    "zoedepth": "metric-depth",
    "depth-pro": "metric-depth",
}


@pytest.mark.parametrize("name", OUTPUTS)
def test_real_classes_give_a_map_of_every_picture_s_size(name, folder):
    labeler = make_labeler(f"hf:{folder(name)}", device="cpu", batch_size=2)
    estimates = labeler.estimate(RGBS)
    assert labeler.output == OUTPUTS[name]
    assert [estimate.values.shape for estimate in estimates] == [(32, 64), (48, 96), (48, 96)]
    for estimate in estimates:
        assert np.isfinite(estimate.values).all()
        assert estimate.beyond_range is None
        assert estimate.masked() is estimate.values
    alone = labeler.estimate(RGBS[2:])[0].values
    np.testing.assert_allclose(alone, estimates[2].values, rtol=0.01, atol=1e-5)  # Depth Pro's are inverses


@pytest.mark.parametrize("name", ["depth-anything", "depth-anything-metric"])
def test_on_patches(name, folder):
    labeler = make_labeler(f"hf:{folder(name)}", device="cpu", patches=Patches(size=32))
    (estimate,) = labeler.estimate(RGBS[:1])
    assert estimate.values.shape == (32, 64)
    assert np.isfinite(estimate.values).all()


def test_what_it_gives_is_what_transformers_gives(folder):
    """By hand: the processor's pixels through the network, resized as its processor does."""
    from transformers import AutoImageProcessor, AutoModelForDepthEstimation

    model = str(folder("depth-anything"))
    processor = AutoImageProcessor.from_pretrained(model, backend="pil")
    network = AutoModelForDepthEstimation.from_pretrained(model).eval()
    with torch.no_grad():
        output = network(**processor(images=[RGBS[0]], return_tensors="pt"))
    expected = processor.post_process_depth_estimation(output, target_sizes=[(32, 64)])[0]["predicted_depth"]
    (found,) = TransformersDepth(model, "cpu", 4)(RGBS[:1])
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-5, atol=1e-6)


def test_missing_weights_are_refused(folder, tmp_path):
    from safetensors.torch import load_file, save_file

    for path in folder("depth-anything").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    weights = load_file(tmp_path / "model.safetensors")
    weights.pop(next(name for name in weights if "head" in name))
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="1 weights are missing"):
        make_labeler(f"hf:{tmp_path}", device="cpu")


def test_what_a_model_gives_can_be_said(folder, tmp_path):
    assert output_of(str(folder("dpt")), "metric-depth") == "metric-depth"
    (tmp_path / "model.safetensors").write_bytes((folder("dpt") / "model.safetensors").read_bytes())
    config = json.loads((folder("dpt") / "config.json").read_text()) | {"model_type": "prompt_depth_anything"}
    config.pop("backbone_config", None)
    (tmp_path / "config.json").write_text(json.dumps(config | {"depth_estimation_type": "relative"}))
    assert output_of(str(tmp_path)) == "relative-disparity"


def nearer_is_brighter(rgb: np.ndarray) -> np.ndarray:
    return 1 + rgb[..., 0] / 16


exec("def typed_in(rgb): ...", namespace := {"__name__": "nowhere"})
typed_in = namespace["typed_in"]


def wrong_shape(rgb: np.ndarray) -> np.ndarray:
    return rgb[:2, :2, 0]


def test_functions():
    labeler = make_labeler(f"python:{__name__}:nearer_is_brighter")
    assert labeler.output == "metric-depth"
    np.testing.assert_array_equal(labeler.estimate(RGBS)[1].values, nearer_is_brighter(RGBS[1]).astype(np.float32))
    assert make_labeler(f"python:{__name__}:nearer_is_brighter", output="relative-depth").output == "relative-depth"
    with pytest.raises(ValueError, match=r"gave \(2, 2\) for a picture of \(32, 64\)"):
        make_labeler(f"python:{__name__}:wrong_shape").estimate(RGBS[:1])


def all_at_once(rgbs: list[np.ndarray]) -> list[np.ndarray]:
    return [nearer_is_brighter(rgb) for rgb in rgbs if rgb.any()]


all_at_once.batched = True  # type: ignore[attr-defined]


def test_a_function_that_says_so_gets_a_list():
    one_by_one, listed = (make_labeler(f"python:{__name__}:{name}") for name in ("nearer_is_brighter", "all_at_once"))
    for one, other in zip(one_by_one.estimate(RGBS), listed.estimate(RGBS), strict=True):
        np.testing.assert_array_equal(one.values, other.values)
    with pytest.raises(ValueError, match=r"all_at_once gave 1 maps for 2 pictures"):
        listed.estimate([RGBS[0], np.zeros_like(RGBS[0])])


def test_the_source_of_a_function_stands_for_it():
    assert source_hash(f"{__name__}:wrong_shape") == source_hash(f"{__name__}:nearer_is_brighter")
    assert source_hash("tests.footage:panorama") != source_hash(f"{__name__}:wrong_shape")
    for nowhere in ("math:sqrt", "builtins:len", f"{__name__}:typed_in"):
        with pytest.raises(ValueError, match=rf"^python:{nowhere}: cannot read its source.*$"):
            source_hash(nowhere)


def test_precision_is_ours_to_choose_and_told(folder):
    assert make_labeler("embedded", device="cpu").precision == "float32"
    assert make_labeler("embedded", device="cpu", precision="bfloat16").precision == "bfloat16"
    assert make_labeler(f"hf:{folder('dpt')}", device="cpu").precision == "float32"
    assert make_labeler(f"python:{__name__}:nearer_is_brighter").precision is None
    with pytest.raises(ValueError, match="only our own model predicts under several turns, or in bfloat16"):
        make_labeler(f"hf:{folder('dpt')}", device="cpu", precision="bfloat16")


def test_what_is_known_to_be_given_cannot_be_said_to_be_something_else():
    for model, given in (("embedded", "metric-depth"), ("diffusers:a/b", "relative-depth")):
        assert check_labeler(model, given) == given
        with pytest.raises(ValueError, match=f"{model} gives {given}: its output cannot be relative-disparity"):
            check_labeler(model, "relative-disparity")


def test_a_function_on_patches_gives_ray_distance():
    """It sees how far a round room is, 2 m + red / 100, and gives it along the axis of its view."""
    from dap_engine.models.geometry.patches import image_plane

    lengths = image_plane((64, 64), fov_deg=90).norm(dim=-1).numpy()
    globals()["along_axis"] = lambda rgb: (2 + rgb[..., 0] / 100) / lengths
    rgb = np.full((32, 64, 3), 0, np.uint8)
    rgb[..., 0] = np.linspace(40, 200, 32)[:, None]
    (estimate,) = make_labeler(f"python:{__name__}:along_axis", patches=Patches(size=64)).estimate([rgb])
    assert np.median(abs(estimate.values - (2 + rgb[..., 0] / 100))) < 0.01


def test_our_own_model():
    (estimate,) = make_labeler("embedded", device="cpu").estimate(RGBS[:1])
    assert (estimate.values.shape, estimate.beyond_range.shape) == ((32, 64), (32, 64))
    assert np.isinf(estimate.masked(threshold=-1)).all()
    with pytest.raises(ValueError, match="sees whole panoramas"):
        make_labeler("embedded", patches=Patches())


def test_our_own_model_under_the_hub_s_scheme():
    ours = f"hf:{weights_of('embedded')}"
    assert check_labeler(ours) == "metric-depth"
    (one,), (other,) = (make_labeler(model, device="cpu").estimate(RGBS[:1]) for model in ("embedded", ours))
    np.testing.assert_array_equal(one.values, other.values)
    np.testing.assert_array_equal(one.beyond_range, other.beyond_range)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("hf:nowhere", "no such folder, and not a hub id"),
        ("diffusers:nowhere", "no such folder, and not a hub id"),
        ("python:numpy", "write it as python:MODULE:FUNCTION"),
        ("python:numpy:nothing", "nothing"),
        ("python:nosuchmodule:f", "nosuchmodule"),
        ("python:numpy:pi", "is no function"),
        ("nowhere", "no such folder"),
    ],
)
def test_models_that_are_none(model, message):
    with pytest.raises(ValueError, match=message) as error:
        check_labeler(model)
    assert "\n" not in str(error.value)


def test_a_folder_of_another_kind_of_model(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ValueError, match="no depth-estimation model"):
        check_labeler(f"hf:{tmp_path}")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match=f"hf:{tmp_path}: "):
        check_labeler(f"hf:{tmp_path}")


def test_names():
    assert split_reference("hf:apple/DepthPro-hf") == ("hf", "apple/DepthPro-hf")
    assert split_reference("run:models/dap") == ("", "run:models/dap")
    assert weights_of("hf:a/b") == "a/b"
    assert weights_of("python:a:b") is None
    assert Path(weights_of("embedded") or "").is_dir()


def test_what_is_relative_must_be_aligned_and_is_no_label():
    check_alignment("m", "metric-depth", "none")
    check_alignment("m", "relative-disparity", "disparity")
    with pytest.raises(
        ValueError, match="relative-disparity, which has no metres: the alignment must be disparity, not"
    ):
        check_alignment("m", "relative-disparity", "none")
    with pytest.raises(ValueError, match="must be none or median or scale-shift, not disparity"):
        check_alignment("m", "metric-depth", "disparity")
    check_metric("m", "metric-depth")
    with pytest.raises(ValueError, match="m gives relative-depth, which has no metres"):
        check_metric("m", "relative-depth")


def test_marigold(tmp_path):
    """With a pipeline of the real class and tiny parts; without diffusers, one line says which extra to install."""
    pytest.importorskip("diffusers")
    TINY["marigold"](tmp_path)
    labeler = make_labeler(f"diffusers:{tmp_path}", device="cpu")
    one, two = labeler.estimate(RGBS[1:])
    assert labeler.output == "relative-depth"
    assert one.values.shape == (48, 96)
    np.testing.assert_array_equal(labeler.estimate(RGBS[2:])[0].values, two.values)


def test_marigold_without_diffusers(tmp_path):
    if __import__("importlib.util").util.find_spec("diffusers"):
        pytest.skip("diffusers is installed")
    with pytest.raises(ValueError, match=r"needs diffusers: install dap-engine\[generate\]"):
        make_labeler(f"diffusers:{tmp_path}", device="cpu")
