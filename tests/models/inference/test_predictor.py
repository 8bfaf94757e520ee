from pathlib import Path

import numpy as np
import pytest
import torch

from dap_engine.models.data.depth_png import decode_depth_png, encode_depth_png
from dap_engine.models.data.images import resize_rgb
from dap_engine.models.data.pixel_values import pixel_values
from dap_engine.models.geometry.equirectangular import resize
from dap_engine.models.inference.predictor import DepthPredictor, Prediction, QualityScorer
from dap_engine.models.labelers.load import make_labeler
from dap_engine.models.network.discriminator import Discriminator, DiscriminatorConfig
from tests.models.network.test_dap import small


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    small().save_pretrained(folder)
    return folder


def _images(*shapes: tuple[int, int]) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*shape, 3), np.uint8) for shape in shapes]


def test_every_image_gets_depth_of_its_own_size(folder: Path) -> None:
    shapes = [(32, 64), (64, 128), (50, 101), (16, 32)]
    predictions = DepthPredictor(folder, "cpu", batch_size=3).predict(_images(*shapes))
    for prediction, shape in zip(predictions, shapes, strict=True):
        for values in (prediction.depth_m, prediction.beyond_range):
            assert values.shape == shape
            assert values.dtype == np.float32
        assert ((prediction.depth_m > 0) & (prediction.depth_m < 100)).all()
        assert ((prediction.beyond_range >= 0) & (prediction.beyond_range <= 1)).all()


def test_at_the_native_size_it_is_the_model_itself(folder: Path) -> None:
    (rgb,) = _images((32, 64))
    mean, std = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
    pixel_values = torch.from_numpy((rgb / np.float32(255) - mean) / std).permute(2, 0, 1)[None]
    with torch.no_grad():
        expected = small()(pixel_values).predicted_depth[0].numpy()
    (prediction,) = DepthPredictor(folder, "cpu").predict([rgb])
    assert np.allclose(prediction.depth_m, expected, rtol=1e-5)


def test_a_mask_for_a_nearer_threshold_takes_distances_away_where_it_is_asked_to(tmp_path: Path) -> None:
    images = _images((32, 64))
    for threshold_m, masked in ((100.0, True), (20.0, False)):
        small(range_threshold_m=threshold_m, initial_beyond_range=0.999).save_pretrained(tmp_path)
        (prediction,) = DepthPredictor(tmp_path, "cpu").predict(images)
        (estimate,) = make_labeler(str(tmp_path), device="cpu").estimate(images)
        assert np.isinf(prediction.masked_depth_m()).any() == np.isinf(estimate.masked()).any() == masked
        hidden = np.isinf if masked else np.isnan
        for one in (prediction.masked_depth_m(nearer=True), estimate.masked(nearer=True)):
            np.testing.assert_array_equal(hidden(one), prediction.beyond_range > 0.5)
        assert estimate.nearer_m == (None if masked else 20.0)
        assert prediction.beyond_range.mean() > 0.9
        np.testing.assert_array_equal(estimate.beyond_range, prediction.beyond_range)
    small(range_threshold_m=None).save_pretrained(tmp_path)
    assert make_labeler(str(tmp_path), device="cpu").estimate(images)[0].beyond_range is None
    assert (DepthPredictor(tmp_path, "cpu").predict(images)[0].beyond_range == 0).all()


def test_the_model_may_see_more_than_its_own_size(folder: Path) -> None:
    """By hand: the panorama resized, predicted, and resized back around the seam."""
    (rgb,) = _images((96, 192))
    values = pixel_values([resize_rgb(rgb, 64, 128)])
    with torch.no_grad():
        expected = resize(small()(values).predicted_depth[:, None], 96, 192)[0, 0].numpy()
    (found,) = DepthPredictor(folder, "cpu", height=64).predict([rgb])
    assert np.allclose(found.depth_m, expected, rtol=1e-5)
    assert not np.allclose(DepthPredictor(folder, "cpu").predict([rgb])[0].depth_m, found.depth_m, rtol=1e-2)
    for height in (0, -8, 4, 36):
        with pytest.raises(ValueError, match=f"a height of {height} is no multiple of the model's patch, 8"):
            DepthPredictor(folder, "cpu", height=height)


def test_neighbours_in_the_list_do_not_matter(folder: Path) -> None:
    images = _images((32, 64), (32, 64), (64, 128))
    predictor = DepthPredictor(folder, "cpu", batch_size=2)
    together = predictor.predict(images)
    for image, prediction in zip(images, together, strict=True):
        assert np.allclose(predictor.predict([image])[0].depth_m, prediction.depth_m, rtol=1e-5)
    assert predictor.predict([]) == []


def _error_under_yaw(folder: Path, yaw_turns: int) -> float:
    """Of a quarter turn."""
    (rgb,) = _images((32, 64))
    predictor = DepthPredictor(folder, "cpu", yaw_turns=yaw_turns)
    straight, turned = (predictor.predict([image])[0] for image in (rgb, np.roll(rgb, 16, axis=1)))
    pairs = [(turned.depth_m, straight.depth_m), (turned.beyond_range, straight.beyond_range)]
    return max(float(np.abs(np.roll(one, -16, axis=1) / other - 1).max()) for one, other in pairs)


def test_the_mean_over_turns_turns_with_the_panorama(tmp_path: Path) -> None:
    """Which a single prediction of the plain decoder does not."""
    small("plain").save_pretrained(tmp_path)
    assert _error_under_yaw(tmp_path, 4) < 1e-5
    assert _error_under_yaw(tmp_path, 1) > 1e-3
    with pytest.raises(ValueError, match="yaw_turns must be at least 1, not 0"):
        DepthPredictor(tmp_path, "cpu", yaw_turns=0)


def test_distances_are_averaged_by_their_logarithms(folder: Path) -> None:
    (rgb,) = _images((32, 64))
    single = DepthPredictor(folder, "cpu")
    half = np.roll(single.predict([np.roll(rgb, 32, axis=1)])[0].depth_m, -32, axis=1)
    expected = np.sqrt(single.predict([rgb])[0].depth_m * half)
    (mean,) = DepthPredictor(folder, "cpu", yaw_turns=2).predict([rgb])
    assert np.allclose(mean.depth_m, expected, rtol=1e-5)


def test_bfloat16_is_a_choice_on_every_device(folder: Path) -> None:
    images = _images((32, 64), (32, 64))
    exact, coarse = (DepthPredictor(folder, "cpu", precision=p).predict(images) for p in ("float32", "bfloat16"))
    for one, other in zip(exact, coarse, strict=True):
        assert other.depth_m.dtype == np.float32
        assert 0 < np.abs(other.depth_m / one.depth_m - 1).max() < 0.05


@pytest.mark.parametrize("image", [np.zeros((8, 16), np.uint8), np.zeros((8, 16, 3)), np.zeros((0, 16, 3), np.uint8)])
def test_what_is_no_image_is_refused(folder: Path, image: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected uint8 images"):
        DepthPredictor(folder, "cpu").predict([image])


def test_the_masked_depth_is_what_the_png_takes() -> None:
    prediction = Prediction(np.float32([[3.0, 99.0]]), np.float32([[0.4, 0.6]]))
    decoded = decode_depth_png(encode_depth_png(prediction.masked_depth_m()))
    assert decoded.depth_m.tolist() == [[3.0, np.inf]]
    assert decoded.beyond_range.tolist() == [[False, True]]


def test_the_scorer_takes_images_and_depth_of_any_size(tmp_path: Path) -> None:
    model = Discriminator.new(DiscriminatorConfig.tiny(image_height=32))
    model.save_pretrained(tmp_path)
    scorer = QualityScorer(tmp_path, "cpu", batch_size=2)
    images = _images((32, 64), (64, 128), (32, 64))
    depths_m = [np.full(image.shape[:2], 5, np.float32) for image in images]
    depths_m[1][:10] = np.inf
    scores = scorer.score(images, depths_m)
    assert all(0 < score < 1 for score in scores)
    assert scorer.score(images[2:], depths_m[2:]) == pytest.approx(scores[2:])
    with pytest.raises(ValueError, match="3 images but 2 depth maps"):
        scorer.score(images, depths_m[:2])
