import hashlib
import io
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from dap_engine.models.data.depth_png import (
    UNITS_PER_METRE,
    decode_depth_png,
    decode_units,
    encode_depth_png,
    encode_units,
    summarise_depth,
)

SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, max_side=12)


@given(hnp.arrays(np.float32, SHAPES, elements=st.floats(width=32)))
def test_what_is_encoded_comes_back_to_half_a_unit(depth_m: np.ndarray) -> None:
    decoded = decode_depth_png(encode_depth_png(depth_m, range_m=100))
    with np.errstate(invalid="ignore"):
        assert (decoded.valid == ((depth_m > 0) & (depth_m <= 100))).all()
        assert (decoded.beyond_range == (depth_m > 100)).all()
    error_m = np.abs(decoded.depth_m - np.where(decoded.valid, depth_m, 0))
    tolerance_m = np.where(depth_m < 0.5 / UNITS_PER_METRE, 1, 0.5) / UNITS_PER_METRE  # the nearest become one unit
    assert (error_m <= tolerance_m)[decoded.valid].all()
    assert np.isinf(decoded.depth_m[decoded.beyond_range]).all()
    assert np.isnan(decoded.depth_m[~decoded.valid & ~decoded.beyond_range]).all()


@given(hnp.arrays(np.uint16, SHAPES))
def test_every_unit_survives_decoding_and_encoding(units: np.ndarray) -> None:
    range_m = 65534 / UNITS_PER_METRE
    written = cv2.imencode(".png", units)[1].tobytes()
    again = encode_depth_png(decode_depth_png(written).depth_m, range_m=range_m)
    assert (np.array(Image.open(io.BytesIO(again))) == units).all()


def test_the_units_are_those_of_the_stanford_convention() -> None:
    depth_m = np.float32([[1.0, 0.5, 99.0, np.inf, 0.0, np.nan]])
    stored = np.array(Image.open(io.BytesIO(encode_depth_png(depth_m))))
    assert stored.tolist() == [[512, 256, 50688, 65535, 0, 0]]


def test_range_and_mask_decide_what_is_beyond_and_what_is_missing() -> None:
    depth_m = np.float32([[5, 15, 25, np.inf]])
    valid = np.array([[True, True, False, False]])
    decoded = decode_depth_png(encode_depth_png(depth_m, range_m=10, valid=valid))
    assert decoded.valid.tolist() == [[True, False, False, False]]
    assert decoded.beyond_range.tolist() == [[False, True, False, False]]


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (7, 1), (33, 66)])
def test_other_readers_see_the_same_units(shape: tuple[int, int]) -> None:
    units = np.random.default_rng(1).integers(0, 2**16, shape, np.uint16)
    data = encode_units(units)
    assert (np.array(Image.open(io.BytesIO(data))) == units).all()
    assert (cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) == units).all()
    assert (decode_units(data) == units).all()


@pytest.mark.parametrize(
    "filters", [cv2.IMWRITE_PNG_FILTER_SUB, cv2.IMWRITE_PNG_FILTER_UP, cv2.IMWRITE_PNG_ALL_FILTERS]
)
def test_maps_of_other_writers_are_read(filters: int) -> None:
    units = np.cumsum(np.random.default_rng(2).integers(0, 40, (300, 600)), axis=1).astype(np.uint16)
    written = cv2.imencode(".png", units, (cv2.IMWRITE_PNG_FILTER, filters))[1].tobytes()
    assert written.count(b"IDAT") > 1  # ours have one
    assert (decode_units(written) == units).all()
    pillow = io.BytesIO()
    Image.fromarray(units).save(pillow, "png")
    assert (decode_units(pillow.getvalue()) == units).all()


def test_bytes_are_the_same_on_every_machine() -> None:
    rows, columns = np.mgrid[0:64, 0:128]
    units = (800 + 13 * rows + 7 * columns + (rows * columns) % 5).astype(np.uint16)
    assert (
        hashlib.sha256(encode_units(units)).hexdigest()
        == "7c6bddaf0a2a78e45b3162d2e139d1da347314413d60ef8933776b2cb6cee4a3"
    )


def test_bytes_are_deterministic() -> None:
    depth_m = np.random.default_rng(0).uniform(0, 120, (64, 128)).astype(np.float32)
    assert encode_depth_png(depth_m) == encode_depth_png(depth_m.copy())


def test_the_first_bytes_are_a_block_of_their_own() -> None:
    """In ISA-L's loop, what becomes of a stream's third byte depends on where the stream's state lies in memory."""
    sky = np.full((4, 600), 65535, np.uint16)
    png = encode_units(sky)
    content = png[png.index(b"IDAT") + 4 : -16]
    end_of_block = content.index(b"\x00\x00\xff\xff") + 4
    assert zlib.decompressobj().decompress(content[:end_of_block]) == b"\x02" + b"\xff" * 7
    assert (decode_units(png) == sky).all()


@pytest.mark.parametrize("range_m", [0, -1, 128, float("nan")])
def test_a_range_that_the_format_cannot_hold_is_refused(range_m: float) -> None:
    with pytest.raises(ValueError, match="range_m"):
        encode_depth_png(np.ones((2, 4), np.float32), range_m=range_m)


def _png(array: np.ndarray) -> bytes:
    return cv2.imencode(".png", array)[1].tobytes()


def _bomb() -> bytes:
    data = bytearray(_png(np.zeros((4, 4), np.uint16)))
    data[16:24] = (60000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    return bytes(data)


UNITS = np.random.default_rng(0).integers(0, 65535, (16, 32), np.uint16)
GOOD, OURS = _png(UNITS), encode_units(UNITS)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a PNG"),
        (b"GIF89a" + bytes(100), "not a PNG"),
        (_png(np.zeros((4, 4), np.uint8)), "bit depth 8"),
        (_png(np.zeros((4, 4, 3), np.uint16)), "colour type 2"),
        (GOOD[: len(GOOD) // 2], "truncated"),
        (GOOD[:60] + bytes(200) + GOOD[260:], "damaged"),
        (OURS[: len(OURS) // 2], "truncated"),
        (OURS[:60] + bytes(200) + OURS[260:], "damaged"),
        (_bomb(), "too large"),
    ],
    ids=["empty", "gif", "8 bit", "colour", "truncated", "damaged", "ours truncated", "ours damaged", "bomb"],
)
def test_anything_else_is_refused_in_one_line(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        decode_depth_png(data)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("pixels", [1, 2, 7, 64, 65])
def test_a_summary_has_the_quantiles_of_numpy(pixels):
    depth_m = np.random.Generator(np.random.PCG64(pixels)).uniform(0.1, 100, (1, pixels)).astype(np.float32)
    with_sky = np.append(depth_m, np.full((1, 3), np.inf, np.float32), axis=1)
    least, median, most = (round(float(value), 3) for value in np.quantile(depth_m, (0.0, 0.5, 1.0)))
    beyond_range = round(3 / (pixels + 3), 4)
    assert summarise_depth(with_sky) == {
        "min_m": least,
        "median_m": median,
        "max_m": most,
        "beyond_range": pytest.approx(beyond_range, abs=1e-4),
    }
