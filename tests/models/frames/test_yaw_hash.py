"""The hash of a panorama: blind to yaw, patient with codecs, and different for another place."""

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from dap_engine.models.frames.yaw_hash import HASH_BITS, hash_distance, hash_text, yaw_hash
from dap_engine.models.simulator.rendering.panoramas import labelled_panoramas
from tests.footage import panorama

HEIGHTS = st.sampled_from([16, 33, 64, 100])


@pytest.fixture(scope="module")
def rooms() -> list[np.ndarray]:
    return [room.rgb for room in labelled_panoramas(seed=31, count=6, look="field", height=128)]


@given(HEIGHTS, st.integers(0, 5), st.integers(-1000, 1000))
def test_a_turn_by_any_number_of_columns_changes_no_bit(height, seed, columns):
    rgb = panorama(height, seed)
    assert yaw_hash(np.roll(rgb, columns, axis=1)) == yaw_hash(rgb)


@settings(max_examples=50)
@given(arrays.arrays(np.uint8, st.sampled_from([(16, 32, 3), (31, 62, 3)])), st.integers(0, 62))
def test_a_turn_of_any_picture_changes_no_bit(rgb, columns):
    assert yaw_hash(np.roll(rgb, columns, axis=1)) == yaw_hash(rgb)


@pytest.mark.parametrize(("quality", "most"), [(95, 10), (90, 16), (75, 30)])
def test_a_codec_changes_few_bits(rooms, quality, most):
    for rgb in rooms:
        turned = np.ascontiguousarray(np.roll(rgb, 77, axis=1))
        coded = simplejpeg.decode_jpeg(simplejpeg.encode_jpeg(turned, quality, colorsubsampling="420"))
        assert hash_distance(yaw_hash(rgb), yaw_hash(coded)) <= most


def test_a_gain_changes_few_bits(rooms):
    for rgb in rooms:
        assert hash_distance(yaw_hash(rgb), yaw_hash((rgb * 0.9).astype(np.uint8))) <= 30


def test_other_places_are_far(rooms):
    hashes = [yaw_hash(rgb) for rgb in rooms]
    pairs = [hash_distance(one, other) for n, one in enumerate(hashes) for other in hashes[:n]]
    assert min(pairs) > 50


@given(st.integers(0, 2**HASH_BITS - 1))
def test_text_is_of_one_length(value):
    assert len(hash_text(value)) == 64
    assert int(hash_text(value), 16) == value


def test_a_picture_of_one_colour_has_no_bits():
    assert yaw_hash(np.full((64, 128, 3), 90, np.uint8)) == 0


@pytest.mark.shared
def test_real_panoramas(shared_data):
    """Turned and compressed they are found again at the limit of `extract`; no two of them are taken for one."""
    from dap_engine.models.data.pictures import read_picture
    from dap_engine.stages.extract import Extract

    limit, hashes = Extract().near_duplicate_bits, []
    for path in sorted((shared_data / "panos").iterdir()):
        rgb = read_picture(str(path))
        jpg = simplejpeg.encode_jpeg(np.ascontiguousarray(np.roll(rgb, 301, axis=1)), 90)
        hashes.append(yaw_hash(rgb))
        assert hash_distance(hashes[-1], yaw_hash(simplejpeg.decode_jpeg(jpg))) <= limit, path.name
    assert min(hash_distance(one, other) for n, one in enumerate(hashes) for other in hashes[:n]) > 2 * limit
