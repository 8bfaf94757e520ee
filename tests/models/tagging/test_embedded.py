"""The embedded tagger, on drawn scenes, on what must not matter, and on real panoramas."""

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dap_engine.models.simulator.rendering.panoramas import labelled_panoramas
from dap_engine.models.tagging.tagger import make_tagger

HEIGHT, WIDTH = 256, 512
LATITUDE_DEG = 90 - 180 * (np.arange(HEIGHT) + 0.5) / HEIGHT


def noise(strength: float, seed: int) -> np.ndarray:
    return np.random.Generator(np.random.PCG64(seed)).normal(0, strength, (HEIGHT, WIDTH, 1))


def meadow(seed: int = 0) -> np.ndarray:
    """A blue sky that pales towards the horizon, over textured grass."""
    up = np.sin(np.radians(LATITUDE_DEG)).clip(0)[:, None, None]
    sky = np.array([200, 215, 235]) * (1 - up) + np.array([70, 120, 210]) * up
    grass = np.array([90, 120, 50]) * (1 + noise(0.25, seed))
    return np.where(LATITUDE_DEG[:, None, None] > 0, sky, grass).clip(0, 255).astype(np.uint8)


def room(seed: int = 0) -> np.ndarray:
    """A warm ceiling with lamps, pale walls with dark doors, a plain floor with a few dark things on it."""
    rgb = np.empty((HEIGHT, WIDTH, 3))
    rgb[:] = [205, 190, 165]
    rgb[LATITUDE_DEG > 35] = [190, 175, 150]
    rgb[LATITUDE_DEG < -30] = [140, 110, 85]
    rgb[30:40, ::128] = 255
    for column in (60, 200, 330, 460):
        rgb[100:190, column : column + 25] = [70, 50, 40]
    return (rgb * (1 + noise(0.01, seed))).clip(0, 255).astype(np.uint8)


def p_indoor(*rgbs: np.ndarray) -> list[float]:
    return [tag.p_indoor for tag in make_tagger().tag(list(rgbs))]


@pytest.mark.parametrize("seed", range(3))
def test_a_meadow_is_outdoor_and_a_room_indoor(seed):
    assert [tag.scene for tag in make_tagger().tag([meadow(seed), room(seed)])] == ["outdoor", "indoor"]


@settings(max_examples=15, deadline=None)
@given(columns=st.integers(0, WIDTH - 1))
def test_it_does_not_matter_where_the_camera_looks(columns):
    for scene in (meadow(), room()):
        assert p_indoor(np.roll(scene, columns, axis=1))[0] == pytest.approx(p_indoor(scene)[0], abs=0.05)


@pytest.mark.parametrize("size", [(1024, 512), (2048, 1024), (1280, 720), (426, 214)])
def test_the_size_of_the_frame_hardly_matters(size):
    for scene in (meadow(), room()):
        resized = cv2.resize(scene, size, interpolation=cv2.INTER_LINEAR)
        assert p_indoor(resized)[0] == pytest.approx(p_indoor(scene)[0], abs=0.15)


@pytest.mark.parametrize("value", [0, 128, 255])
def test_a_frame_without_content_has_a_probability_too(value):
    assert 0 <= p_indoor(np.full((64, 128, 3), value, np.uint8))[0] <= 1


def test_a_batch_is_answered_as_its_panoramas_one_by_one():
    assert p_indoor(meadow(), room()) == [*p_indoor(meadow()), *p_indoor(room())]


@pytest.mark.slow
@pytest.mark.parametrize("look", ["synthetic", "field"])
def test_most_simulated_panoramas_are_right(look):
    panoramas = list(labelled_panoramas(seed=7, count=24, look=look, height=96, views_per_scene=1))
    answers = p_indoor(*(panorama.rgb for panorama in panoramas))
    right = [(p > 0.5) == (panorama.info["scene"] == "indoor") for p, panorama in zip(answers, panoramas, strict=True)]
    assert np.mean(right) >= 0.85


@pytest.mark.shared
def test_nine_in_ten_real_panoramas_are_right(shared_data: Path):
    """Half of them were fitted to; half-open places, whose label is arguable, are left out."""
    with (shared_data / "MANIFEST.csv").open() as manifest:
        rows = [row for row in csv.DictReader(manifest) if row["kind"] == "pano" and "BOUNDARY" not in row["notes"]]
    rgbs = [cv2.cvtColor(cv2.imread(str(shared_data / row["file"])), cv2.COLOR_BGR2RGB) for row in rows]
    right = [(p > 0.5) == (row["scene"] == "indoor") for row, p in zip(rows, p_indoor(*rgbs), strict=True)]
    assert len(right) >= 30
    assert np.mean(right) >= 0.9
