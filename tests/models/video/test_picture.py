"""A decoder's picture becomes RGB of the size wanted: where things are, how bright, in which colours."""

import av
import cv2
import numpy as np
import pytest

from dap_engine.models.video.picture import Halving, Picture
from tests.footage import panorama


def decoded(rgb: np.ndarray, pix_fmt: str = "yuv444p") -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format=pix_fmt)


@pytest.mark.parametrize("height", [64, 48, 43])
def test_shrinking_averages_areas_in_place(height):
    rgb = cv2.resize(panorama(128), (768, 384), interpolation=cv2.INTER_CUBIC)
    expected = cv2.resize(rgb, (2 * height, height), interpolation=cv2.INTER_AREA).astype(int)
    scaled = Picture(height, 1.0).rgb(decoded(rgb))
    assert np.abs(scaled - expected).mean() < 2
    assert np.abs(np.roll(scaled, 1, axis=1) - expected).mean() > 4


def test_growing_and_keeping_the_size():
    rgb = panorama(64)
    assert np.abs(Picture(64, 1.0).rgb(decoded(rgb)).astype(int) - rgb).mean() < 3
    grown = cv2.resize(rgb, (256, 128), interpolation=cv2.INTER_LINEAR)
    assert np.abs(Picture(128, 1.0).rgb(decoded(rgb)).astype(int) - grown).mean() < 3


@pytest.mark.parametrize("pix_fmt", ["yuv420p10le", "yuv422p", "nv12", "gray", "yuvj420p", "gbrp", "p010le"])
def test_pixels_of_all_kinds(pix_fmt):
    grey = np.full((64, 128, 3), 130, np.uint8)
    assert np.abs(Picture(32, 1.0).rgb(decoded(grey, pix_fmt)).astype(int) - 130).max() <= 2


def test_the_colours_that_the_video_claims():
    """The same numbers are another red by BT.709 than by BT.601."""
    frame = decoded(np.full((64, 128, 3), (200, 30, 30), np.uint8))
    frame.colorspace = av.video.reformatter.Colorspace.ITU601
    by_601 = Picture(32, 1.0).rgb(frame)
    frame.colorspace = 1  # BT.709 in a stream's header
    by_709 = Picture(32, 1.0).rgb(frame)
    assert np.abs(by_601.astype(int) - (200, 30, 30)).max() <= 3
    assert np.abs(by_709.astype(int) - by_601).max() > 5


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("layout", ["top_bottom", "side_by_side"])
def test_halves(layout, first):
    axis = 0 if layout == "top_bottom" else 1
    pair = np.concatenate([np.full((64, 128, 3), 50, np.uint8), np.full((64, 128, 3), 200, np.uint8)], axis)
    picture = Picture(32, 1.0, Halving(layout, first))
    assert np.abs(picture.rgb(decoded(pair)).astype(int) - (50 if first else 200)).max() <= 2
    assert picture.rgb(decoded(pair)).shape == (32, 64, 3)
    assert picture.display_aspect(decoded(pair)) == pytest.approx(2)


def test_squeezed_pixels():
    assert Picture(32, 9 / 8).display_aspect(decoded(np.zeros((1080, 1920, 3), np.uint8))) == pytest.approx(2)
