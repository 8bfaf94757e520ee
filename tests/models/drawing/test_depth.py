"""Pictures: colours that say near and far, and a grid that a person can read."""

import io

import numpy as np
import pytest
from PIL import Image

from dap_engine.models.drawing.depth import colour_depth, comparison_png


def test_near_is_warm_and_far_is_cool():
    rgb = colour_depth(np.array([[1.0, 60.0]])).astype(int)
    assert (rgb.shape, colour_depth(np.ones((2, 4))).dtype) == ((1, 2, 3), np.uint8)
    assert rgb[0, 0, 0] > rgb[0, 0, 2]
    assert rgb[0, 1, 2] > rgb[0, 1, 0]


def test_what_has_no_distance_is_dark_and_of_one_colour():
    unknown = colour_depth(np.array([[np.inf, np.nan, 0.0, -1.0]]))
    assert len(np.unique(unknown[0], axis=0)) == 1
    assert unknown.max() < 64


def test_distances_outside_the_scale_take_the_colour_of_its_ends():
    rgb = colour_depth(np.array([[0.001, 0.3, 100.0, 500.0]]))[0]
    assert (rgb[0] == rgb[1]).all()
    assert (rgb[2] == rgb[3]).all()
    assert (rgb[0] != rgb[2]).any()


def test_equal_ratios_of_distance_are_equal_steps_of_colour():
    """On a logarithmic scale 1 m to 2 m shows as clearly as 20 m to 40 m."""
    ramp = colour_depth(np.geomspace(0.3, 100, 200)[None])[0].astype(int)
    assert (np.abs(np.diff(ramp, axis=0)).sum(axis=1) < 24).all()
    assert len(np.unique(ramp, axis=0)) > 150


@pytest.mark.parametrize("rows", [1, 3])
def test_a_grid_has_a_row_for_each_example(rows):
    rng = np.random.Generator(np.random.PCG64(0))
    picture = rng.integers(0, 255, (16, 32, 3), dtype=np.uint8)
    examples = [{"image": picture, "truth": np.full((16, 32), 2.0), "model": np.full((16, 32), np.inf)}] * rows
    data = comparison_png(examples)
    image = Image.open(io.BytesIO(data))
    assert image.format == "PNG"
    assert image.width / image.height == pytest.approx(3 * 3.2 / (1.75 * rows), rel=0.02)
    assert comparison_png(examples) == data
