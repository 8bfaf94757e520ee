"""Arms against a control: differences are paired, and intervals follow the spread over seeds and panoramas."""

import numpy as np
import pytest

from dap_engine.models.evaluation.comparison import compare_arms, format_comparison

RNG = np.random.default_rng(0)
PANORAMAS = RNG.uniform(0.1, 2, 60)  # some are far harder than others, alike for all arms


def arms(seeds: int = 3) -> dict[str, np.ndarray]:
    noise = RNG.normal(0, 0.01, (2, seeds, len(PANORAMAS)))
    return {"control": PANORAMAS + noise[0], "better": PANORAMAS - 0.05 + noise[1]}


def test_a_small_difference_is_seen_through_a_large_spread_of_panoramas():
    found = compare_arms(arms(), "control")
    assert found["better"]["difference"] == pytest.approx(-0.05, abs=0.005)
    low, high = found["better"]["interval"]
    assert low < -0.05 < high < -0.04
    assert "difference" not in found["control"]
    assert np.mean(found["better"]["by_seed"]) == pytest.approx(found["better"]["mean"])


def test_what_seeds_do_not_agree_about_is_not_sure():
    control, by_seed = np.tile(PANORAMAS, (3, 1)), np.array([[-0.3], [0.2], [0.1]])
    low, high = compare_arms({"control": control, "unsure": control + by_seed}, "control")["unsure"]["interval"]
    assert low < -0.1 < 0.1 < high


def test_the_same_twice_and_an_arm_like_the_control_has_no_difference():
    errors = arms()
    assert compare_arms(errors, "control") == compare_arms(errors, "control")
    same = compare_arms({"control": errors["control"], "same": errors["control"]}, "control")["same"]
    assert (same["difference"], same["interval"]) == (0, [0, 0])


def test_the_table_has_a_line_an_arm():
    compared = compare_arms(arms(), "control")
    table = format_comparison({"data": {"field": {"all": {"n": 60, "abs_rel": compared, "delta1": compared}}}})
    assert [line.split()[0] for line in table.splitlines()] == ["field,", "AbsRel", "control", "better"]


def test_the_deviation_is_that_of_the_means_of_the_seeds():
    found = compare_arms({"control": np.array([[0.1, 0.3], [0.2, 0.6], [0.5, 0.7]]), "one": np.ones((3, 2))}, "control")
    assert found["control"]["std"] == pytest.approx(0.2)  # of 0.2, 0.4, 0.6
    assert found["one"]["std"] == 0
    assert compare_arms({"control": np.ones((1, 2))}, "control")["control"]["std"] == 0
