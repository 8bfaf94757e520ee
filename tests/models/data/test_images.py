"""Images as networks take them: the same values on every way there."""

import cv2
import numpy as np
import pytest
import torch

from dap_engine.models.data.area_resize import shrink
from dap_engine.models.data.images import resize_rgb
from dap_engine.models.data.pixel_values import _from_bytes, normalise, pixel_values, pixel_values_on


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


SIZES = [
    *[((64, 128), (64, 128)), ((64, 128), (32, 64)), ((96, 192), (32, 64)), ((960, 1920), (96, 192))],
    *[((120, 240), (64, 128)), ((125, 251), (64, 100)), ((64, 199), (64, 128)), ((199, 64), (128, 64))],
    *[((512, 1024), (96, 192)), ((720, 1440), (512, 1024)), ((1000, 1999), (518, 1036))],
]


@pytest.mark.parametrize(("of", "to"), SIZES)
def test_what_an_accelerator_makes_smaller_has_the_bytes_of_the_cpu(of, to):
    """Its arithmetic, here on the CPU."""
    rgb = picture(*of)
    np.testing.assert_array_equal(shrink(torch.from_numpy(rgb), *to).numpy(), resize_rgb(rgb, *to))


DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("size", [(64, 128), (96, 192), (100, 201)])
def test_what_an_accelerator_makes_of_bytes_are_the_values_of_the_cpu(device, size):
    """On the CPU too, by the same operations; some images shrink, some grow, some both."""
    rgbs = [picture(*of) for of, _ in SIZES]
    found = _from_bytes(torch.device(device), rgbs, *size).cpu()
    expected = pixel_values_on(torch.device("cpu"), rgbs, *size)
    assert torch.equal(found, expected)
    assert found.stride() == expected.stride()
