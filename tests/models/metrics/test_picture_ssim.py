"""SSIM of perspective maps: scikit-image's figure with its default settings, which this has computed once.

g = numpy.random.Generator(PCG64(0)); t = g.uniform(5, 60, (24, 40)); p = t + g.normal(0, 4, t.shape)
skimage 0.26: structural_similarity(t, p, data_range=t.max() - t.min(), full=True)
"""

import numpy as np
import pytest

from dap_engine.models.metrics.picture_ssim import picture_ssim

G = np.random.Generator(np.random.PCG64(0))
TRUTH = G.uniform(5, 60, (24, 40))
PREDICTION = TRUTH + G.normal(0, 4, TRUTH.shape)
ALL = np.ones(TRUTH.shape, bool)
VALUE = 0.9665919766633743
MAP = [
    [0.9279078741497482, 0.9621614371903199, 0.9772398679114392],
    [0.9686584923457333, 0.9697162984482867, 0.9361315968888964],
    [0.9789374420548164, 0.9445499703159064, 0.9759907331640036],
]  # at rows 0, 12, 23 and columns 0, 20, 39


def test_it_is_that_of_scikit_image():
    value, similarity = picture_ssim(PREDICTION, TRUTH, ALL)
    assert value == pytest.approx(VALUE, abs=1e-12)
    np.testing.assert_allclose(similarity[np.ix_([0, 12, 23], [0, 20, 39])], MAP, atol=1e-12)


def test_it_is_still_that_of_scikit_image():
    metrics = pytest.importorskip("skimage.metrics", reason="scikit-image is not installed")
    span = float(np.ptp(TRUTH))
    value, full = metrics.structural_similarity(TRUTH, PREDICTION, data_range=span, full=True)
    found = picture_ssim(PREDICTION, TRUTH, ALL)
    assert found[0] == pytest.approx(value, abs=1e-12)
    np.testing.assert_allclose(found[1], full, atol=1e-12)


def test_holes_have_no_part():
    known = G.random(TRUTH.shape) > 0.3
    value, similarity = picture_ssim(np.where(known, PREDICTION, 1e6), np.where(known, TRUTH, np.nan), known)
    assert (np.isnan(similarity) == ~known).all()
    assert value == picture_ssim(PREDICTION, TRUTH, known)[0]
    assert picture_ssim(TRUTH, TRUTH, known)[0] == pytest.approx(1)
    assert np.isnan(picture_ssim(PREDICTION, TRUTH, np.zeros_like(known))[0])
    assert np.isnan(picture_ssim(PREDICTION[:6], TRUTH[:6], ALL[:6])[0]), "no window fits"
