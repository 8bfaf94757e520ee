"""Training of the tilt network: what it is shown, what it minimises, and that it learns."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dap_engine.models.geometry import equirectangular as erp
from dap_engine.models.horizon.sphere_view import erp_rays
from dap_engine.models.horizon.tilt_network import HEIGHT, KINDS, VIEW_HEIGHT, WIDTH, TiltNetwork, network_input
from dap_engine.models.horizon.tilt_pictures import TiltPictures
from dap_engine.models.horizon.tilt_training import train_tilt, von_mises_fisher_nll
from tests.footage import panorama


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


def bright_above() -> np.ndarray:
    half = np.full((VIEW_HEIGHT // 2, 2 * VIEW_HEIGHT, 3), 220, np.uint8)
    return np.vstack([half, half // 5])


def test_the_up_vector_of_a_picture_points_to_its_zenith():
    pictures = TiltPictures([bright_above()])
    rays = erp_rays(VIEW_HEIGHT)
    weight = erp.solid_angle(VIEW_HEIGHT, 2 * VIEW_HEIGHT).numpy()
    cosines = []
    for seed in range(40):
        picture, up = pictures.whole(rng(seed))
        brightest = np.einsum("hwi,hw->i", rays, weight * (picture.mean(axis=2) - np.average(picture.mean(axis=2))))
        cosines.append(up @ brightest / np.linalg.norm(brightest))
    assert np.median(cosines) > 0.95


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_are_those_of_their_generator(kind):
    pictures = TiltPictures([panorama(96, 1)], [[panorama(192, 2), panorama(192, 3)]])
    first, second, other = (pictures.draw(kind, rng(seed))[0] for seed in (4, 4, 5))
    assert first.shape == (VIEW_HEIGHT, 2 * VIEW_HEIGHT, 3)
    assert 0 <= first.min() <= first.max() <= 1
    assert (first == second).all()
    assert (first != other).any()


def test_nothing_to_learn_from():
    with pytest.raises(ValueError, match="no panoramas"):
        TiltPictures([])


def test_input_does_not_depend_on_exposure():
    rgb = panorama(VIEW_HEIGHT)
    darker = network_input((rgb / 255 * 0.5).astype(np.float32))
    assert darker.shape == (6, HEIGHT, WIDTH)
    assert np.abs(darker - network_input(rgb))[:3].mean() < 0.15


def test_evidence_turns_with_the_panorama():
    """By whole strides of the network; the mark of the borders, which stays, is taken away."""
    torch.manual_seed(0)
    network = TiltNetwork().eval()
    network.position[:, 1] = 0
    inputs = torch.randn(1, 6, HEIGHT, WIDTH)
    with torch.inference_mode():
        evidence, logits = network(inputs)
        turned, turned_logits = network(inputs.roll(-16, dims=-1))  # the scene moves left, by 60°
    expected = erp.rotation_matrix(yaw_deg=60).float() @ evidence[0]
    assert torch.allclose(turned[0], expected, atol=1e-4)
    assert torch.allclose(turned_logits, logits, atol=1e-4)


@given(st.floats(0.01, 300))
def test_the_density_integrates_to_one(kappa):
    """Over cos t, the only thing it depends on: ∫ 2π p d(cos t) = 1."""
    cosines = torch.linspace(-1, 1, 20001, dtype=torch.float64)
    points = torch.stack([(1 - cosines**2).clamp_min(0).sqrt(), torch.zeros_like(cosines), cosines], dim=1)
    evidence = torch.tensor([0.0, 0.0, kappa], dtype=torch.float64).expand_as(points)
    density = torch.exp(-von_mises_fisher_nll(evidence, points))
    assert 2 * np.pi * torch.trapezoid(density, cosines) == pytest.approx(1, rel=1e-3)


@pytest.mark.slow
def test_training_learns_and_repeats_itself():
    pictures = TiltPictures([bright_above()])
    lines: list[str] = []
    first = train_tilt(pictures, 10, seed=3, peak_lr=3e-3, log=lines.append)
    assert float(lines[-1].rsplit(" ", 1)[1]) < np.log(4 * np.pi) + 0.5 * np.log(3)  # of knowing nothing
    again = train_tilt(pictures, 10, seed=3, peak_lr=3e-3, log=lines.append)
    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), again.state_dict().values(), strict=True))


def test_saved_and_loaded(tmp_path):
    network = TiltNetwork().eval()
    network.save(tmp_path)
    inputs = torch.randn(2, 6, HEIGHT, WIDTH)
    for ours, theirs in zip(network(inputs), TiltNetwork.load(tmp_path)(inputs), strict=True):
        assert torch.equal(ours, theirs)
