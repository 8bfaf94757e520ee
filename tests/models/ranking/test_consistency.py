"""Consistency: views are undone exactly, their mean and spread are what is written, and damage is seen."""

import numpy as np
import pytest

from dap_engine.models.labelers.load import Estimate
from dap_engine.models.ranking.consistency import Agreement, agreements, confidence
from dap_engine.models.ranking.corruption import CORRUPTIONS, corrupted
from dap_engine.models.ranking.views import View, Views
from tests.runs import noise_depth_m

H, W = 32, 64


def room_m() -> np.ndarray:
    """The distance to the walls of a box of 8 × 5 × 3 m."""
    theta = np.pi - 2 * np.pi * (np.arange(W) + 0.5) / W
    phi = (np.pi / 2 - np.pi * (np.arange(H) + 0.5) / H)[:, None]
    axes = (np.cos(phi) * np.cos(theta), np.cos(phi) * np.sin(theta), np.sin(phi) + 0 * theta)
    sides = zip(axes, (4, 2.5, 1.5), strict=True)
    return np.min([half_m / np.maximum(abs(axis), 1e-9) for axis, half_m in sides], axis=0).astype(np.float32)


def spread_of(label_m: np.ndarray, *views_m: np.ndarray) -> float:
    agreement = Agreement()
    for view_m in views_m:
        agreement.add(Estimate(view_m))
    return agreement.spread(label_m)


def unsure_views(count: int = 8) -> list[np.ndarray]:
    """Of a labeler that is off by some percent of scale in each view."""
    return [room_m() * np.float32(1 + 0.02 * (number - count / 2)) for number in range(count)]


@pytest.mark.parametrize("view", [View(0), View(1), View(13, True), View(63, True)])
def test_a_view_is_undone_exactly(view):
    depth_m = noise_depth_m(0, H)
    assert (view.unsee(view.see(depth_m)) == depth_m).all()


@pytest.mark.parametrize("view", [View(5, False, 8.0), View(13, True, -12.0)])
def test_a_tilt_is_undone_to_the_nearest_pixels(view):
    """What is seen in the picture is found where it was: three bars, at the equator and towards a pole."""
    rgb = np.zeros((64, 128, 3), np.uint8)
    for row, column in ((30, 10), (20, 50), (44, 100)):
        rgb[row : row + 6, column : column + 6] = 200
    seen = view.see(rgb)
    assert not np.array_equal(seen, np.roll(rgb, view.columns, axis=1))
    found = view.unsee(seen[..., 0].astype(np.float32)) > 100
    assert (found & (rgb[..., 0] > 100)).sum() / (found | (rgb[..., 0] > 100)).sum() > 0.6


def test_a_tilt_is_up_and_down_in_turn_and_never_in_the_first_view():
    assert [view.tilt_deg for view in Views(2, True, 5.0).of(64)] == [0, -5, 5, -5]
    with pytest.raises(ValueError, match="tilt_deg"):
        Views(tilt_deg=40.0)


@pytest.mark.parametrize(("views", "count"), [(Views(), 8), (Views(4, False), 4), (Views(1, True), 2)])
@pytest.mark.parametrize("width", [192, 1024])
def test_turns_are_odd_spread_over_the_circle_and_all_different(views, count, width):
    seen = views.of(width)
    assert len(seen) == len(set(seen)) == len(views) == count
    columns = sorted({view.columns for view in seen})
    assert all(turn % 2 for turn in columns)
    assert np.diff([*columns, columns[0] + width]) == pytest.approx(width / len(columns), abs=2 * len(columns))


@pytest.mark.parametrize("settings", [{"yaw": 0}, {"yaw": 1, "flip": False}])
def test_one_view_cannot_agree(settings):
    with pytest.raises(ValueError, match="two at least"):
        Views(**settings)


def test_a_labeler_that_turns_with_the_panorama_agrees_with_itself():
    rgbs = [
        np.random.default_rng(n).integers(1, 255, (height, 2 * height, 3), np.uint8) for n, height in ((0, 32), (1, 48))
    ]

    def red(pictures: list[np.ndarray]) -> list[Estimate]:
        return [Estimate(picture[..., 0].astype(np.float32)) for picture in pictures]

    for rgb, found in zip(rgbs, agreements(red, rgbs, Views()), strict=True):
        assert found.mean().values == pytest.approx(rgb[..., 0].astype(np.float32), rel=1e-6)
        assert found.spread(rgb[..., 0].astype(np.float32)) == pytest.approx(0, abs=1e-6)


def test_a_labeler_that_sees_columns_does_not():
    def leftmost_is_near(pictures: list[np.ndarray]) -> list[Estimate]:
        return [Estimate(np.tile(np.linspace(1, 5, W, dtype=np.float32), (H, 1))) for _ in pictures]

    (found,) = agreements(leftmost_is_near, [np.zeros((H, W, 3), np.uint8)], Views())
    assert found.spread(found.mean().values) > 0.3


def test_mean_and_spread_by_hand():
    """ln 1, ln 4 and ln 16 have the mean ln 4, and from it √(2/3) · ln 4."""
    views = [np.full((H, W), distance_m, np.float32) for distance_m in (1, 4, 16)]
    agreement = Agreement()
    for view_m in views:
        agreement.add(Estimate(view_m))
    assert agreement.mean().values == pytest.approx(np.full((H, W), 4), rel=1e-6)
    assert agreement.spread(views[1]) == pytest.approx(np.sqrt(2 / 3) * np.log(4))
    assert agreement.spread(views[0]) == pytest.approx(np.sqrt((np.log(4) ** 2 + np.log(16) ** 2) / 3))


def test_rows_count_by_their_solid_angle():
    pole, equator = (np.ones((H, W), np.float32) for _ in range(2))
    pole[0], equator[H // 2] = 2, 2
    assert spread_of(np.ones((H, W)), equator) > 15 * spread_of(np.ones((H, W)), pole) > 0


def test_the_sky_is_what_most_views_say_and_disagreement_about_it_counts():
    sky, wall = (Estimate(np.full((H, W), 10.0, np.float32), np.full((H, W), p, np.float32)) for p in (0.9, 0.2))
    agreement, agreeing = Agreement(), Agreement()
    for _ in range(2):
        agreement.add(wall)
        agreeing.add(wall)
    assert agreeing.spread(wall.values) == pytest.approx(0, abs=1e-6)
    agreement.add(sky)
    mean = agreement.mean()
    assert mean.beyond_range == pytest.approx(np.full((H, W), (0.9 + 0.4) / 3))
    assert (mean.masked() == mean.values).all()
    assert agreement.spread(mean.masked()) == pytest.approx(np.log(10) / np.sqrt(3), rel=1e-6)


def test_functions_may_say_inf_and_nan():
    gappy = [np.full((H, W), 3.0, np.float32) for _ in range(3)]
    gappy[0][0], gappy[1][0], gappy[2][1] = np.inf, np.inf, np.nan
    for depth_m in gappy:
        depth_m[2] = np.nan
    agreement = Agreement()
    for depth_m in gappy:
        agreement.add(Estimate(depth_m))
    mean_m = agreement.mean().masked()
    assert np.isinf(mean_m[0]).all()
    assert np.isnan(mean_m[2]).all()
    assert mean_m[[1, 3]] == pytest.approx(np.full((2, W), 3))
    assert agreement.spread(mean_m) == 0, "the views agree where the label has a distance"
    assert np.isnan(agreement.spread(np.full((H, W), np.nan)))


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_the_more_a_label_is_damaged_the_lower_its_score(kind):
    views = unsure_views()
    box = np.s_[12:22, 20:26]
    for view_m in [truth_m := room_m(), *views]:
        view_m[box] *= 0.4  # an object, which can be left out
    scores = [confidence(spread_of(corrupted(truth_m, kind, amount), *views)) for amount in (0.2, 0.4, 0.7, 1.0)]
    assert confidence(spread_of(truth_m, *views)) > scores[0]
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) >= (2 if kind == "without objects" else 4)  # an object is left out whole


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_what_has_no_distance_is_not_damaged(kind):
    depth_m = room_m()
    depth_m[:4], depth_m[-2:] = np.inf, 0
    damaged_m = corrupted(depth_m, kind, 1.0)
    assert (np.isposinf(damaged_m) == np.isposinf(depth_m)).all()
    assert ((damaged_m == 0) == (depth_m == 0)).all()
    assert not np.array_equal(damaged_m, depth_m)
    assert corrupted(depth_m, kind, 0.0) is depth_m


def test_what_is_wrong_alike_in_all_views_is_not_seen():
    views = [3 * view_m for view_m in unsure_views()]
    assert spread_of(3 * room_m(), *views) == pytest.approx(spread_of(room_m(), *unsure_views()), abs=1e-6)


def test_confidence_falls_with_the_spread_and_is_none_without_one():
    assert confidence(0.0) == 1 > confidence(0.1) > confidence(2.0) > 0
    assert confidence(None) == confidence(float("nan")) == 0
