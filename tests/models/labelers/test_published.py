"""Models of other authors' packages: what they give becomes ours, and what is not there is said before any work."""

import numpy as np
import pytest
import torch

from dap_engine.models.labelers.load import check_labeler, make_labeler, sees_whole_panoramas
from dap_engine.models.labelers.patches import Patches
from dap_engine.models.labelers.published import PUBLISHED
from tests.models.labelers.stand_ins import distance_m, seen


def label(model: str, *rgbs: np.ndarray, **settings):
    labeler = make_labeler(model, device="cpu", **settings)
    assert labeler.output == check_labeler(model, settings.get("output", "auto"))
    return [estimate.values for estimate in labeler.estimate(list(rgbs))]


@pytest.mark.parametrize("scheme", ["unik3d", "dac"])
def test_metres_of_whole_panoramas(scheme, published):
    """The stand-in of DAC knows distances at 1024 rows, and sees 512: its weights give twice what is there."""
    pictures = [seen(32), seen(48)]
    found = label(f"{scheme}:{published[scheme]}", *pictures)
    for values_m, rgb in zip(found, pictures, strict=True):
        assert values_m.dtype == np.float32
        np.testing.assert_allclose(values_m, distance_m(rgb), atol=0.05)


def test_panda_gives_depth_up_to_scale_and_shift_or_metres_where_it_is_said(published):
    model = f"panda:{published['panda']}"
    (relative,), (metres,) = label(model, seen(32)), label(model, seen(32), output="metric-depth")
    np.testing.assert_allclose(relative, distance_m(seen(32)) / 10, atol=0.005)
    np.testing.assert_allclose(metres, distance_m(seen(32)), atol=0.05)
    assert check_labeler(model) == "relative-depth"
    with pytest.raises(ValueError, match="gives relative-depth: its output cannot be relative-disparity"):
        check_labeler(model, "relative-disparity")


def test_depthcrafter_takes_a_picture_for_a_shot_of_one_frame(published):
    model = f"depthcrafter:{published['depthcrafter']}"
    alone, other = label(model, seen(64), seen(128))
    assert check_labeler(model) == "relative-disparity"
    assert (alone.shape, other.shape) == ((64, 128), (128, 256))
    np.testing.assert_allclose(alone, distance_m(seen(64)).min() / distance_m(seen(64)), atol=0.01)


@pytest.mark.parametrize(
    ("scheme", "weights"), [("moge", None), ("da3", "da3metric-large"), ("da3", "da3nested-giant-large")]
)
def test_depth_of_views_becomes_ray_distance_and_the_sky_is_beyond(scheme, weights, published, tmp_path):
    rgb = seen(64)
    rgb[:8, :, 2] = 255  # the stand-ins take blue for sky
    name = f"{scheme}:{tmp_path / 'weights' / weights if weights else published[scheme]}"
    (values_m,) = label(name, rgb, patches=Patches(size=64), batch_size=5)
    below = slice(16, None)
    assert np.median(abs(values_m[below] - distance_m(rgb)[below])) < 0.02
    assert np.isinf(values_m[:4]).all()
    (usual,) = label(name, rgb)
    assert np.median(abs(usual[below] - values_m[below])) < 0.02, "without patches it sees the usual ones"


def test_other_models_of_depth_anything_3_are_relative(published, tmp_path):
    name = f"da3:{tmp_path / 'weights' / 'da3-small'}"
    (found,) = label(name, seen(64), patches=Patches(size=64))
    assert check_labeler(name) == "relative-depth"
    assert np.corrcoef(found.ravel(), distance_m(seen(64)).ravel())[0, 1] > 0.99


def test_what_a_package_draws_at_random_is_the_same_every_time(published):
    labeler = make_labeler(f"da3:{published['da3']}", device="cpu", patches=Patches(size=16))
    model, state = labeler._depth_of._model, torch.get_rng_state()  # pyright: ignore[reportAttributeAccessIssue]
    labeler.estimate([seen(16)])
    first = model.drawn
    labeler.estimate([seen(16)])
    assert model.drawn == first
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("scheme", sorted(PUBLISHED))
def test_who_sees_what(scheme, published):
    model, whole = f"{scheme}:{published[scheme]}", scheme not in ("moge", "da3")
    assert sees_whole_panoramas(model) == whole
    if whole:
        with pytest.raises(ValueError, match="sees whole panoramas: patches are not for it"):
            make_labeler(model, device="cpu", patches=Patches())
    with pytest.raises(ValueError, match="only our own model"):
        make_labeler(model, device="cpu", yaw_turns=2)


@pytest.mark.parametrize("scheme", sorted(PUBLISHED))
def test_a_package_that_is_not_there(scheme):
    if scheme == "da3":
        try:
            import depth_anything_3  # noqa: F401 # pyright: ignore[reportMissingImports]
        except ImportError:
            pass
        else:
            pytest.skip("depth-anything-3 is installed")
    with pytest.raises(ValueError, match=rf"^{scheme}:a/b needs the package \w+, which is not here: .*$") as error:
        check_labeler(f"{scheme}:a/b")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("unik3d:nowhere", "no such folder, and not a hub id"),
        ("moge:nowhere", "no such folder, and not a hub id"),
        ("panda:nowhere.pth", "no such file"),
        ("dac:a/b", "no such folder"),
        ("dac:FOLDER", "must hold one NAME.pt, and the NAME.json"),
        ("da3:FOLDER", "its config.json with its model_name cannot be read"),
    ],
)
def test_weights_that_are_not_there(model, message, published, tmp_path):
    with pytest.raises(ValueError, match=message):
        check_labeler(model.replace("FOLDER", str(tmp_path)))


def test_weights_that_do_not_fit(published, tmp_path):
    (tmp_path / "odd.pth").write_bytes(b"no weights")
    for model, message in [
        (f"moge:{tmp_path}/weights/moge-False", "has no metric scale"),
        (f"panda:{tmp_path}/odd.pth", f"panda:{tmp_path}/odd.pth: "),
    ]:
        with pytest.raises(ValueError, match=message) as error:
            make_labeler(model, device="cpu")
        assert "\n" not in str(error.value)
    torch.save({"model": {"other": torch.zeros(1)}}, tmp_path / "weights" / "dac" / "dac.pt")
    with pytest.raises(ValueError, match=r"dac:.*Missing key.*scale"):
        make_labeler(f"dac:{published['dac']}", device="cpu")
