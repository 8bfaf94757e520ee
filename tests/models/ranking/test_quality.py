"""Rank quality: a ranker that is known to be perfect, one that is reversed, and ones that know nothing."""

import numpy as np
import pytest

from dap_engine.models.drawing.ranking import top_ratios_png
from dap_engine.models.ranking.quality import Judged, format_table, rank_quality, spearman, top_ratios

ERRORS = np.array([0.4, 0.1, 0.3, 0.2])


def judged(seed: int = 1, count: int = 40) -> Judged:
    rng = np.random.Generator(np.random.PCG64(seed))
    abs_rel = rng.uniform(0.1, 1.0, count)
    scores = {"reversed": abs_rel, "perfect": -abs_rel, "constant": np.zeros(count), "noise": rng.uniform(size=count)}
    return Judged(abs_rel, 1 - abs_rel, scores)


@pytest.fixture(scope="module")
def figures() -> dict:
    return rank_quality({"outdoor": judged(0, 31), "indoor": judged()}, seed=3)


def mean_ranks(values: np.ndarray) -> list[float]:
    return [float(np.sum(values < value) + (np.sum(values == value) + 1) / 2) for value in values]


def test_spearman_is_pearson_s_of_the_ranks_and_equal_values_share_theirs():
    rng = np.random.Generator(np.random.PCG64(0))
    for values in (1000, 4):
        one, other = rng.integers(0, values, (2, 60)).astype(float)
        assert spearman(one, other) == pytest.approx(np.corrcoef(mean_ranks(one), mean_ranks(other))[0, 1])
    assert spearman(np.array([1.0, 2, 3, 4, 5]), np.array([2.0, 1, 4, 3, 5])) == pytest.approx(0.8)  # 1 − 6·4 / 120


@pytest.mark.parametrize("same", [[1.0], [2.0, 2.0, 2.0]])
def test_what_is_the_same_everywhere_ranks_nothing(same):
    assert spearman(np.array(same), np.arange(len(same), dtype=float)) == 0


def test_ratios_of_the_best_by_hand():
    assert top_ratios(-ERRORS, ERRORS) == pytest.approx([0.4, 0.6, 0.8, 1.0])
    assert top_ratios(ERRORS, ERRORS) == pytest.approx([1.6, 1.4, 1.2, 1.0])
    assert top_ratios(np.zeros(4), ERRORS)[0] == pytest.approx(1.6), "equal scores are taken in their order"
    assert (top_ratios(ERRORS, np.zeros(4)) == 1).all()


def test_a_perfect_ranker_is_the_oracle_and_a_reversed_one_its_opposite(figures):
    for scene in figures["scenes"].values():
        perfect, reverse = scene["rankers"]["perfect"], scene["rankers"]["reversed"]
        assert (perfect["spearman"], reverse["spearman"]) == pytest.approx((1, -1))
        assert (perfect["spearman_delta1"], reverse["spearman_delta1"]) == pytest.approx((1, -1))
        assert perfect["spearman_interval"] == pytest.approx([1, 1])
        for name, value in scene["oracle"].items():
            assert perfect[name] == value
        assert scene["oracle"]["top_half_abs_rel_ratio"] < 0.8 < 1.2 < reverse["top_half_abs_rel_ratio"]
        assert scene["oracle"]["top_tenth_abs_rel_ratio"] < scene["oracle"]["top_quarter_abs_rel_ratio"]


def test_a_constant_score_is_worth_nothing_and_noise_includes_zero(figures):
    for scene in figures["scenes"].values():
        assert scene["rankers"]["constant"]["spearman"] == 0
        low, high = scene["rankers"]["noise"]["spearman_interval"]
        assert low < 0 < high
        low, high = scene["random"]["top_half_abs_rel_ratio_interval"]
        assert low < scene["random"]["top_half_abs_rel_ratio"] == 1 < high


def test_an_interval_is_about_as_wide_as_theory_says():
    """Of no correlation, ± 1.96 / √(n − 1)."""
    (scene,) = rank_quality({"indoor": judged(5, 200)})["scenes"].values()
    low, high = scene["rankers"]["noise"]["spearman_interval"]
    assert high - low == pytest.approx(2 * 1.96 / np.sqrt(199), rel=0.15)


def test_the_best_mean_over_scenes_is_chosen_not_the_best_of_one():
    first = Judged(ERRORS, 1 - ERRORS, {"one": -ERRORS, "both": np.array([0.2, 0.9, 0.4, 0.3])})
    second = Judged(ERRORS, 1 - ERRORS, {"one": ERRORS, "both": -ERRORS})
    assert rank_quality({"indoor": first, "outdoor": second})["chosen"] == "both"
    assert rank_quality({"indoor": first})["chosen"] == "one"


def test_the_same_figures_twice_and_other_intervals_from_another_seed(figures):
    scenes = {"outdoor": judged(0, 31), "indoor": judged()}
    assert rank_quality(scenes, seed=3) == figures
    assert rank_quality(scenes, seed=4) != figures


def test_one_label_alone_has_figures_too():
    figures = rank_quality({"indoor": Judged(np.array([0.5]), np.array([0.5]), {"a": np.array([0.1])})})
    assert figures["scenes"]["indoor"]["rankers"]["a"]["spearman"] == 0
    assert figures["scenes"]["indoor"]["oracle"]["top_tenth_abs_rel_ratio"] == 1


def test_the_table_has_a_row_for_every_ranker_of_every_scene(figures):
    lines = format_table(figures).splitlines()
    starts = [line.split()[0] for line in lines[1:]]
    rankers = ["reversed", "perfect", "constant", "noise", "oracle", "random"]
    assert starts == ["indoor:", *rankers, "outdoor:", *rankers, "chosen:"]
    assert "+1.000" in lines[3]


def test_the_picture_has_the_same_bytes_twice():
    lines = {"indoor": {"a": top_ratios(-ERRORS, ERRORS)}, "outdoor": {"a": top_ratios(ERRORS, ERRORS)}}
    assert top_ratios_png(lines) == top_ratios_png(lines)
    assert top_ratios_png(lines)[:4] == b"\x89PNG"
