"""What is drawn, and what a batch is changed to: like what OpenCV and libjpeg make of it, and the same in any batch."""

import io

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from dap_engine.models.data.augment import AUGMENTATION, cut_mask, draw, gaussian_noise, photometric, turn, wrapped_blur
from dap_engine.models.data.depth_png import quantise_depth
from dap_engine.models.data.jpeg import compressed
from tests.models.panoramas import HEIGHT, box_room


def _pictures(count: int) -> torch.Tensor:
    """uint8 (count, 3, H, 2H)."""
    rng = np.random.default_rng(0)
    return torch.stack([torch.from_numpy(box_room(rng)[0]).permute(2, 0, 1) for _ in range(count)])


def _drawn(count: int, strength: float = 1.0, height: int = HEIGHT) -> np.ndarray:
    return np.array([draw(strength, height, np.random.default_rng(seed)) for seed in range(count)])


def _nothing_drawn(count: int = 1) -> np.ndarray:
    drawn = np.zeros(count, AUGMENTATION)
    for name in ("balance", "saturation", "contrast", "exposure", "gamma"):
        drawn[name] = 1
    return drawn


def test_chance_comes_from_the_given_generator_alone() -> None:
    one, other, third = (draw(1.0, HEIGHT, np.random.default_rng(seed)) for seed in (5, 5, 6))
    assert one == other
    assert one != third


def test_what_is_drawn_has_the_stated_distribution() -> None:
    drawn = _drawn(4000, height=512)
    assert np.histogram(drawn["columns"], 4, (0, 1024))[0] == pytest.approx(1000, rel=0.1)
    for name, spread in (("balance", 0.15), ("contrast", 0.25), ("exposure", 0.3), ("gamma", 0.25)):
        assert np.log(drawn[name]).mean() == pytest.approx(0, abs=0.02)
        assert np.log(drawn[name]).std() == pytest.approx(spread, rel=0.05)
    assert drawn["saturation"].mean() == pytest.approx(1, abs=0.03)
    assert drawn["saturation"].std() == pytest.approx(0.4, rel=0.05)
    uniform = {"haze": (0.33, 0, 0.4), "sigma": (0.5, 0, 512 / 150), "noise": (0.5, 0, 0.06), "quality": (0.5, 25, 95)}
    for name, (share, least, most) in uniform.items():
        there = drawn[name][drawn[name] > 0]
        assert len(there) / 4000 == pytest.approx(share, abs=0.04)
        assert np.histogram(there, 4, (least, most))[0] / len(there) == pytest.approx(0.25, abs=0.04)
    assert drawn["mirrored"].mean() == pytest.approx(0.5, abs=0.04)


def test_image_and_depth_turn_alike() -> None:
    """Every pixel keeps its pair of colour and depth, and its row."""
    rgb, depth_m = box_room(np.random.default_rng(0))
    units, drawn = quantise_depth(depth_m).astype(np.int32), _drawn(8)
    turned = turn(torch.from_numpy(rgb).expand(8, -1, -1, -1), drawn).numpy()
    turned_units = turn(torch.from_numpy(units).expand(8, -1, -1), drawn).numpy()
    for image, map_ in zip(turned, turned_units, strict=True):
        for row in range(0, len(rgb), 5):
            pairs = sorted(zip(map(tuple, rgb[row]), units[row], strict=True))
            assert sorted(zip(map(tuple, image[row]), map_[row], strict=True)) == pairs


def test_a_cut_goes_on_behind_the_seam_and_its_area_is_uniform() -> None:
    mask = cut_mask(np.array([1, 2, 6, 4]), 4)
    assert mask.int().tolist() == [[0] * 8, [1, 1, 0, 0, 0, 0, 1, 1], [1, 1, 0, 0, 0, 0, 1, 1], [0] * 8]
    cuts = _drawn(2000, height=64)["cut"]
    areas = np.array([cut_mask(cut, 64).float().mean() for cut in cuts])
    assert np.histogram(areas, 4, (0, 1))[0] == pytest.approx(500, rel=0.15)
    assert (cuts[:, 0] + cuts[:, 1]).max() == 64
    assert np.histogram(cuts[:, 2], 4, (0, 128))[0] == pytest.approx(500, rel=0.15)


def test_no_strength_is_turns_and_mirrors_alone() -> None:
    rgb, _ = box_room(np.random.default_rng(0))
    images = torch.from_numpy(rgb).permute(2, 0, 1).expand(30, -1, -1, -1).contiguous()
    drawn = np.array([draw(0.0, HEIGHT, np.random.default_rng(seed)) for seed in range(30)])
    assert torch.equal(photometric(images, drawn), images)
    assert drawn["columns"].any()
    assert drawn["mirrored"].any()


def test_turns_and_mirrors_both_happen() -> None:
    columns = torch.arange(16)[None].expand(40, 1, 16)
    seen = turn(columns, _drawn(40, height=8))[:, 0]
    assert set((seen[:, 1] - seen[:, 0]).remainder(16).tolist()) == {1, 15}
    assert len(set(seen[:, 0].tolist())) > 8


def test_photometric_keeps_shape_and_type_and_changes_the_picture() -> None:
    pictures = _pictures(20)
    changed = photometric(pictures, _drawn(20))
    assert changed.shape == pictures.shape
    assert changed.dtype == torch.uint8
    assert all((one != other).any() for one, other in zip(changed, pictures, strict=True))


def test_where_nothing_is_drawn_nothing_changes() -> None:
    pictures = _pictures(2)
    assert torch.equal(photometric(pictures, _nothing_drawn(2)), pictures)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_picture_becomes_the_same_in_any_batch(threads: int) -> None:
    pictures, drawn = _pictures(6), _drawn(6)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        whole = photometric(pictures, drawn)
        alone = torch.cat([photometric(pictures[n : n + 1], drawn[n : n + 1]) for n in range(6)])
    finally:
        torch.set_num_threads(before)
    assert torch.equal(whole, alone)


def test_colour_and_haze_are_what_their_definitions_say() -> None:
    (picture,), drawn = _pictures(1), _drawn(1)
    drawn["sigma"] = drawn["noise"] = drawn["quality"] = 0
    drawn["veil"], drawn["haze"] = (0.8, 0.75, 0.7), 0.3
    it = drawn[0]
    image = picture.permute(1, 2, 0).numpy() / 255 * it["balance"]
    gray = image @ np.array([0.299, 0.587, 0.114])
    image = gray[..., None] + it["saturation"] * (image - gray[..., None])
    image = ((image - gray.mean()) * it["contrast"] + gray.mean()) * it["exposure"]
    image = image.clip(0, 1) ** it["gamma"]
    image = image * (1 - it["haze"]) + it["veil"] * it["haze"]
    changed = photometric(picture[None], drawn)[0].permute(1, 2, 0).numpy()
    assert np.abs(changed - image.clip(0, 1) * 255).max() < 0.51


@pytest.mark.parametrize("sigma", [0.0, 0.4, 2.0])
def test_blur_is_gaussian_and_goes_on_over_the_seam(sigma: float) -> None:
    image = np.random.default_rng(0).random((32, 64, 3), np.float32)
    wide = cv2.copyMakeBorder(image, 0, 0, 16, 16, cv2.BORDER_WRAP)
    expected = cv2.GaussianBlur(wide, (0, 0), max(sigma, 1e-3))[:, 16:-16]
    chw = torch.from_numpy(image).permute(2, 0, 1)
    blurred = wrapped_blur(torch.stack([chw, chw]), np.array([sigma, 2.5]))[0]
    assert np.abs(blurred.permute(1, 2, 0).numpy() - expected).max() < 1e-3


def test_noise_is_normal_and_depends_on_its_seed() -> None:
    noise = gaussian_noise(torch.Size((3, 128, 256)), np.array([1, 2**32 - 1, 7], np.uint32), torch.device("cpu"))
    for values in noise:
        assert values.mean().item() == pytest.approx(0, abs=0.02)
        assert values.std().item() == pytest.approx(1, rel=0.01)
        assert (values**4).mean().item() == pytest.approx(3, rel=0.04)
        assert (values[..., 1:] * values[..., :-1]).mean().item() == pytest.approx(0, abs=0.02)
    assert (noise[0] * noise[1]).mean().item() == pytest.approx(0, abs=0.02)
    again = gaussian_noise(torch.Size((3, 128, 256)), np.array([7], np.uint32), torch.device("cpu"))
    assert torch.equal(again[0], noise[2])


@pytest.mark.parametrize("quality", [25, 60, 95])
def test_compression_is_that_of_libjpeg(quality: int) -> None:
    """With its exact transform; half of the pixels may differ by a rounding where the steps are fine."""
    rng = np.random.default_rng(0)
    rgb = cv2.resize(rng.integers(0, 255, (8, 16, 3), np.uint8), (128, 64), interpolation=cv2.INTER_CUBIC)
    rgb = (rgb + rng.normal(0, 8, rgb.shape)).clip(0, 255).astype(np.uint8)[:60, :116]  # blocks that are cut, too
    file = io.BytesIO()
    Image.fromarray(rgb).save(file, "jpeg", quality=quality, subsampling=0)
    expected = np.array(Image.open(file)).astype(int)
    changed = compressed(torch.from_numpy(rgb).permute(2, 0, 1)[None], np.array([quality]))[0].permute(1, 2, 0).numpy()
    lost = np.abs(expected - rgb).mean()
    assert np.abs(changed - expected).mean() < 0.3 * lost
    assert np.abs(changed.astype(int) - rgb).mean() == pytest.approx(lost, rel=0.02)
