"""Shots, blends and still pictures."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dap_engine.models.frames.shots import FrameSignature, colour_shift, is_blend, is_cut, is_frozen, signature_of
from tests.footage import panorama


def toned(seed: int, plus: int) -> np.ndarray:
    return np.clip(panorama(64, seed) * 0.5 + plus, 0, 255).astype(np.uint8)


BRIGHT, DARK = toned(0, 110), toned(1, 10)


def mix(part: float, one: np.ndarray = BRIGHT, other: np.ndarray = DARK) -> FrameSignature:
    return signature_of(np.round((1 - part) * one + part * other).astype(np.uint8))


@given(st.integers(0, 127))
def test_a_turn_is_no_cut(columns):
    assert colour_shift(signature_of(BRIGHT), signature_of(np.roll(BRIGHT, columns, axis=1))) < 6


def test_the_shift_is_in_grey_levels():
    grey = [signature_of(np.full((64, 128, 3), level, np.uint8)) for level in (40, 120)]
    assert colour_shift(*grey) == pytest.approx(80)
    assert colour_shift(grey[0], grey[0]) == 0


@given(st.floats(0.15, 0.85))
def test_the_middle_of_a_dissolve_is_a_blend(part):
    assert is_blend(mix(0), mix(part), mix(1))


@given(st.floats(0.15, 0.85))
def test_a_fade_to_black_is_a_blend(part):
    black = np.zeros_like(BRIGHT)
    assert is_blend(signature_of(BRIGHT), mix(part, BRIGHT, black), signature_of(black))


@pytest.mark.parametrize("part", [0.0, 0.02, 0.99, 1.0])
def test_the_ends_of_a_dissolve_are_not(part):
    assert not is_blend(mix(0), mix(part), mix(1))


def test_a_third_picture_between_two_is_no_blend():
    assert is_cut(mix(0), mix(1))
    assert not is_blend(mix(0), signature_of(toned(2, 60)), mix(1))


def test_within_a_shot_nothing_is_a_blend():
    turns = [signature_of(np.roll(BRIGHT, columns, axis=1)) for columns in (0, 5, 10)]
    assert not is_blend(*turns)


def test_noise_is_still_and_a_small_change_is_not():
    noisy = (BRIGHT + np.random.Generator(np.random.PCG64(0)).integers(0, 2, BRIGHT.shape)).astype(np.uint8)
    assert is_frozen(signature_of(BRIGHT), signature_of(noisy))
    moved = BRIGHT.copy()
    moved[30:36, 40:44] = 255 - moved[30:36, 40:44]
    assert not is_frozen(signature_of(BRIGHT), signature_of(moved))
    assert not is_frozen(signature_of(BRIGHT), signature_of(panorama(32)))
