from pathlib import Path

import pytest
import torch

from dap_engine.models.network.discriminator import Discriminator, DiscriminatorConfig


def _inputs(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, 3, 32, 64, generator=generator), torch.rand(2, 32, 64, generator=generator) * 30 + 0.5


MODEL = Discriminator.new(DiscriminatorConfig.tiny(image_height=32)).eval()


def test_there_is_a_logit_for_every_patch_and_a_score_for_every_image() -> None:
    assert MODEL(*_inputs()).shape == (2, 4, 8)
    scores = MODEL.score(*_inputs())
    assert scores.shape == (2,)
    assert ((scores > 0) & (scores < 1)).all()


def test_the_patches_turn_with_the_panorama() -> None:
    pixels, depth_m = _inputs()
    turned = MODEL(pixels.roll(16, -1), depth_m.roll(16, -1))
    assert torch.allclose(turned, MODEL(pixels, depth_m).roll(2, -1), atol=1e-5)


def test_a_score_does_not_depend_on_the_rest_of_the_batch() -> None:
    pixels, depth_m = _inputs()
    assert torch.allclose(MODEL.score(pixels[:1], depth_m[:1]), MODEL.score(pixels, depth_m)[:1], atol=1e-6)


def test_image_and_depth_both_count() -> None:
    (pixels, depth_m), (other_pixels, other_depth_m) = _inputs(), _inputs(1)
    score = MODEL.score(pixels, depth_m)
    assert not torch.allclose(score, MODEL.score(other_pixels, depth_m))
    assert not torch.allclose(score, MODEL.score(pixels, other_depth_m))


def test_beyond_the_range_is_as_far_as_the_range_and_missing_is_finite() -> None:
    pixels, depth_m = _inputs()
    depth_m[:, :8], depth_m[:, 8:16] = torch.inf, torch.nan
    finite = depth_m.clone()
    finite[:, :8], finite[:, 8:16] = 100.0, 0.0
    assert torch.equal(MODEL.score(pixels, depth_m), MODEL.score(pixels, finite))


def test_a_folder_gives_back_the_same_judge(tmp_path: Path) -> None:
    MODEL.save_pretrained(tmp_path)
    assert torch.equal(Discriminator.from_folder(tmp_path).score(*_inputs()), MODEL.score(*_inputs()))


def test_with_a_depth_cell_what_is_finer_does_not_count() -> None:
    """Distances are shuffled within every square of 8: the same mean of ln distance, another sharpness."""
    pixels, depth_m = _inputs()
    squares = depth_m.reshape(2, 4, 8, 8, 8)
    finer_m = squares.flip(2, 4).reshape(depth_m.shape)
    coarse = Discriminator.new(DiscriminatorConfig.tiny(image_height=32, depth_cell=8)).eval()
    assert torch.allclose(coarse.score(pixels, depth_m), coarse.score(pixels, finer_m), atol=1e-6)
    assert not torch.allclose(coarse.score(pixels, depth_m), coarse.score(pixels, 2 * depth_m), atol=1e-4)
    assert not torch.allclose(MODEL.score(pixels, depth_m), MODEL.score(pixels, finer_m), atol=1e-4)


@pytest.mark.parametrize("cell", [0, 5])
def test_a_depth_cell_divides_the_height(cell: int) -> None:
    with pytest.raises(ValueError, match=f"depth_cell {cell} does not divide"):
        Discriminator.new(DiscriminatorConfig.tiny(image_height=32, depth_cell=cell))
