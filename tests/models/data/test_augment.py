import numpy as np
import pytest

from dap_engine.models.data.augment import augment, photometric, turn, wrapped_blur
from dap_engine.models.data.depth_png import quantise_depth
from tests.models.panoramas import box_room


def _sample() -> tuple[np.ndarray, np.ndarray]:
    rgb, depth_m = box_room(np.random.default_rng(0))
    return rgb, quantise_depth(depth_m)


def test_chance_comes_from_the_given_generator_alone() -> None:
    one, other, third = (augment(*_sample(), 1.0, np.random.default_rng(seed)) for seed in (5, 5, 6))
    assert (one[0] == other[0]).all()
    assert (one[1] == other[1]).all()
    assert (one[0] != third[0]).any()


@pytest.mark.parametrize("seed", range(8))
def test_image_and_depth_turn_alike(seed: int) -> None:
    """Every pixel keeps its pair of colour and depth, and its row."""
    rgb, units = _sample()
    turned_rgb, turned_units = turn(rgb, units, np.random.default_rng(seed))
    for row in range(0, len(rgb), 5):
        pairs = sorted(zip(map(tuple, rgb[row]), units[row], strict=True))
        assert sorted(zip(map(tuple, turned_rgb[row]), turned_units[row], strict=True)) == pairs


def test_turns_and_mirrors_both_happen() -> None:
    columns = np.arange(16, dtype=np.uint16)[None]
    rgb = np.zeros((1, 16, 3), np.uint8)
    seen = [turn(rgb, columns, np.random.default_rng(seed))[1][0] for seed in range(40)]
    steps = [int(row[1]) - int(row[0]) for row in seen]
    assert {step % 16 for step in steps} == {1, 15}
    assert len({int(row[0]) for row in seen}) > 8


@pytest.mark.parametrize("seed", range(20))
def test_photometric_keeps_shape_and_type_and_changes_the_picture(seed: int) -> None:
    rgb, _ = _sample()
    changed = photometric(rgb, 1.0, np.random.default_rng(seed))
    assert changed.shape == rgb.shape
    assert changed.dtype == np.uint8
    assert (changed != rgb).any()


def test_strength_0_changes_nothing() -> None:
    rgb, _ = _sample()
    assert (photometric(rgb, 0.0, np.random.default_rng(0)) == rgb).all()


@pytest.mark.parametrize("sigma", [0.0, 0.4, 2.0])
def test_blur_goes_on_over_the_seam(sigma: float) -> None:
    image = np.random.default_rng(0).random((16, 32, 3), np.float32)
    blurred = wrapped_blur(image, sigma)
    assert np.allclose(wrapped_blur(np.roll(image, 7, axis=1), sigma), np.roll(blurred, 7, axis=1), atol=1e-5)
