"""Images as networks take them: the same values on every way there."""

import cv2
import numpy as np
import pytest
import torch

from dap_engine.models.data.depth_png import quantise_depth
from dap_engine.models.data.images import normalise, pixel_values, pixel_values_on, resize_rgb, shrink
from dap_engine.models.inference.embedded import EMBEDDED, resolve_model
from dap_engine.models.inference.predictor import DepthPredictor
from tests.footage import panorama


def picture(height: int, width: int) -> np.ndarray:
    noise = np.random.Generator(np.random.PCG64(height)).integers(0, 256, (height // 4, width // 4, 3), dtype=np.uint8)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)


def test_pixel_values_are_the_formula_to_the_last_bit():
    levels = np.arange(256, dtype=np.uint8)
    rgb = np.stack([levels, levels[::-1], np.roll(levels, 7)], axis=-1).reshape(16, 16, 3)
    found = pixel_values([rgb, rgb[::-1]])
    formula = normalise(torch.from_numpy(np.stack([rgb, rgb[::-1]])).permute(0, 3, 1, 2).float() / 255)
    assert torch.equal(found, formula)
    assert found.stride() == formula.stride(), "else a convolution may add up in another order"


@pytest.mark.parametrize(
    ("of", "to", "share"),
    [
        ((64, 128), (64, 128), 0),
        ((64, 128), (32, 64), 0),
        ((96, 192), (32, 64), 0),
        ((120, 240), (64, 128), 0.001),
        ((125, 251), (64, 100), 0.001),
        ((64, 199), (64, 128), 0.001),
    ],
)
def test_what_an_accelerator_shrinks_is_what_the_cpu_does(of, to, share):
    """Its arithmetic, here on the CPU: one level of 255 in a few pixels, where halves are rounded."""
    rgb = picture(*of)
    found = shrink(torch.from_numpy(rgb), *to).numpy().astype(int)
    off = np.abs(found - resize_rgb(rgb, *to))
    assert off.max() <= 1
    assert (off > 0).mean() <= share


@pytest.mark.parametrize("height", [96, 192, 250])
def test_a_label_is_the_same_within_a_unit_whoever_resizes(height, monkeypatch):
    """The embedded model, on panoramas resized as an accelerator does and as the CPU does."""
    predictor, rgb = DepthPredictor(resolve_model(EMBEDDED), "cpu"), panorama(height, 1)
    (by_cpu,) = predictor.predict([rgb])
    monkeypatch.setattr("dap_engine.models.data.images.resize_rgb", lambda rgb, *size: on_card(rgb, *size))
    (by_card,) = predictor.predict([rgb])
    units = [quantise_depth(prediction.masked_depth_m()).astype(int) for prediction in (by_cpu, by_card)]
    assert np.abs(units[0] - units[1]).max() <= 1


def on_card(rgb: np.ndarray, height: int, width: int) -> np.ndarray:
    return shrink(torch.from_numpy(rgb), height, width).numpy()


@pytest.mark.gpu
def test_an_accelerator_gives_the_same_values():
    rgbs = [picture(*size) for size in ((64, 128), (120, 240), (32, 64), (40, 300))]
    found = pixel_values_on(torch.device("cuda"), rgbs, 64, 128).cpu()
    expected = pixel_values_on(torch.device("cpu"), rgbs, 64, 128)
    level = 1 / 255 / 0.224
    assert (found - expected).abs().max() <= 1.01 * level
    assert ((found - expected).abs() > 1e-5).float().mean() < 0.001
