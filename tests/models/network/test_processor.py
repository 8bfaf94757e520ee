import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, pipeline

from dap_engine.models.data.pixel_values import normalise
from dap_engine.models.network.dap import DapModel, DapOutput
from dap_engine.models.network.processor import DapImageProcessor
from tests.models.network.test_dap import small


def _panorama(height: int = 32, width: int = 64, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    small().save_pretrained(folder)
    return folder


def test_it_is_saved_and_loaded_with_the_model(folder: Path) -> None:
    processor = AutoImageProcessor.from_pretrained(folder)
    assert isinstance(processor, DapImageProcessor)
    assert processor.size == {"height": 32, "width": 64}
    assert processor.patch_size == 8
    assert processor.to_dict() == DapImageProcessor.from_pretrained(folder).to_dict()


def test_images_of_the_native_size_are_only_normalised(folder: Path) -> None:
    rgb = _panorama()
    expected = normalise(torch.from_numpy(rgb).permute(2, 0, 1)[None] / 255)
    processor = AutoImageProcessor.from_pretrained(folder)
    for image in (rgb, Image.fromarray(rgb), [rgb]):
        assert torch.allclose(processor(images=image, return_tensors="pt")["pixel_values"], expected)


def test_other_sizes_become_the_native_one_or_multiples_of_the_patch() -> None:
    native = DapImageProcessor(size={"height": 32, "width": 64}, patch_size=8)
    images = [_panorama(50, 101), _panorama(32, 64)]
    assert native(images, return_tensors="pt")["pixel_values"].shape == (2, 3, 32, 64)
    assert native(images[0], size=None, return_tensors="pt")["pixel_values"].shape == (1, 3, 48, 104)
    own = DapImageProcessor(patch_size=14)
    assert own(_panorama(5, 70), return_tensors="pt")["pixel_values"].shape == (1, 3, 14, 70)
    with pytest.raises(ValueError, match="one size, not"):
        own(images)


def test_having_no_size_survives_saving(tmp_path: Path) -> None:
    DapImageProcessor(patch_size=14).save_pretrained(tmp_path)
    loaded = DapImageProcessor.from_pretrained(tmp_path)
    assert (loaded.size, loaded.patch_size) == (None, 14)


@pytest.mark.parametrize("image", [np.zeros((8, 16), np.uint8), np.zeros((8, 16, 3)), np.zeros((0, 16, 3), np.uint8)])
def test_what_is_no_image_is_refused(image: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected uint8 images of shape"):
        DapImageProcessor()(image)


def test_depth_is_resized_around_the_seam() -> None:
    """Linear in between: the two edges have the mean of both at ±180°, where a plain resize would repeat them."""
    depth_m = torch.tensor([[1.0, 2.0, 3.0, 4.0]]).expand(1, 2, 4)
    processor = DapImageProcessor()
    outputs = DapOutput(predicted_depth=depth_m, beyond_range=depth_m / 10)
    (result,) = processor.post_process_depth_estimation(outputs, [(2, 8)])
    assert result["predicted_depth"][0].tolist() == pytest.approx([1.75, 1.25, 1.75, 2.25, 2.75, 3.25, 3.75, 3.25])
    assert torch.allclose(result["beyond_range"], result["predicted_depth"] / 10)
    (same,) = processor.post_process_depth_estimation(outputs)
    assert torch.equal(same["predicted_depth"], depth_m[0])
    with pytest.raises(ValueError, match="2 target sizes for 1 predictions"):
        processor.post_process_depth_estimation(outputs, [(2, 4), (2, 4)])


def test_the_pipeline_gives_metres_at_the_images_size(folder: Path) -> None:
    estimate = pipeline("depth-estimation", model=str(folder), device="cpu")
    result = estimate(Image.fromarray(_panorama(48, 96)))
    assert result["depth"].size == (96, 48)
    assert result["predicted_depth"].shape == (48, 96)
    native = _panorama()
    expected = DapModel.from_folder(folder)(DapImageProcessor.of(small().config)(native)["pixel_values"])
    assert torch.allclose(estimate(Image.fromarray(native))["predicted_depth"], expected.predicted_depth[0])


@pytest.mark.slow
def test_a_fresh_process_knows_a_saved_model_once_models_dap_is_imported(folder: Path) -> None:
    """By every Auto class that it is registered with; and nothing of the kind is asked of the hub."""
    program = f"""
import dap_engine.models.network.dap
from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoModelForDepthEstimation, pipeline
autos = AutoConfig, AutoImageProcessor, AutoModel, AutoModelForDepthEstimation
print(*(type(auto.from_pretrained({str(folder)!r})).__name__ for auto in autos))
print(type(pipeline("depth-estimation", model={str(folder)!r}, device="cpu").model).__name__)
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, "HF_HUB_OFFLINE": "1"}
    )
    assert done.stdout.splitlines() == ["DapConfig DapImageProcessor DapModel DapModel", "DapModel"]
